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


@attrs.frozen
class Printed:
    """One generated module and the graph beside it.

    A module that was generated earlier tells its names as well as a new one, so an unchanged one
    needs no model.
    """

    text: str
    graph: str

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the result class and of the workflow class."""
        found = _CLASSES.search(self.text)
        return (found[2], found[1]) if found else ()

    @property
    def workflow(self) -> str:
        """The name of the workflow class."""
        return self.classes[-1]

    @property
    def command(self) -> str:
        """The name of the workflow on the command line."""
        found = _COMMAND.search(self.text)
        return found[1] if found else ""

    @property
    def inputs(self) -> int:
        """How many values callers may set."""
        return self.text.count(_INPUT)

    @property
    def results(self) -> int:
        """How many results they get."""
        return len(_RESULT.findall(self.text.partition("\n@workflow_class(")[0]))


def read_printed(folder: Path, module: str) -> Printed | None:
    """Return what was generated earlier, None if nothing is there or it is somebody's own."""
    text = read_exactly(folder / f"{module}.py")
    graph = read_exactly(folder / f"{module}.json")
    if text is None or graph is None or not is_ours(text):
        return None
    printed = Printed(text, graph)
    return printed if printed.classes else None


def read_exactly(path: Path) -> str | None:
    """Return the text of a file with its own ends of line, None if there is none."""
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None
