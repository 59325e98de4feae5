"""Interpreting the answers of a ComfyUI server: their JSON, or the error that they mean."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from comfyloom._core.json import mapping, mappings, text
from comfyloom._http.retry import Backoff
from comfyloom._http.transport import by_way_of, retry_after_s, text_of
from comfyloom.errors import (
    ApiError,
    Forbidden,
    NotFound,
    PromptRejected,
    RateLimited,
    Unauthorized,
)

if TYPE_CHECKING:
    import requests

_LONGEST_BODY = 2000


def json_of(answer: requests.Response, request: str) -> object:
    """Return the JSON of an answer; Python's parser accepts the NaN that ComfyUI may write."""
    try:
        return json.loads(answer.content)
    except (ValueError, RecursionError):
        raise no_json(answer, request) from None


def no_json(answer: requests.Response, request: str) -> ApiError:
    """Return the error for an answer that is not JSON."""
    kind = answer.headers.get("Content-Type", "no type")
    what = f"the response is not JSON ({kind}); is the URL correct?"
    if kind.startswith("text/html"):
        what = "the response is a web page, not JSON: a gateway or login is in front of the server"
    body = text_of(answer, _LONGEST_BODY)
    message = f"ComfyUI: {request}: {what}"
    return ApiError(message, status=answer.status_code, body=body, request=request)


def raise_for_status(answer: requests.Response, request: str, errors: Sequence[str] = ()) -> None:
    """Raise the error of an answer whose status is not 2xx."""
    if not 200 <= answer.status_code < 300:
        raise api_error(answer, request, errors)


def api_error(answer: requests.Response, request: str, errors: Sequence[str] = ()) -> ApiError:
    """Return the error for an answer of ComfyUI."""
    status, body = answer.status_code, text_of(answer, _LONGEST_BODY)
    kind, meaning = _MEANINGS.get(status, (ApiError, ""))
    if 300 <= status < 400:
        meaning = "the server redirects elsewhere; use the URL that it redirects to"
    message = f"ComfyUI: {request} answered {status}{by_way_of(answer)}"
    return kind(
        f"{message}: {meaning}" if meaning else message,
        status=status,
        body=body,
        request=request,
        errors=errors,
        retry_after_s=retry_after_s(answer, Backoff()),
    )


_LOGIN = (
    "the server, or a gateway in front of it, requires a login: pass auth=(user, password) or "
    "headers=… to RunComfySession, or set COMFYLOOM_AUTH"
)
_MEANINGS: Mapping[int, tuple[type[ApiError], str]] = {
    401: (Unauthorized, _LOGIN),
    403: (Forbidden, "the server, or a gateway in front of it, refuses requests from here"),
    404: (NotFound, "not found, or there is no ComfyUI at this URL"),
    407: (ApiError, "the proxy requires a login: http://user:password@host in its variable"),
    413: (ApiError, "the request is larger than the server accepts (--max-upload-size)"),
    429: (RateLimited, "too many requests"),
    502: (ApiError, "the gateway cannot reach the server"),
    503: (ApiError, "the server is not ready"),
    504: (ApiError, "the gateway got no answer from the server in time"),
}


def accepted(answer: requests.Response) -> str:
    """Return the id under which a prompt was accepted, "" if the answer has none."""
    return text(_reply(answer).get("prompt_id")) or ""


def rejection(answer: requests.Response) -> PromptRejected | None:
    """Return the rejection in an answer to a prompt, None if there is none.

    With status 200 and `node_errors`, ComfyUI runs the valid outputs and silently drops the rest.
    """
    reply = _reply(answer)
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


def _reply(answer: requests.Response) -> Mapping[str, Any]:
    try:
        return mapping(json.loads(answer.content))
    except (ValueError, RecursionError):
        return {}


def _explain(error: Mapping[str, Any], node_errors: Mapping[str, Any]) -> str:
    """Return the errors of the nodes, else the general error."""
    lines = [line for node, entry in node_errors.items() for line in _node_lines(node, entry)]
    if lines:
        return "; ".join(lines)
    parts = [str(error.get(key)) for key in ("message", "details") if error.get(key)]
    return ": ".join(parts) or "no reason given"


def _node_lines(node: str, entry: object) -> list[str]:
    known = mapping(entry)
    where = f"node {node} ({known['class_type']})" if known.get("class_type") else f"node {node}"
    return [
        f"{where}: {error.get('message') or 'invalid'}"
        + (f" ({error['details']})" if error.get("details") else "")
        for error in mappings(known.get("errors"))
    ] or [f"{where}: invalid"]
