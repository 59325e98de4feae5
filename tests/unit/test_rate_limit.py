"""Requests at a rate, with a burst after a rest."""

from __future__ import annotations

import threading

import pytest
import responses

from comfyloom._http.rate_limit import RateLimiter
from comfyloom._http.retry import NO_RETRY
from comfyloom._runcomfy.client import ServerApi
from comfyloom._runcomfy.rate_limits import rate_limit_of
from comfyloom.errors import ApiError
from support import FakeClock, HastyClock

URL = "http://127.0.0.1:1"


def test_a_burst_is_followed_by_the_rate(clock: FakeClock) -> None:
    limiter = RateLimiter(per_s=1.0, burst=3, clock=clock)
    begun = clock.now
    times: list[float] = []
    for _ in range(6):
        limiter.take()
        times.append(clock.now - begun)
    assert times == [0, 0, 0, 1, 2, 3]


def test_a_pause_restores_the_burst_and_not_more(clock: FakeClock) -> None:
    limiter = RateLimiter(per_s=1.0, burst=3, clock=clock)
    for _ in range(3):
        limiter.take()
    clock.sleep(1000.0)
    begun = clock.now
    for _ in range(4):
        limiter.take()
    assert clock.now - begun == 1.0


def test_an_urgent_request_does_not_wait_but_counts(clock: FakeClock) -> None:
    limiter = RateLimiter(per_s=1.0, burst=1, clock=clock)
    limiter.take()
    limiter.take(urgent=True)
    assert clock.slept == []
    limiter.take()
    assert clock.slept == [2.0]


def test_a_pause_holds_for_all_requests(clock: FakeClock) -> None:
    limiter = RateLimiter(per_s=1.0, burst=5, clock=clock)
    limiter.pause(7.0)
    limiter.take()
    assert clock.slept == [7.0]


def test_threads_share_a_limiter() -> None:
    clock = HastyClock()
    limiter = RateLimiter(per_s=100.0, burst=1, clock=clock)
    begun = clock.monotonic()
    threads = [threading.Thread(target=limiter.take) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert limiter._due - begun >= 0.2 - 1e-6


def test_clients_of_one_account_share_a_limiter(clock: FakeClock) -> None:
    one = rate_limit_of(URL, "u", clock)
    assert rate_limit_of(f"{URL}/", "u", clock) is one
    assert rate_limit_of(URL, "v", clock) is not one
    assert rate_limit_of("http://127.0.0.1:2", "u", clock) is not one


@responses.activate
def test_the_server_api_keeps_to_the_rate(clock: FakeClock) -> None:
    responses.get(f"{URL}/prod/api/users/u/servers", json=[])
    responses.delete(f"{URL}/prod/api/users/u/servers/s", json={})
    first, second = ServerApi(URL, "u", "tok-1", clock=clock), ServerApi(URL, "u", "t", clock=clock)
    begun = clock.now
    for _ in range(5):
        first.list_servers()
        second.list_servers()
    assert clock.now - begun == 5.0
    first.stop_server("s")
    assert clock.now - begun == 5.0


@responses.activate
def test_all_clients_of_an_account_wait_after_a_429(clock: FakeClock) -> None:
    listed = f"{URL}/prod/api/users/u/servers"
    responses.get(listed, status=429, headers={"Retry-After": "9"})
    responses.get(listed, json=[])
    one, other = (ServerApi(URL, "u", "tok-1", clock=clock) for _ in range(2))
    begun = clock.now
    assert one.list_servers() == []
    assert clock.now - begun == 9.0
    assert one._http.rate_limit is other._http.rate_limit


@responses.activate
def test_an_error_keeps_the_error_of_each_attempt(clock: FakeClock) -> None:
    responses.get(f"{URL}/prod/api/users/u/servers", status=502)
    responses.get(f"{URL}/prod/api/users/u/servers", status=503)
    api = ServerApi(URL, "u", "tok-1", clock=clock)
    with pytest.raises(ApiError) as caught:
        api.list_servers()
    assert caught.value.errors[-1] == "502 Bad Gateway"
    assert len(caught.value.errors) == 5
    assert set(caught.value.errors[:-1]) == {"503 Service Unavailable"}


@responses.activate
def test_a_single_attempt_raises_its_own_error(clock: FakeClock) -> None:
    responses.get(f"{URL}/prod/api/users/u/servers", status=500)
    with pytest.raises(ApiError) as caught:
        ServerApi(URL, "u", "tok-1", clock=clock, backoff=NO_RETRY).list_servers()
    assert len(caught.value.errors) == 1
