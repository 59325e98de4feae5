"""A graph runs once, whatever happens to the answer."""

from __future__ import annotations

import random
from typing import Any

import attrs
import pytest
import requests
import responses

from comfyloom._comfyui.cancel_scope import CancelScope
from comfyloom._comfyui.client import ComfyUI, watch_server
from comfyloom._comfyui.submit import Submission
from comfyloom._core.waiting import Deadline
from comfyloom._http.retry import Backoff
from comfyloom.errors import ApiError, PromptRejected, RunLost, RunTimeout, TransportError
from support import FakeClock

URL = "http://127.0.0.1:1"
ACCEPTED = {"prompt_id": "p", "number": 1, "node_errors": {}}
NOWHERE: dict[str, Any] = {"queue_running": [], "queue_pending": []}
QUEUED: dict[str, Any] = {"queue_running": [], "queue_pending": [[1, "p", {}, {}, []]]}


@pytest.fixture
def submission(clock: FakeClock) -> Submission:
    backoff = Backoff(random=random.Random(0))
    server = ComfyUI(URL, clock=clock, backoff=backoff)
    return Submission(server, {"1": {}}, "client", "p", backoff=backoff)


def posts() -> int:
    sent = [(call.request.method, call.request.path_url) for call in responses.calls]
    return sent.count(("POST", "/prompt"))


def cancels() -> int:
    return sum("/cancel" in str(call.request.path_url) for call in responses.calls)


def answers(*prompts: Any, queue: dict[str, Any], history: dict[str, Any] | None = None) -> None:
    for prompt in prompts:
        responses.post(f"{URL}/prompt", **prompt)
    responses.get(f"{URL}/queue", json=queue)
    responses.get(f"{URL}/history/p", json=history or {})


@responses.activate
def test_an_accepted_prompt_is_sent_once_and_not_looked_up(submission: Submission) -> None:
    answers({"json": ACCEPTED}, queue=NOWHERE)
    submission.send()
    assert len(responses.calls) == 1


class Gone:
    """Says that the server is gone at the first failure."""

    is_over = False

    def patience_s(self, path: str) -> float:
        return 60.0

    def heard(self) -> None:
        """Take note of nothing."""

    def is_gone(self, path: str, status: int, since: float) -> bool:
        self.is_over = True
        return True


@responses.activate
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"body": requests.ConnectTimeout()}, TransportError),
        ({"body": requests.ConnectionError("reset")}, TransportError),
        ({"status": 502}, ApiError),
        # It may only hang, and run the prompt later.
        ({"body": requests.ReadTimeout()}, RunLost),
        ({"status": 504}, RunLost),
    ],
)
def test_nothing_is_sent_again_to_a_server_that_is_gone(
    submission: Submission, clock: FakeClock, answer: dict[str, Any], kind: type[Exception]
) -> None:
    answers(answer, queue=NOWHERE)
    responses.replace(responses.GET, f"{URL}/queue", status=502)
    watch_server(submission.server, Gone())
    with pytest.raises(kind):
        submission.send()
    assert posts() == 1
    assert cancels() == 0
    assert sum(clock.slept) < 2
    assert {call.request.method for call in responses.calls} == {"POST"}  # nor is it asked


class GoneWhenAsked(Gone):
    """A server that is found to be gone only when it is asked for the prompt."""

    def is_gone(self, path: str, status: int, since: float) -> bool:
        self.is_over = path != "/prompt"
        return self.is_over


@responses.activate
@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        ({"body": requests.ConnectionError("reset")}, TransportError, "POST /prompt"),
        ({"status": 502}, ApiError, "POST /prompt answered 502"),
        ({"body": requests.ReadTimeout()}, RunLost, "does not answer any more"),
    ],
)
def test_one_that_is_found_to_be_gone_when_it_is_asked(
    submission: Submission, answer: dict[str, Any], kind: type[Exception], text: str
) -> None:
    """What happened to the prompt counts, not what happened to the question."""
    answers(answer, queue=NOWHERE)
    responses.replace(responses.GET, f"{URL}/queue", status=502)
    watch_server(submission.server, GoneWhenAsked())
    with pytest.raises(kind, match=text):
        submission.send()
    assert posts() == 1


@responses.activate
@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_prompt_accepted_despite_an_error_is_not_sent_again(
    submission: Submission, status: int
) -> None:
    answers({"status": status}, queue=QUEUED)
    submission.send()
    assert posts() == 1


@responses.activate
def test_a_prompt_that_has_already_ended_is_found_in_history(submission: Submission) -> None:
    answers({"body": requests.ReadTimeout()}, queue=NOWHERE, history={"p": {"outputs": {}}})
    submission.send()
    assert posts() == 1


@responses.activate
def test_an_unanswered_prompt_in_neither_place_twice_is_lost(submission: Submission) -> None:
    answers({"body": requests.ReadTimeout()}, queue=NOWHERE)
    with pytest.raises(RunLost) as caught:
        submission.send()
    assert caught.value.prompt_id == "p"
    looks = [call.request.url for call in responses.calls if call.request.method == "GET"]
    assert looks == [f"{URL}/queue", f"{URL}/history/p"] * 2
    assert posts() == 1


@responses.activate
def test_a_server_that_is_not_ready_is_asked_again(submission: Submission) -> None:
    answers({"status": 503}, {"status": 503}, {"json": ACCEPTED}, queue=NOWHERE)
    submission.send()
    assert posts() == 3


