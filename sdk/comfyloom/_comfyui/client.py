"""The HTTP API of one ComfyUI server."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import attrs

from comfyloom._comfyui.cancel_scope import CancelScope
from comfyloom._comfyui.event_router import EventRouter
from comfyloom._comfyui.history import HistoryEntry
from comfyloom._comfyui.multipart import Multipart
from comfyloom._comfyui.queue_poll import QueueIds, SharedQueuePoll
from comfyloom._comfyui.upload_cache import UploadCache
from comfyloom._comfyui.uploads import Uploads
from comfyloom._core.clock import SYSTEM_CLOCK, Clock
from comfyloom._core.json import is_mapping, items, mapping, mappings, number, text
from comfyloom._core.redact import log
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._http.retry import NO_RETRY, Backoff
from comfyloom._http.transport import Transport, retry_after_s, text_of
from comfyloom._workflow.graph import Graph
from comfyloom.errors import ApiError, NotFound, PromptRejected, RateLimited, TransportError

if TYPE_CHECKING:
    import requests

    from comfyloom._comfyui.history import FileReference
    from comfyloom._workflow.files import InputFile

_LONGEST_BODY = 2000
# What servers without a route answer: those before the jobs API know no POST on such a path.
_NO_ROUTE = frozenset({404, 405})
CONNECTIONS = 64


class ComfyUI:
    """One ComfyUI server; its URL is taken for a secret and never shown.

    Reading is retried as `Transport` says. Submitting is not: see `comfyui.submit`, which looks
    an unanswered prompt up. Deleting, interrupting and uploading under a name that tells the
    content do no harm twice, so they are retried like reading.

    Args:
        url: Where the server answers, with or without a path.
        backoff: Attempts, and waits between them.
        timeouts: How long it may be silent, and how often runs are polled.
        clock: The time.
    """

    def __init__(
        self,
        url: str,
        *,
        backoff: Backoff | None = None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.clock = clock
        self.timeouts = timeouts
        self._url = url.rstrip("/")
        self._http = Transport(
            self._url,
            "ComfyUI",
            backoff=backoff or Backoff(),
            timeouts=timeouts,
            clock=clock,
            connections=CONNECTIONS,
        )
        self.event_router = EventRouter(self.socket_url, timeouts=timeouts)
        self.queue_poll = SharedQueuePoll(self._look, clock)
        self.uploads = Uploads(self._upload, self.max_upload_bytes, UploadCache.of(self._url))
        self._has_jobs: bool | None = None
        self._asked_for_limit = False

    def socket_url(self, client_id: str) -> str:
        """Return the WebSocket URL for a client id."""
        scheme, _, rest = self._url.partition(":")
        secure = scheme.lower() == "https"
        return f"{'wss' if secure else 'ws'}:{rest}/ws?clientId={quote(client_id)}"

    def close(self) -> None:
        """Close all connections."""
        self.event_router.close()
        self._http.close()

    # --- reading ---------------------------------------------------------------------------------

    def system_stats(self, *, backoff: Backoff | None = None) -> Mapping[str, Any]:
        """Return `/system_stats`: the server's version and devices. A good sign of health.

        Raises:
            TransportError: No answer.
            ApiError: An answer that is not ComfyUI's.
        """
        stats = self._get("/system_stats", backoff=backoff, timeout_s=self.timeouts.poll_s)
        if not is_mapping(stats):
            raise ApiError("ComfyUI: /system_stats is no object", request="GET /system_stats")
        return mapping(stats)

    def object_info(self) -> Mapping[str, Any]:
        """Return `/object_info`: every class of nodes that the server has, some megabytes.

        Raises:
            TransportError: No answer.
            ApiError: An answer that is not ComfyUI's.
        """
        found = self._get("/object_info")
        if not is_mapping(found):
            raise ApiError("ComfyUI: /object_info is no object", request="GET /object_info")
        return mapping(found)

    def history(
        self, prompt_id: str, *, backoff: Backoff | None = None, timeout_s: float | None = None
    ) -> HistoryEntry | None:
        """Return what history says of a run; None while it is queued, running or unknown."""
        path = f"/history/{quote(prompt_id, safe='')}"
        found = self._get(path, backoff=backoff, timeout_s=timeout_s or self.timeouts.poll_s)
        return HistoryEntry.parse(prompt_id, mapping(found).get(prompt_id))

    def queue(self, *, backoff: Backoff | None = None, timeout_s: float | None = None) -> QueueIds:
        """Return the ids of the prompts that run and of those that wait, in the order of turn."""
        found = self._get("/queue", backoff=backoff, timeout_s=timeout_s or self.timeouts.poll_s)
        lists = mapping(found)
        return _ids(lists.get("queue_running")), _ids(lists.get("queue_pending"))

    def _look(self, timeout_s: float) -> QueueIds:
        return self.queue(backoff=NO_RETRY, timeout_s=timeout_s)

    def knows(
        self, prompt_id: str, *, backoff: Backoff | None = None, timeout_s: float | None = None
    ) -> bool:
        """Return whether a prompt runs, waits or has ended here.

        History is read after the queue: between the two no prompt can slip through.

        Raises:
            TransportError, ApiError: The server does not tell.
        """
        how: dict[str, Any] = {"backoff": backoff, "timeout_s": timeout_s}
        running, pending = self.queue(**how)
        return prompt_id in (*running, *pending) or self.history(prompt_id, **how) is not None

    @property
    def backoff(self) -> Backoff:
        """How often what fails is tried again, and how long it waits."""
        return self._http.backoff

    def max_upload_bytes(self) -> int | None:
        """Return the largest request that the server takes, None if it does not tell.

        It tells in `/features`, and on the event socket; it is asked once. An old server, or a
        gateway before it, may not answer that, and takes files all the same.
        """
        if self.event_router.max_upload_bytes is None and not self._asked_for_limit:
            self._asked_for_limit = True
            try:
                told = self._get("/features", backoff=NO_RETRY, timeout_s=self.timeouts.poll_s)
            except (ApiError, TransportError) as error:
                log.debug("the limit of uploads is not known: %s", error)
            else:
                self.event_router.note_features(mapping(told))
        return self.event_router.max_upload_bytes

    @contextmanager
    def view(
        self, file: FileReference, *, first: int = 0, timeout_s: float | None = None
    ) -> Generator[requests.Response]:
        """Stream one output file; tried once, whoever reads it tries again from where it broke.

        Args:
            file: The file.
            first: The first byte that is wanted.
            timeout_s: Longest silence of the server, in seconds.

        Raises:
            NotFound: The server has no such file (any more).
            ApiError: Another refusal.
            TransportError: No answer, or the answer broke off.
        """
        query = {"filename": file.filename, "subfolder": file.subfolder, "type": file.type}
        # A transparent compression would make the length useless as a check.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={first}-"} if first else {})
        options: dict[str, Any] = {"backoff": NO_RETRY, "timeout_s": timeout_s}
        with self._http.stream("/view", params=query, headers=headers, **options) as answer:
            _raise_for_status(answer, "GET /view")
            yield answer

    # --- changing --------------------------------------------------------------------------------

    def post_prompt(
        self, graph: Graph, *, client_id: str, prompt_id: str, timeout_s: float | None = None
    ) -> requests.Response:
        """POST a graph once and return the answer as it is.

        Raises:
            TransportError: No answer; the prompt may have been accepted all the same.
        """
        body = {"prompt": graph, "client_id": client_id, "prompt_id": prompt_id}
        timeout_s = timeout_s or self.timeouts.submit_s
        times: dict[str, Any] = {"timeout_s": timeout_s, "whole_s": timeout_s}
        return self._http.send("POST", "/prompt", backoff=NO_RETRY, json=body, **times)

    def cancel(self, prompt_id: str) -> None:
        """Take a prompt out of the queue, and interrupt it if it is the one that runs.

        Tried once and quickly: whoever cancels repeats it until it is confirmed. Newer servers do
        both in one step. Older ones get an interrupt only while this prompt runs: the oldest take
        no notice of the id in it, and would interrupt whatever runs.

        Raises:
            TransportError: No answer.
            ApiError: A refusal.
        """
        once: dict[str, Any] = {"backoff": NO_RETRY, "timeout_s": self.timeouts.cancel_s}
        if self._has_jobs is not False and self._cancel_job(prompt_id, **once):
            return
        self._post("/queue", json={"delete": [prompt_id]}, **once)
        running, _ = self.queue(**once)
        if prompt_id in running:
            self._post("/interrupt", json={"prompt_id": prompt_id}, **once)

    def _cancel_job(self, prompt_id: str, **once: Any) -> bool:
        """Cancel by the jobs API, and return whether the server has one."""
        path = f"/api/jobs/{quote(prompt_id, safe='')}/cancel"
        try:
            answer = self._http.send("POST", path, repeatable=True, **once)
            if self._has_jobs is None and answer.status_code in _NO_ROUTE:
                self._has_jobs = False
                return False
            _raise_for_status(answer, f"POST {path}")
            # A gateway may answer anything with a page; only the API itself tells what it did.
            has_told = isinstance(mapping(_json(answer, f"POST {path}")).get("cancelled"), bool)
        except (ApiError, TransportError):
            if self._has_jobs:
                raise
            return False  # this time, the old way has a chance
        self._has_jobs = has_told or self._has_jobs
        return has_told

    def _upload(self, file: InputFile, scope: CancelScope) -> str:
        """Upload an input file under the name that tells its content, and return its name there."""
        timeout_s = min(self.timeouts.upload_s, scope.checkpoint())
        total_s = min(self._http.backoff.total_s, timeout_s)
        body = Multipart("image", file, {"type": "input"}, scope)
        answer = self._post(
            "/upload/image",
            data=body,
            headers={"Content-Type": body.content_type},
            timeout_s=timeout_s,
            connect_s=timeout_s,  # it counts for sending as well, and the server may be busy
            backoff=attrs.evolve(self._http.backoff, total_s=total_s, retry_after_s=total_s),
        )
        reply = mapping(_json(answer, "POST /upload/image"))
        stored, folder = text(reply.get("name")), text(reply.get("subfolder"))
        if not stored:
            raise ApiError("ComfyUI: the upload's answer names no file", body=text_of(answer, 200))
        return f"{folder}/{stored}" if folder else stored

    def _get(
        self, path: str, *, backoff: Backoff | None = None, timeout_s: float | None = None
    ) -> object:
        errors: list[str] = []
        timeout_s = timeout_s or self.timeouts.answer_s
        # The list of all node types has some megabytes; everything else is small.
        whole_s = None if path == "/object_info" else timeout_s
        answer = self._http.send(
            "GET", path, backoff=backoff, errors=errors, timeout_s=timeout_s, whole_s=whole_s
        )
        _raise_for_status(answer, f"GET {path}", errors)
        return _json(answer, f"GET {path}")

    def _post(self, path: str, **options: Any) -> requests.Response:
        errors: list[str] = []
        answer = self._http.send("POST", path, repeatable=True, errors=errors, **options)
        _raise_for_status(answer, f"POST {path}", errors)
        return answer


def _ids(rows: object) -> tuple[str, ...]:
    """Return the prompt ids of a queue list in order; the server's own order is a heap's."""
    numbered = [row for row in items(rows) if len(items(row)) > 1]
    numbered.sort(key=lambda row: (number(row[0]) or 0, str(row[1])))
    return tuple(str(row[1]) for row in numbered)


def _json(answer: requests.Response, request: str) -> object:
    """Return the JSON of an answer; Python's reader takes the NaN that ComfyUI may write."""
    try:
        return json.loads(answer.content)
    except (ValueError, RecursionError):
        raise no_json(answer, request) from None


