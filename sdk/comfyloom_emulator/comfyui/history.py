"""The finished prompts of a server."""

from typing import Any

import attrs

from comfyloom_emulator.comfyui.queue import QueueItem
from comfyloom_emulator.json_access import as_object

_LIMIT = 10_000
_SECRETS = ("api_key_comfy_org", "auth_token_comfy_org")


@attrs.define
class History:
    """Entries by prompt id, in order of completion."""

    _entries: dict[str, Any] = attrs.field(factory=dict[str, Any])

    def store(
        self, item: QueueItem, outputs: dict[str, Any], meta: dict[str, Any], status: dict[str, Any]
    ) -> None:
        """Add the entry of a finished prompt; an entry with the same id is overwritten in place."""
        number, prompt_id, graph, extra_data, targets = item
        known = as_object(extra_data)
        extra_data = extra_data if known is None else without_secrets(known)
        if len(self._entries) >= _LIMIT:
            del self._entries[next(iter(self._entries))]
        self._entries[prompt_id] = {
            "prompt": [number, prompt_id, graph, extra_data, targets],
            "outputs": outputs,
            "status": status,
            "meta": meta,
        }

    def get(self, prompt_id: str) -> dict[str, Any]:
        """Return the entry of one prompt by its id; empty if there is none."""
        if prompt_id not in self._entries:
            return {}
        return {prompt_id: self._entries[prompt_id]}

    def page(self, max_items: int | None, offset: int) -> dict[str, Any]:
        """Return at most `max_items` entries from `offset` on; the last ones if it is negative."""
        ids = [*self._entries]
        if offset < 0 and max_items is not None:
            offset = max(0, len(ids) - max_items)
        start = max(0, offset)
        end = len(ids) if max_items is None else start + max(0, max_items)
        return {prompt_id: self._entries[prompt_id] for prompt_id in ids[start:end]}

    def delete(self, prompt_ids: list[str]) -> None:
        """Remove entries; unknown ids are ignored."""
        for prompt_id in prompt_ids:
            self._entries.pop(prompt_id, None)

    def clear(self) -> None:
        """Remove all entries."""
        self._entries.clear()


def without_secrets(extra_data: dict[str, Any]) -> dict[str, Any]:
    """Return the extra data of a prompt without its secrets."""
    return {key: value for key, value in extra_data.items() if key not in _SECRETS}
