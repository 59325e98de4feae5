"""POST /upload/image and /upload/mask."""

import asyncio
import hashlib
import json
import uuid
from pathlib import Path
from typing import Any

import attrs
from starlette.requests import Request
from starlette.responses import Response

from comfyloom_emulator.comfyui.folders import Folders
from comfyloom_emulator.comfyui.forms import Form, FormFile, read_form, text_field
from comfyloom_emulator.comfyui.state import ServerState
from comfyloom_emulator.server.replies import empty_reply, json_reply


@attrs.frozen
class _Upload:
    """An upload and its target; `path` is None if the same file exists already."""

    name: str
    subfolder: str
    kind: str
    data: bytes
    path: Path | None

    def reply(self, state: ServerState) -> Response:
        entry = {"name": self.name, "subfolder": self.subfolder, "type": self.kind}
        if state.options.is_of_autumn_2026:
            digest = hashlib.sha256(self.data).hexdigest()
            asset = {"id": str(uuid.uuid4()), "name": self.name, "asset_hash": f"sha256:{digest}"}
            return json_reply({**entry, "asset": {**asset, "size": len(self.data), "tags": []}})
        return json_reply(entry)


async def upload_image(state: ServerState, request: Request) -> Response:
    """Store a file; its content is not checked."""
    upload = _locate(state.folders, await read_form(request))
    if upload is None:
        return empty_reply(400)
    if upload.path is not None:
        upload.path.write_bytes(upload.data)
    return upload.reply(state)


async def upload_mask(state: ServerState, request: Request) -> Response:
    """Store an image of the server with the alpha channel of an upload."""
    form = await read_form(request)
    upload = _locate(state.folders, form)
    if upload is None:
        return empty_reply(400)
    if upload.path is not None:
        original = _original(state.folders, json.loads(text_field(form, "original_ref", "")))
        # A missing original is not an error: the answer names a file that was never written.
        if original is not None:
            from comfyloom_emulator.nodes.masks import save_masked

            await asyncio.to_thread(save_masked, original, upload.data, upload.path)
    return upload.reply(state)


def _locate(folders: Folders, form: Form) -> _Upload | None:
    """Return an upload with its target; None if the request is invalid."""
    if "image" not in form:
        return None
    image = form["image"]
    if not isinstance(image, FormFile) or not image.name:
        raise ValueError("the image has no file name")
    kind = text_field(form, "type", "input")
    folder = folders.folder(kind)
    if folder is None or image.name.startswith("/"):
        raise ValueError("the file has no valid target folder")
    subfolder = text_field(form, "subfolder", "")
    directory = (folder / subfolder).resolve()
    if not (directory / image.name).resolve().is_relative_to(folder.resolve()):
        return None
    directory.mkdir(parents=True, exist_ok=True)
    name: str = image.name
    path: Path | None = directory / name
    if form.get("overwrite") not in ("true", "1"):
        name, path = _free_name(directory, image)
    return _Upload(name, subfolder, kind, image.data, path)


def _free_name(directory: Path, image: FormFile) -> tuple[str, Path | None]:
    """Return a free name and its path, or a name whose file has the same content and None."""
    stem, dot, extension = image.name.rpartition(".")
    if not dot:
        stem, extension = image.name, ""
    name, number = image.name, 0
    while (path := directory / name).exists():
        if path.read_bytes() == image.data:
            return name, None
        number += 1
        name = f"{stem} ({number}){dot}{extension}"
    return name, path


def _original(folders: Folders, reference: Any) -> Path | None:
    name = reference["filename"]
    folder = folders.folder(reference.get("type", "output"))
    if ".." in name or folder is None:
        return None
    path = folder / reference.get("subfolder", "") / name
    return path if path.is_file() else None
