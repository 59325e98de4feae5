"""A machine of our own, from its launch to its confirmed end."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Final

import attrs

from comfyloom._redact import log
from comfyloom._shield import shielded
from comfyloom.comfyui.client import ComfyUI
from comfyloom.errors import MachineError, MachineLeak
from comfyloom.machines.launch import Launch, draw_lease
from comfyloom.machines.lease import Lease
from comfyloom.machines.machine import Machine
from comfyloom.machines.register import Register
from comfyloom.machines.starting import Starting
from comfyloom.machines.stopping import Stopping, leak
from comfyloom.progress import Progress, ProgressCallback
from comfyloom.runcomfy import Server

ANSWER_S: Final = 5.0
"""How long stopping waits for the answer to a launch that is under way."""


def _set_event() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


@attrs.define(eq=False)
class OwnMachine(Machine):
    """A machine that belongs to this process.

    `start` launches it, `stop` ends it; in between, `touch` renews its lease while it is used:
    a machine whose owner is gone ends by itself within the lease of 15 to 30 minutes.

    Args:
        longest_s: How long it may run at all, from Ready.
        lease_s: How long it runs without use; by default as long as it was launched for.
        max_machines: How many the account may have at once, None for no limit.
        register: Where it is written down as ours, None for nowhere.
        rng: Draws the duration of the launch.
    """

    longest_s: float = attrs.field(default=4 * 3600.0, kw_only=True)
    lease_s: float | None = attrs.field(default=None, kw_only=True)
    max_machines: int | None = attrs.field(default=None, kw_only=True)
    register: Register | None = attrs.field(default=None, kw_only=True, repr=False)
    rng: random.Random = attrs.field(factory=random.SystemRandom, repr=False, kw_only=True)
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
        self.launch(workflow_version_id)
        return self.await_ready(report)

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
                intended=intended,
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
        shielded(self._stop, waiting=lambda: log.warning("stopping the machine first"))

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
                with self._alone():
                    launch.send()
            finally:
                self._launched.set()
            if self._unwanted:
                self.stop()
                raise MachineError("the machine was given up while it was launched")

        # A signal between the request and its answer must not lose the machine's id.
        shielded(send, waiting=lambda: log.warning("waiting for the launch's answer first"))

    def _alone(self) -> AbstractContextManager[object]:
        """Keep other launches of this computer out while the machines are counted."""
        if self.max_machines is None or self.register is None:
            return nullcontext()
        return self.register.locked()

    def _own(self, server: Server) -> None:
        self.server_id = server.server_id
        seconds = self._drawn_s if self.lease_s is None else int(self.lease_s)
        self.lease = Lease(
            self.api, server.server_id, seconds, self.longest_s, launched_at=self._launched_at
        )
        if self.register is not None:
            self.register.add(server.server_id)

    def _settle(self) -> None:
        """Shorten or lengthen the launch's duration where another one is wanted."""
        if self.lease is not None and (self.lease_s is not None or self._drawn_s > self.longest_s):
            self.lease.settle()

    def _note(self, server: Server) -> None:
        self._seen = True
        if self.lease is not None:
            self.lease.note(server)

    def _stop(self) -> None:
        self._unwanted = True
        if not self._launched.wait(ANSWER_S):
            raise self._leak(f"its launch (of {self._drawn_s} s) has no answer yet")
        with self._stopping:
            if self._stopped or not self.server_id:
                return
            Stopping(
                api=self.api,
                server_id=self.server_id,
                server_type=self.server_type,
                prices=self.prices,
                seen=self._seen,
                launched_at=self._launched_at,
            ).confirm()
            self.billed_s = self.billed_s or self.used_s
            self._stopped = True
        if self.register is not None:
            self.register.discard(self.server_id)
        self.disconnect()
        log.info("machine %s is stopped after %.0f billed s", self.server_id, self.billed_s)

    def _leak(self, reason: str) -> MachineLeak:
        return leak(self.server_id, self.server_type, reason, self.prices)
