"""`comfyloom run`: options from the fields of a workflow, and what is reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from cli.conftest import Comfyloom
from comfyloom.cli.options import JsonType, build, option
from comfyloom.emulator import Emulator, RunFault
from comfyloom.errors import InputValueError
from comfyloom_workflows import FluxMeshWorkflow
from support import RENDER, running

SMALL = ("--width", "64", "--height", "64")
JOB = ("run", "flux-mesh", "--input-image", RENDER, "--prompt", "a jade claw", *SMALL)


def names(workflow: type[FluxMeshWorkflow]) -> list[str]:
    return [option(workflow, spec).opts[0] for spec in workflow.__workflow__.inputs]


def test_every_field_is_an_option_of_its_type() -> None:
    options = {each.name: each for each in map(_option, FluxMeshWorkflow.__workflow__.inputs)}
    assert options["field_prompt"].required
    assert options["field_prompt"].type is click.STRING
    assert isinstance(options["field_input_image"].type, click.Path)
    assert options["field_seed"].type is click.INT
    assert options["field_guidance"].type is click.FLOAT
    assert options["field_mesh_simplify"].opts == ["--mesh-simplify"]
    assert options["field_mesh_simplify"].secondary_opts == ["--no-mesh-simplify"]
    assert all(each.help for each in options.values())


def _option(spec: Any) -> click.Option:
    return option(FluxMeshWorkflow, spec)


@pytest.mark.parametrize(
    ("field", "switch"),
    [
        ("timeout", "--timeout-value"),
        ("json", "--json-value"),
        ("from_", "--from"),
        ("a_b", "--a-b"),
    ],
)
def test_a_field_never_takes_the_name_of_an_option_of_the_command(field: str, switch: str) -> None:
    import attrs

    spec = attrs.evolve(FluxMeshWorkflow.__workflow__.inputs[0], name=field)
    assert _option(spec).opts == [switch]


def test_a_value_of_any_type_is_written_as_json() -> None:
    assert JsonType().convert('{"a": [1]}', None, None) == {"a": [1]}
    with pytest.raises(click.BadParameter, match="'nope' is not JSON"):
        JsonType().convert("nope", None, None)


def test_values_that_are_not_given_keep_the_defaults_of_the_file() -> None:
    given = {"field_input_image": b"x", "field_prompt": "p", "field_width": None}
    job = build(FluxMeshWorkflow, given)
    assert isinstance(job, FluxMeshWorkflow)
    assert job.width == FluxMeshWorkflow(input_image=b"x", prompt="p").width
    with pytest.raises(InputValueError, match="width"):
        build(FluxMeshWorkflow, {**given, "field_width": 7})


def test_the_report_has_files_seed_machine_and_cost(
    account: Emulator, comfyloom: Comfyloom, here: Path
) -> None:
    done = comfyloom(*JOB, "--seed", "7", "--out", "out", "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["files"]["image"] == str(here / "out" / "flux.png")
    assert report["seed"] == 7
    assert report["emulated"] is True
    assert report["machine"]["borrowed"] is False
    assert float(report["cost_usd"]) >= 0
    assert report["seconds"] > 0
    assert running(account) == []


def test_a_failed_run_is_reported_as_json_too(account: Emulator, comfyloom: Comfyloom) -> None:
    account.faults.add(RunFault(node="3", action="raise", message="out of memory"))
    done = comfyloom(*JOB, "--json")
    assert done.code == 69
    report = json.loads(done.out)
    assert report["ok"] is False
    assert report["error"]["code"] == "RunFailed"
    assert report["error"]["details"]["exit_code"] == 69
    assert report["error"]["details"]["node"] == "3"
    assert "out of memory" in report["error"]["message"]
    assert report["machine"]["server_id"]
    assert "cost_usd" in report
    assert running(account) == []


def test_people_see_paths_seed_and_cost(account: Emulator, comfyloom: Comfyloom) -> None:
    done = comfyloom(*JOB, "--seed", "7", "--out", "out")
    assert done.out.splitlines() == ["out/flux.png", "out/partpacker_result_0.glb"]
    assert "seed 7, run " in done.err
    assert "billed" in done.err
    assert "This was the emulator" in done.err
    assert account.token not in done.err


def test_a_borrowed_dev_server_is_named_in_the_report(
    account: Emulator, comfyloom: Comfyloom
) -> None:
    comfyloom("dev", "up")
    report = json.loads(comfyloom(*JOB, "--json").out)
    assert report["machine"]["borrowed"] is True
    assert len(running(account)) == 1
    assert comfyloom("dev", "down").code == 0


def test_no_launch_needs_a_dev_server(account: Emulator, comfyloom: Comfyloom) -> None:
    done = comfyloom(*JOB, "--no-launch")
    assert done.code == 69
    assert "no machine to run on" in done.err
    assert account.state()["machines"] == []


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("--width", "7"), 65, "width"),
        (("--width", "wide"), 64, "--width"),
        (("--input-image", "missing.png"), 66, "missing.png"),
        (("--timeout", "0"), 64, "--timeout"),
        (("--out", "file/below"), 73, "file"),
        (("--credentials", "none.txt"), 78, "none.txt"),
        (("--target", "localhost:8188"), 78, "did you mean http://localhost:8188?"),
        (("--nonsense",), 64, "--nonsense"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_launched(
    account: Emulator,
    comfyloom: Comfyloom,
    here: Path,
    arguments: tuple[str, ...],
    code: int,
    word: str,
) -> None:
    (here / "file").write_text("")
    done = comfyloom(*JOB, *arguments)
    assert done.code == code, done.err
    assert word in done.err
    assert "Traceback" not in done.err
    assert account.state()["machines"] == []


@pytest.mark.usefixtures("here")
def test_an_unknown_workflow_is_a_usage_error_that_suggests(comfyloom: Comfyloom) -> None:
    done = comfyloom("run", "flux-messh")
    assert done.code == 64
    assert "no command 'flux-messh'; did you mean 'flux-mesh'?" in done.err
    assert "there are: flux-depth, flux-image, flux-mesh" in comfyloom("run", "zzz").err
    assert "no command 'docto'; did you mean 'doctor'?" in comfyloom("docto").err
    assert "no command 'stopp'; did you mean 'stop'?" in comfyloom("machines", "stopp").err
    assert "no command 'stat'; did you mean 'status'?" in comfyloom("dev", "stat").err
    assert "flux-mesh" in comfyloom("run", "--help").out


def test_the_demo_writes_where_it_is_told(comfyloom: Comfyloom, here: Path) -> None:
    done = comfyloom("demo", "--out", here / "made", "--prompt", "a clay jug")
    assert done.code == 0, done.err
    assert done.out.splitlines() == ["made/flux.png", "made/partpacker_result_0.glb"]
    assert (here / "made" / "partpacker_result_0.glb").read_bytes()[:4] == b"glTF"
    assert "emulated here" in done.err
