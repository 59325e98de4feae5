"""Cancellation of one run: its deadline and the reason to stop."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator
from contextlib import contextmanager

import attrs

from comfyloom._core.waiting import Deadline
from comfyloom.errors import ComfyloomError, RunTimeout


@attrs.define(eq=False)
class CancelScope:
    """Ends work that is spread over functions and threads, each of which calls `checkpoint`.

    Args:
        parent: A scope that ends this one as well.
        timed_out: Makes the error of a passed deadline.
    """

    deadline: Deadline = attrs.field(factory=lambda: Deadline(None))
    parent: CancelScope | None = None
    timed_out: Callable[[], ComfyloomError] = RunTimeout
    _reason: ComfyloomError | None = attrs.field(default=None, init=False)
    _wake: list[Callable[[], object]] = attrs.field(factory=list[Callable[[], object]], init=False)

    @property
    def is_cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._reason is not None

    def checkpoint(self) -> float:
        """Return the seconds left.

        Raises:
            RunTimeout: The deadline has passed (the error that `timed_out` makes).
            ComfyloomError: The scope was cancelled: the reason given to `cancel`.
        """
        left_s = self.deadline.remaining_s
        if self.parent is not None:
            left_s = min(left_s, self.parent.checkpoint())
        if self._reason is not None:
            raise copy.copy(self._reason)  # each thread needs its own traceback
        if left_s <= 0:
            raise self.timed_out()
        return left_s

    def is_over(self) -> bool:
        """Return whether the next `checkpoint` raises."""
        try:
            self.checkpoint()
        except ComfyloomError:
            return True
        return False

    def cancel(self, reason: ComfyloomError) -> None:
        """End the work: each `checkpoint` raises `reason` from now on; the first one counts."""
        self._reason = self._reason or reason
        for wake in self._wake:
            wake()

    @contextmanager
    def waking(self, wake: Callable[[], object]) -> Generator[None]:
        """Call `wake` when the scope is cancelled, for a block that waits instead of polling."""
        self._wake.append(wake)
        try:
            yield
        finally:
            self._wake.remove(wake)
