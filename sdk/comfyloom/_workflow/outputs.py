"""What a run gives: files on this computer, typed by what they hold, and texts.

Each function describes one public field of a result: the node it comes from, the key that the
node reports it under (`ui` data), and what the file is called here. With `many=True` the field
holds all that the node reports there, as a tuple; without, the first.
"""

from __future__ import annotations

import os
from json import loads as json_of
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

import attrs

from comfyloom._core.atomic_write import replacing
from comfyloom._workflow.graph import Graph
from comfyloom.errors import ConfigError, OutputMissing, OutputNotWritable

if TYPE_CHECKING:
    import numpy
    import numpy.typing
    import PIL.Image
    import trimesh

OutputKind: TypeAlias = Literal[
    "image", "animation", "video", "audio", "mesh", "file", "text", "json"
]

METADATA: Final = "comfyloom.output"
SHOWN_BYTES: Final = 40_000_000
"""A larger mesh is not put into a notebook."""


@attrs.frozen
class Output:
    """One file that a run gave, whole and checked, on this computer.

    Attributes:
        path: Where it lies. A run without an output folder of its own keeps its files in a
            temporary folder, which goes when nothing refers to its outputs any more.
    """

    path: Path
    _manager: object = attrs.field(default=None, repr=False, eq=False)

    def __fspath__(self) -> str:
        """Return the path: a result is a file, also as the input of another workflow."""
        return str(self.path)

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.path.stat().st_size

    def bytes(self) -> bytes:
        """Return the content."""
        return self.path.read_bytes()

    def save(self, target: str | os.PathLike[str]) -> Path:
        """Copy the file to `target`, a file name or an existing folder, and return its path.

        The copy appears under its name only when it is whole.

        Raises:
            OutputNotWritable: The copy cannot be written.
        """
        path = Path(target)
        if path.is_dir():
            path = path / self.path.name
        copy_atomically(self.path, path)
        return path

    def embedded_graph(self) -> Graph | None:
        """Return the graph that ComfyUI wrote into the file: the values with which it was made.

        None where it carries none: of the files that ComfyUI saves, PNG and GLB do, unless the
        server was told not to (`--disable-metadata`).
        """
        from comfyloom._workflow.embedded import can_hold, workflow_of

        with self.path.open("rb") as file:
            if not can_hold(file.read(16)):
                return None  # a film may be larger than the memory
        try:
            found = json_of(workflow_of(self.bytes()).api or "null")
        except (ValueError, RecursionError):
            return None
        return cast("Graph", found) if isinstance(found, dict) else None


class ImageOutput(Output):
    """A picture."""

    __slots__ = ()

    def pil(self) -> PIL.Image.Image:
        """Return it as a Pillow image, read in full.

        Raises:
            ConfigError: Pillow is not installed.
            OutputMissing: Pillow cannot read it.
        """
        module = needed("PIL.Image", "images", "Pillow")
        try:
            with module.open(self.path) as picture:
                picture.load()
                return cast("PIL.Image.Image", picture)
        except Exception as error:  # noqa: BLE001 - what its readers raise is not documented
            raise OutputMissing(f"{self.path.name} is no picture to Pillow: {error}") from None

    def numpy(self) -> numpy.typing.NDArray[Any]:
        """Return its pixels, of shape `(height, width, channels)` with 1, 3 or 4 channels.

        They are `uint8`, from 0 to 255; palettes become colours. A picture of one channel that
        holds more, such as a depth map of 16 bits, keeps the type that Pillow gives it.

        Raises:
            ConfigError: Pillow or numpy is not installed.
            OutputMissing: Pillow cannot read it.
        """
        np = needed("numpy", "images", "numpy")
        picture = self.pil()
        if picture.mode not in ("L", "RGB", "RGBA") and picture.mode[0] not in "IF":
            picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
        return cast("numpy.typing.NDArray[Any]", np.atleast_3d(np.asarray(picture)))

    def _repr_png_(self) -> bytes | None:
        """Show a PNG in a notebook."""
        return self.bytes() if self.path.suffix.lower() == ".png" else None

    def _repr_jpeg_(self) -> bytes | None:
        """Show a JPEG in a notebook."""
        return self.bytes() if self.path.suffix.lower() in (".jpg", ".jpeg") else None


class AnimationOutput(Output):
    """An animated picture: WebP, PNG or GIF."""

    __slots__ = ()


class VideoOutput(Output):
    """A video."""

    __slots__ = ()


class AudioOutput(Output):
    """A sound."""

    __slots__ = ()


