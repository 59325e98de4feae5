"""The Server API: dedicated machines of one account."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote

from comfyloom._core.clock import SYSTEM_CLOCK, Clock
from comfyloom._core.json import items, mapping, mappings, text
from comfyloom._core.redact import log, register_secret, register_url_secret
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._http.retry import NO_RETRY, Backoff
from comfyloom._http.transport import Transport
from comfyloom._runcomfy.models import CloudWorkflow, Server, decode, rows
from comfyloom._runcomfy.rate_limits import rate_limit_of
from comfyloom.errors import ApiError, Forbidden, NotFound, RateLimited, Unauthorized

if TYPE_CHECKING:
    import requests

    from comfyloom.settings import Settings

_GATEWAY: Final = "key=value pair"
_LONGEST_BODY: Final = 2000


class ServerApi:
    """RunComfy's Server API for one account.

    Requests are paced for all of a process together: one a second, with a small burst. Reading and
    stopping are retried as `Transport` says. A launch is retried after 429 alone,
    which is a refusal: it has no idempotency key, so a second one could be a second machine.

    Args:
        base_url: For example `https://api.runcomfy.net`.
        user_id: The account's id, a part of every path.
        token: The account's token.
        backoff: How often to try and how long to wait.
        clock: The time.
    """

    def __init__(
        self,
        base_url: str,
        user_id: str,
        token: str,
        *,
        backoff: Backoff | None = None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        register_secret(token)
        self.clock = clock
        self.backoff = backoff or Backoff()
        self.timeouts = timeouts
        # A part of the base, not of each path: it would be noise in every message.
        self._http = Transport(
            account_url(base_url, user_id),
            "RunComfy",
            token=token,
            backoff=self.backoff,
            timeouts=timeouts,
            clock=clock,
            observe=self._read_date,
            rate_limit=rate_limit_of(base_url, user_id, clock),
        )
        self._date: tuple[float, float] | None = None

    @classmethod
    def of(
        cls,
        settings: Settings,
        *,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        clock: Clock = SYSTEM_CLOCK,
    ) -> ServerApi:
        """Return the Server API of the account in some settings."""
        account = settings.api_base_url, settings.user_id, settings.api_token
        return cls(*account, timeouts=timeouts, clock=clock)

    def __repr__(self) -> str:
        return "ServerApi()"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def now(self) -> float:
        """Return the platform's time, seconds since the epoch, as its last answer told it."""
        if self._date is None:
            return self.clock.time()
        told, at = self._date
        return told + self.clock.monotonic() - at

    @property
    def tells_time(self) -> bool:
        """Whether the platform has told its time, so that ours does not matter."""
        return self._date is not None

    @property
    def skew_s(self) -> float | None:
        """How far this computer's clock is behind the platform's; None before it told its time."""
        return None if self._date is None else self.now() - self.clock.time()

    def list_workflows(self) -> list[CloudWorkflow]:
        """Return the workflows that the account has saved in the cloud."""
        found = rows(self._call("GET", "/workflows"), "workflows")
        return [decode(CloudWorkflow, row, "GET workflows") for row in found]

    def list_servers(self, *, backoff: Backoff | None = None) -> list[Server]:
        """Return the account's machines."""
        found = rows(self._call("GET", "/servers", backoff=backoff), "servers")
        servers: list[Server] = []
        for row in found:
            try:
                servers.append(self._server(row, "GET servers"))
            except ApiError as error:  # one odd row must not hide the others
                log.warning("%s", error)
        return servers

    def get_server(self, server_id: str, *, backoff: Backoff | None = None) -> Server:
        """Return one machine.

        Raises:
            NotFound: It is gone, or was launched only seconds ago.
        """
        raw = self._call("GET", _path(server_id), backoff=backoff, timeout_s=self.timeouts.status_s)
        return self._server(raw, "GET server")

    def launch(self, workflow_version_id: str, server_type: str, duration_s: int) -> Server:
        """Launch a machine; it costs money from the moment that it is ready.

        Args:
            workflow_version_id: The version id (not the workflow id) of a saved workflow.
            server_type: The kind of machine.
            duration_s: Seconds after which it ends by itself, counted from its being ready.
        """
        body = {
            "workflow_version_id": workflow_version_id,
            "server_type": server_type,
            "estimated_duration": duration_s,
        }
        try:
            raw = self._call("POST", "/servers", json=body)
        except NotFound as error:
            hint = "check RUNCOMFY_WORKFLOW_VERSION_ID: the version id, not the workflow id"
            raise NotFound(
                f"{error} ({hint})", status=error.status, body=error.body, request=error.request
            ) from None
        return self._server(raw, "POST servers")

    def set_duration(
        self, server_id: str, duration_s: int, *, backoff: Backoff | None = None
    ) -> Server:
        """Let a machine end by itself `duration_s` seconds after Ready; retried after 429."""
        body = {"update_estimated_duration": duration_s}
        path = f"{_path(server_id)}/update-estimated-duration"
        answer = self._call(
            "POST", path, json=body, backoff=backoff, timeout_s=self.timeouts.renew_s
        )
        if not answer:  # done, without a word
            return self.get_server(server_id, backoff=NO_RETRY)
        return self._server(answer, "POST update-estimated-duration")

    def stop_server(self, server_id: str, *, timeout_s: float | None = None) -> Server | None:
        """Stop a machine, and return what the platform tells of it; billing ends with the answer.

        Tried once, without any wait: whoever stops a machine repeats it until it is confirmed.

        Raises:
            NotFound: The platform knows no such machine (any more).
        """
        answer = self._call(
            "DELETE",
            _path(server_id),
            backoff=NO_RETRY,
            timeout_s=timeout_s or self.timeouts.status_s,
        )
        try:
            return self._server(answer, "DELETE server") if answer else None
        except ApiError:  # it is stopped all the same
            return None

    def _server(self, raw: object, request: str) -> Server:
        server = decode(Server, raw, request)
        if server.main_service_url:
            register_url_secret(server.main_service_url)
        return server

    def _call(self, method: str, path: str, **options: Any) -> object:
        errors: list[str] = []
        answer = self._http.send(method, path, errors=errors, **options)
        request = f"{method} {path}"
        if not 200 <= answer.status_code < 300:
            raise _error(answer, request, errors)
        if not answer.content:
            return {}
        try:
            return _json(answer, request)
        except ApiError:
            if method == "DELETE":  # whatever it says, the status confirms it
                return {}
            raise

    def _read_date(self, answer: requests.Response) -> None:
        try:
            told = parsedate_to_datetime(answer.headers["Date"])
        except (KeyError, ValueError):
            return
        # A date without a zone is UTC here, as in all of HTTP.
        aware = told if told.tzinfo else told.replace(tzinfo=UTC)
        # The header tells whole seconds; on the average half a second of the next has passed.
        self._date = (aware.timestamp() + 0.5, self.clock.monotonic())


