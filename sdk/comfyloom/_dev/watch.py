"""Watching the dev server: machine, queue and prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Final, Literal, TypeAlias

import attrs

from comfyloom._comfyui.client import ComfyUI
from comfyloom._core.clock import Clock
from comfyloom._core.timeouts import Timeouts
from comfyloom._dev.health import DevStatus
from comfyloom._http.retry import NO_RETRY
from comfyloom._records.dev_state import Health
from comfyloom.errors import ApiError, RunCancelled, TransportError

PromptState: TypeAlias = Literal["running", "waiting", "done", "failed", "cancelled", "gone"]

KEPT: Final = 8
"""Ended prompts kept."""
_ENDED: Final = frozenset({"done", "failed", "cancelled", "gone"})


@attrs.frozen(kw_only=True)
class WatchedPrompt:
    """A prompt that was seen on the dev server.

    Attributes:
        prompt_id: Its id.
        state: Its state; `gone` if neither queue nor history has it.
        seconds: How long it has been, or was, running, as far as observed.
    """

    prompt_id: str
    state: PromptState
    seconds: float = 0.0


@attrs.frozen(kw_only=True)
class StatusSnapshot:
    """One observation: the machine, and its prompts from the oldest to the newest."""

    status: DevStatus
    prompts: tuple[WatchedPrompt, ...] = ()


@attrs.define(eq=False)
class Prompts:
    """Tracks the prompts of one ComfyUI by reading its queue."""

    comfyui: ComfyUI
    clock: Clock
    _seen: dict[str, WatchedPrompt] = attrs.field(factory=dict[str, WatchedPrompt], init=False)
    _begun: dict[str, float] = attrs.field(factory=dict[str, float], init=False)

    def look(self) -> tuple[WatchedPrompt, ...]:
        """Read the queue once, and return all known prompts.

        Raises:
            TransportError: ComfyUI does not answer.
            ApiError: ComfyUI refuses.
        """
        running, pending = self.comfyui.queue(backoff=NO_RETRY)
        for prompt_id in running:
            self._note(prompt_id, "running")
        for prompt_id in pending:
            self._note(prompt_id, "waiting")
        for prompt_id, prompt in list(self._seen.items()):
            if prompt.state not in _ENDED and prompt_id not in (*running, *pending):
                self._note(prompt_id, self._verdict(prompt_id))
        self._forget()
        return tuple(self._seen.values())

    @property
    def at_work(self) -> bool:
        """Whether a prompt was running or pending at the last look."""
        return any(prompt.state not in _ENDED for prompt in self._seen.values())

    def _note(self, prompt_id: str, state: PromptState) -> None:
        now = self.clock.monotonic()
        before = self._seen.get(prompt_id)
        if state == "running":
            self._begun.setdefault(prompt_id, now)
        if before is not None and before.state == state and state != "running":
            return
        seconds = now - self._begun.get(prompt_id, now)
        self._seen[prompt_id] = WatchedPrompt(prompt_id=prompt_id, state=state, seconds=seconds)

    def _verdict(self, prompt_id: str) -> PromptState:
        entry = self.comfyui.history(prompt_id, backoff=NO_RETRY)
        if entry is None:
            return "gone"
        error = entry.error()
        if error is None:
            return "done"
        return "cancelled" if isinstance(error, RunCancelled) else "failed"

    def _forget(self) -> None:
        ended = [key for key, prompt in self._seen.items() if prompt.state in _ENDED]
        for key in ended[:-KEPT]:
            del self._seen[key]
            self._begun.pop(key, None)


def follow(
    look: Callable[[], DevStatus],
    connect: Callable[[], ComfyUI],
    in_use: Callable[[], object],
    timeouts: Timeouts,
    clock: Clock,
) -> Iterator[StatusSnapshot]:
    """Yield a snapshot about once a second, until the dev server has ended.

    Args:
        look: Returns its status; called four times a minute.
        connect: Returns the client of its ComfyUI.
        in_use: Called while prompts of any client are running or pending.
        timeouts: The intervals.
        clock: The time.
    """
    prompts: Prompts | None = None
    try:
        while (status := look()).is_there:
            if prompts is None and status.health is Health.HEALTHY:
                prompts = Prompts(connect(), clock)
            looked_at = clock.monotonic()
            silent = False
            # When ComfyUI falls silent, ask the platform at once.
            while (
                not silent
                and (passed_s := clock.monotonic() - looked_at) < timeouts.dev_status_every_s
            ):
                shown: tuple[WatchedPrompt, ...] = ()
                try:
                    shown = prompts.look() if prompts is not None else ()
                except (TransportError, ApiError):
                    silent = True
                yield StatusSnapshot(status=_aged(status, passed_s), prompts=shown)
                if prompts is not None and prompts.at_work:
                    in_use()
                clock.sleep(timeouts.dev_queue_every_s)
        yield StatusSnapshot(status=status)
    finally:
        if prompts is not None:
            prompts.comfyui.close()


def _aged(status: DevStatus, seconds: float) -> DevStatus:
    """Return a status as of some seconds later."""
    if not status.uptime_s:
        return status
    left = status.lease_left_s
    more = None if status.price is None else status.price * Decimal(seconds) / 3600
    cost = None if status.session_cost is None or more is None else status.session_cost + more
    return attrs.evolve(
        status,
        session_cost=cost,
        total_cost=None if status.total_cost is None else status.total_cost + (more or 0),
        uptime_s=status.uptime_s + seconds,
        lease_left_s=None if left is None else max(0.0, left - seconds),
    )
