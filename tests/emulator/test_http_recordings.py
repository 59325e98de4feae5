"""Files, uploads and plain routes, compared with the recorded answers of a real server."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from PIL import Image

from comfyloom.emulator import Emulator
from emulator.clients import TIMEOUT_S, ComfyUIClient
from emulator.lab import OBJECT_INFO, flux_mesh, sleep
from support import RECORDINGS

_SAME_HEADERS = ("Content-Type", "Content-Disposition", "Accept-Ranges", "Connection")


def _read(path: str) -> Any:
    return json.loads((RECORDINGS / path).read_text("utf-8"))


@pytest.fixture(scope="session")
def produced() -> Iterator[ComfyUIClient]:
    """A server with the files of the recorded server."""
    with Emulator() as emulator:
        comfyui = ComfyUIClient(emulator.comfyui_url)
        comfyui.run(flux_mesh())
        comfyui.upload("render.png", comfyui.view({"filename": "example.png", "type": "input"}))
        yield comfyui
        comfyui.http.close()


def _conditions(produced: ComfyUIClient, headers: dict[str, str] | None) -> dict[str, str]:
    """Return the recorded request headers with this server's validators."""
    known = produced.call("HEAD", "/view", params=_GLB).headers
    fresh = {"If-None-Match": known["ETag"], "If-Modified-Since": known["Last-Modified"]}
    result = dict(headers or {})
    for name in result:
        if name in fresh:
            result[name] = fresh[name]
        elif name == "If-Range" and "2001" not in result[name]:
            kind = "ETag" if result[name].startswith('"') else "Last-Modified"
            result[name] = known[kind]
        elif name == "Origin" and "127.0.0.1" in result[name]:
            result[name] = "/".join(produced.url.split("/")[:3])
    return result


_GLB = {
    "filename": "partpacker_result_0_00001_.glb",
    "subfolder": "partpacker_results",
    "type": "output",
}


@pytest.mark.parametrize("name", [*_read("http/view_variants.json")])
def test_view_answers_as_recorded(produced: ComfyUIClient, name: str) -> None:
    case = _read("http/view_variants.json")[name]
    method, path, headers = case["request"]
    response = produced.call(method, path, headers=_conditions(produced, headers))
    recorded = dict(case["headers"])
    assert response.status_code == case["status"]
    for header in _SAME_HEADERS:
        assert response.headers.get(header) == recorded.get(header), header
    assert ("ETag" in response.headers) == ("Etag" in recorded)
    assert ("Last-Modified" in response.headers) == ("Last-Modified" in recorded)
    assert ("Content-Range" in response.headers) == ("Content-Range" in recorded)
    assert (len(response.content) > 0) == (case["body_bytes"] > 0)


def test_ranges_add_up_to_the_file(produced: ComfyUIClient) -> None:
    whole = produced.view(_GLB)
    parts = [
        produced.call("GET", "/view", params=_GLB, headers={"Range": span}).content
        for span in ("bytes=0-99", "bytes=100-199", "bytes=200-")
    ]
    assert b"".join(parts) == whole
    tail = produced.call("GET", "/view", params=_GLB, headers={"Range": "bytes=-10"})
    assert tail.content == whole[-10:]


def _picture(size: int) -> bytes:
    """Return a PNG whose content and dimensions depend on the recorded size."""
    out = io.BytesIO()
    colour = (size % 256, 40, 40, 128)
    Image.new("RGBA", (8, 8) if size != 78 else (4, 4), colour).save(out, format="PNG")
    return out.getvalue() + b"\0" * (size % 3)


def _uploaded(size: int, name: str) -> bytes:
    # The recordings hold sizes, not contents; one case sent different bytes of a known size.
    other = b"other" if name.startswith("08_") else b""
    return b"" if size == 0 else _picture(size) + other


_BY_HAND = {
    "22_empty_body": ({"Content-Type": "multipart/form-data; boundary=x"}, b""),
    "23_empty_body_no_ctype": ({}, b""),
    "24_json_body": ({"Content-Type": "application/json"}, b"{}"),
    "25_truncated_multipart": (
        {"Content-Type": "multipart/form-data; boundary=x"},
        b'--x\r\nContent-Disposition: form-data; name="image"; filename="t.png"\r\n\r\nab',
    ),
    "31_urlencoded_field_image": (
        {"Content-Type": "application/x-www-form-urlencoded"},
        b"image=x",
    ),
}


def _multipart(request: dict[str, Any], case: str) -> tuple[dict[str, str], bytes]:
    parts: list[bytes] = []
    for name, value in request["fields"] or []:
        head = f'Content-Disposition: form-data; name="{name}"'
        parts.append(f"--bound\r\n{head}\r\n\r\n{value}\r\n".encode())
    for name, filename, size, kind in request["files"] or []:
        head = f'Content-Disposition: form-data; name="{name}"'
        if filename is not None:
            head += f'; filename="{filename}"\r\nContent-Type: {kind}'
        parts.append(f"--bound\r\n{head}\r\n\r\n".encode() + _uploaded(size, case) + b"\r\n")
    body = b"".join([*parts, b"--bound--\r\n"])
    return {"Content-Type": "multipart/form-data; boundary=bound"}, body


def test_uploads_are_answered_as_recorded(comfyui: ComfyUIClient) -> None:
    for name, case in _read("upload/uploads.json").items():
        headers, body = _BY_HAND.get(name) or _multipart(case["request"], name)
        path = case["request"]["path"]
        response = comfyui.call("POST", path, data=body, headers=headers)
        assert response.status_code == case["status"], name
        recorded = dict(case["headers"])
        assert response.headers.get("Content-Type") == recorded.get("Content-Type"), name
        assert response.text == case["body"], name


