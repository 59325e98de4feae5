"""Errors of machines."""

from __future__ import annotations

from comfyloom.errors._base import ComfyloomError


class MachineError(ComfyloomError):
    """A machine cannot be used.

    Attributes:
        server_id: The machine's id, "" if it is not known.
        status: The last state that the platform reported, "" if none.
        elapsed_s: Seconds spent waiting for the machine, 0 if none.
    """

    def __init__(
        self, message: str = "", *, server_id: str = "", status: str = "", elapsed_s: float = 0.0
    ) -> None:
        self.server_id, self.status, self.elapsed_s = server_id, status, elapsed_s
        super().__init__(message)


class MachineStartFailed(MachineError):
    """A machine ended during its start."""


class MachineTimeout(MachineError, TimeoutError):
    """A machine was not ready in time."""


class MachineLeak(MachineError):
    """A machine may still be running and costing money.

    Attributes:
        reason: Why its end is not confirmed.
        already_printed: Whether the warning is already on stderr.
    """

    already_printed = False

    def __init__(
        self,
        message: str = "",
        *,
        server_id: str = "",
        status: str = "",
        elapsed_s: float = 0.0,
        reason: str = "",
    ) -> None:
        self.reason = reason
        super().__init__(message, server_id=server_id, status=status, elapsed_s=elapsed_s)


class MachineBusy(MachineError):
    """A machine is running prompts that would be lost."""


class MachineLimit(MachineError):
    """The account already has the number of machines that `max_machines` allows."""
