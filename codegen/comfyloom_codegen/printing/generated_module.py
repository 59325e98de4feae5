"""A module as text, and what the text itself tells of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import attrs

from comfyloom_codegen.printing.header import is_ours

# Some letters of identifiers, such as the middle dot, are none of `\w`.
_CLASSES: Final = re.compile(r"^class ([^\s(]+)\(Workflow\[([^\s\]]+)\]\):$", re.MULTILINE)
_COMMAND: Final = re.compile(
    r'^(?:@workflow_class\(graph="[^"]+\.json", |    )command="([^\s"]+)"', re.M
)
_INPUT: Final = "\n    @chainable\n"
_RESULT: Final = re.compile(r"^    [^\s:]+: [\w\[\], .|]+ = outputs\.", re.MULTILINE)


@attrs.frozen(kw_only=True)
class Summary:
    """What a module tells of itself.

    Attributes:
        workflow: The name of the workflow class.
        result: The name of the result class.
        command: The name of the workflow on the command line.
        inputs: How many values callers may set.
        results: How many results they get.
    """

    workflow: str
    result: str
    command: str
    inputs: int
    results: int

    @property
    def classes(self) -> tuple[str, str]:
        """The names of both classes, in the order of the alphabet."""
        return self.result, self.workflow


@attrs.frozen
class Printed:
    """The source of one generated module, and the graph beside it."""

    text: str
    graph: str

    def summary(self) -> Summary | None:
        """Return what the text tells of itself, None if it is none of ours.

        A module that was generated earlier tells its names as well as a new one, so an unchanged
        one needs no model.
        """
        classes, command = _CLASSES.search(self.text), _COMMAND.search(self.text)
        if classes is None:
            return None
        return Summary(
            workflow=classes[1],
            result=classes[2],
            command=command[1] if command else "",
            inputs=self.text.count(_INPUT),
            results=len(_RESULT.findall(self.text.partition("\n@workflow_class(")[0])),
        )


def read_printed(folder: Path, module: str) -> Printed | None:
    """Return what was generated earlier, None if nothing is there or it is somebody's own."""
    text = read_exactly(folder / f"{module}.py")
    if text is None or not is_ours(text):
        return None
    graph = read_exactly(folder / f"{module}.json")
    return None if graph is None else Printed(text, graph)


def read_exactly(path: Path) -> str | None:
    """Return the text of a file with its own ends of line, None if there is none."""
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None
