"""What is wrong with one value of a workflow."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class InputProblem:
    """What is wrong with one value.

    Attributes:
        field: The public name of the field.
        node: The id of the node that the value goes to.
        reason: What is wrong.
        nearest: The valid choice closest to the value, None if there is none.
    """

    field: str
    node: str
    reason: str
    nearest: str | None = None

    def __str__(self) -> str:
        hint = f"; did you mean {self.nearest!r}?" if self.nearest is not None else ""
        return f"{self.field} (node {self.node}): {self.reason}{hint}"
