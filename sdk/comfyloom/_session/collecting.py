"""Bringing the results of a run that has ended to this computer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from comfyloom._comfyui import downloads
from comfyloom._comfyui.cancel_scope import CancelScope
from comfyloom._comfyui.client import ComfyUI
from comfyloom._comfyui.downloads import Download
from comfyloom._comfyui.history import HistoryEntry
from comfyloom._session.staging import StagedPath, StagingDir
from comfyloom._workflow.outputs import OUTPUT_TYPES, Output, OutputSpec
from comfyloom.errors import OutputNotWritable


@attrs.frozen
class Collector:
    """Downloads every file, then publishes them all at once.

    Args:
        streamed: The images that came over the event socket, by node.
        begin: Called before each download.
    """

    server: ComfyUI
    staging: StagingDir
    scope: CancelScope
    streamed: Mapping[str, Sequence[bytes]]
    begin: Callable[[Download], object]

    def fields(self, entry: HistoryEntry, specs: Sequence[OutputSpec]) -> dict[str, Any]:
        """Return the wanted fields of a result.

        Raises:
            OutputMissing: A required result is missing, or its file is incomplete.
            OutputNotWritable: A file cannot be written.
            ApiError, TransportError: The server refuses a file, or is unreachable.
        """
        values = downloads.values_of(entry, specs)
        wanted = downloads.plan(self._with_streamed(entry), specs)
        paths = self._write_streamed(wanted)
        paths |= downloads.fetch_all(
            self.server,
            [item for item in wanted if item.name not in paths],
            self.staging.folder,
            entry.prompt_id,
            scope=self.scope,
            begin=self.begin,
        )
        wanted = [item for item in wanted if item.name in paths]
        published = self.staging.publish([paths[item.name] for item in wanted])
        return {**values, **self._outputs(wanted, published)}

    def _with_streamed(self, entry: HistoryEntry) -> HistoryEntry:
        """Return an entry that lists the streamed images, too."""
        listed = {
            node: {"images": [{"filename": f"{number}.png"} for number in range(len(images))]}
            for node, images in self.streamed.items()
        }
        return attrs.evolve(entry, outputs={**entry.outputs, **listed})

    def _write_streamed(self, wanted: Sequence[Download]) -> dict[str, Path]:
        """Write the wanted images that were streamed, and return their paths."""
        paths: dict[str, Path] = {}
        for item in wanted:
            if images := self.streamed.get(item.spec.node):
                paths[item.name] = self.staging.folder / item.name
                try:
                    paths[item.name].write_bytes(images[int(Path(item.file.filename).stem)])
                except OSError as error:
                    text = f"cannot write {item.name}: {error.strerror or error}"
                    raise OutputNotWritable(text, path=str(paths[item.name])) from None
        return paths

    def _outputs(self, wanted: Sequence[Download], paths: Sequence[Path]) -> dict[str, Any]:
        """Return the files by field; as a tuple for a field with several."""
        found: defaultdict[str, list[Output]] = defaultdict(list)
        for item, path in zip(wanted, paths, strict=True):
            kept = StagedPath.of(path, self.staging)
            found[item.spec.name].append(OUTPUT_TYPES[item.spec.kind](kept, self.staging))
        many = {item.spec.name for item in wanted if item.spec.many}
        return {name: tuple(each) if name in many else each[0] for name, each in found.items()}
