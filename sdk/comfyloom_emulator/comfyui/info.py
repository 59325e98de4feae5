"""Routes with information about a server."""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from comfyloom_emulator.comfyui.hub import SERVER_FEATURES
from comfyloom_emulator.comfyui.schemas import Schema, with_current_files
from comfyloom_emulator.comfyui.state import ServerState
from comfyloom_emulator.server.replies import empty_reply, json_reply, text_reply

_RAM = 64 * 1024**3
_VRAM = 48 * 1024**3
_MODELS: Mapping[str, list[str]] = {
    "checkpoints": [],
    "configs": [],
    "loras": [],
    "vae": ["ae.safetensors", "partpacker_vae.pt"],
    "text_encoders": ["clip_l.safetensors", "t5xxl_fp8_e4m3fn.safetensors"],
    "diffusion_models": ["flux1-dev-fp8.safetensors"],
    "clip_vision": [],
    "embeddings": [],
    "controlnet": [],
    "upscale_models": [],
    "xlabs_controlnets": ["flux-depth-controlnet-v3.safetensors"],
    "PartPacker": ["flow.pt", "partpacker_vae.pt"],
}


async def index(_state: ServerState, _request: Request) -> Response:
    """GET /: a placeholder for the web page."""
    html = b"<!doctype html><title>ComfyUI</title><p>An emulated ComfyUI has no page.</p>"
    return Response(html, headers={"Content-Type": "text/html"})


async def system_stats(state: ServerState, _request: Request) -> Response:
    """GET /system_stats."""
    system = {
        "os": "posix",
        "ram_total": _RAM,
        "ram_free": _RAM // 2,
        "comfyui_version": state.options.comfyui_version,
        "required_frontend_version": "1.27.10",
        "installed_templates_version": None,
        "required_templates_version": "0.1.95",
        "python_version": "3.11.7 (main) [GCC 12.2.0]",
        "pytorch_version": "2.8.0+cu128",
        "embedded_python": False,
        "argv": ["main.py", "--listen", "0.0.0.0", "--preview-method", "auto"],
    }
    device = {
        "name": "cuda:0 NVIDIA RTX A6000 : emulated",
        "type": "cuda",
        "index": 0,
        "vram_total": _VRAM,
        "vram_free": _VRAM // 2,
        "torch_vram_total": _VRAM // 4,
        "torch_vram_free": _VRAM // 8,
    }
    return json_reply({"system": system, "devices": [device]})


async def features(_state: ServerState, _request: Request) -> Response:
    """GET /features."""
    return json_reply(SERVER_FEATURES)


async def object_info(state: ServerState, request: Request) -> Response:
    """GET /object_info and /object_info/{class}."""
    name = request.path_params.get("name")
    wanted: Mapping[str, Schema] = state.schemas
    if name is not None:
        wanted = {name: state.schemas[name]} if name in state.schemas else {}
    files = state.folders.names()
    return json_reply({key: with_current_files(schema, files) for key, schema in wanted.items()})


async def models(_state: ServerState, _request: Request) -> Response:
    """GET /models."""
    return json_reply([*_MODELS])


async def model_files(_state: ServerState, request: Request) -> Response:
    """GET /models/{folder}."""
    folder = request.path_params["folder"]
    return json_reply(_MODELS[folder]) if folder in _MODELS else empty_reply(404)


async def embeddings(_state: ServerState, _request: Request) -> Response:
    """GET /embeddings."""
    return json_reply([])


async def extensions(_state: ServerState, _request: Request) -> Response:
    """GET /extensions."""
    return json_reply(["/extensions/core/groupNode.js"])


async def no_upgrade(_state: ServerState, _request: Request) -> Response:
    """GET /ws without an upgrade."""
    text = 'No WebSocket UPGRADE hdr: None\n Can "Upgrade" only to "WebSocket".'
    return text_reply(text, 400)
