"""What a node of the emulated ComfyUI is."""

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
    """One run of a node.

    Attributes:
        node: The node's id.
        class_type: Its class.
        inputs: Values by input name, links resolved.
        schema: The object_info entry of the class.
        folders: The server's files.
        metadata: Texts to embed in saved files: `prompt` and each key of `extra_pnginfo`.
    """

    node: str
    class_type: str
    inputs: Inputs
    schema: Mapping[str, Any]
    folders: Folders
    metadata: Mapping[str, str]


@attrs.frozen(kw_only=True)
class NodeResult:
    """What a node run gives.

    Attributes:
        outputs: One value per output slot.
        ui: The node's entry in the history's `outputs`; None if it has none.
        saved: The files it wrote.
        picture: What previews of its progress show.
    """

    outputs: tuple[object, ...] = ()
    ui: Mapping[str, Any] | None = None
    saved: tuple[Path, ...] = ()
    picture: "Picture | None" = None


def _no_steps(_inputs: Inputs) -> int:
    return 0


def _not(_inputs: Inputs) -> bool:
    return False


@attrs.frozen(kw_only=True)
class Node:
    """How a class of nodes behaves.

    Attributes:
        run: Computes the result, in a thread; an exception it raises fails the prompt.
        seconds: The emulated seconds it takes; a share of the emulator's `run_s` when None.
        steps: How many progress updates it sends. The interrupt flag is looked at in each.
        heedful: Whether it looks at the interrupt flag also while it waits without updates.
        validate: Gives the message of its own validation for an input, or None if all is well.
        fingerprint: What the cache takes for the node's content beside its inputs.
    """

    run: Callable[[NodeCall], NodeResult]
    seconds: Callable[[Inputs], float] | None = None
    steps: Callable[[Inputs], int] = _no_steps
    heedful: Callable[[Inputs], bool] = _not
    validate: Mapping[str, Callable[[Folders, Any], str | None]] = attrs.field(
        factory=dict[str, Callable[[Folders, Any], "str | None"]]
    )
    fingerprint: Callable[[Folders, Inputs], str] | None = None


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's content; empty if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
