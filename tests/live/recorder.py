"""What the servers answered, without ids, token and addresses."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import requests

from comfyloom._core.redact import redact

_UUID: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_HEADERS: Final = ("Date", "Content-Type", "Retry-After", "Server")
_LONGEST_BODY: Final = 20_000


class Recorder:
    """Keeps the answers of all requests that are made while it records.

    Args:
        secrets: Strings that are never written.
    """

    def __init__(self, secrets: dict[str, str]) -> None:
        self._secrets = {text: label for text, label in secrets.items() if text}
        self._ids: dict[str, str] = {}
        self._answers: list[dict[str, Any]] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Note every answer while the block lasts."""
        send = requests.Session.send

        def noted(
            session: requests.Session, request: requests.PreparedRequest, **options: Any
        ) -> requests.Response:
            begun = time.monotonic()
            answer = send(session, request, **options)
            self._note(request, answer, time.monotonic() - begun)
            return answer

        requests.Session.send = noted  # type: ignore[method-assign,assignment]
        try:
            yield
        finally:
            requests.Session.send = send  # type: ignore[method-assign]

    def write(self, path: Path, **facts: Any) -> None:
        """Write the answers and some facts about them."""
        text = json.dumps({**facts, "answers": self._answers}, indent=2, default=str)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._clean(text) + "\n", "utf-8")

    def _note(
        self, request: requests.PreparedRequest, answer: requests.Response, seconds: float
    ) -> None:
        parts = urlsplit(request.url or "")
        self._answers.append(
            {
                "request": f"{request.method} {parts.path}",
                "sent": _told(request.body),
                "status": answer.status_code,
                "seconds": round(seconds, 3),
                "headers": {
                    name: answer.headers[name] for name in _HEADERS if name in answer.headers
                },
                "body": _body(answer),
            }
        )

    def _clean(self, text: str) -> str:
        """Return text without secrets; an id becomes the same word everywhere."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, self._secrets[secret])
        return _UUID.sub(lambda found: self._id(found[0]), redact(text))

    def _id(self, found: str) -> str:
        return self._ids.setdefault(found.lower(), f"<id-{len(self._ids) + 1}>")


def _body(answer: requests.Response) -> Any:
    if "json" not in answer.headers.get("Content-Type", ""):
        return f"({answer.headers.get('Content-Length', '?')} bytes)"
    if len(answer.content) > _LONGEST_BODY:
        return f"({len(answer.content)} bytes of JSON)"
    return answer.json()


def _told(body: object) -> Any:
    """Return what was sent, if it was short JSON."""
    if not isinstance(body, bytes | str) or len(body) > 500:
        return None
    try:
        return json.loads(body)
    except ValueError:
        return None
