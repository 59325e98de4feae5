"""Many runs on one socket, and one poll of the queue for all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import pytest

from comfyloom._comfyui import event_router
from comfyloom._comfyui.event_router import EventRouter
from comfyloom._comfyui.events import ServerEvent
from comfyloom._comfyui.queue_poll import QueueIds, SharedQueuePoll
from comfyloom._comfyui.websocket import ConnectionLost, SocketMessage
from comfyloom._core.timeouts import Timeouts
from comfyloom._http.handshake import Handshake
from comfyloom.errors import TransportError
from support import FakeClock


@attrs.define
class FakeSocket:
    """A socket that never connects: the test delivers its messages."""

    handshake: Callable[[], Handshake]
    deliver: object
    is_wanted: object
    timeouts: Timeouts
    is_up: bool = False

    def open(self) -> None:
        self.is_up = True

    def close(self) -> None:
        self.is_up = False


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> list[FakeSocket]:
    made: list[FakeSocket] = []

    def make(*args: object, **options: object) -> FakeSocket:
        made.append(FakeSocket(*args, **options))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(event_router, "EventSocket", make)
    return made


def handshake_for(client_id: str) -> Handshake:
    return Handshake(f"ws://here/{client_id}", [], {}, {})


def event(kind: str, prompt_id: str | None, node: str | None = "3") -> ServerEvent:
    return ServerEvent(type=kind, prompt_id=prompt_id, node=node)


def test_runs_share_a_socket_and_get_their_own_events(sockets: list[FakeSocket]) -> None:
    router = EventRouter(handshake_for)
    a: list[SocketMessage] = []
    b: list[SocketMessage] = []
    with router.listening("a", a.append), router.listening("b", b.append):
        assert [socket.handshake().url for socket in sockets] == [f"ws://here/{router.client_id}"]
        for_a, for_b = event("executing", "a"), event("executing", "b")
        for each in (for_a, for_b, event("executing", "foreign")):
            router._deliver(each)
    assert (a, b) == ([for_a], [for_b])


def test_every_run_gets_queue_events_and_lost_connections(sockets: list[FakeSocket]) -> None:
    router = EventRouter(handshake_for)
    a: list[SocketMessage] = []
    b: list[SocketMessage] = []
    with router.listening("a", a.append), router.listening("b", b.append):
        router._deliver(event("status", None))
        router._deliver(ConnectionLost())
    assert len(a) == len(b) == 2


def test_a_preview_without_an_id_goes_to_the_active_run(sockets: list[FakeSocket]) -> None:
    router = EventRouter(handshake_for)
    a: list[SocketMessage] = []
    b: list[SocketMessage] = []
    with router.listening("a", a.append), router.listening("b", b.append):
        router._deliver(event("preview", None))
        assert (a, b) == ([], [])  # its run is unknown
        router._deliver(event("progress", "b"))
        router._deliver(event("preview", None))
        router._deliver(event("executing", "b", None))
        router._deliver(event("preview", None))
    assert (
        a,
        [each.type for each in b if isinstance(each, ServerEvent)],
    ) == ([], ["progress", "preview", "executing"])


def test_the_only_run_gets_events_without_an_id(sockets: list[FakeSocket]) -> None:
    router = EventRouter(handshake_for)
    a: list[SocketMessage] = []
    with router.listening("a", a.append):
        router._deliver(event("executing", None))
    assert len(a) == 1


def test_a_lost_socket_is_reconnected_for_its_subscribers(sockets: list[FakeSocket]) -> None:
    router = EventRouter(handshake_for)
    with router.listening("a", lambda _: None):
        assert router._is_wanted(router._socket)
    socket = router._socket
    assert not router._is_wanted(socket)
    with router.listening("b", lambda _: None):
        assert len(sockets) == 2
    router.close()
    assert not sockets[1].is_up


def test_the_server_announces_its_upload_limit(sockets: list[FakeSocket]) -> None:
    router = EventRouter(handshake_for)
    flags = ServerEvent(type="feature_flags", data={"max_upload_size": 1000})
    router._deliver(flags)
    assert router.max_upload_bytes == 1000


HOW: dict[str, Any] = {"timeout_s": 5.0, "is_over": lambda: False}


@pytest.mark.parametrize("limit", [0, -1, "many", None, float("nan")])
def test_a_limit_that_is_none_is_ignored(sockets: list[FakeSocket], limit: object) -> None:
    router = EventRouter(handshake_for)
    router.note_features({"max_upload_size": limit})
    assert router.max_upload_bytes is None


def test_one_poll_serves_all_runs_that_accept_its_age(clock: FakeClock) -> None:
    polls: list[float] = []

    def poll(**_: Any) -> QueueIds:
        polls.append(clock.now)
        return ("a",), ("b",)

    queue_poll = SharedQueuePoll(poll, clock)
    begun = clock.now
    clock.now += 1
    ask = partial(queue_poll.since, begun, **HOW)
    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert queue_poll.since(begun, **HOW) == (("a",), ("b",))
    assert len(polls) == 1
    clock.now += 1
    queue_poll.since(polls[0], **HOW)
    assert len(polls) == 2


def test_a_failed_poll_fails_for_all_runs(clock: FakeClock) -> None:
    polls: list[float] = []

    def poll(**_: Any) -> QueueIds:
        polls.append(clock.now)
        raise TransportError("out of reach")

    queue_poll = SharedQueuePoll(poll, clock)
    begun = clock.now
    clock.now += 1
    for _ in range(3):
        with pytest.raises(TransportError):
            queue_poll.since(begun, **HOW)
    assert len(polls) == 1
