"""Errors of what outlives a process: money, records and jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfyloom.errors._base import ComfyloomError

if TYPE_CHECKING:
    from decimal import Decimal


class BudgetExceeded(ComfyloomError):
    """A launch, a run or a longer lease would exceed the budget.

    Attributes:
        limit: The budget in USD, None if it is not known.
        wanted: The expected cost in USD, None if it is not known.
    """

    def __init__(
        self, message: str = "", *, limit: Decimal | None = None, wanted: Decimal | None = None
    ) -> None:
        self.limit, self.wanted = limit, wanted
        super().__init__(message)


class LedgerError(ComfyloomError):
    """The records of machines and their cost cannot be read or written.

    Attributes:
        path: The file, or "".
    """

    def __init__(self, message: str = "", *, path: str = "") -> None:
        self.path = path
        super().__init__(message)


class LedgerTooNew(LedgerError):
    """The ledger was created by a newer version of comfyloom."""


class JobError(ComfyloomError):
    """A queued job failed.

    Attributes:
        key: The job's key, or "".
    """

    def __init__(self, message: str = "", *, key: str = "") -> None:
        self.key = key
        super().__init__(message)
