"""The text of a generated module, and the facts read back from it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import attrs

from comfyloom_codegen.printing.header import is_generated

# `\w` lacks some letters of identifiers, such as the middle dot.
_CLASSES: Final = re.compile(r"^class ([^\s(]+)\(Workflow\[([^\s\]]+)\]\):$", re.MULTILINE)
_COMMAND: Final = re.compile(
    r'^(?:@workflow_class\(graph="[^"]+\.json", |    )command="([^\s"]+)"', re.M
)
_INPUT: Final = "\n    @chainable\n"
_RESULT: Final = re.compile(r"^    [^\s:]+: [\w\[\], .|]+ = outputs\.", re.MULTILINE)


@attrs.frozen(kw_only=True)
class ModuleSummary:
    """The public names and counts of a module.

    Attributes:
        workflow: The name of the workflow class.
        result: The name of the result class.
        command: The name of the workflow on the command line.
        inputs: The number of values that callers can set.
        results: The number of results.
    """

    workflow: str
    result: str
    command: str
    inputs: int
    results: int

    @property
    def classes(self) -> tuple[str, str]:
        """The names of both classes, in alphabetical order."""
        return self.result, self.workflow


@attrs.frozen
class GeneratedModule:
    """The source of one generated module, and the graph beside it."""

    text: str
    graph: str

    def summary(self) -> ModuleSummary | None:
        """Return the summary of the module, None if the text has no workflow class.

        It is read from the text, so a module generated earlier does not have to be modelled again.
        """
        classes, command = _CLASSES.search(self.text), _COMMAND.search(self.text)
        if classes is None:
            return None
        return ModuleSummary(
            workflow=classes[1],
            result=classes[2],
            command=command[1] if command else "",
            inputs=self.text.count(_INPUT),
            results=len(_RESULT.findall(self.text.partition("\n@workflow_class(")[0])),
        )


def read_generated(folder: Path, module: str) -> GeneratedModule | None:
    """Return a module generated earlier, None if there is none or another program wrote it."""
    text = read_exactly(folder / f"{module}.py")
    if text is None or not is_generated(text):
        return None
    graph = read_exactly(folder / f"{module}.json")
    return None if graph is None else GeneratedModule(text, graph)


def read_exactly(path: Path) -> str | None:
    """Return the text of a file with its line endings unchanged, None if it cannot be read."""
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None