class MeshOutput(Output):
    """A mesh, as binary glTF where nothing else is said."""

    __slots__ = ()

    def trimesh(self) -> trimesh.Scene:
        """Return it as a scene of trimesh; `to_geometry()` of that makes one mesh of it.

        Raises:
            ConfigError: trimesh is not installed.
            OutputMissing: trimesh cannot read it.
        """
        module = needed("trimesh", "meshes", "trimesh")
        try:
            return cast("trimesh.Scene", module.load_scene(self.path))
        except Exception as error:  # noqa: BLE001 - what its readers raise is not documented
            raise OutputMissing(f"{self.path.name} is no mesh to trimesh: {error}") from None

    def _repr_html_(self) -> str:
        """Show it in a notebook, to be turned with the mouse; without trimesh, by its name."""
        import html
        import importlib.util

        name = html.escape(f"{self.path.name} ({self.size:,} bytes)")
        if self.size > SHOWN_BYTES or importlib.util.find_spec("trimesh") is None:
            return f"<code>{name}</code>"
        viewer = needed("trimesh.viewer.notebook", "meshes", "trimesh")
        page = html.escape(viewer.scene_to_html(self.trimesh()), quote=True)
        style = "width:100%;height:420px;border:0"
        return f'<iframe title="{name}" style="{style}" srcdoc="{page}"></iframe>'


class FileOutput(Output):
    """A file of any kind."""

    __slots__ = ()


def needed(module: str, extra: str, name: str) -> Any:
    """Import a library that a result is wanted for.

    Raises:
        ConfigError: It is not installed; the message says how to.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        text = f"this needs {name}: pip install 'comfyloom[{extra}]'"
        raise ConfigError(text) from None


@attrs.frozen(kw_only=True)
class OutputSpec:
    """Where a result comes from, and what its file is called.

    Attributes:
        kind: What it is.
        node: The id of the node that reports it.
        key: Where in the node's `ui` data; "" for whichever key holds files, or for all of it.
        file: The name of the file here; without a suffix it gets that of the server's file, and
            "" stands for the server's name behind the name of the field.
        many: Whether it is all that the node reports there, as a tuple.
        required: Whether a run that ends without it has failed.
        name: The name of the field.
    """

    kind: OutputKind
    node: str
    key: str = ""
    file: str = ""
    many: bool = False
    required: bool = True
    name: str = ""

    @property
    def is_file(self) -> bool:
        """Whether it has to be downloaded."""
        return self.kind in OUTPUT_TYPES


OUTPUT_TYPES: Final[dict[OutputKind, type[Output]]] = {
    "image": ImageOutput,
    "animation": AnimationOutput,
    "video": VideoOutput,
    "audio": AudioOutput,
    "mesh": MeshOutput,
    "file": FileOutput,
}


# --- the functions that generated classes call ---------------------------------------------------
# The annotation of the field tells its type.


def image(node: str, key: str = "", *, file: str = "", **options: Any) -> Any:
    """A picture that a node saves."""
    return _field("image", node, key, file, **options)


def animation(node: str, key: str = "", *, file: str = "", **options: Any) -> Any:
    """An animated picture that a node saves."""
    return _field("animation", node, key, file, **options)


def video(node: str, key: str = "", *, file: str = "", **options: Any) -> Any:
    """A video that a node saves."""
    return _field("video", node, key, file, **options)


def audio(node: str, key: str = "", *, file: str = "", **options: Any) -> Any:
    """A sound that a node saves."""
    return _field("audio", node, key, file, **options)


def mesh(node: str, key: str = "", *, file: str = "", **options: Any) -> Any:
    """A mesh that a node saves."""
    return _field("mesh", node, key, file, **options)


def file(node: str, key: str = "", *, file: str = "", **options: Any) -> Any:
    """Whatever file a node saves."""
    return _field("file", node, key, file, **options)


def text(node: str, key: str = "text", **options: Any) -> Any:
    """A text that a node shows."""
    return _field("text", node, key, "", **options)


def json(node: str, key: str = "", *, default: Any = None) -> Any:
    """What a node reports, as it came: under one key, or, without a key, all of it."""
    return _field("json", node, key, "", default=default)


def _field(
    kind: OutputKind,
    node: str,
    key: str,
    file: str,
    *,
    many: bool = False,
    default: object = attrs.NOTHING,
) -> Any:
    required = default is attrs.NOTHING
    spec = OutputSpec(kind=kind, node=node, key=key, file=file, many=many, required=required)
    return attrs.field(default=default, metadata={METADATA: spec})


def copy_atomically(source: Path, target: Path) -> None:
    """Copy a file so that `target` is at every moment what it was, or the whole copy.

    Raises:
        OutputNotWritable: The copy cannot be written; nothing is left of it.
    """
    import shutil

    try:
        with source.open("rb") as reading, replacing(target) as writing:
            shutil.copyfileobj(reading, writing)
    except OSError as error:
        raise OutputNotWritable(
            f"cannot write {target}: {error.strerror or error}", path=str(target)
        ) from None
