"""The life of a session, driven through every state without a server."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

from comfyloom import RunComfySession
from comfyloom._comfyui.cancel_scope import CancelScope
from comfyloom._core.states import StateHolder
from comfyloom._session.execution import SubmissionTicket
from comfyloom._session.lifetime import SessionLifetime, SessionState
from comfyloom._session.run import Run
from comfyloom._session.run_starter import RunStarter
from comfyloom._workflow.run_plan import plan_of
from comfyloom.errors import ComfyloomError, MachineError, MachineLeak
from comfyloom.progress import Progress
from comfyloom.settings import ComfyUISettings
from comfyloom_workflows import FluxImageWorkflow
from guard_lab import soon

LIFETIME = "comfyloom._session.lifetime.defer_signals"
HOW: dict[str, Any] = {"owner": None}


class LeakyMachine:
    """A machine that may still run."""

    server_id = "s-1"
    leak = MachineLeak("machine s-1 may still be running", server_id="s-1")


class FakeBackend:
    """A backend that records what a session does to it."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.machine: Any = None
        self.summary = ["machine s-1: 0.1 USD"]
        self.cost = Decimal("0.1")
        self.timings_key = "x"
        self.opening: Callable[[], object] = lambda: None
        self.closing: Callable[[], object] = lambda: None

    def open(self, *_: Any) -> Any:
        self.events.append("open")
        self.opening()

    def availability(self) -> Any: ...

    def close(self) -> None:
        self.events.append("close")
        self.closing()


@attrs.define
class FakeStarter:
    """Cancels runs by calling a function."""

    cancel_all: Callable[[], object]


class Session:
    """A lifetime on a fake backend, and what it reported."""

    def __init__(self) -> None:
        self.backend = FakeBackend()
        self.reports: list[Progress] = []
        self.starter = FakeStarter(lambda: self.backend.events.append("cancel"))
        self.lifetime = SessionLifetime(self.backend, self.starter, self.reports.append)  # type: ignore[arg-type]


@pytest.fixture
def made() -> Session:
    return Session()


def test_it_opens_once_and_closes_once(made: Session) -> None:
    assert made.lifetime.state is SessionState.NEW
    assert not made.lifetime.is_unclosed
    made.lifetime.connect(None)
    made.lifetime.connect(None)
    assert made.lifetime.is_unclosed
    made.lifetime.close()
    made.lifetime.close()
    assert made.lifetime.state is SessionState.CLOSED
    assert not made.lifetime.is_unclosed
    assert made.backend.events == ["open", "open", "cancel", "close"]
    assert [(each.kind, each.message) for each in made.reports] == [
        ("cost", "machine s-1: 0.1 USD")
    ]


def test_a_session_that_was_never_used_can_be_closed(made: Session) -> None:
    made.lifetime.close()
    assert made.lifetime.state is SessionState.CLOSED
    with pytest.raises(ComfyloomError, match="this session is closed"):
        made.lifetime.connect(None)


def test_it_is_unclosed_until_everything_is_released(made: Session) -> None:
    seen: list[tuple[SessionState, bool]] = []

    def look() -> None:
        seen.append((made.lifetime.state, made.lifetime.is_unclosed))
        with pytest.raises(ComfyloomError, match="closed"):
            made.lifetime.connect(None)

    made.backend.closing = look
    made.lifetime.connect(None)
    made.lifetime.close()
    assert seen == [(SessionState.RELEASING, True)]


def test_a_stop_that_fails_is_raised_after_everything_was_tried(made: Session) -> None:
    def fail() -> None:
        raise MachineLeak("not confirmed")

    made.backend.closing = fail
    made.lifetime.connect(None)
    with pytest.raises(MachineLeak, match="not confirmed"):
        made.lifetime.close()
    assert made.lifetime.state is SessionState.CLOSED
    assert made.backend.events == ["open", "cancel", "close"]
    assert len(made.reports) == 1  # the cost of a machine that may still run is reported, too


