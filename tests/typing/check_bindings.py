"""What type checkers must see in a generated class; mypy and pyright read it, nothing runs it."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from typing import assert_type

from comfyloom import Run, RunComfySession
from comfyloom_workflows import FluxMeshResult, FluxMeshWorkflow

built = FluxMeshWorkflow(input_image="render.png", prompt="x")
assert_type(built.prompt, str)
assert_type(built.seed, int | None)
assert_type(built.guidance, float)

assert_type(FluxMeshWorkflow.with_prompt("x"), FluxMeshWorkflow)
assert_type(FluxMeshWorkflow.with_prompt("x").with_input_image(b""), FluxMeshWorkflow)
assert_type(built.with_prompt("y"), FluxMeshWorkflow)

FluxMeshWorkflow(input_image="render.png")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
FluxMeshWorkflow(input_image="render.png", prompt=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
FluxMeshWorkflow.with_prompt(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
built.prompt = "z"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def runs(session: RunComfySession, workflow: FluxMeshWorkflow) -> None:
    """What a session gives has the type of the workflow's result."""
    assert_type(session.run(workflow), FluxMeshResult)
    assert_type(session.submit(workflow), Run[FluxMeshResult])
    assert_type(session.submit(workflow).wait(), FluxMeshResult)
    assert_type(next(session.map([workflow])), FluxMeshResult)
    session.run("flux-mesh")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def results(result: FluxMeshResult) -> None:
    """Outputs have the types of their kinds."""
    from comfyloom import ImageOutput, MeshOutput

    assert_type(result.image, ImageOutput)
    assert_type(result.mesh, MeshOutput)
    assert_type(result.seed, int | None)
