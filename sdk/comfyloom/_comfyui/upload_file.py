"""Sending one input file, and how large it may be."""

from __future__ import annotations

import attrs

from comfyloom._comfyui.answers import json_of
from comfyloom._comfyui.calls import Calls
from comfyloom._comfyui.cancel_scope import CancelScope
from comfyloom._comfyui.event_router import EventRouter
from comfyloom._comfyui.multipart import Multipart
from comfyloom._core.json import mapping, text
from comfyloom._core.redact import log
from comfyloom._http.retry import NO_RETRY
from comfyloom._http.transport import text_of
from comfyloom._workflow.files import InputFile
from comfyloom.errors import ApiError, TransportError


@attrs.define(eq=False)
class UploadLimit:
    """The largest request that a server accepts.

    The server reports it on the event socket, and in `/features`, which is read once. An old
    server, or a gateway, may lack that route, but still accept files.
    """

    calls: Calls
    events: EventRouter
    _is_asked: bool = attrs.field(default=False, init=False)

    def read(self) -> int | None:
        """Return the limit in bytes, None if it is not known."""
        if self.events.max_upload_bytes is None and not self._is_asked:
            self._is_asked = True
            timeout_s = self.calls.http.timeouts.poll_s
            try:
                features = self.calls.get("/features", backoff=NO_RETRY, timeout_s=timeout_s)
            except (ApiError, TransportError) as error:
                log.debug("the upload limit is unknown: %s", error)
            else:
                self.events.note_features(mapping(features))
        return self.events.max_upload_bytes


def upload_file(calls: Calls, file: InputFile, scope: CancelScope) -> str:
    """Upload an input file under its own name, and return the server's name for it.

    Raises:
        UploadCancelled: The scope has ended.
        TransportError: No answer.
        ApiError: A refusal, or an answer that is not ComfyUI's.
    """
    backoff = calls.http.backoff
    timeout_s = min(calls.http.timeouts.upload_s, scope.checkpoint())
    total_s = min(backoff.total_s, timeout_s)
    place = {"subfolder": file.folder} if file.folder else {}
    body = Multipart("image", file, {"type": "input", **place}, scope)
    answer = calls.post(
        "/upload/image",
        data=body,
        headers={"Content-Type": body.content_type},
        timeout_s=timeout_s,
        is_over=scope.is_over,
        connect_s=timeout_s,  # also limits sending, and the server may be busy
        backoff=attrs.evolve(backoff, total_s=total_s, retry_after_s=total_s),
    )
    reply = mapping(json_of(answer, "POST /upload/image"))
    stored, folder = text(reply.get("name")), text(reply.get("subfolder"))
    if not stored:
        problem = "ComfyUI: the upload's answer does not name a file"
        raise ApiError(problem, body=text_of(answer, 200))
    return f"{folder}/{stored}" if folder else stored