def test_an_uploaded_mask_sets_the_alpha_channel(comfyui: ComfyUIClient) -> None:
    comfyui.upload("base.png", _picture(80))
    mask = io.BytesIO()
    Image.new("RGBA", (8, 8), (0, 0, 0, 77)).save(mask, format="PNG")
    reference = json.dumps({"filename": "base.png", "type": "input"})
    response = comfyui.call(
        "POST",
        "/upload/mask",
        files={"image": ("m.png", mask.getvalue())},
        data={"original_ref": reference},
    )
    stored = comfyui.view({"filename": response.json()["name"], "type": "input"})
    assert Image.open(io.BytesIO(stored)).getpixel((0, 0)) == (80, 40, 40, 77)


def test_a_body_that_is_too_large_is_refused(comfyui: ComfyUIClient) -> None:
    case = _read("upload/upload_over_100MiB.json")
    headers = {"Content-Length": str(101 * 1024 * 1024)}
    with requests.Session() as session:
        request = requests.Request("POST", comfyui.url + "/prompt").prepare()
        request.headers.update(headers)
        request.body = b"{}"
        response = session.send(request, timeout=TIMEOUT_S)
    assert (response.status_code, response.text) == (case["status"], case["body"])


@pytest.mark.parametrize(
    "path",
    [p for p in _read("http/misc_routes.json") if p not in {"/models", "/internal/logs/raw"}],
)
def test_plain_routes_answer_as_recorded(comfyui: ComfyUIClient, path: str) -> None:
    case = _read("http/misc_routes.json")[path]
    response = comfyui.call("GET", path)
    recorded = dict(case["headers"])
    assert response.status_code == case["status"]
    assert response.headers.get("Content-Type") == recorded.get("Content-Type")
    if isinstance(case["body"], dict):
        assert sorted(response.json()) == sorted(case["body"])
    elif path not in {"/extensions"} and isinstance(case["body"], list):
        assert response.json() == case["body"]
    elif isinstance(case["body"], str):
        assert response.text == case["body"]


def test_system_stats_has_the_recorded_keys(comfyui: ComfyUIClient) -> None:
    stats, recorded = comfyui.get("/system_stats"), _read("http/system_stats.json")["body"]
    assert sorted(stats["system"]) == sorted(recorded["system"])
    assert sorted(stats["devices"][0]) == sorted(recorded["devices"][0])
    assert stats["system"]["comfyui_version"] == "0.3.64"


def test_object_info_is_as_recorded_and_lists_uploads(comfyui: ComfyUIClient) -> None:
    assert {"XlabsSampler", *OBJECT_INFO} <= set(comfyui.get("/object_info"))
    recorded = _read("http/object_info_XlabsSampler.json")["body"]["XlabsSampler"]
    (shown,) = comfyui.get("/object_info/XlabsSampler").values()
    assert shown["input"]["required"] == recorded["input"]["required"]
    assert shown["output"] == recorded["output"]
    assert comfyui.get("/object_info/NoSuch") == {}
    for spelling in ("RemBGSession+", "RemBGSession%2B"):
        assert [*comfyui.get(f"/object_info/{spelling}")] == ["RemBGSession+"]
    comfyui.upload("new.png", b"x")
    (load,) = comfyui.get("/object_info/LoadImage").values()
    assert load["input"]["required"]["image"][0] == ["example.png", "new.png"]


@pytest.mark.parametrize("kind", ["no_body", "json", "unknown_id", "bad_json", "json_list"])
def test_an_interrupt_while_idle_is_answered_as_recorded(comfyui: ComfyUIClient, kind: str) -> None:
    bodies = {"json": "{}", "unknown_id": '{"prompt_id":"x"}', "bad_json": "{", "json_list": "[1]"}
    response = comfyui.call("POST", "/interrupt", data=bodies.get(kind, ""))
    case = _read("http/post_interrupt_idle.json")[kind]
    assert (response.status_code, response.text) == (case["status"], case["body"])


def test_the_history_is_paged_and_edited(comfyui: ComfyUIClient) -> None:
    ids = [comfyui.submit(sleep(1, f"h{n}")) for n in range(5)]
    for prompt_id in ids:
        comfyui.entry(prompt_id)
    pages = {
        "": ids,
        "?max_items=2": ids[-2:],
        "?max_items=2&offset=1": ids[1:3],
        "?offset=3": ids[3:],
        "?max_items=1&offset=-1": ids[-1:],
        "?max_items=1&offset=0": ids[:1],
        "?max_items=0": [],
        "?max_items=-1": [],
    }
    for query, wanted in pages.items():
        assert [*comfyui.get(f"/history{query}")] == wanted, query
    assert comfyui.call("GET", "/history?max_items=abc").status_code == 500
    comfyui.call("POST", "/history", json={"delete": [ids[0], "unknown"]})
    assert [*comfyui.get("/history")] == ids[1:]
    comfyui.call("POST", "/history", json={"clear": True})
    assert comfyui.get("/history") == {}


def test_requests_from_another_origin_are_refused(comfyui: ComfyUIClient) -> None:
    assert comfyui.call("OPTIONS", "/prompt").status_code == 200
    foreign = {"Origin": "http://example.com"}
    assert comfyui.call("OPTIONS", "/prompt", headers=foreign).status_code == 403
    assert comfyui.call("GET", "/queue", headers=foreign).status_code == 403


def test_wrong_methods_and_unknown_routes_are_refused(comfyui: ComfyUIClient) -> None:
    assert comfyui.call("DELETE", "/queue").status_code == 405
    assert comfyui.call("POST", "/nosuch").status_code == 405
    assert comfyui.call("GET", "/api/jobs/x").status_code == 404
