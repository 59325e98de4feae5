"""The rate limit of an account."""

import attrs

from comfyloom_emulator.clock import Clock


@attrs.define
class TokenBucket:
    """Lets `burst` requests through at once and `per_second` on average, by the emulator's time."""

    clock: Clock
    per_second: float
    burst: int
    _tokens: float = attrs.field(init=False)
    _filled_at: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.refill()

    def refill(self) -> None:
        """Fill it to the brim."""
        self._tokens = float(self.burst)
        self._filled_at = self.clock.now()

    def take(self) -> bool:
        """Whether one more request may pass; it is counted if so."""
        now = self.clock.now()
        gained = (now - self._filled_at) * self.per_second
        self._tokens = min(float(self.burst), self._tokens + gained)
        self._filled_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
