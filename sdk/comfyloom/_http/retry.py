"""How often a failed request is repeated, and the wait before each attempt."""

from __future__ import annotations

import random
from collections.abc import Iterator

import attrs


@attrs.frozen(kw_only=True)
class Backoff:
    """How often and how long to wait between attempts: doubling, with full jitter.

    The values are those of well-kept HTTP SDKs: 1 + 4 attempts, 0.5 s doubling to 8 s, 45 s in
    all; a server's own `Retry-After` is honoured up to 60 s.
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
