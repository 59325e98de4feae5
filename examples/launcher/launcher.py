"""A small launcher: turns a render and a prompt into an image and a mesh in a folder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from comfyloom import Progress, RunComfySession
from comfyloom.errors import ComfyloomError
from comfyloom_workflows import FluxMeshResult, FluxMeshWorkflow


def make_mesh(
    session: RunComfySession,
    render: Path,
    prompt: str,
    folder: Path,
    show: Callable[[str], object] = print,
) -> FluxMeshResult:
    """Run the workflow, report its progress with `show`, and save both files in `folder`."""

    def report(progress: Progress) -> None:
        left = "" if progress.eta_s is None else f", {progress.eta_s:.0f} s left"
        show(f"{progress.fraction:4.0%} {progress.message}{left}")

    workflow = FluxMeshWorkflow(input_image=render, prompt=prompt)
    return session.run(workflow, timeout=600, on_progress=report, out_dir=folder)


def main(arguments: Sequence[str]) -> int:
    """Launch a machine, make one mesh and return the exit code; the machine is always stopped."""
    if len(arguments) != 2:
        print("usage: python launcher.py RENDER PROMPT", file=sys.stderr)
        print("It writes flux.png and partpacker_result_0.glb into ./out.", file=sys.stderr)
        return 64
    render, prompt = arguments
    try:
        with RunComfySession() as session:
            make_mesh(session, Path(render), prompt, Path("out"))
        print(*session.summary, sep="\n", file=sys.stderr)  # use and cost
    except ComfyloomError as error:
        print(f"no mesh: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
