"""The HTTP client of a ComfyUI, against answers that a real one gave."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
import requests
import responses

from comfyloom._comfyui.answers import rejection
from comfyloom._comfyui.cancel_scope import CancelScope
from comfyloom._comfyui.client import ComfyUI
from comfyloom._comfyui.history import FileReference
from comfyloom._http.retry import NO_RETRY
from comfyloom._workflow.files import read_input
from comfyloom.errors import ApiError, NotFound, PromptRejected
from support import RECORDINGS, FakeClock

URL = "http://127.0.0.1:1/comfyui"
CASES: dict[str, Any] = json.loads(
    (RECORDINGS / "prompt/post_prompt_cases.json").read_text("utf-8")
)


def recorded(name: str) -> Any:
    return json.loads((RECORDINGS / "http" / f"{name}.json").read_text("utf-8"))["body"]


@pytest.fixture
def server(clock: FakeClock) -> ComfyUI:
    return ComfyUI(URL, backoff=NO_RETRY, clock=clock)


@responses.activate
def test_system_stats_are_read(server: ComfyUI) -> None:
    responses.get(f"{URL}/system_stats", json=recorded("system_stats"))
    assert server.system_stats()["system"]["comfyui_version"] == "0.3.64"


@responses.activate
@pytest.mark.parametrize("body", ["<html>it works</html>", "[]", "", "null"])
def test_an_answer_that_is_not_comfyuis_is_an_error(server: ComfyUI, body: str) -> None:
    responses.get(f"{URL}/system_stats", body=body)
    with pytest.raises(ApiError):
        server.system_stats()


@responses.activate
def test_the_queue_is_sorted(server: ComfyUI) -> None:
    body = recorded("queue_running_and_pending")
    responses.get(f"{URL}/queue", json=body)
    running, pending = server.queue()
    assert running == tuple(row[1] for row in body["queue_running"])
    expected = sorted(body["queue_pending"], key=lambda row: (row[0], row[1]))
    assert pending == tuple(row[1] for row in expected)


@responses.activate
def test_history_of_an_unknown_run_is_none(server: ComfyUI) -> None:
    responses.get(f"{URL}/history/x", json=recorded("history_id_unknown"))
    assert server.history("x") is None


@responses.activate
def test_nan_in_history_is_read(server: ComfyUI) -> None:
    body = '{"x": {"outputs": {"1": {"text": [NaN]}}, "status": {"status_str": "success"}}}'
    responses.get(f"{URL}/history/x", body=body)
    entry = server.history("x")
    assert entry is not None
    assert entry.status == "success"


@responses.activate
def test_a_prompt_is_posted_with_our_own_ids(server: ComfyUI) -> None:
    responses.post(f"{URL}/prompt", json={"prompt_id": "p", "number": 1, "node_errors": {}})
    answer = server.post_prompt({"1": {}}, client_id="c", prompt_id="p")
    sent = json.loads(responses.calls[0].request.body or "")
    assert sent == {"prompt": {"1": {}}, "client_id": "c", "prompt_id": "p"}
    assert rejection(answer) is None


@responses.activate
def test_an_upload_uses_the_returned_name(server: ComfyUI) -> None:
    responses.post(
        f"{URL}/upload/image", json={"name": "a (1).png", "subfolder": "s", "type": "input"}
    )
    file = read_input(b"bytes", "file")
    assert server.uploads.put(file, CancelScope()) == "s/a (1).png"
    assert server.uploads.put(file, CancelScope()) == "s/a (1).png"
    assert len(responses.calls) == 1  # known by now
    request = responses.calls[0].request
    body = b"".join(cast("Any", request.body))
    assert request.headers["Content-Length"] == str(len(body))
    assert f'name="image"; filename="{file.name}"'.encode() in body
    assert b'name="overwrite"' not in body


@responses.activate
def test_an_upload_without_a_returned_name_is_an_error(server: ComfyUI) -> None:
    responses.post(f"{URL}/upload/image", json={})
    with pytest.raises(ApiError, match="does not name a file"):
        server.uploads.put(read_input(b"bytes", "file"), CancelScope())


@responses.activate
@pytest.mark.parametrize("status", [404, 405])
def test_cancelling_names_the_prompt(server: ComfyUI, status: int) -> None:
    responses.post(f"{URL}/api/jobs/p/cancel", status=status)
    responses.post(f"{URL}/queue")
    responses.get(f"{URL}/queue", json={"queue_running": [[0, "p", {}, {}, []]]})
    responses.post(f"{URL}/interrupt")
    server.cancel("p")
    server.cancel("p")
    asked = [(call.request.method, call.request.path_url) for call in responses.calls]
    each = [("POST", "/comfyui/queue"), ("GET", "/comfyui/queue"), ("POST", "/comfyui/interrupt")]
    assert asked == [("POST", "/comfyui/api/jobs/p/cancel"), *each, *each]
    assert json.loads(responses.calls[1].request.body or "") == {"delete": ["p"]}
    assert json.loads(responses.calls[3].request.body or "") == {"prompt_id": "p"}


@responses.activate
def test_a_run_of_another_client_is_not_interrupted(server: ComfyUI) -> None:
    responses.post(f"{URL}/api/jobs/p/cancel", status=404)
    responses.post(f"{URL}/queue")
    responses.get(f"{URL}/queue", json={"queue_running": [[0, "other", {}, {}, []]]})
    server.cancel("p")


@responses.activate
def test_newer_servers_cancel_in_one_step(server: ComfyUI) -> None:
    responses.post(f"{URL}/api/jobs/p/cancel", json={"cancelled": True})
    server.cancel("p")
    assert len(responses.calls) == 1


@responses.activate
def test_a_file_is_viewed_by_its_three_names(server: ComfyUI) -> None:
    responses.get(f"{URL}/view", body=b"bytes")
    with server.view(FileReference(filename="a b.png", subfolder="s", type="temp")) as answer:
        assert answer.content == b"bytes"
    assert responses.calls[0].request.url == f"{URL}/view?filename=a+b.png&subfolder=s&type=temp"


@responses.activate
@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        (404, NotFound, "no ComfyUI at this URL"),
        (403, ApiError, "refuses requests"),
        (413, ApiError, "larger than the server accepts"),
        (502, ApiError, "gateway"),
        (301, ApiError, "redirects elsewhere"),
    ],
)
def test_refusals_are_typed_errors(
    server: ComfyUI, status: int, kind: type[ApiError], text: str
) -> None:
    responses.get(f"{URL}/queue", status=status, body="<html>x</html>")
    with pytest.raises(kind, match=text) as caught:
        server.queue()
    assert (caught.value.status, caught.value.request) == (status, "GET /queue")


def answered(case: dict[str, Any]) -> requests.Response:
    answer = requests.Response()
    answer.status_code = case["status"]
    body = case["body"]
    answer._content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return answer


REJECTED = [
    name
    for name, case in CASES.items()
    if isinstance(case["body"], dict)
    and (case["status"] == 400 or (case["status"] == 200 and case["body"].get("node_errors")))
]
ACCEPTED = [
    name
    for name, case in CASES.items()
    if case["status"] == 200 and not case["body"].get("node_errors")
]


@pytest.mark.parametrize("name", REJECTED)
def test_every_recorded_rejection_is_recognised_and_names_its_nodes(name: str) -> None:
    case = CASES[name]
    error = rejection(answered(case))
    assert isinstance(error, PromptRejected)
    for node in case["body"]["node_errors"]:
        assert f"node {node}" in str(error)
    assert "\n" not in str(error)
    assert error.node_errors == case["body"]["node_errors"]


@pytest.mark.parametrize("body", [{}, "oops", [], {"error": "bad"}])
def test_a_400_is_a_rejection_whatever_its_body(body: Any) -> None:
    error = rejection(answered({"status": 400, "body": body}))
    assert isinstance(error, PromptRejected)
    assert error.status == 400


@pytest.mark.parametrize("name", ACCEPTED)
def test_every_recorded_acceptance_is_recognised(name: str) -> None:
    assert rejection(answered(CASES[name])) is None


def test_the_recordings_hold_rejections_and_acceptances() -> None:
    assert len(REJECTED) > 20
    assert len(ACCEPTED) > 20
    assert "one_output_ok_one_bad_is_200" in REJECTED


def test_a_rejection_says_what_is_wrong_with_which_node() -> None:
    error = rejection(answered(CASES["missing_required_input_full_graph"]))
    assert "node 3 (XlabsSampler): Required input is missing (steps)" in str(error)
