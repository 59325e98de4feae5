"""POST /prompt, compared with the recorded answers of a real server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from comfyloom.emulator import ManualClock
from emulator.clients import ComfyUIClient, Start, wait_until
from emulator.lab import cases, sleep
from support import RECORDINGS


def _post(comfyui: ComfyUIClient, name: str, request: Any) -> Any:
    method = "PUT" if name == "put_method" else "POST"
    body = request if isinstance(request, str) else json.dumps(request)
    body = body.replace("render.png", "example.png")
    return comfyui.call(method, "/prompt", data=body.encode())


def _plain(error: dict[str, Any]) -> dict[str, Any]:
    """Return a validation error without the server's own traceback."""
    extra = {k: v for k, v in error["extra_info"].items() if k != "traceback"}
    return {**error, "extra_info": {**extra, "keys": sorted(error["extra_info"])}}


def _plain_errors(node_errors: dict[str, Any]) -> dict[str, Any]:
    return {
        node: {**entry, "errors": [_plain(error) for error in entry["errors"]]}
        for node, entry in node_errors.items()
    }


def _comparable(body: Any) -> Any:
    if not isinstance(body, dict):
        return body
    errors = _plain_errors(body["node_errors"])
    return {"error": body.get("error"), "node_errors": errors, "keys": sorted(body)}


@pytest.mark.parametrize("name", [*cases()])
def test_prompts_are_answered_as_recorded(comfyui: ComfyUIClient, name: str) -> None:
    case = cases()[name]
    response = _post(comfyui, name, case["request"])
    recorded = json.loads(json.dumps(case["body"]).replace("render.png", "example.png"))
    assert response.status_code == case["status"]
    headers = dict(case["headers"])
    assert response.headers.get("Content-Type") == headers.get("Content-Type")
    assert response.headers.get("Allow") == headers.get("Allow")
    body = response.json() if response.text.startswith("{") else response.text
    # NaN is not equal to itself, so compare the JSON texts.
    assert json.dumps(_comparable(body)) == json.dumps(_comparable(recorded))


def test_prompts_are_numbered_as_recorded(comfyui: ComfyUIClient) -> None:
    offset = None
    for name, case in cases().items():
        response = _post(comfyui, name, case["request"])
        if response.status_code != 200 or name == "number_string":
            continue
        number, recorded = response.json()["number"], case["body"]["number"]
        if isinstance(recorded, float):
            assert number == recorded
            continue
        if offset is None:
            offset = abs(recorded) - abs(number)
        assert (abs(number) + offset, number < 0) == (abs(recorded), recorded < 0)


@pytest.mark.parametrize(
    ("name", "node", "inputs"),
    [
        ("int_as_numeric_string_coerced", "1", {"ms": 5}),
        ("int_as_float_truncated", "1", {"ms": 5}),
        ("boolean_given_string_false_is_True", "1", {"interruptible": True}),
        ("string_given_number_coerced", "1", {"tag": "12"}),
        ("list_value_wrapped___value__", "1", {"tag": "['a', 'b']"}),
    ],
)
def test_the_history_shows_converted_values(
    comfyui: ComfyUIClient, name: str, node: str, inputs: dict[str, Any]
) -> None:
    prompt_id = _post(comfyui, name, cases()[name]["request"]).json()["prompt_id"]
    graph = comfyui.entry(prompt_id)["prompt"][2]
    assert {key: graph[node]["inputs"][key] for key in inputs} == inputs


def test_invalid_graphs_that_are_accepted_end_as_recorded(comfyui: ComfyUIClient) -> None:
    recorded = json.loads(
        (RECORDINGS / "prompt" / "history_of_interesting_cases.json").read_text("utf-8")
    )
    for name in ("literal_for_link_type", "extra_data_list", "link_index_negative"):
        prompt_id = _post(comfyui, name, cases()[name]["request"]).json()["prompt_id"]
        status = comfyui.entry(prompt_id)["status"]
        wanted = recorded[name]["status"]
        assert [event for event, _ in status["messages"]] == [e for e, _ in wanted["messages"]]
        last, wanted_last = status["messages"][-1][1], wanted["messages"][-1][1]
        assert sorted(last) == sorted(wanted_last)
        for key in ("node_id", "executed", "exception_message", "exception_type"):
            assert last.get(key) == wanted_last.get(key)


def test_a_prompt_with_a_taken_number_and_id_fails_but_runs(start: Start) -> None:
    emulator = start(time="manual")
    comfyui = ComfyUIClient(emulator.comfyui_url)
    blocker = comfyui.submit(sleep(1000, "b"), prompt_id="blocker")
    wait_until(lambda: comfyui.get("/queue")["queue_running"])
    answers = [comfyui.post(sleep(1, tag), prompt_id="hh", number=50) for tag in ("h1", "h2")]
    assert [answer.status_code for answer in answers] == [200, 500]
    assert [item[1] for item in comfyui.get("/queue")["queue_pending"]] == ["hh", "hh"]
    assert isinstance(emulator.clock, ManualClock)
    for _ in range(4):
        emulator.clock.advance(10)
    comfyui.entry(blocker)
    wait_until(lambda: emulator.clock.advance(1) or not comfyui.get("/queue")["queue_pending"])
    wait_until(lambda: emulator.clock.advance(1) or not comfyui.get("/queue")["queue_running"])
    assert comfyui.entry("hh")["prompt"][2]["1"]["inputs"]["tag"] == "h2"
    comfyui.http.close()