def no_json(answer: requests.Response, request: str) -> ApiError:
    """Return the error of an answer that should be JSON and is something else."""
    kind = answer.headers.get("Content-Type", "no type")
    what = f"the answer is no JSON ({kind}); is the URL right?"
    if kind.startswith("text/html"):
        what = "a web page came instead of JSON: a gateway or a login stands before the server"
    body = text_of(answer, _LONGEST_BODY)
    message = f"ComfyUI: {request}: {what}"
    return ApiError(message, status=answer.status_code, body=body, request=request)


def _raise_for_status(answer: requests.Response, request: str, errors: Sequence[str] = ()) -> None:
    if 200 <= answer.status_code < 300:
        return
    raise api_error(answer, request, errors)


def api_error(answer: requests.Response, request: str, errors: Sequence[str] = ()) -> ApiError:
    """Return the error that an answer of ComfyUI stands for."""
    status, body = answer.status_code, text_of(answer, _LONGEST_BODY)
    kind, meaning = _MEANINGS.get(status, (ApiError, ""))
    if 300 <= status < 400:
        meaning = "the server redirects elsewhere; give the URL that it redirects to"
    told = f"ComfyUI: {request} answered {status}"
    return kind(
        f"{told}: {meaning}" if meaning else told,
        status=status,
        body=body,
        request=request,
        errors=errors,
        retry_after_s=retry_after_s(answer, Backoff()),
    )


