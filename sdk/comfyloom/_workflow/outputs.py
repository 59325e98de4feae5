"""The outputs of a workflow: files on this computer, typed by their content, and text.

Each function declares one public field of a result: the node that it comes from, the key in the
node's `ui` data, and the name of the file on this computer. With `many=True` the field has a tuple
of everything that the node reports under the key, otherwise the first item.
"""

from __future__ import annotations

import os
from json import loads as json_loads
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
MAX_NOTEBOOK_BYTES: Final = 40_000_000
"""A larger mesh is not displayed in a notebook."""


@attrs.frozen
class Output:
    """One output file of a run, complete and checked, on this computer.

    Attributes:
        path: The file. A run without an output folder writes to a temporary folder, which is
            deleted when nothing refers to its outputs any more, nor to a `path` taken from them.
    """

    path: Path
    # Keeps the temporary folder until no output refers to it.
    _staging: object = attrs.field(default=None, repr=False, eq=False)

    def __fspath__(self) -> str:
        """Return the path, so that an output can be the input of another workflow."""
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

        The copy appears under its name only when it is complete.

        Raises:
            OutputNotWritable: The copy cannot be written.
        """
        path = Path(target)
        if path.is_dir():
            path = path / self.path.name
        copy_atomically(self.path, path)
        return path

    def embedded_graph(self) -> Graph | None:
        """Return the graph that ComfyUI embedded in the file, with the values of its run.

        It is None if the file has none: ComfyUI embeds it in PNG and GLB files, unless the server
        was started with `--disable-metadata`.
        """
        from comfyloom._workflow.embedded import may_have_workflow, workflow_of

        with self.path.open("rb") as file:
            if not may_have_workflow(file.read(16)):
                return None  # not read in full: a video may be larger than the memory
        try:
            found = json_loads(workflow_of(self.bytes()).api or "null")
        except (ValueError, RecursionError):
            return None
        return cast("Graph", found) if isinstance(found, dict) else None


class ImageOutput(Output):
    """An image."""

    __slots__ = ()

    def pil(self) -> PIL.Image.Image:
        """Return it as a Pillow image, fully loaded.

        Raises:
            ConfigError: Pillow is not installed.
            OutputMissing: Pillow cannot read it.
        """
        module = import_extra("PIL.Image", "images", "Pillow")
        try:
            with module.open(self.path) as image:
                image.load()
                return cast("PIL.Image.Image", image)
        except Exception as error:  # noqa: BLE001 - the exceptions of its readers are undocumented
            raise OutputMissing(f"{self.path.name}: Pillow cannot read it: {error}") from None

    def numpy(self) -> numpy.typing.NDArray[Any]:
        """Return its pixels, of shape `(height, width, channels)` with 1, 3 or 4 channels.

        They are `uint8`, from 0 to 255; a palette is converted to colours. A one-channel image of
        a higher depth, such as a 16-bit depth map, keeps the type that Pillow uses for it.

        Raises:
            ConfigError: Pillow or numpy is not installed.
            OutputMissing: Pillow cannot read it.
        """
        np = import_extra("numpy", "images", "numpy")
        image = self.pil()
        if image.mode not in ("L", "RGB", "RGBA") and image.mode[0] not in "IF":
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        return cast("numpy.typing.NDArray[Any]", np.atleast_3d(np.asarray(image)))

    def _repr_png_(self) -> bytes | None:
        """Display a PNG in a notebook."""
        return self.bytes() if self.path.suffix.lower() == ".png" else None

    def _repr_jpeg_(self) -> bytes | None:
        """Display a JPEG in a notebook."""
        return self.bytes() if self.path.suffix.lower() in (".jpg", ".jpeg") else None


class AnimationOutput(Output):
    """An animated image: WebP, PNG or GIF."""

    __slots__ = ()


class VideoOutput(Output):
    """A video."""

    __slots__ = ()


class AudioOutput(Output):
    """An audio file."""

    __slots__ = ()


class MeshOutput(Output):
    """A mesh, usually as binary glTF."""

    __slots__ = ()

    def trimesh(self) -> trimesh.Scene:
        """Return it as a trimesh scene; its method `to_geometry()` returns a single mesh.

        Raises:
            ConfigError: trimesh is not installed.
            OutputMissing: trimesh cannot read it.
        """
        module = import_extra("trimesh", "meshes", "trimesh")
        try:
            return cast("trimesh.Scene", module.load_scene(self.path))
        except Exception as error:  # noqa: BLE001 - the exceptions of its readers are undocumented
            raise OutputMissing(f"{self.path.name}: trimesh cannot read it: {error}") from None

    def _repr_html_(self) -> str:
        """Display an interactive view in a notebook; without trimesh, the file name."""
        import html
        import importlib.util

        name = html.escape(f"{self.path.name} ({self.size:,} bytes)")
        if self.size > MAX_NOTEBOOK_BYTES or importlib.util.find_spec("trimesh") is None:
            return f"<code>{name}</code>"
        viewer = import_extra("trimesh.viewer.notebook", "meshes", "trimesh")
        page = html.escape(viewer.scene_to_html(self.trimesh()), quote=True)
        style = "width:100%;height:420px;border:0"
        return f'<iframe title="{name}" style="{style}" srcdoc="{page}"></iframe>'


class FileOutput(Output):
    """A file of any kind."""

    __slots__ = ()


def import_extra(module: str, extra: str, name: str) -> Any:
    """Import an optional library.

    Args:
        module: The module to import.
        extra: The extra of comfyloom that installs it.
        name: The name of the library, for the message.

    Raises:
        ConfigError: It is not installed; the message says how to install it.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        text = f"this needs {name}: pip install 'comfyloom[{extra}]'"
        raise ConfigError(text) from None


