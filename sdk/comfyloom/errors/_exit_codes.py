"""The exit codes of commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from comfyloom.errors._base import ComfyloomError, ConfigError, OutputNotWritable
from comfyloom.errors._machines import MachineBusy, MachineError, MachineLimit, MachineTimeout
from comfyloom.errors._records import BudgetExceeded, JobError, LedgerError
from comfyloom.errors._requests import (
    ApiError,
    Forbidden,
    PromptRejected,
    RateLimited,
    TransportError,
    Unauthorized,
)
from comfyloom.errors._runs import RunCancelled, RunError, RunTimeout
from comfyloom.errors._workflows import InputFileError, WorkflowError

EXIT_CODES: Final[Mapping[type[BaseException], int]] = {
    kind: code
    for code, kinds in (
        (1, (ComfyloomError, RunCancelled)),
        (65, (WorkflowError, PromptRejected)),
        (66, (InputFileError,)),
        (69, (TransportError, ApiError, RunError, MachineError, BudgetExceeded, JobError)),
        (73, (OutputNotWritable,)),
        (74, (LedgerError,)),
        (75, (RateLimited, RunTimeout, MachineTimeout, MachineBusy, MachineLimit)),
        (77, (Unauthorized, Forbidden)),
        (78, (ConfigError,)),
        (130, (KeyboardInterrupt,)),
    )
    for kind in kinds
}
"""The exit code of each error, as in sysexits.h; an error without one has its parent's."""


def exit_code(error: BaseException) -> int:
    """Return the exit code of a command that ended with `error`."""
    return next((EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES), 1)