_MEANINGS: Mapping[int, tuple[type[ApiError], str]] = {
    401: (ApiError, "the server, or a gateway before it, wants a login"),
    403: (ApiError, "the server, or a gateway before it, refuses requests from here"),
    404: (NotFound, "there is no such thing, or no ComfyUI at this URL"),
    413: (ApiError, "the request is larger than the server takes (--max-upload-size)"),
    429: (RateLimited, "too many requests"),
    502: (ApiError, "its gateway cannot reach it"),
    503: (ApiError, "it is not ready"),
    504: (ApiError, "its gateway got no answer in time"),
}


def accepted(answer: requests.Response) -> str:
    """Return the id under which a prompt was accepted, "" if the answer names none."""
    try:
        return text(mapping(json.loads(answer.content)).get("prompt_id")) or ""
    except (ValueError, RecursionError):
        return ""


def rejection(answer: requests.Response) -> PromptRejected | None:
    """Return the rejection that an answer to a prompt holds, also one that came with 200.

    With 200 and `node_errors` ComfyUI runs the outputs that are valid and drops the others in
    silence.
    """
    try:
        reply = mapping(json.loads(answer.content))
    except (ValueError, RecursionError):
        reply = mapping(None)
    node_errors = mapping(reply.get("node_errors"))
    if answer.status_code != 400 and not node_errors:
        return None
    error = mapping(reply.get("error")) or {"message": reply.get("error") or reply.get("message")}
    return PromptRejected(
        "ComfyUI rejected the workflow: " + _explain(error, node_errors),
        node_errors=node_errors,
        status=answer.status_code,
        code=str(error.get("type") or ""),
        body=text_of(answer, _LONGEST_BODY),
        request="POST /prompt",
    )


def _explain(error: Mapping[str, Any], node_errors: Mapping[str, Any]) -> str:
    """Return the useful part: the errors of the nodes, else the error of the whole."""
    lines = [line for node, entry in node_errors.items() for line in _node_lines(node, entry)]
    if lines:
        return "; ".join(lines)
    parts = [str(error.get(key)) for key in ("message", "details") if error.get(key)]
    return ": ".join(parts) or "no reason given"


def _node_lines(node: str, entry: object) -> list[str]:
    known = mapping(entry)
    where = f"node {node} ({known['class_type']})" if known.get("class_type") else f"node {node}"
    texts = [_error_text(error) for error in mappings(known.get("errors"))]
    return [f"{where}: {said}" for said in texts] or [f"{where}: invalid"]


def _error_text(error: Mapping[str, Any]) -> str:
    message = str(error.get("message") or "invalid")
    return f"{message} ({error['details']})" if error.get("details") else message
