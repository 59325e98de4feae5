"""A gateway in front of an emulated ComfyUI: it sees every request and every handshake."""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs

from comfyloom import RunComfySession
from comfyloom.emulator import Emulator
from small_runs import small_workflow
from support import HastyClock

_PIECE = 65536


@attrs.define(eq=False)
class Seen:
    """The head of one request."""

    method: str
    target: str
    headers: dict[str, str]

    @property
    def is_handshake(self) -> bool:
        return self.headers.get("upgrade", "").lower() == "websocket"

    @property
    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query).items()}


Judge = Callable[[Seen], str | None]


@attrs.define(eq=False)
class Gateway:
    """Passes connections on to a server, one request per connection, once each is let in.

    Args:
        backend: The host and port behind it.
        judge: Returns the head of an answer to refuse a request with, None to let it in.
        tls: The certificate to show, None for plain HTTP.
        added: Header lines added to every answer.
        is_proxy: Whether clients use it as an HTTP proxy for any host: all lead to the backend.
        is_tunnel: Whether it is one that only relays bytes.
        bytes_s: The most bytes per second in each direction, None for no limit.
        drips: Requests that get an endless answer, as "GET queue": "headers" or "body" come byte by
            byte, "stream" brings some kilobytes per second.
    """

    backend: tuple[str, int]
    judge: Judge = lambda _: None
    tls: ssl.SSLContext | None = None
    added: tuple[str, ...] = ()
    is_proxy: bool = False
    is_tunnel: bool = False
    bytes_s: float | None = None
    drips: dict[str, str] = attrs.field(factory=dict[str, str])
    seen: list[Seen] = attrs.field(factory=list[Seen])
    received: Counter[str] = attrs.field(factory=Counter[str])
    """Bytes that came from the backend, by the last but one part of the path."""
    _listener: socket.socket = attrs.field(init=False)
    _closing: threading.Event = attrs.field(factory=threading.Event)

    def __attrs_post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        scheme = "https" if self.tls is not None else "http"
        return f"{scheme}://127.0.0.1:{self.port}"

    @property
    def handshakes(self) -> list[Seen]:
        return [each for each in self.seen if each.is_handshake]

    def __enter__(self) -> Gateway:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), contextlib.ExitStack() as stack:
            if self.tls is not None:
                client = self.tls.wrap_socket(client, server_side=True)
            stack.callback(client.close)
            head, rest = _read_head(client)
            if not head:
                return
            if self.is_tunnel:
                self.seen.append(_parsed(head))
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                server = stack.enter_context(socket.create_connection(self.backend))
                self._relay(client, server, "")
                return
            if self.is_proxy and head[0].startswith("CONNECT"):
                asked = _parsed(head)
                self.seen.append(asked)
                answer = self.judge(asked) or "200 OK"
                client.sendall(f"HTTP/1.1 {answer}\r\n\r\n".encode())
                head, rest = _read_head(client)
                if not head:
                    return
            seen = _parsed(head)
            self.seen.append(seen)
            if (refusal := self.judge(seen)) is not None:
                _drain(client, seen, rest)
                client.sendall(f"HTTP/1.1 {refusal}\r\nConnection: close\r\n\r\n".encode())
                return
            target = urlsplit(seen.target)
            if how := self.drips.get(f"{seen.method} {_kind(target.path)}"):
                _drain(client, seen, rest)
                self._drip(client, how)
                return
            path = target.path + (f"?{target.query}" if target.query else "")
            kept = [line for line in head[1:] if not line.lower().startswith("connection")]
            kept.append("Connection: " + ("Upgrade" if seen.is_handshake else "close"))
            lines = [f"{seen.method} {path} HTTP/1.1", *kept, "", ""]
            server = stack.enter_context(socket.create_connection(self.backend))
            server.sendall("\r\n".join(lines).encode("latin-1") + rest)
            self._relay(client, server, _kind(target.path))

    def _drip(self, client: socket.socket, how: str) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\nX-Padding: ")
        if how != "headers":
            kind = b"Content-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n"
            client.sendall(b"none\r\n" + kind)
        piece = b" " * (1024 if how == "stream" else 1)
        while not self._closing.wait(0.05):
            client.sendall(piece)

    def _relay(self, client: socket.socket, server: socket.socket, kind: str) -> None:
        added = "".join(f"{line}\r\n" for line in self.added).encode()
        begun = False
        while True:
            waiting = isinstance(client, ssl.SSLSocket) and client.pending() > 0
            ready = [client] if waiting else select.select([client, server], [], [], 30)[0]
            if not ready:
                return
            for source in ready:
                piece = source.recv(_PIECE if self.bytes_s is None else 8192)
                if not piece:
                    return
                if self.bytes_s is not None:
                    self._closing.wait(len(piece) / self.bytes_s)
                if source is server:
                    self.received[kind] += len(piece)
                    if added and not begun:
                        line, _, rest = piece.partition(b"\r\n")
                        piece = line + b"\r\n" + added + rest
                    begun = True
                (client if source is server else server).sendall(piece)


def behind(url: str, **options: Any) -> Gateway:
    """Return a gateway to the ComfyUI at a URL; its own URL has the same path."""
    parts = urlsplit(url)
    return Gateway((str(parts.hostname), int(parts.port or 80)), **options)


def url_through(gateway: Gateway, url: str) -> str:
    """Return the URL by which a ComfyUI is reached through its gateway."""
    return gateway.url + urlsplit(url).path


def demanding(name: str, value: str) -> Judge:
    """Return a judge that lets in what has a header."""

    def judge(seen: Seen) -> str | None:
        is_in = seen.headers.get(name.lower()) == value
        return None if is_in else "401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 0"

    return judge


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _read_head(client: socket.socket) -> tuple[list[str], bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = client.recv(_PIECE)
        if not piece:
            return [], b""
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.decode("utf-8", "surrogateescape").split("\r\n"), rest


def _parsed(head: list[str]) -> Seen:
    method, target, _ = head[0].split(" ")
    pairs = [line.partition(":") for line in head[1:]]
    return Seen(method, target, {name.strip().lower(): text.strip() for name, _, text in pairs})


def _kind(path: str) -> str:
    """Return what a path is about: the part after the id of the emulated server."""
    parts = path.strip("/").split("/")
    return "/".join(parts[2:4] if "api" in parts else parts[2:3])


def _drain(client: socket.socket, seen: Seen, rest: bytes) -> None:
    """Read the body, so that the client can send all of it before it reads the answer."""
    left = int(seen.headers.get("content-length", "0")) - len(rest)
    while left > 0 and (piece := client.recv(_PIECE)):
        left -= len(piece)


def run_through(gateway: Gateway, emulator: Emulator, url: str = "", **options: Any) -> None:
    """Run one workflow through a gateway, and check that its event socket was let in."""
    target = url or url_through(gateway, emulator.comfyui_url)
    with RunComfySession(target, clock=HastyClock(), **options) as session:
        session.run(small_workflow())
        router = session.server().event_router
        assert router.is_up
    assert gateway.handshakes


def start(target: str, **options: Any) -> None:
    """Reach a server, and leave it."""
    with RunComfySession(target, clock=HastyClock(), **options, start=True):
        pass
