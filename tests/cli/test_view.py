"""Progress as bars on a terminal, and as lines in a pipe."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import pytest
from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import TextColumn

from comfyloom.cli import view
from comfyloom.progress import Progress, Stage

STAGES = (Stage("image", ("3",), 0.5), Stage("mesh", ("33",), 0.5))


def test_a_pipe_gets_a_line_for_each_change(capsys: pytest.CaptureFixture[str]) -> None:
    with view.progress_view(STAGES) as show:
        show(Progress(kind="machine", message="starting, 3 s, usually 120 to 300 s"))
        show(Progress(kind="machine", message="starting, 6 s, usually 120 to 300 s"))
        show(Progress(kind="node", stage="image", message="KSampler", fraction=0.25))
        show(Progress(kind="step", stage="image", message="step 3 of 20", fraction=0.3))
        show(Progress(kind="node", stage="image", message="VAE", fraction=0.4))
        show(Progress(kind="node", stage="mesh", message="PartPacker", fraction=0.5))
        show(Progress(kind="cost", message="machine s-1: 0.1 USD"))
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["  0%  starting", " 25%  image", " 50%  mesh"]


def test_a_start_alone_has_no_share(capsys: pytest.CaptureFixture[str]) -> None:
    with view.progress_view((), only_machine=True) as show:
        show(Progress(kind="machine", message="launching a medium machine"))
    assert capsys.readouterr().err == "launching a medium machine\n"


@pytest.mark.parametrize(
    ("eta_s", "text"),
    [(None, ""), (0.4, ""), (1.0, "0:01 left, "), (59.6, "1:00 left, "), (605.0, "10:05 left, ")],
)
def test_the_time_left(eta_s: float | None, text: str) -> None:
    assert view.time_left(Progress(kind="step", eta_s=eta_s)) == text


@pytest.fixture
def bars() -> Iterator[Bars]:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    columns = (TextColumn("{task.description}"), TextColumn("{task.fields[note]}"))
    with Bars(*columns, console=console, auto_refresh=False) as found:
        yield found


def shares(bars: Bars) -> dict[str, float]:
    return {task.description: task.completed for task in bars.tasks if task.visible}


def test_each_stage_has_a_bar(bars: Bars) -> None:
    show = view.StageBars(bars, ["image", "mesh"])
    assert shares(bars) == {"image": 0.0, "mesh": 0.0}
    show(Progress(kind="machine", message="starting"))
    assert shares(bars)["machine"] == 0.0
    show(
        Progress(
            kind="step",
            stage="image",
            message="step 10 of 20",
            fraction=0.25,
            stages={"image": 0.5, "mesh": 0.0},
            eta_s=65.0,
        )
    )
    assert shares(bars) == {"machine": 1.0, "image": 0.5, "mesh": 0.0}
    notes = {task.description: task.fields["note"] for task in bars.tasks}
    assert notes["image"] == "1:05 left, step 10 of 20"
    show(
        Progress(
            kind="node",
            stage="mesh",
            message="PartPacker",
            stages={"image": 1.0, "mesh": 0.1},
            eta_s=30.0,
        )
    )
    notes = {task.description: task.fields["note"] for task in bars.tasks}
    assert notes == {
        "machine": "starting",
        "image": "step 10 of 20",  # only the current stage has a time left
        "mesh": "0:30 left, PartPacker",
    }


def test_a_workflow_without_stages_has_one_bar(bars: Bars) -> None:
    show = view.StageBars(bars, ["run"])
    show(Progress(kind="node", message="KSampler", fraction=0.5))
    assert shares(bars)["run"] == 0.5
    show(Progress(kind="cost", message="machine s-1"))
    assert shares(bars)["run"] == 0.5


def test_after_a_failure_only_finished_bars_are_left(bars: Bars) -> None:
    show = view.StageBars(bars, ["image", "mesh"])
    show(Progress(kind="step", stage="mesh", stages={"image": 1.0, "mesh": 0.3}))
    show.hide_unfinished()
    assert "mesh" not in shares(bars)
    assert shares(bars)["image"] == 1.0


def test_a_start_without_a_run_completes_the_machine(bars: Bars) -> None:
    show = view.StageBars(bars, [])
    show(Progress(kind="machine", message="ready after 3 s"))
    show.finish()
    assert shares(bars) == {"machine": 1.0}


def test_titles_are_not_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node title comes from the workflow file, which may contain anything."""
    out = io.StringIO()
    monkeypatch.setattr(
        "rich.console.Console", lambda **_: Console(file=out, force_terminal=True, width=80)
    )
    with view.progress_view(STAGES) as show:
        show(Progress(kind="node", stage="image", message="[red]x[/blue]", stages={"image": 0.1}))
    assert "[red]x[/blue]" in out.getvalue()


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_long_names_take_no_place_from_bars_and_marks(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=columns, color_system=None)
    monkeypatch.setattr("rich.console.Console", lambda **_: console)
    name = "5f1c0f6e-1111-2222-3333-444455556666"
    title = "Load ControlNet Model with a very long title 12/28"
    with view.progress_view(STAGES) as show:
        show(Progress(kind="machine", message=f"using the dev server {name}"))
        show(Progress(kind="step", stage="image", message=title, stages={"image": 0.5}, eta_s=90.0))
    machine, image, mesh = screen.getvalue().rstrip().splitlines()[-4:-1]
    assert all(len(line) <= columns for line in (image, mesh))
    assert machine.endswith("…" if columns < 100 else " ")
    assert re.search(r"✓ machine +━+ 100 % using the dev", machine)
    assert re.search(r". image +━+╸? +50 % 1:30 left, Load", image)
    assert re.search(r". mesh +━* +0 %", mesh)


def test_previews_do_not_change_the_bars(bars: Bars) -> None:
    show = view.StageBars(bars, ["image"])
    show(Progress(kind="step", stage="image", message="KSampler 1/4", stages={"image": 0.25}))
    show(Progress(kind="preview", stage="image", message="preview, KSampler 1/4", preview=b"x"))
    assert [task.fields["note"] for task in bars.tasks] == ["", "KSampler 1/4"]
