"""A machine launched by this process, until its end is confirmed."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from enum import Enum
from typing import Final

import attrs

from comfyloom._comfyui.client import ComfyUI
from comfyloom._core.redact import log
from comfyloom._core.signals import defer_signals
from comfyloom._core.states import StateHolder
from comfyloom._machines.heartbeat import HEARTBEAT
from comfyloom._machines.launch import Launch, draw_lease
from comfyloom._machines.lease import Lease
from comfyloom._machines.machine import Machine
from comfyloom._machines.starting import Starting
from comfyloom._machines.stopping import Stopping, leak, leave_to_guard, stop_guarded
from comfyloom._records.tracker import NullTracker
from comfyloom._runcomfy.models import Server
from comfyloom.errors import MachineError, MachineLeak
from comfyloom.progress import Progress, ProgressCallback


class MachineState(Enum):
    """The state of a launched machine.

    | state | becomes | by |
    | --- | --- | --- |
    | NEW | LAUNCHING | its intent is recorded, just before the launch is sent |
    | NEW, LAUNCHING | ABANDONED | `stop`; a machine is stopped as soon as the launch is answered |
    | LAUNCHING | LAUNCHED | its id is known and recorded |
    | LAUNCHED | READY | its ComfyUI answers |
    | READY | IDLE | no use for `idle_timeout_s`: its lease is no longer renewed |
    | IDLE | READY | `touch` |
    | any with an id | STOPPED | the platform confirmed its end |
    """

    NEW = "new"
    LAUNCHING = "launching"
    ABANDONED = "abandoned"
    LAUNCHED = "launched"
    READY = "ready"
    IDLE = "idle"
    STOPPED = "stopped"


_IN_USE: Final = frozenset({MachineState.READY, MachineState.IDLE})


def _set_event() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


@attrs.define(eq=False)
class LaunchedMachine(Machine):
    """A machine launched by this process: a session's, or the dev server until it is ready.

    `stop` must follow `launch`, also after an error; in between, `touch` renews its lease. If this
    process dies, a session's machine ends by itself within its lease of 15 to 30 minutes.

    Args:
        longest_s: Its longest duration, from Ready.
        lease_s: How long it runs without use; by default, the duration of its launch.
        max_machines: How many the account may have at once, None for no limit.
        idle_timeout_s: How long after its last use it is kept alive.
        ready_grace_s: How long its ComfyUI may not answer, from Ready.
        tracker: Its records and guard; none by default.
        valid_s: How long its record is valid without a heartbeat; by default its duration.
        rng: Draws the duration of the launch.
    """

    longest_s: float = attrs.field(default=4 * 3600.0, kw_only=True)
    lease_s: float | None = attrs.field(default=None, kw_only=True)
    max_machines: int | None = attrs.field(default=None, kw_only=True)
    idle_timeout_s: float = attrs.field(default=600.0, kw_only=True)
    ready_grace_s: float = attrs.field(default=180.0, kw_only=True)
    tracker: NullTracker = attrs.field(factory=NullTracker, kw_only=True, repr=False)
    rng: random.Random = attrs.field(factory=random.SystemRandom, repr=False, kw_only=True)
    valid_s: float = attrs.field(default=0.0, kw_only=True)
    _states: StateHolder[MachineState] = attrs.field(
        factory=lambda: StateHolder(MachineState.NEW), init=False
    )
    _owner: int = attrs.field(factory=os.getpid, init=False, repr=False)
    _used_at: float = attrs.field(default=0.0, init=False, repr=False)
    _recorded_at: float = attrs.field(default=0.0, init=False, repr=False)
    _launched_at: float = attrs.field(default=0.0, init=False, repr=False)
    _drawn_s: int = attrs.field(default=0, init=False, repr=False)
    # Unset only while a launch has no answer yet.
    _answered: threading.Event = attrs.field(factory=_set_event, init=False, repr=False)
    _stop_lock: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)

    @property
    def state(self) -> MachineState:
        """Where it is in its life."""
        return self._states.state

    @property
    def summary(self) -> str:
        """How long it was billed, its cost, and whether it has ended."""
        started = f"started in {self.started_in_s:.0f} s, " if self.started_in_s else ""
        end = "may still be running!" if self.leak else "stopped"
        return (
            f"machine {self.server_id} ({self.server_type}): {started}billed {self.seconds:.0f} s, "
            f"{self._priced()}; {end}"
        )

    @property
    def leak(self) -> MachineLeak | None:
        """The error of a machine that may still cost money, None if it cannot."""
        if self.state is MachineState.STOPPED or (not self.server_id and self._answered.is_set()):
            return None
        return leak(self.server_id, self.server_type, "it was not seen to stop", self.prices)

    def touch(self) -> None:
        """Note its use, and renew its lease when half of it is over."""
        self._used_at = self.api.clock.monotonic()
        self._states.move(MachineState.IDLE, to=MachineState.READY)
        super().touch()

    def beat(self) -> None:
        """Record a heartbeat, and renew the lease if it was used recently."""
        now = self.api.clock.monotonic()
        if now - self._recorded_at >= self.api.timeouts.record_s:
            self._recorded_at = now
            self.tracker.record_heartbeat()
        if self.lease is None or self.comfyui is None or self.state not in _IN_USE:
            return
        if now - self._used_at <= self.idle_timeout_s:
            self.lease.touch()
        elif self._states.move(MachineState.READY, to=MachineState.IDLE):
            log.warning(
                "machine %s has been idle for %.0f s: unless it is used, it ends in %.0f s",
                self.server_id,
                now - self._used_at,
                self.lease.left_s,
            )

    def launch(
        self,
        workflow_version_id: str,
        *,
        on_intent: Callable[[int, frozenset[str] | None], object] = lambda _seconds, _before: None,
        on_launched: Callable[[Server], object] = lambda _: None,
    ) -> None:
        """Launch the machine as `Launch` does; a signal waits until its id is known.

        Raises:
            MachineError: `stop` was called meanwhile.
            ApiError: The platform refuses it.
            MachineLimit: The account has too many machines.
        """
        self._drawn_s = draw_lease(self.rng)
        self._launched_at = self.api.clock.monotonic()

        def intend(seconds: int, before: frozenset[str] | None) -> None:
            if not self._states.move(MachineState.NEW, to=MachineState.LAUNCHING):
                raise MachineError("the machine was stopped before it was launched")
            on_intent(seconds, before)

        def own(server: Server) -> None:
            self.server_id = server.server_id
            seconds = self._drawn_s if self.lease_s is None else int(self.lease_s)
            self.lease = Lease(
                self.api, server.server_id, seconds, self.longest_s, launched_at=self._launched_at
            )
            self.tracker.record_launched(server.server_id)
            on_launched(server)

        launch = Launch(
            api=self.api,
            workflow_version_id=workflow_version_id,
            server_type=self.server_type,
            launched_for=self._drawn_s,
            max_machines=self.max_machines,
            prices=self.prices,
            on_intent=intend,
            on_launched=own,
            tracker=self.tracker,
            valid_s=self.valid_s,
        )

        def send() -> None:
            self._answered.clear()
            try:
                launch.send()
            finally:
                self._answered.set()
            if not self._states.move(MachineState.LAUNCHING, to=MachineState.LAUNCHED):
                self.stop()
                raise MachineError("the machine was stopped while it was being launched")

        # A signal between the request and its answer must not lose the machine's id.
        defer_signals(send, waiting=lambda: log.warning("waiting for the answer to the launch"))

    def await_ready(
        self, report: ProgressCallback, on_seen: Callable[[Server], object] = lambda _: None
    ) -> ComfyUI:
        """Wait until ComfyUI answers, and return its client; the arguments are those of `Starting`.

        Raises:
            MachineStartFailed: It ended while it started.
            MachineTimeout: It was not ready in time.
        """

        def see(server: Server) -> None:
            if self.lease is not None:
                self.lease.note(server)
            self.tracker.record_seen(server)
            on_seen(server)

        starting = Starting(
            api=self.api,
            server_id=self.server_id,
            report=report,
            on_seen=see,
            grace_s=self.ready_grace_s,
            is_wanted=lambda: self.state is not MachineState.STOPPED,
        )
        comfyui = starting.wait()[1]
        self.started_in_s = starting.elapsed_s
        self._used_at = self.api.clock.monotonic()
        with self._stop_lock:
            if not self._states.move(MachineState.LAUNCHED, to=MachineState.READY):
                raise MachineError("the machine was stopped while it started")
            self.use(comfyui)
        message = f"ready after {self.started_in_s:.0f} s"
        log.info("machine %s is %s", self.server_id, message)
        report(Progress(kind="machine", message=message, elapsed_s=self.started_in_s))
        if self.lease is not None and (self.lease_s is not None or self._drawn_s > self.longest_s):
            self.lease.settle()
        return comfyui

    def stop(self) -> None:
        """Stop it and wait for the confirmation; a second call does nothing.

        Signals wait. If its launch has no answer yet, the stop follows it.

        Raises:
            MachineLeak: The platform did not confirm it.
        """
        defer_signals(self._stop, waiting=lambda: log.warning("stopping the machine first"))

    release = stop

    def _stop(self) -> None:
        if os.getpid() != self._owner:
            return  # a forked child does not own the machine
        self._states.move(MachineState.NEW, MachineState.LAUNCHING, to=MachineState.ABANDONED)
        HEARTBEAT.remove(self.beat)
        if not self._answered.wait(self.api.timeouts.launch_answer_s):
            reason = f"its launch (of {self._drawn_s} s) has no answer yet"
            raise leave_to_guard(
                self.tracker, self.server_id, self.server_type, reason, self.prices
            )
        with self._stop_lock:
            if self.state is MachineState.STOPPED or not self.server_id:
                return
            stopping = Stopping(
                api=self.api,
                server_id=self.server_id,
                server_type=self.server_type,
                prices=self.prices,
                was_seen=self.lease is not None and self.lease.was_noted,
                launched_at=self._launched_at,
            )
            server = stop_guarded(stopping, self.tracker).server
            if server and self.lease:  # it may have become ready unnoticed
                self.lease.note(server)
            self.billed_s = self.seconds
            self._states.state = MachineState.STOPPED
            self.has_stopped = True
            self.disconnect()
            self.comfyui = None
        log.info("machine %s is stopped; billed %.0f s", self.server_id, self.billed_s)
