"""The client of RunComfy's Server API: the dedicated machines of one account."""

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
from comfyloom._http.access import NO_ACCESS, Access, bearer
from comfyloom._http.retry import NO_RETRY, Backoff
from comfyloom._http.transport import Transport, by_way_of
from comfyloom._runcomfy.models import CloudWorkflow, Server, decode, rows
from comfyloom._runcomfy.rate_limits import rate_limit_of
from comfyloom.errors import ApiError, Forbidden, NotFound, RateLimited, Unauthorized
from comfyloom.settings.comfyui import machine_access_of

if TYPE_CHECKING:
    import requests

    from comfyloom.settings import Settings

# A part of the message with which the API gateway answers 403 to an unknown path.
_GATEWAY_MESSAGE: Final = "key=value pair"
_MAX_BODY: Final = 2000
LAUNCH: Final = "POST /servers"
"""What `ApiError.request` says of a launch."""


class ServerApi:
    """RunComfy's Server API for one account.

    All clients of an account in this process share one rate limit: one request per second, with a
    small burst. Reads and stops are retried as `Transport` describes. A launch is retried after
    429 only, which is a refusal: it has no idempotency key, so any other retry could launch a
    second machine.

    Args:
        base_url: For example `https://api.runcomfy.net`.
        user_id: The account's id, a part of every path.
        token: The account's token.
        backoff: How often to retry and how long to wait.
        timeouts: How long each kind of request may take.
        clock: The source of time.
        reserve: How many requests beyond the usual burst do not wait for the pace.
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
        reserve: int = 0,
    ) -> None:
        register_secret(token)
        self.clock = clock
        self.backoff = backoff or Backoff()
        self.timeouts = timeouts
        # In the base URL, not in each path: the account would be noise in every message.
        self._http = Transport(
            account_url(base_url, user_id),
            "RunComfy",
            access=Access(authorization=bearer(token)),
            backoff=self.backoff,
            timeouts=timeouts,
            clock=clock,
            observe=self._read_date,
            rate_limit=rate_limit_of(base_url, user_id, clock),
            reserve=reserve,
        )
        self.machine_access = NO_ACCESS
        """What the ComfyUI of its machines is shown; RunComfy itself never is."""
        self._date: tuple[float, float] | None = None

    @classmethod
    def of(
        cls,
        settings: Settings,
        *,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        clock: Clock = SYSTEM_CLOCK,
        reserve: int = 0,
    ) -> ServerApi:
        """Return the client of the account that the settings name."""
        account = settings.api_base_url, settings.user_id, settings.api_token
        api = cls(*account, timeouts=timeouts, clock=clock, reserve=reserve)
        api.machine_access = machine_access_of(settings)
        return api

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
        """Return the platform's time in seconds since the epoch, from its last response.

        Before the first response it is this computer's time.
        """
        if self._date is None:
            return self.clock.time()
        reported, at = self._date
        return reported + self.clock.monotonic() - at

    @property
    def tells_time(self) -> bool:
        """Whether the platform has reported its time, so that this computer's does not matter."""
        return self._date is not None

    @property
    def skew_s(self) -> float | None:
        """Seconds that this computer's clock is behind the platform's, None if not known yet."""
        return None if self._date is None else self.now() - self.clock.time()

    def list_workflows(self) -> list[CloudWorkflow]:
        """Return the workflows that are saved in the account."""
        found = rows(self._call("GET", "/workflows"), "workflows")
        return [decode(CloudWorkflow, row, "GET workflows") for row in found]

    def list_servers(
        self, *, backoff: Backoff | None = None, timeout_s: float | None = None
    ) -> list[Server]:
        """Return the account's machines."""
        answer = self._call("GET", "/servers", backoff=backoff, timeout_s=timeout_s)
        found = rows(answer, "servers")
        servers: list[Server] = []
        for row in found:
            try:
                servers.append(self._server(row, "GET servers"))
            except ApiError as error:  # one unreadable row must not hide the other machines
                log.warning("%s", error)
        return servers

    def get_server(self, server_id: str, *, backoff: Backoff | None = None) -> Server:
        """Return one machine.

        Raises:
            NotFound: It does not exist any more, or was launched only seconds ago.
        """
        raw = self._call("GET", _path(server_id), backoff=backoff, timeout_s=self.timeouts.status_s)
        return self._server(raw, "GET server")

    def launch(self, workflow_version_id: str, server_type: str, duration_s: int) -> Server:
        """Launch a machine; it costs money as soon as it is ready.

        Args:
            workflow_version_id: The version id (not the workflow id) of a saved workflow.
            server_type: The machine type.
            duration_s: Seconds after Ready at which it ends by itself.

        Raises:
            NotFound: The account has no such workflow version.
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
        """Make a machine end by itself `duration_s` seconds after Ready; retried after 429."""
        body = {"update_estimated_duration": duration_s}
        path = f"{_path(server_id)}/update-estimated-duration"
        raw = self._call("POST", path, json=body, backoff=backoff, timeout_s=self.timeouts.renew_s)
        if not raw:  # accepted, with an empty body
            return self.get_server(server_id, backoff=NO_RETRY)
        return self._server(raw, "POST update-estimated-duration")

    def stop_server(self, server_id: str, *, timeout_s: float | None = None) -> Server | None:
        """Stop a machine; its billing ends when the platform responds.

        Tried once, without waiting: the caller repeats it until it is confirmed.

        Returns:
            The machine as the platform describes it, None if the response does not.

        Raises:
            NotFound: The platform does not know the machine, or not any more.
            ApiError: A refusal; with a 2xx status, the response is not the platform's.
        """
        raw = self._call(
            "DELETE",
            _path(server_id),
            backoff=NO_RETRY,
            timeout_s=timeout_s or self.timeouts.status_s,
        )
        if raw == {}:
            return None
        request, reason = f"DELETE {_path(server_id)}", "the response is about another machine"
        try:
            server = self._server(raw, "DELETE server")
            if server.server_id == server_id:
                return server
        except ApiError as error:
            reason = str(error)
        raise ApiError(f"RunComfy: {request}: {reason}", status=200, request=request)

    def _server(self, raw: object, request: str) -> Server:
        server = decode(Server, raw, request)
        if server.main_service_url:
            register_url_secret(server.main_service_url)
        return server

    def _call(self, method: str, path: str, **options: Any) -> object:
        errors: list[str] = []
        response = self._http.send(method, path, errors=errors, **options)
        request = f"{method} {path}"
        if not 200 <= response.status_code < 300:
            raise _error(response, request, errors)
        if not response.content:
            return {}
        return _json(response, request)

    def _read_date(self, response: requests.Response) -> None:
        try:
            date = parsedate_to_datetime(response.headers["Date"])
        except (KeyError, ValueError):
            return
        # HTTP dates are UTC, also when they name no zone (RFC 9110, section 5.6.7).
        aware = date if date.tzinfo else date.replace(tzinfo=UTC)
        # The header has whole seconds: on average, half a second has passed since.
        self._date = (aware.timestamp() + 0.5, self.clock.monotonic())


def account_url(base_url: str, user_id: str) -> str:
    """Return the base URL of all requests of an account."""
    return f"{base_url.rstrip('/')}/prod/api/users/{quote(user_id, safe='')}"


def _path(server_id: str) -> str:
    return f"/servers/{quote(server_id, safe='')}"


def _json(response: requests.Response, request: str) -> object:
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError):
        body = response.text[:_MAX_BODY]
    message = f"RunComfy: {request}: the response is not JSON; is the base URL right?"
    raise ApiError(message, status=response.status_code, body=body, request=request)


def _error(response: requests.Response, request: str, errors: Sequence[str]) -> ApiError:
    status, body = response.status_code, response.text[:_MAX_BODY]
    kind, meaning = _MEANINGS.get(status, (ApiError, ""))
    if status == 403 and _GATEWAY_MESSAGE in body:
        meaning = "wrong base URL or path (check RUNCOMFY_API_BASE_URL)"
    fields = _fields(response)
    what = f"RunComfy: {request} answered {status}{by_way_of(response)}"
    parts = [what, meaning or _server_message(fields)]
    return kind(
        ": ".join(part for part in parts if part),
        status=status,
        code=text(fields.get("error")) or "",
        body=body,
        request=request,
        errors=errors,
    )


_MEANINGS: Final[Mapping[int, tuple[type[ApiError], str]]] = {
    401: (
        Unauthorized,
        "the token was not accepted (check RUNCOMFY_API_TOKEN, or run comfyloom login)",
    ),
    403: (Forbidden, "the account may not do this (check RUNCOMFY_USER_ID)"),
    404: (NotFound, ""),
    429: (RateLimited, "too many requests; RunComfy allows one a second on average"),
}


def _fields(response: requests.Response) -> Mapping[str, Any]:
    try:
        return mapping(json.loads(response.content))
    except (ValueError, RecursionError):
        return {}


def _server_message(fields: Mapping[str, Any]) -> str:
    """Return the server's own message: `message`, or the field errors of a 422."""
    invalid = "; ".join(_field_error(item) for item in mappings(fields.get("detail")))
    return invalid or str(fields.get("message") or fields.get("detail") or "")


def _field_error(item: Mapping[str, Any]) -> str:
    location = ".".join(str(part) for part in items(item.get("loc")) if part != "body")
    message = str(item.get("msg") or "invalid")
    return f"{location}: {message}" if location else message
