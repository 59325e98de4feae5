"""What was asked of the emulator: its requests and prompts, for tests to look at."""

from datetime import UTC, datetime
from typing import Literal

import attrs

PromptStatus = Literal["pending", "running", "success", "error", "interrupted", "deleted"]


def iso_time(epoch_s: float | None) -> str | None:
    """A time as RunComfy writes it: UTC, microseconds, `Z`."""
    if epoch_s is None:
        return None
    moment = datetime.fromtimestamp(epoch_s, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@attrs.define(kw_only=True)
class RequestRecord:
    """One HTTP request or websocket handshake; `status` is 0 while or when it has no answer."""

    method: str
    path: str
    at: float
    status: int = 0


@attrs.define(kw_only=True)
class PromptRecord:
    """One accepted prompt; `server_id` is `local` for the ComfyUI that is no machine."""

    server_id: str
    prompt_id: str
    status: PromptStatus = "pending"


@attrs.define
class Journal:
    """All requests and prompts, in order of arrival."""

    requests: list[RequestRecord] = attrs.field(factory=list[RequestRecord])
    prompts: list[PromptRecord] = attrs.field(factory=list[PromptRecord])

    def request(self, method: str, path: str, at: float) -> RequestRecord:
        """Write down a request; its status is filled in when it is answered."""
        record = RequestRecord(method=method, path=path, at=at)
        self.requests.append(record)
        return record

    def prompt(self, server_id: str, prompt_id: str) -> PromptRecord:
        """Write down an accepted prompt, pending."""
        record = PromptRecord(server_id=server_id, prompt_id=prompt_id)
        self.prompts.append(record)
        return record

    def clear(self) -> None:
        """Forget everything."""
        self.requests.clear()
        self.prompts.clear()
