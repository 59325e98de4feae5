"""Tasks of the project: `nox -l` lists them.

Environments are reused, and reinstalled only when pyproject.toml has changed.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests"]
nox.options.default_venv_backend = "venv"

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml("pyproject.toml")
PACKAGES = (
    "sdk/comfyloom",
    "sdk/comfyloom_emulator",
    "codegen/comfyloom_codegen",
    "generated/comfyloom_workflows",
)


def install(session: nox.Session, *requirements: str, groups: tuple[str, ...] = ()) -> None:
    """Install what a session needs, unless its environment already has it."""
    wanted = [*requirements, *nox.project.dependency_groups(PROJECT, *groups)]
    text = "\n".join(
        [*wanted, sys.version, str(ROOT), (ROOT / "pyproject.toml").read_text("utf-8")]
    )
    stamp = Path(session.virtualenv.location) / ".installed"
    mark = hashlib.sha256(text.encode()).hexdigest()
    if stamp.is_file() and stamp.read_text("ascii") == mark:
        return
    session.install("-q", *wanted)
    stamp.write_text(mark, "ascii")


@nox.session
def demo(session: nox.Session) -> None:
    """Turn a render and a prompt into a picture and a mesh, on an emulated machine."""
    install(session, "-e", ".[emulator]")
    session.run("comfyloom", "demo", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the test suite."""
    install(session, "-e", ".[all]", groups=("test",))
    # Tests mostly wait for sockets and processes: two workers for each of two cores.
    everything = ("-n", "4", "tests", "examples/launcher")
    session.run("pytest", *(session.posargs or everything))


@nox.session
def crash(session: nox.Session) -> None:
    """Kill clients at every point, and count the machines that are left; takes minutes."""
    install(session, "-e", ".[all]", groups=("test",))
    session.run("python", "-m", "crash.run", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session
def live(session: nox.Session) -> None:
    """Launch a real machine, run a workflow, stop it; needs an account, and asks first."""
    install(session, "-e", ".")
    session.run("python", "tests/live/live.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and the layers of the architecture."""
    install(session, groups=("lint",))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    paths = os.pathsep.join(sorted({str(Path(package).parent) for package in PACKAGES}))
    session.run("lint-imports", "--no-cache", env={"PYTHONPATH": paths})


@nox.session
def types(session: nox.Session) -> None:
    """Check types, with both checkers at their strictest."""
    install(session, "-e", ".[all]", groups=("types",))
    where = (*PACKAGES, "tests/typing")
    session.run("mypy", *where)
    session.run("pyright", *where)


@nox.session
def shape(session: nox.Session) -> None:
    """Print code metrics: sizes, single-use helpers, module hops, calls to a higher layer."""
    install(session, "-e", ".[emulator]")
    session.run("python", "benchmarks/shape.py")


@nox.session
def codegen(session: nox.Session) -> None:
    """Generate the workflow classes; run it when something in workflows/ has changed."""
    install(session, "-e", ".[codegen]")
    # Forced, because a template may have changed, which no checksum shows.
    session.run("comfyloom", "codegen", "--force", *session.posargs)


@nox.session
def drift(session: nox.Session) -> None:
    """Fail when the committed workflow classes are out of date or incorrect."""
    install(session, "-e", ".[codegen]", groups=("types",))
    session.run("comfyloom", "codegen", "--check", "--verify")


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the distribution, install it into a fresh environment, and run the demo from there."""
    install(session, "build")
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "-m", "build", "--outdir", folder, silent=True)
        (built,) = Path(folder).glob("*.whl")
        session.run("python", "-m", "venv", f"{folder}/fresh")
        bin_dir = Path(folder, "fresh", "Scripts" if os.name == "nt" else "bin")
        session.run(str(bin_dir / "pip"), "install", "-q", f"{built}[emulator]", external=True)
        with session.chdir(folder):
            session.run(str(bin_dir / "comfyloom"), "demo", external=True)
            for name in ("flux.png", "partpacker_result_0.glb"):
                session.log("%s: %d bytes", name, Path("out", name).stat().st_size)
