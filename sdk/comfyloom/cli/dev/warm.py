"""`--warm`: run a workflow once, so that its models are loaded before they are needed."""

from __future__ import annotations

import importlib.resources
from typing import Any

from comfyloom._session.session import RunComfySession
from comfyloom._workflow.input_spec import InputSpec
from comfyloom._workflow.workflow import Workflow
from comfyloom.cli.view import progress_view
from comfyloom.settings import Settings


def warm_up(settings: Settings, workflow: type[Workflow[Any]]) -> None:
    """Run a workflow on the dev server and discard its result.

    Raises:
        ComfyloomError: The run failed.
    """
    job = warm_up_job(workflow)
    with (
        progress_view(workflow.__workflow__.stages) as show,
        RunComfySession(settings=settings, launch=False, on_progress=show) as session,
    ):
        session.run(job)


def warm_up_job(workflow: type[Workflow[Any]]) -> Workflow[Any]:
    """Return a workflow whose required inputs are the packaged image or the file's own values."""
    graph = workflow.template_graph()
    required = [spec for spec in workflow.__workflow__.inputs if spec.required]
    return workflow(**{spec.name: _value(spec, graph) for spec in required})


def _value(spec: InputSpec, graph: dict[str, Any]) -> object:
    if spec.kind in ("image", "mask") or spec.is_list:
        image = importlib.resources.files("comfyloom.cli").joinpath("render.png").read_bytes()
        return [image] * (spec.count or 1) if spec.is_list else image
    target = spec.targets[0]
    return graph[target.node]["inputs"][target.input] or "warm-up"
