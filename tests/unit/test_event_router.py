"""Many runs on one socket, and one look at the queue for all of them."""

from __future__ import annotations

import threading

import attrs
import pytest

from comfyloom._comfyui import event_router
from comfyloom._comfyui.event_router import EventRouter
from comfyloom._comfyui.events import ServerEvent
from comfyloom._comfyui.queue_poll import QueueIds, SharedQueuePoll
from comfyloom._comfyui.websocket import ConnectionLost, SocketMessage
from comfyloom._core.timeouts import Timeouts
from comfyloom.errors import TransportError
from support import FakeClock


@attrs.define
class FakeSocket:
    """A socket that the test speaks for."""

    url: str
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


def event(kind: str, prompt_id: str | None, node: str | None = "3") -> ServerEvent:
    return ServerEvent(type=kind, prompt_id=prompt_id, node=node)


def test_runs_share_a_socket_and_get_their_own_events(sockets: list[FakeSocket]) -> None:
    router = EventRouter(lambda client: f"ws://here/{client}")
    a: list[SocketMessage] = []
    b: list[SocketMessage] = []
    with router.listening("a", a.append), router.listening("b", b.append):
        assert [socket.url for socket in sockets] == [f"ws://here/{router.client_id}"]
        for_a, for_b = event("executing", "a"), event("executing", "b")
        for each in (for_a, for_b, event("executing", "foreign")):
            router._deliver(each)
    assert (a, b) == ([for_a], [for_b])


def test_all_hear_of_the_queue_and_of_a_loss(sockets: list[FakeSocket]) -> None:
    router = EventRouter(str)
    a: list[SocketMessage] = []
    b: list[SocketMessage] = []
    with router.listening("a", a.append), router.listening("b", b.append):
        router._deliver(event("status", None))
        router._deliver(ConnectionLost())
    assert len(a) == len(b) == 2


def test_a_preview_without_a_name_is_of_the_run_that_works(sockets: list[FakeSocket]) -> None:
    router = EventRouter(str)
    a: list[SocketMessage] = []
    b: list[SocketMessage] = []
    with router.listening("a", a.append), router.listening("b", b.append):
        router._deliver(event("preview", None))
        assert (a, b) == ([], [])  # whose it is cannot be known
        router._deliver(event("progress", "b"))
        router._deliver(event("preview", None))
        router._deliver(event("executing", "b", None))
        router._deliver(event("preview", None))
    assert (
        a,
        [each.type for each in b if isinstance(each, ServerEvent)],
    ) == ([], ["progress", "preview", "executing"])


def test_the_only_run_gets_what_has_no_name(sockets: list[FakeSocket]) -> None:
    router = EventRouter(str)
    a: list[SocketMessage] = []
    with router.listening("a", a.append):
        router._deliver(event("executing", None))
    assert len(a) == 1


def test_a_lost_socket_is_renewed_for_those_who_listen(sockets: list[FakeSocket]) -> None:
    router = EventRouter(str)
    with router.listening("a", lambda _: None):
        assert router._is_wanted(router._socket)
    socket = router._socket
    assert not router._is_wanted(socket)
    with router.listening("b", lambda _: None):
        assert len(sockets) == 2
    router.close()
    assert not sockets[1].is_up


def test_the_server_tells_how_much_it_takes(sockets: list[FakeSocket]) -> None:
    router = EventRouter(str)
    flags = ServerEvent(type="feature_flags", data={"max_upload_size": 1000})
    router._deliver(flags)
    assert router.max_upload_bytes == 1000


def test_a_look_serves_all_who_want_no_newer_one(clock: FakeClock) -> None:
    looks: list[float] = []

    def look(timeout_s: float) -> QueueIds:
        looks.append(clock.now)
        return ("a",), ("b",)

    queue_poll = SharedQueuePoll(look, clock)
    begun = clock.now
    clock.now += 1
    threads = [threading.Thread(target=queue_poll.since, args=(begun, 5.0)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert queue_poll.since(begun, 5.0) == (("a",), ("b",))
    assert len(looks) == 1
    clock.now += 1
    queue_poll.since(looks[0], 5.0)
    assert len(looks) == 2


def test_a_look_that_fails_fails_for_all(clock: FakeClock) -> None:
    looks: list[float] = []

    def look(timeout_s: float) -> QueueIds:
        looks.append(clock.now)
        raise TransportError("out of reach")

    queue_poll = SharedQueuePoll(look, clock)
    begun = clock.now
    clock.now += 1
    for _ in range(3):
        with pytest.raises(TransportError):
            queue_poll.since(begun, 5.0)
    assert len(looks) == 1
