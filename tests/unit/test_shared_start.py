"""One start for all who wait: who joins, who leaves, and what becomes of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from comfyloom._backends.shared_start import SharedStart
from comfyloom.errors import MachineStartFailed, RunCancelled
from comfyloom.progress import Progress, ProgressCallback
from guard_lab import soon


@attrs.define
class Slow:
    """A start that waits until it is released, and counts what happens to it."""

    released: threading.Event = attrs.field(factory=threading.Event)
    begun: threading.Event = attrs.field(factory=threading.Event)
    error: BaseException | None = None
    abandoned: int = 0
    value: str = "server"
    is_stubborn: bool = False

    def run(self, report: ProgressCallback) -> str:
        report(Progress(kind="machine", message="first"))
        self.begun.set()
        assert self.released.wait(30)
        report(Progress(kind="machine", message="last"))
        if self.error is not None:
            raise self.error
        return self.value

    def abandon(self) -> None:
        self.abandoned += 1
        if not self.is_stubborn:
            self.released.set()


@attrs.define
class Caller:
    """Waits in a thread of its own, until it is told to leave."""

    start: SharedStart[str]
    begin: Callable[[], Any]
    seen: list[str] = attrs.field(factory=list)
    result: object = None
    is_cancelled: bool = False
    thread: threading.Thread = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        try:
            self.result = self.start.get(
                self.begin, lambda progress: self.seen.append(progress.message), self._checkpoint
            )
        except Exception as error:  # noqa: BLE001 - the test judges it
            self.result = error

    def _checkpoint(self) -> None:
        if self.is_cancelled:
            raise RunCancelled

    def join(self) -> object:
        self.thread.join(30)
        assert not self.thread.is_alive()
        return self.result


@pytest.fixture
def shared() -> SharedStart[str]:
    return SharedStart()


def test_all_get_the_result_and_the_progress(shared: SharedStart[str]) -> None:
    slow, made = Slow(), []

    def begin() -> Slow:
        made.append(slow)
        return slow

    callers = [Caller(shared, begin) for _ in range(5)]
    assert soon(lambda: all(each.seen for each in callers))
    late = Caller(shared, begin)
    assert soon(lambda: late.seen == ["first"])  # the latest news, to one who joins later
    slow.released.set()
    assert [each.join() for each in (*callers, late)] == ["server"] * 6
    assert all(each.seen == ["first", "last"] for each in (*callers, late))
    assert made == [slow]
    assert slow.abandoned == 0


def test_each_gets_an_error_of_its_own(shared: SharedStart[str]) -> None:
    failure = MachineStartFailed("it ended", server_id="s-1")
    slow = Slow(error=failure)
    callers = [Caller(shared, lambda: slow) for _ in range(3)]
    assert soon(lambda: all(each.seen for each in callers))
    slow.released.set()
    errors = [each.join() for each in callers]
    assert all(isinstance(each, MachineStartFailed) for each in errors)
    assert {each.server_id for each in errors} == {"s-1"}  # type: ignore[attr-defined]
    assert len({id(each) for each in (*errors, failure)}) == 4


def test_one_that_leaves_does_not_end_it(shared: SharedStart[str]) -> None:
    slow = Slow()
    first, second = (Caller(shared, lambda: slow) for _ in range(2))
    assert soon(lambda: first.seen == second.seen == ["first"])
    first.is_cancelled = True
    assert isinstance(first.join(), RunCancelled)
    assert slow.abandoned == 0
    slow.released.set()
    assert second.join() == "server"


def test_the_last_one_that_leaves_ends_it(shared: SharedStart[str]) -> None:
    slow = Slow()
    callers = [Caller(shared, lambda: slow) for _ in range(3)]
    assert soon(lambda: all(each.seen for each in callers))
    for each in callers:
        each.is_cancelled = True
    assert all(isinstance(each.join(), RunCancelled) for each in callers)
    assert slow.abandoned == 1


def test_the_next_one_begins_when_the_last_is_over(shared: SharedStart[str]) -> None:
    """Its machine may still be stopping, and counts for a limit until it has."""
    stubborn, other = Slow(is_stubborn=True), Slow(value="other")
    first = Caller(shared, lambda: stubborn)
    assert soon(lambda: bool(first.seen))
    first.is_cancelled = True
    first.join()
    second = Caller(shared, lambda: other)
    time.sleep(0.3)
    assert not other.begun.is_set()
    stubborn.released.set()
    assert other.begun.wait(30)
    other.released.set()
    assert second.join() == "other"


def test_one_that_is_over_is_not_joined(shared: SharedStart[str]) -> None:
    for value in ("a", "b"):
        slow = Slow(value=value)
        slow.released.set()
        assert Caller(shared, lambda slow=slow: slow).join() == value


def test_one_that_cannot_be_made_leaves_nothing_behind(shared: SharedStart[str]) -> None:
    def fail() -> Slow:
        raise ValueError("no settings")

    assert isinstance(Caller(shared, fail).join(), ValueError)
    slow = Slow()
    slow.released.set()
    assert Caller(shared, lambda: slow).join() == "server"
