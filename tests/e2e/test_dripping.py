"""An answer that never ends: every wait has a limit, and what does not need the answer goes on."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from comfyloom import RunComfySession, Timeouts
from comfyloom._core.timeouts import PollIntervals
from comfyloom._guard import child
from comfyloom._http.retry import NO_RETRY
from comfyloom._http.transport import Transport
from comfyloom.emulator import Emulator
from comfyloom.errors import ComfyloomError, RunTimeout, TransportError
from gateway import Gateway, behind, url_through
from small_runs import small_workflow

QUICK = Timeouts(
    connect_s=0.6,
    answer_s=0.6,
    large_s=300.0,  # only what is no longer wanted ends earlier
    poll_s=0.6,
    submit_s=0.6,
    upload_s=0.6,
    download_s=0.6,
    cancel_s=0.3,
    withdraw_s=0.5,
    lookup_for_s=1.0,
    lookup_every_s=0.1,
    leave_cancel_s=0.6,
    run_cancel_s=0.2,
    last_look_s=0.2,
    polling=PollIntervals(give_up_s=2.0, cancel_for_s=0.5, cancel_s=0.2, queue_s=0.2),
)


@pytest.fixture(params=["0.3.64", "0.9.0"])
def emulator(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    with Emulator(time="real", run_s=0.2, comfyui_version=request.param) as running:
        yield running


def ended(action: Callable[[], Any]) -> Any:
    """Return what a function returns, or its error; fail if it does not end."""
    found: list[Any] = []

    def act() -> None:
        try:
            found.append(action())
        except Exception as error:  # noqa: BLE001 - the test looks at it
            found.append(error)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(90)
    assert found, "it has no end"
    return found[0]


def session_through(gateway: Gateway, emulator: Emulator) -> RunComfySession:
    return RunComfySession(url_through(gateway, emulator.comfyui_url), timeouts=QUICK)


@pytest.mark.parametrize("how", ["headers", "body", "stream"])
@pytest.mark.parametrize("request_", ["POST upload", "POST prompt", "GET history", "GET view"])
def test_a_run_keeps_its_time_limit(emulator: Emulator, request_: str, how: str) -> None:
    for limit_s in (2, 8, 32):  # on a busy computer, it takes longer to get as far as the request
        with behind(emulator.comfyui_url, drips={request_: how}) as gateway:
            session = session_through(gateway, emulator)
            outcome = ended(partial(session.run, small_workflow(), timeout=limit_s))
            ended(session.close)
            asked = [f"{each.method} {each.target}" for each in gateway.seen]
        assert isinstance(outcome, ComfyloomError)
        if any(request_.split()[1] in each for each in asked):
            return
    raise AssertionError("the request was never sent")


@pytest.mark.parametrize("how", ["headers", "body"])
def test_a_run_needs_no_event_socket(how: str) -> None:
    with (
        Emulator(time="real", run_s=3.0) as emulator,
        behind(emulator.comfyui_url, drips={"GET ws": how}) as gateway,
    ):
        session = session_through(gateway, emulator)
        result = ended(lambda: session.run(small_workflow(), timeout=30))
        assert result.image.bytes()
        assert how == "body" or len(gateway.handshakes) > 1  # it was given up, and tried again
        ended(session.close)


@pytest.mark.parametrize("how", ["headers", "body", "stream"])
@pytest.mark.parametrize(
    "routes",
    [
        ("POST queue", "POST interrupt", "GET queue", "GET history", "GET api/jobs"),
        ("GET queue", "GET history"),
    ],
)
def test_cancelling_and_leaving_have_an_end(how: str, routes: tuple[str, ...]) -> None:
    drips: dict[str, str] = {}
    with (
        Emulator(time="real", run_s=30.0, comfyui_version="0.3.64") as emulator,
        behind(emulator.comfyui_url, drips=drips) as gateway,
    ):
        session = session_through(gateway, emulator)
        run = session.submit(small_workflow())
        next(each for each in run.events() if each.kind == "started")
        drips |= dict.fromkeys(routes, how)
        outcome = ended(lambda: run.wait(0.2))
        assert isinstance(outcome, RunTimeout)
        ended(run.cancel)
        ended(session.close)


@pytest.mark.parametrize("how", ["headers", "body", "stream"])
def test_a_start_has_an_end(how: str) -> None:
    with Emulator() as emulator, behind(emulator.comfyui_url) as gateway:
        gateway.drips["GET system_stats"] = how
        session = session_through(gateway, emulator)
        assert isinstance(ended(session.start), TransportError)
        session.close()
        gateway.drips = {"POST free": how}
        with session_through(gateway, emulator) as session:
            assert isinstance(ended(session.free), TransportError)


@pytest.mark.parametrize("how", ["headers", "body", "stream"])
def test_a_proxy_has_an_end(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Gateway(("127.0.0.1", 9), is_proxy=True, drips={"GET ": how}) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        transport = Transport(
            "http://comfy.example.invalid", "it", timeouts=QUICK, backoff=NO_RETRY
        )
        assert isinstance(ended(lambda: transport.send("GET", "/")), TransportError)


def test_tls_has_an_end() -> None:
    stopped = threading.Event()

    def serve(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client, contextlib.suppress(OSError):
            client.sendall(b"\x16\x03\x03\x3f\x00\x02\x00\x3e\xfc")  # a long ServerHello
            while not stopped.wait(0.05):
                client.sendall(b"\x03")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        transport = Transport(url, "the server", timeouts=QUICK, backoff=NO_RETRY)
        assert isinstance(ended(lambda: transport.send("GET", "/")), TransportError)
        stopped.set()


@pytest.mark.parametrize("how", ["headers", "body"])
def test_the_guard_waits_for_no_endless_answer(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "REQUEST_TIMEOUT_S", 0.3)
    drips = dict.fromkeys(("DELETE ", "GET "), how)
    with Gateway(("127.0.0.1", 9), drips=drips) as gateway:
        held: dict[str, Any] = {"key": "k", "api": gateway.url, "token": "t", "server_id": "s"}
        held |= {"server_type": "medium", "seconds": 1, "seen": True}
        charge = child.Charge({**held, "before": [], "journal": None, "ca": None})
        charge.stop()
        assert ended(charge.act) is None
        assert charge.due > 0  # it tries again
