"""The report of one call of the generator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

from comfyloom.errors import WorkflowError
from comfyloom_codegen.problems import Problem

if TYPE_CHECKING:
    from comfyloom_codegen.exports.changes import Change

State: TypeAlias = Literal["written", "unchanged", "differs", "failed", "skipped"]
DriftKind: TypeAlias = Literal["differs", "missing", "orphaned"]


@attrs.frozen(kw_only=True)
class Outcome:
    """The outcome of one workflow file.

    Attributes:
        file: Its name.
        workflow: The name of its class, "" if it failed.
        inputs: The number of values that callers can set.
        results: The number of its results.
        state: `differs` only with `check`, where nothing is written; `skipped` if the file
            holds no workflow.
    """

    file: str
    workflow: str = ""
    inputs: int = 0
    results: int = 0
    state: State


@attrs.frozen(kw_only=True)
class Drift:
    """One file of the generated package that differs from a fresh generation."""

    file: str
    kind: DriftKind

    def __str__(self) -> str:
        return f"{self.file}: {self.kind}"


@attrs.frozen(kw_only=True)
class Report:
    """What one call of the generator did, or would do with `check`.

    Attributes:
        outcomes: One entry for each workflow file, by file name.
        problems: Errors and warnings; nothing was generated from a file with an error.
        drift: The files that differ from a fresh generation; without `check` they are up to date
            now.
        changes: What new exports of workflows change for callers of their classes.
        followed: The binding selectors that were rewritten for a new export, one line each.
    """

    outcomes: tuple[Outcome, ...] = ()
    problems: tuple[Problem, ...] = ()
    drift: tuple[Drift, ...] = ()
    changes: tuple[Change, ...] = ()
    followed: tuple[str, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that kept a file from being generated."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The problems that do not prevent generation."""
        return tuple(problem for problem in self.problems if problem.severity == "warning")

    def raise_for_errors(self) -> None:
        """Raise the errors, if there are any.

        Raises:
            WorkflowError: There are errors; the message has one line for each.
        """
        if self.errors:
            raise WorkflowError("\n".join(map(str, self.errors)))
