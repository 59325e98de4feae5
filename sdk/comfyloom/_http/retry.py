"""The retry policy of a request, as data."""

from __future__ import annotations

import random
from collections.abc import Iterator

import attrs


@attrs.frozen(kw_only=True)
class Backoff:
    """Attempts of a request, and the waits between them: doubling, with full jitter.

    By default 1 + 4 attempts, 0.5 s doubling to 8 s, 45 s in all, `Retry-After` up to 60 s.
    docs/retries.md lists what is retried.
    """

    attempts: int = 5
    first_s: float = 0.5
    longest_s: float = 8.0
    total_s: float = 45.0
    retry_after_s: float = 60.0
    random: random.Random = attrs.field(factory=random.Random, repr=False, eq=False)

    def delays(self) -> Iterator[float]:
        """Yield the wait before each further attempt."""
        ceiling = self.first_s
        for _ in range(self.attempts - 1):
            yield self.random.uniform(0.0, ceiling)
            ceiling = min(ceiling * 2, self.longest_s)


NO_RETRY = Backoff(attempts=1)
