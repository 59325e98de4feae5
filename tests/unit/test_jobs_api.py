"""The jobs API of newer servers: how it is found, and when it is believed."""

from __future__ import annotations

from typing import Any

import pytest
import requests
import responses

from comfyloom._comfyui.jobs_api import JobsApi, JobState
from comfyloom._http.retry import NO_RETRY
from comfyloom._http.transport import Transport
from comfyloom.errors import ApiError, NotFound, TransportError

BASE = "http://comfyui.test"
URL = f"{BASE}/api/jobs/p%2F1/cancel"
PAGE: dict[str, Any] = {"body": "<html>", "content_type": "text/html"}


@pytest.fixture
def jobs() -> JobsApi:
    return JobsApi(Transport(BASE, "ComfyUI", backoff=NO_RETRY))


@pytest.mark.parametrize("cancelled", [True, False])
@responses.activate
def test_an_answer_of_the_api_shows_that_it_is_there(jobs: JobsApi, cancelled: bool) -> None:
    responses.post(URL, json={"cancelled": cancelled})
    assert jobs.can_cancel is None
    assert jobs.cancel("p/1")
    assert jobs.can_cancel is True


@pytest.mark.parametrize("status", [404, 405])
@responses.activate
def test_a_server_without_the_api_is_asked_once(jobs: JobsApi, status: int) -> None:
    responses.post(URL, status=status)
    assert not jobs.cancel("p/1")
    assert jobs.can_cancel is False
    assert not jobs.cancel("p/1")
    assert len(responses.calls) == 1


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 502},
        {"body": requests.ConnectionError("reset")},
        PAGE,
        {"json": {"deleted": 1}},
        {"json": {"cancelled": "yes"}},
        {"json": ["cancelled"]},
    ],
)
@responses.activate
def test_what_a_gateway_answers_proves_nothing(jobs: JobsApi, answer: dict[str, Any]) -> None:
    responses.post(URL, **answer)
    assert not jobs.cancel("p/1")
    assert jobs.can_cancel is None


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"status": 404}, NotFound),
        ({"status": 502}, ApiError),
        (PAGE, ApiError),
        ({"body": requests.ConnectionError("reset")}, TransportError),
    ],
)
@responses.activate
def test_a_failure_of_an_api_that_is_there_is_raised(
    jobs: JobsApi, answer: dict[str, Any], error: type[Exception]
) -> None:
    responses.post(URL, json={"cancelled": True})
    assert jobs.cancel("p/1")
    responses.replace(responses.POST, URL, **answer)
    with pytest.raises(error):
        jobs.cancel("p/1")
    assert jobs.can_cancel is True


@responses.activate
def test_a_foreign_answer_does_not_make_the_api_forgotten(jobs: JobsApi) -> None:
    responses.post(URL, json={"cancelled": True})
    jobs.cancel("p/1")
    responses.replace(responses.POST, URL, json={"ok": True})
    assert not jobs.cancel("p/1")
    assert jobs.can_cancel is True


# --- where a prompt is ---------------------------------------------------------------------------

JOB = f"{BASE}/api/jobs/p%2F1"


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("pending", JobState.WAITING),
        ("in_progress", JobState.RUNNING),
        ("completed", JobState.ENDED),
        ("failed", JobState.ENDED),
        ("cancelled", JobState.ENDED),
    ],
)
@responses.activate
def test_a_job_says_where_its_prompt_is(jobs: JobsApi, status: str, state: JobState) -> None:
    responses.get(JOB, json={"id": "p/1", "status": status})
    assert jobs.find("p/1") is state
    assert jobs.can_find is True
    responses.replace(responses.GET, JOB, json={"error": "Job not found"}, status=404)
    assert jobs.find("p/1") is JobState.UNKNOWN


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 502},
        {"body": requests.ConnectionError("reset")},
        PAGE,
        {"json": {"id": "another", "status": "pending"}},
        {"json": {"id": "p/1", "status": "gone fishing"}},
        {"json": {"error": "no such page"}, "status": 404},
    ],
)
@responses.activate
def test_before_a_job_was_described_nothing_proves_that_one_is_unknown(
    jobs: JobsApi, answer: dict[str, Any]
) -> None:
    responses.get(JOB, **answer)
    assert jobs.find("p/1") is None
    assert jobs.can_find is None


@pytest.mark.parametrize("status", [404, 405])
@responses.activate
def test_a_server_that_describes_no_jobs_is_asked_once(jobs: JobsApi, status: int) -> None:
    responses.get(JOB, status=status, body="404: Not Found")
    assert jobs.find("p/1") is None
    assert jobs.can_find is False
    assert jobs.find("p/1") is None
    assert len(responses.calls) == 1


@responses.activate
def test_a_failure_of_a_known_api_is_an_error(jobs: JobsApi) -> None:
    responses.get(JOB, json={"id": "p/1", "status": "pending"})
    jobs.find("p/1")
    responses.replace(responses.GET, JOB, status=500)
    with pytest.raises(ApiError):
        jobs.find("p/1")
