"""`comfyloom demo`: one run of the flux-mesh workflow without an account, on the emulator."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

import click

from comfyloom._session.staging import check_writable
from comfyloom.cli.main import CONTEXT
from comfyloom.cli.options import build
from comfyloom.cli.run import CostSummary, print_result, run_workflow
from comfyloom.cli.workflows import workflow_classes
from comfyloom.errors import ConfigError

PROMPT = "a brass automaton on a workbench, warm studio light"
STARTUP_S = 2.0
RUN_S = 4.0


@click.command(context_settings=CONTEXT)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("out"),
    show_default=True,
    help="The folder for the image and the mesh.",
)
@click.option("--prompt", default=PROMPT, show_default=True, help="What the image shows.")
def demo(out: Path, prompt: str) -> None:
    """Turn a render and a prompt into an image and a mesh, on an emulated machine.

    No data leaves this computer and nothing costs money: RunComfy and ComfyUI are emulated in this
    process, with a shorter machine start.
    """
    workflow = workflow_classes().get("flux-mesh")
    if workflow is None:
        raise ConfigError("the workflow flux-mesh is not installed")
    render = importlib.resources.files("comfyloom.cli").joinpath("render.png").read_bytes()
    job = build(workflow, {"input_image": render, "prompt": prompt})
    check_writable(out, [spec.file for spec in workflow.__workflow__.outputs])
    click.echo("RunComfy and ComfyUI are emulated here, on this computer's CPU.", err=True)
    result = run_workflow(
        job,
        CostSummary(is_emulated=True),
        out=out,
        target="emulator",
        session_options={
            "emulator_options": {"time": "real", "startup_s": STARTUP_S, "run_s": RUN_S}
        },
    )
    print_result(job, result)
