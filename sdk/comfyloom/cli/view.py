"""Live progress on a terminal: a line for the machine and a bar a stage; plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from comfyloom.progress import Progress, ProgressCallback, Stage

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


@contextmanager
def progress_view(
    stages: tuple[Stage, ...], *, only_machine: bool = False
) -> Generator[ProgressCallback]:
    """Show progress on stderr while the block lasts.

    Args:
        stages: The stages of the workflow, each a bar.
        only_machine: Whether no workflow will run, only a machine start.

    Returns:
        What to call with each event.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(only_machine=only_machine)
        return
    from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description:<14}", markup=False),
        BarColumn(bar_width=32),
        TaskProgressColumn("{task.percentage:>3.0f} %"),  # nothing where there is no total
        # Titles of nodes are anybody's text, never markup.
        TextColumn("{task.fields[note]}", style="dim", markup=False),
    )
    with Bars(*columns, console=console) as bars:
        view = _Bars(bars, () if only_machine else [stage.name for stage in stages] or ["run"])
        try:
            yield view
        except BaseException:
            view.give_up()
            raise
        view.finish()


class _Bars:
    """One bar for the machine's start, one a stage, each shown when it begins."""

    def __init__(self, bars: Bars, names: Sequence[str]) -> None:
        self._bars = bars
        self._machine = bars.add_task("machine", total=None, note="", visible=False)
        self._noted: tuple[TaskID, str] | None = None
        self._tasks = {name: bars.add_task(name, total=1.0, note="") for name in names}

    def __call__(self, progress: Progress) -> None:
        if progress.kind == "cost":  # told in the end by whoever shows this
            return
        if progress.kind == "machine":
            self._bars.update(self._machine, visible=True, note=progress.message)
            return
        self._bars.update(self._machine, total=1.0, completed=1.0)
        shares = progress.stages or {"run": progress.fraction}
        for name, share in shares.items():
            self._update(self._tasks.get(name), share)
        if (current := self._tasks.get(progress.stage or "run")) is not None:
            self._note(current, progress)

    def finish(self) -> None:
        """Show that the machine is there, also where nothing ran on it."""
        self._bars.update(self._machine, total=1.0, completed=1.0)

    def give_up(self) -> None:
        """Take away what is not done: nothing works on it any more."""
        for task in self._bars.tasks:
            if not task.finished:
                self._bars.update(task.id, visible=False)

    def _note(self, task: TaskID, progress: Progress) -> None:
        """Say what a stage does and when all will be done; of the stage before it, only what."""
        if self._noted is not None and self._noted[0] != task:
            self._bars.update(self._noted[0], note=self._noted[1])
        self._noted = task, progress.message
        self._bars.update(task, note=f"{progress.message}{_time_left(progress)}")

    def _update(self, task: TaskID | None, share: float) -> None:
        if task is not None and share > 0:
            self._bars.update(task, completed=share)


def _time_left(progress: Progress) -> str:
    """Return when the run will be done, where earlier runs let one tell."""
    if progress.eta_s is None or progress.eta_s < 1:
        return ""
    minutes, seconds = divmod(round(progress.eta_s), 60)
    return f", {minutes}:{seconds:02} left"


class _Lines:
    """A line whenever the stage or the state changes."""

    def __init__(self, *, only_machine: bool) -> None:
        self._last = ""
        self._only_machine = only_machine

    def __call__(self, progress: Progress) -> None:
        if progress.kind in ("step", "preview", "cost"):
            return
        line = progress.stage if progress.kind == "node" and progress.stage else progress.message
        line = line.partition(",")[0]
        if line != self._last:
            self._last = line
            share = "" if self._only_machine else f"{progress.fraction:4.0%}  "
            click.echo(f"{share}{line}", err=True)
