"""Problems of the input files as values, collected over all files and reported together."""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

from comfyloom.errors import WorkflowError

Severity: TypeAlias = Literal["error", "warning"]


@attrs.frozen(kw_only=True)
class Problem:
    """One problem of one file.

    Attributes:
        file: The name of the file.
        reason: What is wrong, with a correction where one is known.
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
        return escape_unprintable(f"{mark}{where}: {self.reason}")


@attrs.define
class ProblemLog:
    """Collects the problems of one file; several logs may share one list.

    Attributes:
        file: The name of the file.
        entries: The problems added so far.
    """

    file: str
    entries: list[Problem] = attrs.field(factory=list[Problem])

    def error(self, reason: str, *, node: str = "", field: str = "", file: str = "") -> None:
        """Add a reason why nothing can be generated from the file."""
        self._add(reason, node, field, file, "error")

    def warn(self, reason: str, *, node: str = "", field: str = "", file: str = "") -> None:
        """Add a warning for the author of the file."""
        self._add(reason, node, field, file, "warning")

    @property
    def has_errors(self) -> bool:
        """Whether an error was added, so nothing can be generated."""
        return any(problem.severity == "error" for problem in self.entries)

    def raise_for_errors(self) -> None:
        """Raise the errors, if there are any.

        Raises:
            WorkflowError: There are errors; the message has one line for each.
        """
        if self.has_errors:
            errors = (each for each in self.entries if each.severity == "error")
            raise WorkflowError("\n".join(map(str, errors)))

    def _add(self, reason: str, node: str, field: str, file: str, severity: Severity) -> None:
        problem = Problem(
            file=file or self.file, reason=reason, node=node, field=field, severity=severity
        )
        self.entries.append(problem)


def escape_unprintable(text: str) -> str:
    """Return `text` on one line, its control characters escaped.

    Names in workflow files may hold terminal control sequences.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
