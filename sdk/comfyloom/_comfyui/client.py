"""The HTTP API of one ComfyUI server."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from comfyloom._comfyui.answers import json_of
from comfyloom._comfyui.calls import Calls
from comfyloom._comfyui.event_router import EventRouter
from comfyloom._comfyui.history import HistoryEntry
from comfyloom._comfyui.jobs_api import JobsApi, JobState
from comfyloom._comfyui.queue_poll import QueueIds, QueueSize, SharedQueuePoll
from comfyloom._comfyui.upload_cache import UploadCache
from comfyloom._comfyui.upload_file import UploadLimit, upload_file
from comfyloom._comfyui.uploads import Uploads
from comfyloom._comfyui.view_file import view_file
from comfyloom._core.clock import SYSTEM_CLOCK, Clock
from comfyloom._core.json import items, mapping, number
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._core.waiting import Deadline
from comfyloom._http.access import NO_ACCESS, Access
from comfyloom._http.address import Address
from comfyloom._http.handshake import Handshake
from comfyloom._http.retry import NO_RETRY, Backoff
from comfyloom._http.transport import Transport
from comfyloom._http.watch import ServerWatch
from comfyloom._workflow.graph import Graph

if TYPE_CHECKING:
    import requests

    from comfyloom._comfyui.history import FileReference

CONNECTIONS = 64


class ComfyUI:
    """One ComfyUI server; its URL is a secret and never shown.

    Args:
        url: Its address, as `Address` understands it.
        access: What every request and the event socket carry.
        backoff: How often reads and uploads are retried.
        timeouts: Time limits and intervals.
        clock: The time.

    Reads and uploads are retried as `Transport` says. `cancel` is tried once, and so is
    `post_prompt`: `Submission` looks up an unanswered prompt.
    """

    def __init__(
        self,
        url: str,
        *,
        access: Access = NO_ACCESS,
        backoff: Backoff | None = None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.clock = clock
        self.timeouts = timeouts
        address = Address.parse(url)
        self._http = Transport(
            address.base_url,
            "ComfyUI",
            access=address.completing(access),
            backoff=backoff or Backoff(),
            timeouts=timeouts,
            clock=clock,
            connections=CONNECTIONS,
        )
        self._calls = Calls(self._http)
        self.event_router = EventRouter(partial(_handshake, self._http), timeouts=timeouts)
        self.queue_poll = SharedQueuePoll(partial(self.queue, backoff=NO_RETRY), clock)
        self.uploads = Uploads(
            partial(upload_file, self._calls),
            UploadLimit(self._calls, self.event_router).read,
            UploadCache.of(address.identity),
            timeouts.turn_s,
        )
        self.queue_size = QueueSize()
        self.accepted: set[str] = set()  # the prompts that are known to wait or run there
        self.jobs = JobsApi(self._http)

    @property
    def is_gone(self) -> bool:
        """Whether its machine was found to have ended."""
        return self._http.watch.is_over

    def close(self) -> None:
        """Close all connections."""
        self.event_router.close()
        self._http.close()

    # --- reading ---------------------------------------------------------------------------------

    def system_stats(
        self, *, backoff: Backoff | None = None, timeout_s: float | None = None
    ) -> Mapping[str, Any]:
        """Return `/system_stats`, a health check: the server's version and devices.

        Raises:
            TransportError: No answer.
            ApiError: An answer that is not ComfyUI's.
        """
        timeout_s = timeout_s or self.timeouts.poll_s
        return self._calls.get_object("/system_stats", backoff=backoff, timeout_s=timeout_s)

    def object_info(self) -> Mapping[str, Any]:
        """Return `/object_info`: every node type of the server, some megabytes.

        Raises:
            TransportError: No answer.
            ApiError: An answer that is not ComfyUI's.
        """
        return self._calls.get_object("/object_info", is_large=True)

    def history(
        self,
        prompt_id: str,
        *,
        backoff: Backoff | None = None,
        timeout_s: float | None = None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> HistoryEntry | None:
        """Return the history entry of a run; None while it is queued, running or unknown.

        Args:
            prompt_id: The run.
            backoff: Instead of the client's.
            timeout_s: Longest silence of the server.
            is_over: Whether to give the answer up, asked while it comes.
        """
        path = f"/history/{quote(prompt_id, safe='')}"
        how: dict[str, Any] = {"backoff": backoff, "is_over": is_over, "is_large": True}
        found = self._calls.get(path, timeout_s=timeout_s or self.timeouts.poll_s, **how)
        return HistoryEntry.parse(prompt_id, mapping(found).get(prompt_id))

    def queue(self, *, timeout_s: float | None = None, **options: Any) -> QueueIds:
        """Return the ids of the running and of the pending prompts, in their order.

        Args:
            timeout_s: Longest silence of the server.
            **options: `backoff` and `is_over`, as for `history`.
        """
        timeout_s = timeout_s or self.timeouts.poll_s
        answer = self._calls.answer("/queue", is_large=True, timeout_s=timeout_s, **options)
        self.queue_size.last_bytes = len(answer.content)
        lists = mapping(json_of(answer, "GET /queue"))
        return _ids(lists.get("queue_running")), _ids(lists.get("queue_pending"))

    def queue_remaining(self, **options: Any) -> int | None:
        """Return how many prompts run or wait, None if the server does not say.

        Args:
            **options: As for `queue`.

        Raises:
            TransportError, ApiError: The server does not answer.
        """
        found = mapping(self._calls.get("/prompt", **options))
        count = number(mapping(found.get("exec_info")).get("queue_remaining"))
        return None if count is None else int(count)

    def knows(self, prompt_id: str, **options: Any) -> bool:
        """Return whether a prompt is running, pending or in history.

        History is read after the queue, so a prompt that ends in between is found.

        Args:
            prompt_id: The prompt.
            **options: As for `queue`.

        Raises:
            TransportError, ApiError: The server does not answer.
        """
        is_queued = _state(self, prompt_id, options) is not JobState.UNKNOWN
        return is_queued or self.history(prompt_id, **options) is not None

    @property
    def backoff(self) -> Backoff:
        """Attempts, and waits between them."""
        return self._http.backoff

    def view(
        self, file: FileReference, **options: Any
    ) -> AbstractContextManager[requests.Response]:
        """Stream one output file; see `view_file`."""
        return view_file(self._http, file, **options)

    # --- changing --------------------------------------------------------------------------------

    def post_prompt(
        self,
        graph: Graph,
        *,
        client_id: str,
        prompt_id: str,
        fields: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> requests.Response:
        """POST a graph once and return the answer, whatever its status.

        Args:
            graph: The graph, in API format.
            client_id: Whose event socket gets the events.
            prompt_id: The id of the run.
            fields: Further fields of the request.
            timeout_s: Longest silence of the server.
            is_over: Whether to give up sending it, or its answer, asked meanwhile.

        Raises:
            TransportError: No answer; the prompt may still have been accepted.
        """
        content = _prompt(graph, fields or {}, client_id=client_id, prompt_id=prompt_id)
        self.queue_size.posted(prompt_id, len(content))
        return self._http.send(
            "POST",
            "/prompt",
            backoff=NO_RETRY,
            # A file is sent in pieces, each with its own time limit: the line may be slow.
            data=_Body(content, is_over),
            headers={"Content-Type": "application/json"},
            timeout_s=timeout_s or self.timeouts.submit_s,
            is_over=is_over,
        )

    def free(self) -> None:
        """Unload all models, and forget the results of all nodes; done when nothing runs.

        Raises:
            TransportError: No answer.
            ApiError: A refusal.
        """
        body = {"unload_models": True, "free_memory": True}
        self._calls.post("/free", json=body, timeout_s=self.timeouts.poll_s)

    def cancel(self, prompt_id: str) -> None:
        """Remove a prompt from the queue, and interrupt it if it is running.

        Tried once, and for some seconds at most: the caller repeats it until it is confirmed.
        Newer servers do both in one step. Older ones get an interrupt only while this prompt runs:
        the oldest ignore its id and would interrupt another prompt.

        Raises:
            TransportError: No answer.
            ApiError: A refusal.
        """
        is_over = Deadline.after(2 * self.timeouts.cancel_s, self.clock).is_over
        once = {"backoff": NO_RETRY, "timeout_s": self.timeouts.cancel_s, "is_over": is_over}
        if self.jobs.cancel(prompt_id, **once):
            return
        self._calls.post("/queue", json={"delete": [prompt_id]}, **once)
        if _state(self, prompt_id, once) is JobState.RUNNING:
            self._calls.post("/interrupt", json={"prompt_id": prompt_id}, **once)


class _Body(io.BytesIO):
    """A body that is no longer sent once it is not wanted any more."""

    def __init__(self, content: bytes, is_over: Callable[[], bool]) -> None:
        super().__init__(content)
        self._is_over = is_over

    def read(self, size: int | None = -1, /) -> bytes:
        if self._is_over():
            raise TimeoutError("sending takes too long")
        return super().read(size)


def watch_server(server: ComfyUI, watch: ServerWatch) -> None:
    """Report every answer and failure to someone who knows whether the server still exists."""
    transport = server._http  # pyright: ignore[reportPrivateUsage]
    transport.watch = watch


def _state(server: ComfyUI, prompt_id: str, how: Mapping[str, Any]) -> JobState:
    """Return where a prompt is, UNKNOWN if it neither runs nor waits."""
    if server.jobs.can_find or server.queue_size.is_large:
        state = server.jobs.find(prompt_id, **how)
        if state is not None:
            return JobState.UNKNOWN if state is JobState.ENDED else state
    running, pending = server.queue(**how)
    if prompt_id in running:
        return JobState.RUNNING
    return JobState.WAITING if prompt_id in pending else JobState.UNKNOWN


def _prompt(graph: Graph, fields: Mapping[str, Any], **ids: str) -> bytes:
    return json.dumps({**fields, "prompt": graph, **ids}).encode()


def _handshake(http: Transport, client_id: str, *, challenge: bool = False) -> Handshake:
    return http.handshake("/ws", challenge=challenge, clientId=client_id)


def _ids(rows: object) -> tuple[str, ...]:
    """Return the prompt ids of a queue list in order; the server sends a heap."""
    numbered = [row for row in items(rows) if len(items(row)) > 1]
    numbered.sort(key=lambda row: (number(row[0]) or 0, str(row[1])))
    return tuple(str(row[1]) for row in numbered)
