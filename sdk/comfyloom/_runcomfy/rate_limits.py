"""The rate limit of the Server API, shared by all of a process that use an account."""

from __future__ import annotations

from typing import Final

from comfyloom._core.clock import Clock
from comfyloom._http.rate_limit import RateLimiter

PER_S: Final = 1.0
"""RunComfy documents one request a second and account on the average, some bursts allowed."""
BURST: Final = 5

# Kept for ever: a client made for each request must not start a burst each time.
_limits: dict[tuple[str, str, int], RateLimiter] = {}


def rate_limit_of(base_url: str, user_id: str, clock: Clock) -> RateLimiter:
    """Return the rate limit of an account, shared by all of a process."""
    key = (base_url.rstrip("/"), user_id, id(clock))
    if (limit := _limits.get(key)) is None:
        limit = _limits.setdefault(key, RateLimiter(PER_S, BURST, clock))
    return limit
