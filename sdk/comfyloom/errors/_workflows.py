"""Errors of workflows and of their values."""

from __future__ import annotations

from collections.abc import Sequence

from comfyloom._core.input_problem import InputProblem
from comfyloom.errors._base import ComfyloomError


class WorkflowError(ComfyloomError):
    """A workflow cannot run, or cannot run with the given values."""


class GraphError(WorkflowError):
    """The graph of a workflow file cannot run.

    Attributes:
        node: The id of the first node at fault, or "".
        problems: Everything that is wrong, one line each.
    """

    def __init__(self, message: str = "", *, node: str = "", problems: Sequence[str] = ()) -> None:
        self.node = node
        self.problems = tuple(problems) or ((message,) if message else ())
        super().__init__(message)


class InputValueError(WorkflowError):
    """A value of a workflow is missing, of the wrong type or out of range.

    Attributes:
        problems: Everything that is wrong, in the order of the fields.
        field: The public name of the first value at fault, or "".
        node: The id of the node that it goes to, or "".
        reason: What is wrong with it.
        nearest: The valid choice closest to it, None if there is none.
    """

    def __init__(self, message: str = "", *, problems: Sequence[InputProblem] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__(message or "; ".join(str(problem) for problem in self.problems))
        no_problem = InputProblem(field="", node="", reason=str(self))
        first = self.problems[0] if self.problems else no_problem
        self.field, self.node = first.field, first.node
        self.reason, self.nearest = first.reason, first.nearest


class InputFileError(InputValueError):
    """A file given to a workflow is missing or cannot be read."""
