"""A machine of our own, from its launch to its confirmed end."""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Final

import attrs

from comfyloom._comfyui.client import ComfyUI
from comfyloom._core.redact import log
from comfyloom._core.signals import defer_signals
from comfyloom._machines.heartbeat import HEARTBEAT
from comfyloom._machines.launch import Launch, draw_lease
from comfyloom._machines.lease import Lease
from comfyloom._machines.machine import Machine
from comfyloom._machines.starting import Starting
from comfyloom._machines.stopping import LONGEST_STOP_S, Stopping, leak
from comfyloom._records.tracker import NullTracker
from comfyloom._runcomfy.models import Server
from comfyloom.errors import ComfyloomError, MachineError, MachineLeak, MachineStartFailed
from comfyloom.progress import Progress, ProgressCallback

ANSWER_S: Final = 5.0
"""How long stopping waits for the answer to a launch that is under way."""
FOREGROUND_S: Final = 5.0
"""How long a stop is waited for where a guard process goes on with it."""
RECORD_EVERY_S: Final = 60.0
"""How often a sign of life is written down."""


def _set_event() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


@attrs.define(eq=False)
class LaunchedMachine(Machine):
    """A machine that belongs to this process.

    `start` launches it, `stop` ends it; in between, `touch` renews its lease while it is used:
    a machine whose owner is gone ends by itself within the lease of 15 to 30 minutes.

    Args:
        longest_s: How long it may run at all, from Ready.
        lease_s: How long it runs without use; by default as long as it was launched for.
        max_machines: How many the account may have at once, None for no limit.
        idle_timeout_s: How long after its last use it is kept alive.
        tracker: What outlives this process of it; nothing by default.
        record_s: How long its record counts without a sign of life; by default its duration.
        rng: Draws the duration of the launch.
    """

    longest_s: float = attrs.field(default=4 * 3600.0, kw_only=True)
    lease_s: float | None = attrs.field(default=None, kw_only=True)
    max_machines: int | None = attrs.field(default=None, kw_only=True)
    idle_timeout_s: float = attrs.field(default=600.0, kw_only=True)
    tracker: NullTracker = attrs.field(factory=NullTracker, kw_only=True, repr=False)
    rng: random.Random = attrs.field(factory=random.SystemRandom, repr=False, kw_only=True)
    record_s: float = attrs.field(default=0.0, kw_only=True)
    _owner: int = attrs.field(factory=os.getpid, init=False, repr=False)
    _intended: bool = attrs.field(default=False, init=False, repr=False)
    _used_at: float = attrs.field(default=0.0, init=False, repr=False)
    _beaten_at: float = attrs.field(default=0.0, init=False, repr=False)
    _is_idle: bool = attrs.field(default=False, init=False, repr=False)
    _launched_at: float = attrs.field(default=0.0, init=False, repr=False)
    _drawn_s: int = attrs.field(default=0, init=False, repr=False)
    _seen: bool = attrs.field(default=False, init=False, repr=False)
    _stopped: bool = attrs.field(default=False, init=False, repr=False)
    _unwanted: bool = attrs.field(default=False, init=False, repr=False)
    _launched: threading.Event = attrs.field(factory=_set_event, init=False, repr=False)
    _stopping: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)

    @property
    def is_borrowed(self) -> bool:
        """No: it ends with its session."""
        return False

    @property
    def summary(self) -> str:
        """How long it was billed, what that cost, and whether it has ended."""
        started = f"started in {self.started_in_s:.0f} s, " if self.started_in_s else ""
        seconds = self.billed_s or self.used_s
        end = "may still run!" if self.leak else "stopped"
        return (
            f"machine {self.server_id} ({self.server_type}): {started}billed {seconds:.0f} s, "
            f"{self.priced()}; {end}"
        )

    def start(self, workflow_version_id: str, report: ProgressCallback) -> ComfyUI:
        """Launch the machine, wait until its ComfyUI answers, and return the client.

        Whatever goes wrong, `stop` must be called in the end.

        Raises:
            MachineStartFailed: It ended while it started.
            MachineTimeout: It was not ready in time.
            ApiError: The platform refuses the launch.
        """
        HEARTBEAT.add(self.beat)
        self.launch(workflow_version_id)
        return self.await_ready(report)

    def touch(self) -> None:
        """Note that it is used, and renew its lease when half of it is over."""
        self._used_at, self._is_idle = self.api.clock.monotonic(), False
        super().touch()

    def beat(self) -> None:
        """Give a sign of life, and renew the lease while it is used or was so lately."""
        now = self.api.clock.monotonic()
        if now - self._beaten_at >= RECORD_EVERY_S:
            self._beaten_at = now
            self.tracker.beat()
        if self.lease is None or self.comfyui is None:
            return
        if now - self._used_at <= self.idle_timeout_s:
            self.lease.touch()
        elif not self._is_idle:
            self._is_idle = True
            log.warning(
                "machine %s is idle for %.0f s: unless it is used, it ends in %.0f s",
                self.server_id,
                now - self._used_at,
                self.lease.left_s,
            )

    def launch(
        self,
        workflow_version_id: str,
        *,
        intended: Callable[[int, frozenset[str] | None], object] = lambda _seconds, _before: None,
        launched: Callable[[Server], object] = lambda _: None,
    ) -> None:
        """Launch the machine; a signal waits until its id is known.

        Args:
            workflow_version_id: What to launch.
            intended: Told the duration of the launch and the machines that were there before, in
                the moment before it is sent.
            launched: Told the machine once there is one.

        Raises:
            ApiError: The platform refuses it.
            MachineLimit: The account has enough machines.
        """
        self._drawn_s = draw_lease(self.rng)
        self._launched_at = self.api.clock.monotonic()

        def intend(seconds: int, before: frozenset[str] | None) -> None:
            self.tracker.intend(seconds, before, self.record_s or seconds)
            self._intended = True
            intended(seconds, before)

        def own(server: Server) -> None:
            self._own(server)
            launched(server)

        self._send(
            Launch(
                api=self.api,
                workflow_version_id=workflow_version_id,
                server_type=self.server_type,
                lease_s=self._drawn_s,
                max_machines=self.max_machines,
                prices=self.prices,
                intended=intend,
                on_launched=own,
            )
        )

    def await_ready(
        self, report: ProgressCallback, noted: Callable[[Server], object] = lambda _: None
    ) -> ComfyUI:
        """Wait until ComfyUI answers, and return its client.

        Args:
            report: Told how it goes.
            noted: Told each description that the platform gives of the machine.

        Raises:
            MachineStartFailed: It ended while it started.
            MachineTimeout: It was not ready in time.
        """

        def note(server: Server) -> None:
            self._note(server)
            noted(server)

        starting = Starting(api=self.api, server_id=self.server_id, report=report, note=note)
        _, self.comfyui = starting.wait()
        self.started_in_s = starting.elapsed_s
        self._used_at = self.api.clock.monotonic()
        message = f"ready after {self.started_in_s:.0f} s"
        log.info("machine %s is %s", self.server_id, message)
        report(Progress(kind="machine", message=message, elapsed_s=self.started_in_s))
        self._settle()
        return self.comfyui

    def stop(self) -> None:
        """Stop the machine and see it confirmed; a second call does nothing.

        A signal meanwhile waits until the machine is stopped. A launch that has no answer yet is
        waited for; when it comes later, the machine is stopped then.

        Raises:
            MachineLeak: The platform did not confirm it.
        """
        defer_signals(self._stop, waiting=lambda: log.warning("stopping the machine first"))

    def release(self) -> None:
        """Stop it."""
        self.stop()

    @property
    def leak(self) -> MachineLeak | None:
        """What there is to say of a machine that may still cost money, None if none may."""
        if self._stopped or (not self.server_id and self._launched.is_set()):
            return None
        return self._leak("it was not seen to stop")

    def _send(self, launch: Launch) -> None:
        """Launch, and stop again at once what was given up meanwhile."""

        def send() -> None:
            self._launched.clear()
            try:
                with self.tracker.alone() if self.max_machines else nullcontext():
                    launch.send()
            except ComfyloomError as error:
                self._not_launched(error)
                raise
            finally:
                self._launched.set()
            if self._unwanted:
                self.stop()
                raise MachineError("the machine was given up while it was launched")

        # A signal between the request and its answer must not lose the machine's id.
        defer_signals(send, waiting=lambda: log.warning("waiting for the launch's answer first"))

    def _not_launched(self, error: ComfyloomError) -> None:
        """Note what became of a launch that gave no machine."""
        if self.server_id or not self._intended:
            return
        if isinstance(error, MachineLeak):
            # The guard looks on where nothing could be listed; it guesses as little as we do.
            self.tracker.surrender()
        else:
            is_search = isinstance(error, MachineStartFailed)
            self.tracker.ended("never appeared" if is_search else "refused")

    def _own(self, server: Server) -> None:
        self.server_id = server.server_id
        seconds = self._drawn_s if self.lease_s is None else int(self.lease_s)
        self.lease = Lease(
            self.api, server.server_id, seconds, self.longest_s, launched_at=self._launched_at
        )
        self.tracker.launched(server.server_id)

    def _settle(self) -> None:
        """Shorten or lengthen the launch's duration where another one is wanted."""
        if self.lease is not None and (self.lease_s is not None or self._drawn_s > self.longest_s):
            self.lease.settle()

    def _note(self, server: Server) -> None:
        self._seen = True
        if self.lease is not None:
            self.lease.note(server)
        self.tracker.noted(server)

    def _stop(self) -> None:
        if os.getpid() != self._owner:
            return  # a forked child owns nothing
        self._unwanted = True
        HEARTBEAT.remove(self.beat)
        if not self._launched.wait(ANSWER_S):
            raise self._left(f"its launch (of {self._drawn_s} s) has no answer yet")
        with self._stopping:
            if self._stopped or not self.server_id:
                return
            self._confirm()
            self.billed_s = self.billed_s or self.used_s
            self._stopped = True
        self.disconnect()
        log.info("machine %s is stopped after %.0f billed s", self.server_id, self.billed_s)

    def _confirm(self) -> None:
        """Stop it: for some seconds here, then the guard goes on, if there is one."""
        # Nothing is written down first: a ledger that is locked must not keep the machine running.
        stopping = Stopping(
            api=self.api,
            server_id=self.server_id,
            server_type=self.server_type,
            prices=self.prices,
            seen=self._seen,
            launched_at=self._launched_at,
        )
        try:
            stopped = stopping.confirm(FOREGROUND_S if self.tracker.is_guarded else LONGEST_STOP_S)
        except MachineLeak as error:
            raise self._left(error.reason) from None
        self.tracker.ended(stopped.by)

    def _left(self, reason: str) -> MachineLeak:
        """Return the error of a machine that is left behind, and say it whatever is logged."""
        self.tracker.stopping()
        if self.tracker.surrender():
            reason += "; a guard process goes on stopping it for ten minutes"
        error = self._leak(reason)
        with suppress(OSError, ValueError):  # nobody may read it, or its disk be full
            print(f"comfyloom: {error}", file=sys.stderr)  # noqa: T201 - it costs money
            error.already_printed = True
        return error

    def _leak(self, reason: str) -> MachineLeak:
        return leak(self.server_id, self.server_type, reason, self.prices)
