"""Plain clients of the emulated servers, built on requests and websocket-client only."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import requests
import websocket

from comfyloom.emulator import Emulator

TIMEOUT_S = 10.0

Start = Callable[..., Emulator]


def wait_until(condition: Callable[[], Any]) -> Any:
    """Wait until `condition` returns something true, and return that."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.002)
    raise AssertionError(f"the condition did not become true within {TIMEOUT_S} s")


class AccountClient:
    """A client of the Server API, with the emulator's user."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.http = requests.Session()
        self.http.headers["Authorization"] = f"Bearer {emulator.token}"

    def url(self, path: str = "/servers") -> str:
        return f"{self.emulator.base_url}/prod/api/users/{self.emulator.user_id}{path}"

    def call(self, method: str, path: str = "/servers", **options: Any) -> requests.Response:
        return self.http.request(method, self.url(path), timeout=TIMEOUT_S, **options)

    def post_launch(self, **changes: Any) -> requests.Response:
        body = {
            "workflow_version_id": self.emulator.workflow_version_id,
            "server_type": "large",
            "estimated_duration": 600,
        }
        return self.call("POST", json={**body, **changes})

    def launch(self, **changes: Any) -> str:
        response = self.post_launch(**changes)
        assert response.ok, response.text
        server_id: str = response.json()["server_id"]
        return server_id

    def get(self, server_id: str) -> dict[str, Any]:
        machine: dict[str, Any] = self.call("GET", f"/servers/{server_id}").json()
        return machine

    def stop(self, server_id: str) -> requests.Response:
        return self.call("DELETE", f"/servers/{server_id}")


class SocketClient:
    """A websocket connection to a ComfyUI server."""

    def __init__(self, url: str, client_id: str | None, *, features: bool = False) -> None:
        query = "" if client_id is None else f"?clientId={client_id}"
        address = url.replace("http", "ws", 1) + "/ws" + query
        self.ws = websocket.create_connection(address, timeout=TIMEOUT_S)
        if features:
            self.send("feature_flags", {"supports_preview_metadata": True})

    def send(self, kind: str, data: Any) -> None:
        self.ws.send(json.dumps({"type": kind, "data": data}))

    def next(self) -> Any:
        """Return the next frame: parsed if it is text, otherwise bytes."""
        frame = self.ws.recv()
        return json.loads(frame) if isinstance(frame, str) else frame

    def event(self, kind: str) -> Any:
        """Return the data of the next event of a type."""
        while True:
            frame = self.next()
            if isinstance(frame, dict) and frame["type"] == kind:
                return frame["data"]

    def run(self) -> list[Any]:
        """Return all frames up to the end of a run."""
        frames: list[Any] = []
        while True:
            frames.append(self.next())
            if is_end(frames[-1]):
                return frames

    def rest(self, quiet_s: float = 0.05) -> list[Any]:
        """Return the frames that arrive before `quiet_s` seconds of silence."""
        self.ws.settimeout(quiet_s)
        frames: list[Any] = []
        try:
            while True:
                frames.append(self.next())
        except websocket.WebSocketTimeoutException:
            return frames
        finally:
            self.ws.settimeout(TIMEOUT_S)

    def drain(self) -> list[Any]:
        """Return all frames until the server closes the connection."""
        frames: list[Any] = []
        try:
            while True:
                frames.append(self.next())
        except (websocket.WebSocketConnectionClosedException, ConnectionError):
            return frames

    def close(self) -> None:
        self.ws.close()
        self.ws.shutdown()


def is_end(frame: Any) -> bool:
    """Return whether a frame reports the end of a run."""
    if not isinstance(frame, dict) or frame["type"] != "executing":
        return False
    return frame["data"]["node"] is None


def frame_kind(frame: Any) -> str:
    """Return a frame's type; `binary1` and so on for binary frames."""
    if isinstance(frame, bytes):
        return f"binary{int.from_bytes(frame[:4], 'big')}"
    kind: str = frame["type"]
    return kind


class ComfyUIClient:
    """A client of one ComfyUI server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = requests.Session()

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.http.request(method, self.url + path, timeout=TIMEOUT_S, **options)

    def get(self, path: str) -> Any:
        return self.call("GET", path).json()

    def post(self, graph: Any, **fields: Any) -> requests.Response:
        return self.call("POST", "/prompt", json={"prompt": graph, **fields})

    def submit(self, graph: Any, **fields: Any) -> str:
        response = self.post(graph, **fields)
        assert response.status_code == 200, response.text
        assert response.json()["node_errors"] == {}
        prompt_id: str = response.json()["prompt_id"]
        return prompt_id

    def entry(self, prompt_id: str) -> Any:
        """Return the history entry of a prompt; waits for it."""
        return wait_until(lambda: self.get(f"/history/{prompt_id}").get(prompt_id))

    def run(self, graph: Any, **fields: Any) -> Any:
        """Run a graph and return its history entry."""
        return self.entry(self.submit(graph, **fields))

    def upload(self, name: str, data: bytes, **fields: str) -> requests.Response:
        return self.call("POST", "/upload/image", files={"image": (name, data)}, data=fields)

    def view(self, reference: dict[str, str]) -> bytes:
        response = self.call("GET", "/view", params=reference)
        assert response.status_code == 200
        return response.content

    @contextmanager
    def socket(
        self, client_id: str | None = None, *, features: bool = False
    ) -> Iterator[SocketClient]:
        connection = SocketClient(self.url, client_id or uuid.uuid4().hex, features=features)
        try:
            yield connection
        finally:
            connection.close()
