"""The page "From nothing to your first mesh", followed on the emulator as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from shells import bare_environment
from support import ROOT

PAGE = (ROOT / "docs" / "first-mesh.md").read_text("utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of a language."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", body, flags=re.MULTILINE) for indent, body in found]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The files of the clone that its commands name."""
    (tmp_path / "examples").mkdir()
    render = (ROOT / "examples" / "render.png").read_bytes()
    (tmp_path / "examples" / "render.png").write_bytes(render)
    return tmp_path


def run(clone: Path, script: str) -> subprocess.CompletedProcess[str]:
    bin_folder = Path(sys.executable).parent
    environ = {**bare_environment(clone), "PATH": f"{bin_folder}:/usr/bin:/bin"}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=clone,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


AGAIN = """
comfyloom() {
    if [ "$1" = available ]; then for _ in 1 2 3 4 5; do command comfyloom "$@" && return; done; fi
    command comfyloom "$@"
}
"""
"""It answers within 2 s, and without having heard anything if the computer is too busy."""


def test_its_commands_work_on_the_emulator(clone: Path) -> None:
    server, commands = blocks(PAGE.partition("## The same on the emulator")[2], "console")
    activate, serve = server.strip().splitlines()
    assert activate == commands.splitlines()[0] == ". .venv/bin/activate"
    commands = commands.partition("\n")[2]  # the environment of the tests is active
    begin = f"{serve} & pid=$!; trap 'kill $pid; wait $pid || true' EXIT\n"
    until = "until grep -q VERSION emulator.env; do sleep 0.1; done\n"
    done = run(clone, begin + until + AGAIN + commands)
    assert done.returncode == 0, done.stderr
    assert (clone / "out" / "flux.png").stat().st_size > 1000
    assert (clone / "out" / "partpacker_result_0.glb").read_bytes().startswith(b"glTF")
    assert "artist@emulator.example" in done.stdout
    assert "flux-mesh can run on this server" in done.stdout
    assert "used for" in done.stderr


def test_both_ways_have_the_same_commands() -> None:
    first, _, second = PAGE.partition("## The same on the emulator")
    real = [line for each in blocks(first, "console") for line in each.splitlines()]
    emulated = blocks(second, "console")[1].splitlines()
    assert [line for line in emulated if line.startswith("comfyloom")] == [
        line for line in real if line != "comfyloom login"
    ]


def pasted(clone: Path, snippet: str) -> subprocess.CompletedProcess[str]:
    code = snippet.replace("RunComfySession()", 'RunComfySession("emulator")')
    return run(clone, f"python - <<'END'\n{code}\nEND")


def test_its_snippet_works(clone: Path) -> None:
    (snippet,) = blocks(PAGE, "python")
    done = pasted(clone, snippet)
    assert done.returncode == 0, done.stderr
    assert "100% finished" in done.stdout


def test_readme_snippets_work_as_pasted(clone: Path) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for snippet in blocks(readme, "python"):
        done = pasted(clone, snippet)
        assert done.returncode == 0, done.stderr
    assert (clone / "flux.png").is_file()
    assert (clone / "automaton.glb").is_file()
