"""Writing records that may fail: an unusable ledger must never prevent a stop."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager

from comfyloom._core.redact import log
from comfyloom.errors import LedgerError


@contextmanager
def best_effort(consequence: str = "", level: int = logging.WARNING) -> Generator[None]:
    """Log a `LedgerError` of the block instead of raising it.

    Args:
        consequence: The effect of the failure, put before the reason.
        level: The logging level.
    """
    try:
        yield
    except LedgerError as error:
        log.log(level, "%s%s", f"{consequence}: " if consequence else "", error)
