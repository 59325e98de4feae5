"""GET /view."""

import asyncio
import io
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from comfyloom_emulator.comfyui.files import disposition, file_reply
from comfyloom_emulator.comfyui.folders import split_annotation
from comfyloom_emulator.comfyui.state import ServerState
from comfyloom_emulator.server.replies import empty_reply


async def view(state: ServerState, request: Request) -> Response:
    """Send a file of the server, or a preview or channel of an image."""
    query = request.query_params
    if "filename" not in query:
        return empty_reply(404)
    name, kind = split_annotation(query["filename"])
    folder = state.folders.folder(kind or query.get("type", "output"))
    if not name or name.startswith("/") or ".." in name or folder is None:
        return empty_reply(400)
    directory = folder / query.get("subfolder", "")
    if not directory.resolve().is_relative_to(folder.resolve()):
        return empty_reply(403)
    path = directory / Path(name).name
    if not path.is_file():
        return empty_reply(404)
    if "preview" in query:
        return await asyncio.to_thread(_preview, path, query["preview"])
    if query.get("channel") in {"rgb", "a"}:
        return await asyncio.to_thread(_channel, path, query["channel"])
    return file_reply(path, request.headers)


def _preview(path: Path, wanted: str) -> Response:
    from PIL import Image

    kind, _, quality = wanted.partition(";")
    if kind not in {"webp", "jpeg"}:
        kind = "webp"
    with Image.open(path) as image:
        plain = image.convert("RGB") if kind == "jpeg" else image.copy()
    out = io.BytesIO()
    plain.save(out, format=kind, quality=int(quality) if quality.isdigit() else 90)
    return _encoded(out, f"image/{kind}", path)


def _channel(path: Path, channel: str) -> Response:
    from PIL import Image

    with Image.open(path) as image:
        picture = image.convert("RGBA")
    if channel == "rgb":
        picture = picture.convert("RGB")
    else:
        alpha = picture.getchannel("A")
        picture = Image.new("RGBA", picture.size)
        picture.putalpha(alpha)
    out = io.BytesIO()
    picture.save(out, format="PNG")
    return _encoded(out, "image/png", path)


def _encoded(out: io.BytesIO, kind: str, path: Path) -> Response:
    return Response(out.getvalue(), 200, {"Content-Type": kind, **disposition(path.name)})
