"""What is wrong with the input, as values: collected over all files and reported together."""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

from comfyloom.errors import WorkflowError

Severity: TypeAlias = Literal["error", "warning"]


@attrs.frozen(kw_only=True)
class Problem:
    """One thing that is wrong with one file.

    Attributes:
        file: The name of the file.
        reason: What is wrong, with what would be right where that is known.
        node: The id of the node at fault, or "".
        field: The public name at fault, or "".
        severity: Nothing is generated from a file with an error.
    """

    file: str
    reason: str
    node: str = ""
    field: str = ""
    severity: Severity = "error"

    def __str__(self) -> str:
        node = f"node {self.node}" if self.node else ""
        where = ": ".join(filter(None, (self.file, node, self.field)))
        mark = "warning: " if self.severity == "warning" else ""
        return printable(f"{mark}{where}: {self.reason}")


@attrs.define
class Findings:
    """The problems of one file, while it is worked on."""

    file: str
    problems: list[Problem] = attrs.field(factory=list[Problem])

    def error(self, reason: str, *, node: str = "", field: str = "", file: str = "") -> None:
        """Note why nothing can be generated from the file."""
        self._add(reason, node, field, file, "error")

    def warn(self, reason: str, *, node: str = "", field: str = "", file: str = "") -> None:
        """Note what its author should know."""
        self._add(reason, node, field, file, "warning")

    @property
    def failed(self) -> bool:
        """Whether nothing can be generated."""
        return any(problem.severity == "error" for problem in self.problems)

    def raise_for_errors(self) -> None:
        """Raise the errors, if there are any.

        Raises:
            WorkflowError: One line an error.
        """
        if self.failed:
            errors = (each for each in self.problems if each.severity == "error")
            raise WorkflowError("\n".join(map(str, errors)))

    def _add(self, reason: str, node: str, field: str, file: str, severity: Severity) -> None:
        problem = Problem(
            file=file or self.file, reason=reason, node=node, field=field, severity=severity
        )
        self.problems.append(problem)


def printable(text: str) -> str:
    """Return `text` on one line: names in workflow files may hold what steers a terminal."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
