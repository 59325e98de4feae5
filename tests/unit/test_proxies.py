"""The user's proxies and certificate authorities, by the standard variables, on real sockets."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trustme

from comfyloom._http.retry import NO_RETRY
from comfyloom._runcomfy.client import ServerApi
from comfyloom.errors import ApiError, TransportError
from gateway import Gateway


class Answering(BaseHTTPRequestHandler):
    """Answers an empty list, and notes what was asked for."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        body = json.dumps([]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[int]:
    Answering.asked.clear()
    server = HTTPServer(("127.0.0.1", 0), Answering)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def listed(url: str) -> list[Any]:
    api = ServerApi(url, "user-1", "tok-1", backoff=NO_RETRY)
    try:
        return api.list_servers()
    finally:
        api.close()


def test_requests_go_through_an_http_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as port:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        assert listed("http://api.example.invalid") == []
        assert Answering.asked == ["http://api.example.invalid/prod/api/users/user-1/servers"]


@pytest.mark.parametrize("answer", ["502 Bad Gateway", "407 Proxy Authentication Required"])
def test_a_proxy_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    with Gateway(("127.0.0.1", 1), judge=lambda _: f"{answer}\r\nContent-Length: 0") as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:pr0xy-pass@127.0.0.1:{proxy.port}")
        with pytest.raises(ApiError, match=f"proxy http://127.0.0.1:{proxy.port}") as caught:
            listed("http://api.example.invalid")
    assert "pr0xy-pass" not in str(caught.value)


def test_no_proxy_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as port:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert listed(f"http://127.0.0.1:{port}") == []


def test_a_private_certificate_authority_is_trusted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    with serving(context) as port:
        url = f"https://127.0.0.1:{port}"
        monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
        monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
        with pytest.raises(TransportError, match="TLS failed") as caught:
            listed(url)
        assert not caught.value.sent
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
        assert listed(url) == []
