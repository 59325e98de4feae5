"""The rate limit of an account."""

import attrs

from comfyloom_emulator.clock import EmulatorClock


@attrs.define
class TokenBucket:
    """Allows `burst` requests at once and `per_second` on average, by the emulator's time."""

    clock: EmulatorClock
    per_second: float
    burst: int
    _tokens: float = attrs.field(init=False)
    _filled_at: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.refill()

    def refill(self) -> None:
        """Fill the bucket."""
        self._tokens = float(self.burst)
        self._filled_at = self.clock.now()

    def take(self) -> bool:
        """Take a token if there is one, and return whether there was."""
        now = self.clock.now()
        gained = (now - self._filled_at) * self.per_second
        self._tokens = min(float(self.burst), self._tokens + gained)
        self._filled_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
