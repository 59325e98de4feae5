"""Whether a machine still answers: its own signs of life, and the platform's word without them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum
from typing import Final

import attrs

from comfyloom._core.clock import Clock
from comfyloom._core.redact import log
from comfyloom._core.timeouts import Timeouts
from comfyloom._core.waiting import FOREVER

# Any ComfyUI has these routes: a 404 there is a gateway's.
_ALWAYS_THERE: Final = frozenset({"/system_stats", "/queue", "/prompt", "/upload/image"})
_NOT_FOUND: Final = 404


class Word(Enum):
    """What the platform says of a machine."""

    RUNS = "runs"
    ENDED = "ended"
    NOTHING = "nothing"


class Verdict(Enum):
    """What is known of a machine.

    | verdict | becomes | by |
    | --- | --- | --- |
    | ALIVE | ENDED | the platform, asked at the first sign of trouble |
    | ALIVE | SILENT | no answer for `Timeouts.silent_machine_s`, although the platform says that it
    runs, and no prompt is known to run on it |
    """

    ALIVE = "alive"
    ENDED = "ended"
    SILENT = "silent"


@attrs.define(eq=False)
class Life:
    """The signs of life of one machine's ComfyUI; the HTTP transport reports them.

    Args:
        ask: Asks the platform.
        is_busy: Whether a prompt is known to run there.
    """

    clock: Clock
    timeouts: Timeouts
    ask: Callable[[], Word]
    is_busy: Callable[[], bool]
    verdict: Verdict = attrs.field(default=Verdict.ALIVE, init=False)
    _heard_at: float = attrs.field(init=False)
    _asked_at: float = attrs.field(default=float("-inf"), init=False)
    _trouble_since: float | None = attrs.field(default=None, init=False)
    _word: Word = attrs.field(default=Word.NOTHING, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._heard_at = self.clock.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether it was found to be gone."""
        return self.verdict is not Verdict.ALIVE

    @property
    def is_fresh(self) -> bool:
        """Whether its last sign of life is young."""
        is_quiet = self._trouble_since is None
        return is_quiet and self.clock.monotonic() - self._heard_at <= self.timeouts.fresh_s

    def patience_s(self, path: str) -> float:
        """Return the longest silence that a request to a path can wait for."""
        is_of_runs = path in _ALWAYS_THERE and not self.is_busy()
        return self.timeouts.silent_machine_s if is_of_runs else FOREVER

    def heard(self) -> None:
        """Note an answer of its ComfyUI."""
        self._heard_at, self._trouble_since = self.clock.monotonic(), None
        self._word = Word.NOTHING

    def is_gone(self, path: str, status: int, since: float) -> bool:
        """Note a request that failed, and return whether another attempt is useless.

        Args:
            path: The path of the request.
            status: The status of the answer, 0 without one.
            since: When it was sent.
        """
        if status == _NOT_FOUND and path not in _ALWAYS_THERE:
            self.heard()
            return False
        with self._lock:
            now = self.clock.monotonic()
            if (began := self._trouble_since) is None:
                self._trouble_since = began = max(since, self._heard_at)
            if self.verdict is Verdict.ALIVE and now - self._asked_at >= self.timeouts.ask_every_s:
                self._asked_at = now
                # Without an answer, what it said before still counts; so does its silence, if the
                # trouble is ours.
                if (word := self.ask()) is not Word.NOTHING:
                    self._word = word
                if word is Word.ENDED:
                    self.verdict = Verdict.ENDED
            # Meanwhile, another request may have been answered.
            is_long = self._trouble_since == began and now - began >= self.timeouts.silent_machine_s
            is_silent = is_long and self._word is Word.RUNS and not self.is_busy()
            if self.verdict is Verdict.ALIVE and is_silent:
                log.warning("the machine has not answered for %.0f s", now - began)
                self.verdict = Verdict.SILENT
            return self.is_over
