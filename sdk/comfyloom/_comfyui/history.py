"""What a server's history says of a run: the truth about how it ended."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

from comfyloom._core.json import is_mapping, items, mapping, text
from comfyloom.errors import RunCancelled, RunError, RunFailed

_LONGEST_TEXT: Final = 500
# Preview3D reports its file as the path below the output folder, in the place of an object.
_MODEL_PATH: Final = re.compile(r"[^\n]+\.(glb|gltf|obj|fbx|stl|ply|usdz|splat|ksplat|spz)", re.I)


@attrs.frozen(kw_only=True)
class FileReference:
    """A file on the server, as `/view` wants it named."""

    filename: str
    subfolder: str = ""
    type: str = "output"


@attrs.frozen(kw_only=True)
class HistoryEntry:
    """One ended run.

    Attributes:
        prompt_id: Its id.
        outputs: What each node reported, as it came: `{node: {key: [...]}}`.
        status: `success`, `error`, or "" where the server says neither.
        messages: The run's messages in order, as `(name, data)`.
    """

    prompt_id: str
    outputs: Mapping[str, Mapping[str, Any]]
    status: str = ""
    messages: tuple[tuple[str, Mapping[str, Any]], ...] = ()

    @classmethod
    def parse(cls, prompt_id: str, raw: object) -> HistoryEntry | None:
        """Return the entry that JSON describes, None if it describes none.

        Whatever is not understood is left out: servers of other versions add and omit things.
        """
        if not is_mapping(raw):
            return None
        entry = mapping(raw)
        status = mapping(entry.get("status"))
        return cls(
            prompt_id=prompt_id,
            outputs={node: mapping(ui) for node, ui in mapping(entry.get("outputs")).items()},
            status=str(status.get("status_str") or ""),
            messages=tuple(_messages(status.get("messages"))),
        )

    def error(self) -> RunError | None:
        """Return the error that the run ended with, None if it ended well.

        An interrupted run has the status `error` as well; only its last message tells.
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

        They are those under `key`; if none is there, those under any other key: packs of nodes
        name their keys as they like.

        Args:
            node: The id of the node.
            key: Where it reports them.
            has_paths: Whether a text that ends as a model's file does is the path of one.
        """
        ui = self.outputs.get(node, {})
        found = list(_files(ui.get(key), has_paths))
        found = found or [file for name in ui for file in _files(ui[name], has_paths)]
        return tuple(sorted(found, key=lambda file: file.type != "output"))

    def texts(self, node: str, key: str) -> tuple[str, ...]:
        """Return the texts that a node reported under a key; numbers and the like are passed."""
        value = self.outputs.get(node, {}).get(key)
        found = [value] if isinstance(value, str) else items(value)
        return tuple(each for each in found if isinstance(each, str))

    def _failure(self, data: Mapping[str, Any]) -> RunFailed:
        node, node_type = str(data.get("node_id") or ""), str(data.get("node_type") or "")
        kind = str(data.get("exception_type") or "")
        said = str(data.get("exception_message") or "").strip()[:_LONGEST_TEXT]
        where = f"node {node} ({node_type})" if node else "a node"
        return RunFailed(
            f"{where} failed: {kind or 'error'}: {said}" if said else f"{where} failed: {kind}",
            prompt_id=self.prompt_id,
            node=node,
            node_type=node_type,
            exception_type=kind,
            traceback=[str(line) for line in items(data.get("traceback"))],
        )


def _messages(raw: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for message in items(raw):
        match message:
            case [name, data]:
                yield str(name), mapping(data)
            case _:
                continue


def _is_path(value: str) -> bool:
    return _MODEL_PATH.fullmatch(value) is not None and _is_a_name(value)


def _is_a_name(name: str) -> bool:
    """Whether a text can name a file: half of a surrogate pair can stand in no URL."""
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def _files(values: object, has_paths: bool) -> Iterator[FileReference]:
    """Yield the file references of one key; flags, texts and numbers beside them are passed."""
    for value in items(values):
        if has_paths and isinstance(value, str) and _is_path(value):
            folder, _, name = value.replace("\\", "/").rpartition("/")
            yield FileReference(filename=name, subfolder=folder)
        file = mapping(value)
        filename, folder = text(file.get("filename")), str(file.get("subfolder") or "")
        kind = str(file.get("type") or "output")
        if filename and _is_a_name(filename + folder + kind):
            yield FileReference(filename=filename, subfolder=folder, type=kind)
