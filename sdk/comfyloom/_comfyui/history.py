"""Entries of a server's history: the authority on how a run ended."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

from comfyloom._core.json import is_mapping, items, mapping, text
from comfyloom.errors import RunCancelled, RunError, RunFailed

_CACHED: Final = "execution_cached"
_LONGEST_TEXT: Final = 500
# Preview3D reports its file as a path below the output folder, not as an object.
_MODEL_PATH: Final = re.compile(r"[^\n]+\.(glb|gltf|obj|fbx|stl|ply|usdz|splat|ksplat|spz)", re.I)


@attrs.frozen(kw_only=True)
class FileReference:
    """A file on the server, by the parameters of `/view`."""

    filename: str
    subfolder: str = ""
    type: str = "output"


@attrs.frozen(kw_only=True)
class HistoryEntry:
    """One ended run.

    Attributes:
        outputs: What each node reported: `{node: {key: [...]}}`.
        status: `success`, `error`, or "" if the server reports neither.
        messages: The run's messages in order, as `(name, data)`.
        meta: Of each node that reported something, the nodes that it stands for.
    """

    prompt_id: str
    outputs: Mapping[str, Mapping[str, Any]]
    status: str = ""
    messages: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    meta: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict[str, dict[str, Any]])

    @classmethod
    def parse(cls, prompt_id: str, raw: object) -> HistoryEntry | None:
        """Return the entry in JSON, None if there is none; unknown fields are ignored."""
        if not is_mapping(raw):
            return None
        entry = mapping(raw)
        status = mapping(entry.get("status"))
        return cls(
            prompt_id=prompt_id,
            outputs={node: mapping(ui) for node, ui in mapping(entry.get("outputs")).items()},
            status=str(status.get("status_str") or ""),
            messages=tuple(_messages(status.get("messages"))),
            meta={node: mapping(each) for node, each in mapping(entry.get("meta")).items()},
        )

    @property
    def cached(self) -> frozenset[str]:
        """The nodes that did not run, because the server had their results."""
        lists = [items(data.get("nodes")) for name, data in self.messages if name == _CACHED]
        return frozenset(str(node) for nodes in lists for node in nodes)

    def error(self) -> RunError | None:
        """Return the error of the run, None if it succeeded.

        An interrupted run also has the status `error`; only a message distinguishes it.
        """
        if self.status != "error":
            return None
        names = dict(self.messages)
        if "execution_interrupted" in names:
            node = names["execution_interrupted"].get("node_id")
            where = f" at node {node}" if node else ""
            return RunCancelled(f"the run was interrupted{where}", prompt_id=self.prompt_id)
        return self._failure(names.get("execution_error", {}))

    def files(
        self, node: str, key: str = "", *, has_paths: bool = False
    ) -> tuple[FileReference, ...]:
        """Return the files of a node, finals before previews.

        Args:
            node: The id of the node.
            key: Where it reports them; if nothing is there, all its keys are searched, because
                custom node packs choose their own keys.
            has_paths: Whether a string with the suffix of a 3D model is the path of one.
        """
        reports = self.reports(node)
        found = [file for ui in reports for file in _files(ui.get(key), has_paths)]
        found = found or [
            file for ui in reports for name in ui for file in _files(ui[name], has_paths)
        ]
        return tuple(sorted(found, key=lambda file: file.type != "output"))

    def texts(self, node: str, key: str) -> tuple[str, ...]:
        """Return what a node reported under a key as strings, also numbers and nested lists."""
        return tuple(each for ui in self.reports(node) for each in _texts(ui.get(key)))

    def reports(self, node: str) -> list[Mapping[str, Any]]:
        """Return what a node reported, or the nodes that it was expanded to, in their order."""
        if node in self.outputs:
            return [self.outputs[node]]
        return [ui for each, ui in self.outputs.items() if node in self._origins(each)]

    def _origins(self, node: str) -> set[str]:
        meta = self.meta.get(node, {})
        names = ("display_node", "real_node_id", "parent_node")
        return {node.partition(".")[0], *(str(meta.get(name)) for name in names)}

    def _failure(self, data: Mapping[str, Any]) -> RunFailed:
        node, node_type = str(data.get("node_id") or ""), str(data.get("node_type") or "")
        kind = str(data.get("exception_type") or "")
        message = str(data.get("exception_message") or "").strip()[:_LONGEST_TEXT]
        where = f"node {node} ({node_type})" if node else "a node"
        reason = f"{kind or 'error'}: {message}" if message else kind
        return RunFailed(
            f"{where} failed: {reason}",
            prompt_id=self.prompt_id,
            node=node,
            node_type=node_type,
            exception_type=kind,
            traceback=[str(line) for line in items(data.get("traceback"))],
        )


def _messages(raw: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for message in items(raw):
        if len(items(message)) == 2:
            yield str(message[0]), mapping(message[1])


def _texts(value: object) -> Iterator[str]:
    """Yield the strings in a value, which may be nested."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield json.dumps(value)
    else:
        for each in items(value):
            yield from _texts(each)


def _files(values: object, has_paths: bool) -> Iterator[FileReference]:
    """Yield the file references of one key; other values are ignored."""
    for value in items(values):
        if has_paths and (path := text(value)) and _MODEL_PATH.fullmatch(path):
            folder, _, name = path.replace("\\", "/").rpartition("/")
            yield FileReference(filename=name, subfolder=folder)
        file = mapping(value)
        filename, folder = text(file.get("filename")), str(file.get("subfolder") or "")
        kind = str(file.get("type") or "output")
        if filename and text(filename + folder + kind):  # lone surrogates cannot be in a URL
            yield FileReference(filename=filename, subfolder=folder, type=kind)
