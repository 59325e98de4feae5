"""How often the Server API may be asked: together, by all of a process that use an account."""

from __future__ import annotations

from typing import Final

from comfyloom._core.clock import Clock
from comfyloom._http.rate_limit import RateLimiter

PER_S: Final = 1.0
"""RunComfy documents one request a second and account on the average, some bursts allowed."""
BURST: Final = 5

# Kept for ever: a client that is made anew for each request must not begin a burst each time.
_paces: dict[tuple[str, str, int], RateLimiter] = {}


def pace_of(base_url: str, user_id: str, clock: Clock) -> RateLimiter:
    """Return the pace of an account, the same for everybody who asks."""
    key = (base_url.rstrip("/"), user_id, id(clock))
    if (pace := _paces.get(key)) is None:
        pace = _paces.setdefault(key, RateLimiter(PER_S, BURST, clock))
    return pace
