"""The interface of a node type of the emulated ComfyUI."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from comfyloom_emulator.comfyui.folders import Folders

if TYPE_CHECKING:
    from comfyloom_emulator.nodes.values import Picture

Inputs: TypeAlias = Mapping[str, Any]


@attrs.frozen(kw_only=True)
class NodeCall:
    """The call of a node.

    Attributes:
        node: The node's id.
        class_type: Its node type.
        inputs: Values by input name, links resolved.
        schema: The object_info entry of the node type.
        folders: The server's files.
        metadata: Strings to embed in saved files: `prompt` and each key of `extra_pnginfo`.
        extra_data: What the prompt was posted with for its nodes, with its secrets.
    """

    node: str
    class_type: str
    inputs: Inputs
    schema: Mapping[str, Any]
    folders: Folders
    metadata: Mapping[str, str]
    extra_data: Mapping[str, Any] = attrs.field(factory=dict[str, Any], repr=False)


@attrs.frozen(kw_only=True)
class NodeResult:
    """The result of a node.

    Attributes:
        outputs: One value per output slot.
        ui: The node's entry in the history's `outputs`; None if it has none.
        saved: The files it wrote.
        picture: The picture for previews of its progress; None for no previews.
        frames: PNG images that it sends over the event socket.
        blocked: The message of an ExecutionBlocker that it returns, "" for none.
    """

    outputs: tuple[object, ...] = ()
    ui: Mapping[str, Any] | None = None
    saved: tuple[Path, ...] = ()
    picture: "Picture | None" = None
    frames: tuple[bytes, ...] = ()
    blocked: str = ""


def _no_steps(_inputs: Inputs) -> int:
    return 0


def _never(_inputs: Inputs) -> bool:
    return False


@attrs.frozen(kw_only=True)
class Node:
    """The behaviour of a node type.

    Attributes:
        run: Computes the result, in a thread; an exception it raises fails the prompt.
        seconds: Returns the emulated seconds it takes; a share of the emulator's `run_s` if None.
        steps: Returns the number of progress updates. Each one checks the interrupt flag.
        heedful: Returns whether an interrupt also ends the node while it waits without updates.
        validate: By input name: returns the error message for a value, or None if it is valid.
        fingerprint: Returns content that the cache compares besides the inputs, such as a digest.
    """

    run: Callable[[NodeCall], NodeResult]
    seconds: Callable[[Inputs], float] | None = None
    steps: Callable[[Inputs], int] = _no_steps
    heedful: Callable[[Inputs], bool] = _never
    validate: Mapping[str, Callable[[Folders, Any], str | None]] = attrs.field(
        factory=dict[str, Callable[[Folders, Any], "str | None"]]
    )
    fingerprint: Callable[[Folders, Inputs], str] | None = None


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content; empty if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