def account_url(base_url: str, user_id: str) -> str:
    """Return the URL of an account, below which all of its calls are."""
    return f"{base_url.rstrip('/')}/prod/api/users/{quote(user_id, safe='')}"


def _path(server_id: str) -> str:
    return f"/servers/{quote(server_id, safe='')}"


def _json(answer: requests.Response, request: str) -> object:
    try:
        return json.loads(answer.content)
    except (ValueError, RecursionError):
        body = answer.text[:_LONGEST_BODY]
    message = f"RunComfy: {request}: the answer is no JSON; is the base URL right?"
    raise ApiError(message, status=answer.status_code, body=body, request=request)


def _error(answer: requests.Response, request: str, errors: Sequence[str]) -> ApiError:
    status, body = answer.status_code, answer.text[:_LONGEST_BODY]
    kind, meaning = _MEANINGS.get(status, (ApiError, ""))
    if status == 403 and _GATEWAY in body:
        meaning = "wrong base URL or path (check RUNCOMFY_API_BASE_URL)"
    said = _body(answer)
    parts = [f"RunComfy: {request} answered {status}", meaning or _said(said)]
    return kind(
        ": ".join(part for part in parts if part),
        status=status,
        code=text(said.get("error")) or "",
        body=body,
        request=request,
        errors=errors,
    )


_MEANINGS: Final[Mapping[int, tuple[type[ApiError], str]]] = {
    401: (Unauthorized, "the token was not accepted (check RUNCOMFY_API_TOKEN)"),
    403: (Forbidden, "this account may not do that (check RUNCOMFY_USER_ID)"),
    404: (NotFound, ""),
    429: (RateLimited, "too many requests; RunComfy allows one a second on average"),
}


def _body(answer: requests.Response) -> Mapping[str, Any]:
    try:
        return mapping(json.loads(answer.content))
    except (ValueError, RecursionError):
        return {}


def _said(body: Mapping[str, Any]) -> str:
    """Return the server's own words: `message`, or the fields of a 422."""
    fields = "; ".join(_field(item) for item in mappings(body.get("detail")))
    return fields or str(body.get("message") or body.get("detail") or "")


def _field(item: Mapping[str, Any]) -> str:
    places = ".".join(str(part) for part in items(item.get("loc")) if part != "body")
    said = str(item.get("msg") or "invalid")
    return f"{places}: {said}" if places else said
