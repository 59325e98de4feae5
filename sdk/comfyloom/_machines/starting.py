"""Waiting until a machine's ComfyUI answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from comfyloom._comfyui.client import ComfyUI
from comfyloom._core.redact import log
from comfyloom._core.waiting import Deadline, polling
from comfyloom._http.retry import NO_RETRY
from comfyloom._machines.connect import connect
from comfyloom._runcomfy.client import ServerApi
from comfyloom._runcomfy.machine_url import machine_url
from comfyloom._runcomfy.models import Server
from comfyloom.errors import ApiError, MachineStartFailed, MachineTimeout, NotFound, TransportError
from comfyloom.progress import Progress, ProgressCallback

_STATUS_EVERY: Final = 4
"""Failed probes of a ComfyUI before the platform is asked again."""
USUAL: Final = "usually 120 to 300 s"
SILENT: Final = "silent"
"""The status of a machine that is ready, but whose ComfyUI never answered."""


@attrs.define(kw_only=True)
class Starting:
    """Waits for a machine that was launched.

    Args:
        on_seen: Called with each description that the platform gives of the machine.
        is_wanted: Whether to go on waiting; not once this process has stopped the machine.
        grace_s: Seconds from Ready for which its ComfyUI may not answer; this time is billed.
        connect: Makes the client of a ComfyUI from its URL.
        begun: When it was launched, by the monotonic clock; now by default.
    """

    api: ServerApi
    server_id: str
    report: ProgressCallback
    grace_s: float
    on_seen: Callable[[Server], object] = lambda _: None
    is_wanted: Callable[[], bool] = lambda: True
    connect: Callable[[str, ServerApi], ComfyUI] = connect
    begun: float = attrs.field(
        default=attrs.Factory(lambda self: self.api.clock.monotonic(), takes_self=True)
    )
    _is_seen: bool = attrs.field(default=False, init=False)

    def wait(self) -> tuple[Server, ComfyUI]:
        """Block until ComfyUI answers, and return the machine and its client.

        Raises:
            MachineStartFailed: It ended instead, or its ComfyUI does not answer (`SILENT`).
            MachineTimeout: It took longer than `Timeouts.start_s`.
        """
        timeouts = self.api.timeouts
        deadline = Deadline.after(timeouts.start_s, self.api.clock)
        server: Server | None = None
        for _ in polling(timeouts.start_poll_s, deadline):
            server = self.look_for_life()
            if server is not None and server.is_ready:
                return server, self._connected(server, deadline)
            state = (server.current_status if server else "") or "Starting"
            self.say(f"{state.lower()}, {self.elapsed_s:.0f} s, {USUAL}")
        raise self._timed_out(server)

    def _connected(self, server: Server, deadline: Deadline) -> ComfyUI:
        """Return the client of a ready machine once its ComfyUI answers."""
        probe = _Probe(self, server)
        timeouts = self.api.timeouts
        longest_s = min(self.grace_s, deadline.remaining_s)
        for _ in polling(timeouts.start_poll_s / 2, Deadline.after(longest_s, self.api.clock)):
            if probe.answers():
                return probe.comfyui
            probe.look_again()
        text = (
            f"machine {self.server_id} is ready, but its ComfyUI has not answered for "
            f"{longest_s:.0f} s: {probe.reason}"
        )
        raise self._failed(text, SILENT)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the launch."""
        return self.api.clock.monotonic() - self.begun

    def look(self) -> Server | None:
        """Return the machine, None if it is currently unknown.

        Raises:
            MachineStartFailed: The platform should know it by now, but does not.
            ApiError: The platform refuses for good.
        """
        self._demand_wanted()
        try:
            server = self.api.get_server(self.server_id)
        except NotFound:
            self._demand_wanted()
            if self.elapsed_s > self.api.timeouts.young_s or self._is_unlisted():
                raise self._gone("unknown to the platform") from None
            return None
        except (TransportError, ApiError) as error:
            if isinstance(error, ApiError) and error.is_final:
                raise
            log.warning("the machine's state is currently unknown: %s", error)
            return None
        self._is_seen = True
        self.on_seen(server)
        return server

    def _demand_wanted(self) -> None:
        if not self.is_wanted():
            raise self._gone("stopped by this process")

    def _is_unlisted(self) -> bool:
        """Return whether a machine that was seen before is gone: the list lacks it, too."""
        try:
            servers = self.api.list_servers() if self._is_seen else None
        except (TransportError, ApiError):
            return False
        return servers is not None and self.server_id not in {each.server_id for each in servers}

    def look_for_life(self) -> Server | None:
        """Return the machine like `look`; raise `MachineStartFailed` also if it has ended."""
        server = self.look()
        if server is not None and server.has_ended:
            raise self._gone(server.current_status)
        return server

    def say(self, message: str) -> None:
        """Report progress."""
        self.report(Progress(kind="machine", message=message, elapsed_s=self.elapsed_s))

    def _gone(self, status: str) -> MachineStartFailed:
        return self._failed(f"machine {self.server_id} ended while it started ({status})", status)

    def _failed(self, text: str, status: str) -> MachineStartFailed:
        return MachineStartFailed(
            text, server_id=self.server_id, status=status, elapsed_s=self.elapsed_s
        )

    def _timed_out(self, last: Server | None) -> MachineTimeout:
        state = last.current_status if last else "not known"
        text = (
            f"machine {self.server_id} was not ready after {self.elapsed_s:.0f} s (state: {state})"
        )
        return MachineTimeout(
            text, server_id=self.server_id, status=state, elapsed_s=self.elapsed_s
        )


class _Probe:
    """Probes the ComfyUI of a ready machine; this time is billed."""

    def __init__(self, starting: Starting, server: Server) -> None:
        self._starting = starting
        self._url = machine_url(server)
        self._count = 0
        self.reason = ""
        self.comfyui = self._connect()

    def answers(self) -> bool:
        """Return whether ComfyUI answers."""
        try:
            self.comfyui.system_stats(backoff=NO_RETRY)
        except (TransportError, ApiError) as error:
            self.reason = str(error)
            log.debug("ComfyUI does not answer yet: %s", error)
            return False
        return True

    def look_again(self) -> None:
        """Report that it does not answer; every few probes, ask the platform for its URL."""
        self._starting.say(f"ready, but its ComfyUI does not answer yet ({self.reason})")
        self._count += 1
        if self._count % _STATUS_EVERY:
            return
        server = self._starting.look_for_life()
        if server is not None and server.main_service_url and machine_url(server) != self._url:
            self.comfyui.close()
            self._url = machine_url(server)
            self.comfyui = self._connect()

    def _connect(self) -> ComfyUI:
        return self._starting.connect(self._url, self._starting.api)