@attrs.frozen(kw_only=True)
class OutputSpec:
    """The declaration of one public field of a result.

    Attributes:
        kind: The kind of output.
        node: The id of the node that reports it.
        key: The key in the node's `ui` data; "" for any key with files, or for all data.
        file: The name of the file on this computer; without a suffix, the suffix of the server's
            file is added; "" means the name of the field followed by the server's file name.
        many: Whether the field has a tuple of everything that the node reports under the key.
        required: Whether a run without it has failed.
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
        """Whether it is a file that must be downloaded."""
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
# They return `Any`: the annotation of the field gives its type.


def image(node: str, key: str = "", *, file: str = "", **options: Any) -> Any:
    """An image that a node saves."""
    return _field("image", node, key, file, **options)


def animation(node: str, key: str = "", *, file: str = "", **options: Any) -> Any:
    """An animated image that a node saves."""
    return _field("animation", node, key, file, **options)


def video(node: str, key: str = "", *, file: str = "", **options: Any) -> Any:
    """A video that a node saves."""
    return _field("video", node, key, file, **options)


def audio(node: str, key: str = "", *, file: str = "", **options: Any) -> Any:
    """An audio file that a node saves."""
    return _field("audio", node, key, file, **options)


def mesh(node: str, key: str = "", *, file: str = "", **options: Any) -> Any:
    """A mesh that a node saves."""
    return _field("mesh", node, key, file, **options)


def file(node: str, key: str = "", *, file: str = "", **options: Any) -> Any:
    """A file of any format that a node saves."""
    return _field("file", node, key, file, **options)


def text(node: str, key: str = "text", **options: Any) -> Any:
    """Text that a node shows."""
    return _field("text", node, key, "", **options)


def json(node: str, key: str = "", *, default: Any = None) -> Any:
    """The data that a node reports, unchanged: under one key, or without a key all of it."""
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
    """Copy a file so that `target` always has either its old content or the complete copy.

    Raises:
        OutputNotWritable: The copy cannot be written; no partial file remains.
    """
    import shutil

    try:
        with source.open("rb") as reader, replacing(target) as writer:
            shutil.copyfileobj(reader, writer)
    except OSError as error:
        raise OutputNotWritable(
            f"cannot write {target}: {error.strerror or error}", path=str(target)
        ) from None
