"""Text that only ComfyUI's page replaces before it submits; a server takes it as it is.

The page (1.49) chooses one of `{a|b}` in prompts, and fills in `%date:yyyy-MM-dd%` and
`%Node.widget%` in any text. The server itself knows only `%year%`, `%month%`, `%day%`, `%hour%`,
`%minute%`, `%second%`, `%width%` and `%height%`, in the names of files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from comfyloom._core.json import mapping
from comfyloom._workflow.graph import Graph

_CHOICE: Final = re.compile(r'\{[^{}"]*\|[^{}"]*\}')
_FILLED_IN: Final = re.compile(r"%(?:date(?::[^%]*)?|[^%\s./\\][^%./\\]*\.[^\W\d]\w*)%")


def page_syntax(graph: Graph) -> Iterator[str]:
    """Yield a message for each text of a graph that the page would replace.

    Args:
        graph: The graph with its values.
    """
    for node, entry in graph.items():
        for name, value in _texts(mapping(entry.get("inputs"))):
            where = f"node {node} ({entry.get('class_type')}), {name}"
            if (choice := _CHOICE.search(value)) is not None:
                yield (
                    f"{where}: {choice.group()!r} is sent as it is; only ComfyUI's page chooses "
                    "one of such words: choose it in Python, for example with random.choice"
                )
            if (filled := _FILLED_IN.search(value)) is not None:
                yield (
                    f"{where}: {filled.group()!r} is sent as it is; only ComfyUI's page fills it "
                    "in: format it in Python, or use %year%, %month% and %day% in file names"
                )


def _texts(inputs: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    return ((name, value) for name, value in inputs.items() if isinstance(value, str))
