"""The server of one run: found or started first, and left once if it is gone too early."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from comfyloom._backends.base import Backend
from comfyloom._comfyui.cancel_scope import CancelScope
from comfyloom._comfyui.client import ComfyUI
from comfyloom._core.redact import log
from comfyloom._core.waiting import Deadline
from comfyloom.errors import ApiError, RunLost, TransportError
from comfyloom.progress import ProgressCallback


@attrs.define(eq=False)
class RunServer:
    """Where a run is, which may change until its prompt is accepted.

    Args:
        backend: Where the session runs its workflows.
        connect: As `SessionLifetime.connect`, for the run's workflow.
        scope: The run's; its time limit begins once the server is there.
        timeout_s: Seconds that the run may take on its server, None for no limit.

    Attributes:
        current: The server, None before it is there.
    """

    backend: Backend
    connect: Callable[..., ComfyUI]
    scope: CancelScope
    timeout_s: float | None
    current: ComfyUI | None = attrs.field(default=None, init=False)

    def find(self, report: ProgressCallback, machines: int = 2) -> ComfyUI:
        """Wait for the server, and return it; the start of a machine does not count for the limit.

        Args:
            report: Called with the progress of a start.
            machines: How many machines may be tried.

        Raises:
            ComfyloomError: There is none, or the run was cancelled.
        """
        self.scope.deadline = Deadline(None)
        self.current = found = self.connect(report, self.scope.checkpoint, machines=machines)
        self.scope.deadline = Deadline.after(self.timeout_s, found.clock)
        self.scope.checkpoint()
        return found

    def leave(self, failure: TransportError | ApiError | RunLost, report: ProgressCallback) -> bool:
        """Find another server after a failure before the prompt was accepted.

        Returns:
            Whether there is another, on which the prompt cannot run a second time.

        Raises:
            ComfyloomError: There is none, or the run was cancelled.
        """
        gone = self.current
        assert gone is not None
        if isinstance(failure, RunLost) and not self.backend.give_up(gone):
            return False
        self.timeout_s = self.scope.checkpoint()
        if self.find(report, machines=1) is gone:
            return False
        log.warning("the machine was gone before it accepted the run, which goes to another one")
        return True

    def check_alive(self) -> None:
        """Raise `MachineError` if the server has ended for good."""
        if self.current is not None:
            self.backend.check_alive(self.current)
