"""What a call of the generator did."""

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
    """What became of one workflow file.

    Attributes:
        file: Its name.
        workflow: The name of its class, "" if it failed.
        inputs: How many values its callers may set.
        results: How many results it gives.
        state: `differs` only when checking, where nothing is written; `skipped` if the file
            turned out to hold no workflow.
    """

    file: str
    workflow: str = ""
    inputs: int = 0
    results: int = 0
    state: State


@attrs.frozen(kw_only=True)
class Drift:
    """One file of the generated package that is not what would be generated."""

    file: str
    kind: DriftKind

    def __str__(self) -> str:
        return f"{self.file}: {self.kind}"


@attrs.frozen(kw_only=True)
class Report:
    """What a call of the generator did, or found when it only checked.

    Attributes:
        outcomes: One entry a workflow file, by file name.
        problems: Errors and warnings; nothing was generated from a file with an error.
        drift: What differs from a fresh generation; without `check` it has been mended.
        changes: What new exports of workflows change for the callers of their classes.
        followed: The selectors of bindings that were written anew, one line each.
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
        """The problems that an author should know of."""
        return tuple(problem for problem in self.problems if problem.severity == "warning")

    def raise_for_errors(self) -> None:
        """Raise the errors, if there are any.

        Raises:
            WorkflowError: One line an error.
        """
        if self.errors:
            raise WorkflowError("\n".join(map(str, self.errors)))
