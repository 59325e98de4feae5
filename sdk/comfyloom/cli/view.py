"""Progress on stderr: a bar for the machine and for each stage, or plain lines in a pipe."""

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
        stages: The stages of the workflow; each gets a bar.
        only_machine: Whether only a machine starts, and no workflow runs.

    Yields:
        The callback for progress events.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(only_machine=only_machine)
        return
    from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bars
    from rich.table import Column

    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description:<14}", markup=False),
        BarColumn(bar_width=min(32, console.width // 4)),
        TaskProgressColumn("{task.percentage:>3.0f} %"),  # empty for a task without a total
        # Node titles come from the workflow file: they must not be read as markup. A long one is
        # cut: it must not take the place of the bars.
        TextColumn(
            "{task.fields[note]}",
            style="dim",
            markup=False,
            table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
        ),
    )
    with Bars(*columns, console=console, expand=True) as bars:
        view = StageBars(bars, () if only_machine else [stage.name for stage in stages] or ["run"])
        try:
            yield view
        except BaseException:
            view.hide_unfinished()
            raise
        view.finish()


class StageBars:
    """One bar for the start of the machine, and one for each stage."""

    def __init__(self, bars: Bars, names: Sequence[str]) -> None:
        self._bars = bars
        self._machine = bars.add_task("machine", total=None, note="", visible=False)
        self._last_note: tuple[TaskID, str] | None = None
        self._tasks = {name: bars.add_task(name, total=1.0, note="") for name in names}

    def __call__(self, progress: Progress) -> None:
        """Show one progress event."""
        if progress.kind in ("cost", "preview"):  # the caller reports the cost at the end
            return
        if progress.kind == "machine":
            self._bars.update(self._machine, visible=True, note=progress.message)
            return
        self._bars.update(self._machine, total=1.0, completed=1.0)
        shares = progress.stages or {"run": progress.fraction}
        for name, share in shares.items():
            task = self._tasks.get(name)
            if task is not None and share > 0:
                self._bars.update(task, completed=share)
        if (current := self._tasks.get(progress.stage or "run")) is not None:
            self._note(current, progress)

    def finish(self) -> None:
        """Complete the machine's bar, also if nothing ran on the machine."""
        self._bars.update(self._machine, total=1.0, completed=1.0)

    def hide_unfinished(self) -> None:
        """Hide the bars of unfinished tasks, which will not continue."""
        for task in self._bars.tasks:
            if not task.finished:
                self._bars.update(task.id, visible=False)

    def _note(self, task: TaskID, progress: Progress) -> None:
        """Show the message and the time left beside a stage; the previous stage loses its time."""
        if self._last_note is not None and self._last_note[0] != task:
            self._bars.update(self._last_note[0], note=self._last_note[1])
        self._last_note = task, progress.message
        self._bars.update(task, note=f"{time_left(progress)}{progress.message}")


def time_left(progress: Progress) -> str:
    """Return the estimated time left as text, "" if it is not known."""
    if progress.eta_s is None or progress.eta_s < 1:
        return ""
    minutes, seconds = divmod(round(progress.eta_s), 60)
    return f"{minutes}:{seconds:02} left, "


class _Lines:
    """Prints a line whenever the stage or the state changes."""

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