@responses.activate
def test_a_server_that_is_never_ready_is_an_error(submission: Submission) -> None:
    answers({"status": 503}, queue=NOWHERE)
    with pytest.raises(ApiError, match="not ready"):
        submission.send()
    assert posts() == 5


@responses.activate
@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_prompt_not_found_after_an_error_is_not_sent_again(
    submission: Submission, status: int
) -> None:
    answers({"status": status, "body": "<html>"}, queue=NOWHERE)
    with pytest.raises(ApiError) as caught:
        submission.send()
    assert caught.value.status == status
    assert posts() == 1


def test_a_refused_connection_is_tried_again(submission: Submission) -> None:
    with pytest.raises(TransportError, match="Connection refused"):
        submission.send()
    assert isinstance(submission.server.clock, FakeClock)
    assert len(submission.server.clock.slept) >= 4


@responses.activate
def test_a_partly_accepted_prompt_is_withdrawn(submission: Submission) -> None:
    errors = {"32": {"class_type": "K", "errors": [{"message": "too big", "details": "x"}]}}
    responses.post(f"{URL}/prompt", json=ACCEPTED | {"node_errors": errors})
    responses.post(f"{URL}/api/jobs/p/cancel", status=405)
    responses.post(f"{URL}/queue")
    for rows in ([], []), ([[1, "p", {}, {}, []]], []), ([], []), ([], []):
        responses.get(f"{URL}/queue", json={"queue_running": rows[0], "queue_pending": rows[1]})
    responses.post(f"{URL}/interrupt")
    with pytest.raises(PromptRejected, match="too big"):
        submission.send()
    # It begins to run between two looks: the first attempt does not reach it.
    paths = [f"{call.request.method} {call.request.path_url}" for call in responses.calls]
    assert paths == [
        "POST /prompt",
        "POST /api/jobs/p/cancel",
        *("POST /queue", "GET /queue", "GET /queue"),
        *("POST /queue", "GET /queue", "GET /queue"),
    ]


@responses.activate
def test_a_prompt_whose_caller_gives_up_is_withdrawn(
    submission: Submission, clock: FakeClock
) -> None:
    """The answer is lost, and time is over before it is known whether the prompt is there."""

    def lose(_: object) -> Any:
        clock.sleep(6.0)
        raise requests.ReadTimeout

    responses.add_callback("POST", f"{URL}/prompt", callback=lose)
    answers(queue=NOWHERE)
    responses.post(f"{URL}/api/jobs/p/cancel", json={"cancelled": True})
    scope = CancelScope(Deadline.after(5.0, clock))
    with pytest.raises(RunTimeout):
        attrs.evolve(submission, scope=scope).send()
    assert [call.request.path_url for call in responses.calls][-2] == "/api/jobs/p/cancel"


@responses.activate
def test_a_page_in_place_of_the_answer_is_not_an_acceptance(submission: Submission) -> None:
    page = {"body": "<html>log in</html>", "content_type": "text/html"}
    answers(page, queue=NOWHERE)
    with pytest.raises(ApiError, match="the response is a web page, not JSON"):
        submission.send()
    assert posts() == 1


@responses.activate
def test_the_id_chosen_by_the_server_is_used(submission: Submission) -> None:
    answers({"json": ACCEPTED | {"prompt_id": "theirs"}}, queue=NOWHERE)
    assert submission.send() == "theirs"


@responses.activate
@pytest.mark.parametrize(
    ("status", "text"), [(403, "refuses"), (413, "larger"), (302, "redirects")]
)
def test_other_refusals_are_explained(submission: Submission, status: int, text: str) -> None:
    answers({"status": status}, queue=NOWHERE)
    with pytest.raises(ApiError, match=text):
        submission.send()
    assert posts() == 1


@responses.activate
@pytest.mark.parametrize("status", [408, 500, 502, 504, 520, 524, 599])
def test_a_prompt_that_a_gateway_may_deliver_later_is_cancelled(
    submission: Submission, status: int
) -> None:
    answers({"status": status}, queue=NOWHERE)
    responses.post(f"{URL}/api/jobs/p/cancel", json={"cancelled": False})
    with pytest.raises(ApiError):
        submission.send()
    assert (posts(), cancels()) == (1, 3)


@responses.activate
def test_slow_cancels_do_not_make_it_fewer(submission: Submission, clock: FakeClock) -> None:
    """A slow gateway is just the one that may deliver the prompt later."""

    def slow(_: Any) -> tuple[int, dict[str, str], str]:
        clock.now += 4.0
        return 200, {}, '{"cancelled": false}'

    answers({"status": 504}, queue=NOWHERE)
    responses.add_callback(responses.POST, f"{URL}/api/jobs/p/cancel", callback=slow)
    with pytest.raises(ApiError):
        submission.send()
    assert cancels() == 3


@responses.activate
def test_a_prompt_that_appears_late_after_a_503_is_not_sent_again(
    submission: Submission,
) -> None:
    responses.post(f"{URL}/prompt", status=503)
    for _ in range(3):
        responses.get(f"{URL}/queue", json=NOWHERE)
    responses.get(f"{URL}/queue", json=QUEUED)
    responses.get(f"{URL}/history/p", json={})
    assert submission.send() == "p"
    assert posts() == 1
