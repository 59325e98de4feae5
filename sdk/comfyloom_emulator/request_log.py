"""The requests and prompts that the emulator received, for tests to inspect."""

from datetime import UTC, datetime
from typing import Literal

import attrs

PromptStatus = Literal["pending", "running", "success", "error", "interrupted", "deleted"]


def iso_time(epoch_s: float | None) -> str | None:
    """Return a time as RunComfy writes it: UTC, microseconds, `Z`."""
    if epoch_s is None:
        return None
    moment = datetime.fromtimestamp(epoch_s, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@attrs.define(kw_only=True)
class RequestRecord:
    """One HTTP request or websocket handshake; `status` is 0 as long as it has no answer."""

    method: str
    path: str
    at: float
    status: int = 0


@attrs.define(kw_only=True)
class PromptRecord:
    """One accepted prompt; `server_id` is `local` for the ComfyUI without a machine."""

    server_id: str
    prompt_id: str
    status: PromptStatus = "pending"


@attrs.define
class RequestLog:
    """All requests and prompts, in order of arrival."""

    requests: list[RequestRecord] = attrs.field(factory=list[RequestRecord])
    prompts: list[PromptRecord] = attrs.field(factory=list[PromptRecord])

    def add_request(self, method: str, path: str, at: float) -> RequestRecord:
        """Record a request; its status is filled in when it is answered."""
        record = RequestRecord(method=method, path=path, at=at)
        self.requests.append(record)
        return record

    def add_prompt(self, server_id: str, prompt_id: str) -> PromptRecord:
        """Record an accepted prompt as pending."""
        record = PromptRecord(server_id=server_id, prompt_id=prompt_id)
        self.prompts.append(record)
        return record

    def clear(self) -> None:
        """Remove all records."""
        self.requests.clear()
        self.prompts.clear()
