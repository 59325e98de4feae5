"""The rate limit of the Server API: one per account, shared by all clients of a process."""

from __future__ import annotations

from typing import Final

from comfyloom._core.clock import Clock
from comfyloom._http.rate_limit import RateLimiter

PER_S: Final = 1.0
"""RunComfy documents one request per second and account on average, with some bursts allowed."""
BURST: Final = 5
RESERVE: Final = 5
"""Kept for questions that somebody waits for: a status does not wait for the pace of a watch."""

# Never removed: a new client for each request must not start a new burst each time.
_limits: dict[tuple[str, str, int], RateLimiter] = {}


def rate_limit_of(base_url: str, user_id: str, clock: Clock) -> RateLimiter:
    """Return the rate limiter of an account; every call in this process returns the same one."""
    key = (base_url.rstrip("/"), user_id, id(clock))
    if (limit := _limits.get(key)) is None:
        limit = _limits.setdefault(key, RateLimiter(PER_S, BURST, clock))
    return limit
