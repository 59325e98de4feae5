"""The progress that is reported for runs recorded on real servers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from comfyloom._comfyui.events import parse_frame
from comfyloom._session.progress_meter import Meter
from comfyloom._session.progress_reporter import ProgressReporter
from comfyloom.progress import Stage
from comfyloom_workflows import FluxMeshWorkflow
from support import RECORDINGS

WORKFLOW = FluxMeshWorkflow(input_image="render.png", prompt="x")


def reported(recording: str, drop: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    reporter = ProgressReporter(
        WORKFLOW.to_graph(), WORKFLOW, lambda kind, message, **f: events.append({"kind": kind, **f})
    )
    for line in (RECORDINGS / "ws" / f"{recording}.jsonl").read_text("utf-8").splitlines():
        frame = json.loads(line).get("frame")
        if not frame or frame.get("_binary") or frame["type"] in drop:
            continue
        event = parse_frame(json.dumps(frame))
        assert event is not None
        reporter.on_event(event)
    return events


@pytest.mark.parametrize("drop", [(), ("progress",), ("progress_state",)])
def test_a_fresh_run_advances_stage_by_stage(drop: tuple[str, ...]) -> None:
    events = reported("01_fresh_run_legacy_preview", drop)
    fractions = [one["fraction"] for one in events]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0.0
    assert fractions[-1] >= 0.85
    assert {one["stage"] for one in events} >= {
        stage.name for stage in WORKFLOW.__workflow__.stages
    }
    steps = [one for one in events if one["kind"] == "step" and one["node"] == "3"]
    assert [one["value"] for one in steps][-1] == 20
    assert len(steps) in (20, 21)  # reported once, although two types of event carry it


def test_cached_nodes_count_as_done() -> None:
    events = reported("02c_partially_cached_run")
    assert events[1]["fraction"] > 0.3


def test_a_reporter_without_stages_counts_nodes() -> None:
    meter = Meter.of({"1": {}, "2": {}, "3": {}, "4": {}})
    assert meter.finish(["1"]) == pytest.approx(0.25)
    assert meter.step("2", 5, 10) == pytest.approx(0.375)
    assert meter.step("2", 1, 10) == pytest.approx(0.375)
    assert meter.finish(["1", "2", "3", "4"]) == 1.0
    assert meter.stage_of("1") == ""
    assert meter.parts() == {}


def test_nodes_outside_every_stage_share_the_rest() -> None:
    meter = Meter.of({"1": {}, "2": {}}, [Stage("a", ("1",), 30)])
    meter.finish(["1"])
    assert meter.parts() == {"a": 1.0}
    assert 0.5 < meter.fraction < 1.0
    assert meter.finish(["2"]) == 1.0
