"""Waiting until a machine's ComfyUI answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from comfyloom._redact import keep_url_secret, log
from comfyloom._retry import NO_RETRY, Deadline, Waiter
from comfyloom.comfyui.client import ComfyUI
from comfyloom.errors import (
    ApiError,
    MachineStartFailed,
    MachineTimeout,
    NotFound,
    TransportError,
    Unauthorized,
)
from comfyloom.progress import Progress, ProgressCallback
from comfyloom.runcomfy import Server, ServerApi

LONGEST_START_S: Final = 1800.0
POLL_S: Final = 2.0
"""Billing begins with Ready, so each second that it is noticed later costs a second."""
YOUNG_S: Final = 60.0
"""The platform may not know a machine for so long after its launch."""
USUAL: Final = "usually 120 to 300 s"


@attrs.frozen(kw_only=True)
class Starting:
    """Observes a machine that was just launched.

    Args:
        api: The account.
        server_id: The machine.
        report: Told how long it has been starting.
        note: Told each description that the platform gives of the machine.
        connect: Makes the client of a ComfyUI from its URL.
    """

    api: ServerApi
    server_id: str
    report: ProgressCallback
    note: Callable[[Server], object] = lambda _: None
    connect: Callable[..., ComfyUI] = ComfyUI
    begun: float = attrs.field(
        default=attrs.Factory(lambda self: self.api.clock.monotonic(), takes_self=True)
    )

    def wait(self, longest_s: float = LONGEST_START_S) -> tuple[Server, ComfyUI]:
        """Block until ComfyUI answers, and return the machine and its client.

        Raises:
            MachineStartFailed: It ended instead.
            MachineTimeout: It took longer than `longest_s`.
        """
        deadline = Deadline.after(longest_s, self.api.clock)
        ready = Waiter[Server | None](
            observe=self._observe,
            done=lambda server: server is not None and server.is_ready,
            seen=self._seen,
            timed_out=self._timed_out,
            interval_s=POLL_S,
            deadline=deadline,
        ).wait()
        server = ready or self._gone()
        comfyui = self.connect(_url(server), clock=self.api.clock)
        Waiter[bool](
            observe=lambda: self._answers(comfyui),
            done=lambda answers: answers,
            seen=lambda _: self._still_ready(),
            timed_out=lambda _: self._timed_out(server),
            interval_s=POLL_S / 2,
            deadline=deadline,
        ).wait()
        return server, comfyui

    @property
    def elapsed_s(self) -> float:
        """Seconds since the launch."""
        return self.api.clock.monotonic() - self.begun

    def _observe(self) -> Server | None:
        """Return the machine, None while the platform does not know or does not say."""
        try:
            server = self.api.get_server(self.server_id)
        except NotFound:
            if self.elapsed_s > YOUNG_S:
                self._gone()
            return None
        except Unauthorized:
            raise
        except (TransportError, ApiError) as error:
            log.warning("the machine's state is not known for the moment: %s", error)
            return None
        self.note(server)
        if server.has_ended:
            self._gone(server.current_status)
        return server

    def _still_ready(self) -> None:
        self._seen(self._observe())

    def _seen(self, server: Server | None) -> None:
        state = (server.current_status if server else "") or "Starting"
        message = f"{state.lower()}, {self.elapsed_s:.0f} s, {USUAL}"
        self.report(Progress(kind="machine", message=message, elapsed_s=self.elapsed_s))

    def _answers(self, comfyui: ComfyUI) -> bool:
        try:
            comfyui.system_stats(backoff=NO_RETRY)
        except (TransportError, ApiError) as error:
            log.debug("ComfyUI does not answer yet: %s", error)
            return False
        return True

    def _gone(self, status: str = "unknown to the platform") -> Server:
        text = f"machine {self.server_id} ended while it started ({status})"
        raise MachineStartFailed(text, server_id=self.server_id)

    def _timed_out(self, last: Server | None) -> MachineTimeout:
        state = last.current_status if last else "not known"
        text = (
            f"machine {self.server_id} was not ready after {self.elapsed_s:.0f} s (state: {state})"
        )
        return MachineTimeout(text, server_id=self.server_id)


def _url(server: Server) -> str:
    """Return the machine's URL; the documented pattern stands in for an empty field."""
    url = server.main_service_url or f"https://{server.server_id}-comfyui.runcomfy.com"
    keep_url_secret(url)
    return url
