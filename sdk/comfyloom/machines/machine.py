"""One paid machine, from its launch to its confirmed end."""

from __future__ import annotations

import random
import threading
from datetime import datetime
from decimal import Decimal
from typing import Final

import attrs

from comfyloom._redact import log
from comfyloom._retry import NO_RETRY
from comfyloom._shield import shielded
from comfyloom.comfyui.client import ComfyUI
from comfyloom.errors import ApiError, MachineError, MachineLeak, NotFound, TransportError
from comfyloom.machines.launch import Launch, draw_lease
from comfyloom.machines.starting import Starting
from comfyloom.machines.stopping import Stopping, leak
from comfyloom.money import cost
from comfyloom.progress import ProgressCallback
from comfyloom.runcomfy import Server, ServerApi

RENEW_SHARE: Final = 0.5
RENEW_RETRY_S: Final = 30.0
ANSWER_S: Final = 5.0
"""How long stopping waits for the answer to a launch that is under way."""


def _set_event() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


@attrs.define(eq=False)
class Machine:
    """A machine that belongs to this process.

    `start` launches it, `stop` ends it; in between, `touch` renews its lease while it is used:
    a machine whose owner is gone ends by itself within the lease of 15 to 30 minutes.

    Args:
        api: The account.
        server_type: The kind of machine.
        rng: Draws the lease.
    """

    api: ServerApi
    server_type: str
    rng: random.Random = attrs.field(factory=random.SystemRandom, repr=False)
    server_id: str = attrs.field(default="", init=False)
    comfyui: ComfyUI | None = attrs.field(default=None, init=False, repr=False)
    billed_s: float = attrs.field(default=0.0, init=False)
    started_in_s: float = attrs.field(default=0.0, init=False)
    _lease_s: int = attrs.field(default=0, init=False, repr=False)
    _duration_s: int = attrs.field(default=0, init=False, repr=False)
    _ready_at: datetime | None = attrs.field(default=None, init=False, repr=False)
    _ends_at: float = attrs.field(default=0.0, init=False, repr=False)
    _launched_at: float = attrs.field(default=0.0, init=False, repr=False)
    _next_renewal: float = attrs.field(default=0.0, init=False, repr=False)
    _seen: bool = attrs.field(default=False, init=False, repr=False)
    _stopped: bool = attrs.field(default=False, init=False, repr=False)
    _unwanted: bool = attrs.field(default=False, init=False, repr=False)
    _launched: threading.Event = attrs.field(factory=_set_event, init=False, repr=False)
    _stopping: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)

    def start(self, workflow_version_id: str, report: ProgressCallback) -> ComfyUI:
        """Launch the machine, wait until its ComfyUI answers, and return the client.

        Whatever goes wrong, `stop` must be called in the end.

        Raises:
            MachineStartFailed: It ended while it started.
            MachineTimeout: It was not ready in time.
            ApiError: The platform refuses the launch.
        """
        self._lease_s = draw_lease(self.rng)
        self._launched_at = self.api.clock.monotonic()
        launch = Launch(
            api=self.api,
            workflow_version_id=workflow_version_id,
            server_type=self.server_type,
            lease_s=self._lease_s,
            on_launched=self._own,
        )
        self._send(launch)
        starting = Starting(api=self.api, server_id=self.server_id, report=report, note=self._note)
        _, self.comfyui = starting.wait()
        self.started_in_s = starting.elapsed_s
        log.info("machine %s is ready after %.0f s", self.server_id, self.started_in_s)
        return self.comfyui

    def _send(self, launch: Launch) -> None:
        """Launch, and stop again at once what was given up meanwhile."""

        def send() -> None:
            self._launched.clear()
            try:
                launch.send()
            finally:
                self._launched.set()
            if self._unwanted:
                self.stop()
                raise MachineError("the machine was given up while it was launched")

        # A signal between the request and its answer must not lose the machine's id.
        shielded(send, waiting=lambda: log.warning("waiting for the launch's answer first"))

    def touch(self) -> None:
        """Renew the lease when half of it is over; cheap, to be called often while in use.

        The request is made in a thread of its own: a platform that is slow must not hold up a run.
        """
        now = self.api.clock.monotonic()
        if now < self._next_renewal or not self._ends_at:
            return
        self._next_renewal = now + RENEW_RETRY_S
        if self._ends_at - self.api.now() <= RENEW_SHARE * self._lease_s:
            threading.Thread(target=self._renew, name="comfyloom-lease", daemon=True).start()

    def _renew(self) -> None:
        try:
            # The duration counts from ready, so what has passed is added to what is wanted.
            wanted = max(int(self._elapsed_s()) + self._lease_s, self._duration_s)
            self._note(self.api.set_duration(self.server_id, wanted))
        except (TransportError, ApiError) as error:
            log.error("the lease of machine %s is not renewed: %s", self.server_id, error)

    def still_there(self) -> None:
        """Ask the platform whether the machine still runs.

        Raises:
            MachineError: It does not.
        """
        try:
            server = self.api.get_server(self.server_id, backoff=NO_RETRY)
            status = server.current_status if server.has_ended else ""
        except NotFound:
            status = "gone"
        except (TransportError, ApiError) as error:
            log.warning("the machine's state is not known for the moment: %s", error)
            return
        if status:
            self.billed_s = self._elapsed_s()
            text = f"machine {self.server_id} ended during the run ({status.lower()})"
            raise MachineError(text, server_id=self.server_id)

    def cost(self) -> Decimal | None:
        """Return what the machine has cost so far in USD; None if its price is not known."""
        return cost(self.server_type, self.billed_s or self._elapsed_s())

    def stop(self) -> None:
        """Stop the machine and see it confirmed; a second call does nothing.

        A signal meanwhile waits until the machine is stopped. A launch that has no answer yet is
        waited for; when it comes later, the machine is stopped then.

        Raises:
            MachineLeak: The platform did not confirm it.
        """
        shielded(self._stop, waiting=lambda: log.warning("stopping the machine first"))

    @property
    def leak(self) -> MachineLeak | None:
        """What there is to say of a machine that may still cost money, None if none may."""
        if self._stopped or (not self.server_id and self._launched.is_set()):
            return None
        return leak(self.server_id, self.server_type, "it was not seen to stop")

    def _stop(self) -> None:
        self._unwanted = True
        if not self._launched.wait(ANSWER_S):
            raise leak("", self.server_type, f"its launch (of {self._lease_s} s) has no answer yet")
        with self._stopping:
            if self._stopped or not self.server_id:
                return
            Stopping(
                api=self.api,
                server_id=self.server_id,
                server_type=self.server_type,
                seen=self._seen,
                launched_at=self._launched_at,
            ).confirm()
            self.billed_s = self.billed_s or self._elapsed_s()
            self._stopped = True
        if self.comfyui is not None:
            self.comfyui.close()
        log.info("machine %s is stopped after %.0f billed s", self.server_id, self.billed_s)

    def _own(self, server: Server) -> None:
        self.server_id = server.server_id

    def _note(self, server: Server) -> None:
        """Remember what the platform tells of the machine; what it leaves out stays."""
        self._seen = True
        self._ready_at = server.service_ready_at or self._ready_at
        self._duration_s = int(server.estimated_duration or self._duration_s)
        told = server.estimated_stopping_at
        self._ends_at = told.timestamp() if told else self.api.now() + self._lease_s

    def _elapsed_s(self) -> float:
        """Return the seconds since ready by the platform's own clock, which bills them."""
        if self._ready_at is None:
            return 0.0
        return max(0.0, self.api.now() - self._ready_at.timestamp())