def test_a_cancel_that_fails_does_not_prevent_the_stop(made: Session) -> None:
    def fail() -> None:
        raise ComfyloomError("cannot cancel")

    made.starter.cancel_all = fail
    lifetime = made.lifetime
    with pytest.raises(ComfyloomError, match="cannot cancel"):
        lifetime.close()
    assert made.backend.events == ["close"]


def test_several_threads_that_close_report_the_cost_once(made: Session) -> None:
    both = threading.Barrier(2)
    made.backend.closing = lambda: both.wait(30)
    made.lifetime.connect(None)
    threads = [threading.Thread(target=made.lifetime.close) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made.lifetime.state is SessionState.CLOSED
    assert len(made.reports) == 1


@pytest.fixture
def abandoned(made: Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """A session whose release hangs, and was given up after three signals."""
    go_on = threading.Event()
    threads: list[threading.Thread] = []

    def abandon(action: Callable[[], None], **_: Any) -> None:
        threads.append(threading.Thread(target=action))
        threads[-1].start()
        assert soon(lambda: "close" in made.backend.events)
        raise KeyboardInterrupt

    made.backend.closing = lambda: go_on.wait(30)
    made.lifetime.connect(None)
    with monkeypatch.context() as patch:
        patch.setattr(LIFETIME, abandon)
        yield made
        go_on.set()
        for thread in threads:
            thread.join()


def test_an_abandoned_release_names_the_machine_and_is_not_repeated(
    abandoned: Session, caplog: pytest.LogCaptureFixture
) -> None:
    abandoned.backend.machine = LeakyMachine()
    with caplog.at_level(logging.ERROR, "comfyloom"), pytest.raises(KeyboardInterrupt):
        abandoned.lifetime.close_despite_signals()
    assert "machine s-1 may still be running" in caplog.text
    assert abandoned.lifetime.state is SessionState.CLOSED
    assert len(abandoned.reports) == 1
    abandoned.lifetime.close()
    assert abandoned.backend.events == ["open", "cancel", "close"]


def test_the_cost_is_reported_once_even_if_the_release_is_abandoned(abandoned: Session) -> None:
    """A borrowed machine cannot leak, but its cost is due."""
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            abandoned.lifetime.close_despite_signals()
    assert abandoned.lifetime.state is SessionState.RELEASING
    assert len(abandoned.reports) == 1


def test_a_signal_before_the_release_leaves_the_machine_to_the_next_close(
    made: Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    made.backend.machine = LeakyMachine()
    made.lifetime.connect(None)
    with monkeypatch.context() as patch:
        patch.setattr(LIFETIME, interrupt)
        with pytest.raises(KeyboardInterrupt):
            made.lifetime.close()
    assert caplog.text == ""
    assert made.reports == []
    assert made.lifetime.state is SessionState.CLOSING
    made.lifetime.close()
    assert made.backend.events == ["open", "cancel", "close"]


def test_a_signal_at_the_very_start_of_the_close_does_not_prevent_the_release(
    made: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = StateHolder.move
    interrupts = [KeyboardInterrupt()]

    def move(self: Any, *sources: SessionState, to: SessionState) -> bool:
        if to is SessionState.CLOSING and interrupts:
            raise interrupts.pop()
        return real(self, *sources, to=to)

    made.lifetime.connect(None)
    monkeypatch.setattr(StateHolder, "move", move)
    with pytest.raises(KeyboardInterrupt):
        made.lifetime.close_despite_signals()
    assert made.lifetime.state is SessionState.CLOSED
    assert made.backend.events == ["open", "cancel", "close"]


# --- a session that is closed meanwhile ----------------------------------------------------------


def test_a_session_that_is_closed_during_its_launch_stops_the_machine_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`close` in another thread may come before there is a machine to stop."""
    backend = FakeBackend()
    monkeypatch.setattr(
        "comfyloom._session.session.resolve", lambda *_, **__: (backend, ComfyUISettings())
    )
    session = RunComfySession()
    backend.opening = session.close
    with pytest.raises(ComfyloomError, match="this session is closed"):
        session.start()
    assert backend.events == ["open", "close", "close"]


def test_a_start_that_fails_because_the_session_was_closed_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend = FakeBackend()
    monkeypatch.setattr(
        "comfyloom._session.session.resolve", lambda *_, **__: (backend, ComfyUISettings())
    )
    session = RunComfySession()

    def stopped() -> None:
        session.close()
        raise MachineError("machine s-1 ended while it started")

    backend.opening = stopped
    with pytest.raises(ComfyloomError, match="this session is closed"):
        session.start()


def test_a_run_without_a_thread_leaves_no_folder_and_lets_the_next_one_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_thread(*_: Any, **__: Any) -> None:
        raise RuntimeError("can't start new thread")

    starter = RunStarter(FakeBackend())  # type: ignore[arg-type]
    plan = plan_of(FluxImageWorkflow(prompt="x"))
    arguments: Any = (plan, {}, print, None, tmp_path / "new" / "out")
    with monkeypatch.context() as patch:
        patch.setattr(Run, "__init__", no_thread)
        with pytest.raises(ComfyloomError, match="cannot start the run: can't start new thread"):
            starter.start(*arguments, **HOW)
    assert list(tmp_path.iterdir()) == []
    executions: list[Any] = []
    monkeypatch.setattr(Run, "__init__", lambda _, start, **__: executions.append(start))
    starter.start(*arguments, **HOW)
    (ticket,) = [each for each in executions[0].args if isinstance(each, SubmissionTicket)]
    waiting = threading.Thread(target=ticket.wait, args=(CancelScope(), 0.1), daemon=True)
    waiting.start()
    waiting.join(30)
    assert not waiting.is_alive()


def test_a_run_may_be_submitted_by_a_signal_handler_while_another_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    starter = RunStarter(FakeBackend())  # type: ignore[arg-type]
    arguments: Any = (plan_of(FluxImageWorkflow(prompt="x")), {}, print, None, tmp_path)
    made: list[object] = []
    real = SubmissionTicket.after

    def interrupted(last: SubmissionTicket | None) -> SubmissionTicket:
        if not made:
            made.append("from the handler")
            made.append(starter.start(*arguments, **HOW))
        return real(last)

    monkeypatch.setattr(Run, "__init__", lambda *_, **__: None)
    monkeypatch.setattr(SubmissionTicket, "after", interrupted)
    starter.start(*arguments, **HOW)
    assert len(made) == 2


def test_a_run_that_is_started_while_the_session_closes_is_cancelled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    starter = RunStarter(FakeBackend())  # type: ignore[arg-type]
    cancelled: list[Run[Any]] = []
    # Its thread starts, and before it is listed, another thread closes the session.
    monkeypatch.setattr(Run, "__init__", lambda *_, **__: starter.cancel_all())
    monkeypatch.setattr(Run, "cancel", lambda run: cancelled.append(run))
    arguments: Any = (plan_of(FluxImageWorkflow(prompt="x")), {}, print, None, tmp_path)
    with pytest.raises(ComfyloomError, match="this session is closed"):
        starter.start(*arguments, **HOW)
    assert len(cancelled) == 1


def test_only_runs_that_still_exist_are_cancelled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    starter = RunStarter(FakeBackend())  # type: ignore[arg-type]
    monkeypatch.setattr(Run, "__init__", lambda *_, **__: None)
    cancelled: list[Run[Any]] = []
    monkeypatch.setattr(Run, "cancel_all", cancelled.extend)
    arguments: Any = (plan_of(FluxImageWorkflow(prompt="x")), {}, print, None, tmp_path)
    kept = starter.start(*arguments, **HOW)
    for _ in range(100):
        starter.start(*arguments, **HOW)
    assert len(starter._runs) <= 2  # memory stays flat
    starter.cancel_all()
    assert cancelled == [kept]
