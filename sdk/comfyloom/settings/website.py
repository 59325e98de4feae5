"""RunComfy's website, as command lines use it: who a token belongs to, and signing in.

The paths are documented (docs.runcomfy.com/cli, November 2026); the bodies of a sign-in follow the
device authorization grant (RFC 8628), and are read leniently.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

import attrs

from comfyloom._core.atomic_write import PRIVATE, write_atomically
from comfyloom._core.cache import cache_folder
from comfyloom._core.clock import SYSTEM_CLOCK, Clock
from comfyloom._core.json import mapping, number, text
from comfyloom._core.redact import register_secret
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._http.access import NO_ACCESS, Access, bearer
from comfyloom._http.retry import NO_RETRY
from comfyloom._http.transport import Transport
from comfyloom.errors import ApiError, TransportError, Unauthorized
from comfyloom.settings.declaration import is_http_url, is_word

if TYPE_CHECKING:
    import requests

DEFAULT_WEB_BASE: Final = "https://www.runcomfy.com"
_PENDING: Final = frozenset({"authorization_pending", "slow_down", "pending"})
_EXPIRED: Final = "the token is not accepted, or has expired; sign in again: comfyloom login"


@attrs.frozen(kw_only=True)
class User:
    """Whose token it is.

    Attributes:
        id: The user id, which the Server API wants in its paths.
        email: "" if the website does not tell it.
    """

    id: str
    email: str = ""


@attrs.frozen(kw_only=True)
class SignInCode:
    """A sign-in that waits for the user.

    Attributes:
        user_code: What the user enters on the page.
        page: The address of the page.
        device_code: What polls carry; a secret.
        interval_s: Seconds between two polls.
        expires_s: Seconds that the user has.
    """

    user_code: str
    page: str
    device_code: str = attrs.field(repr=False)
    interval_s: float = 2.0
    expires_s: float = 600.0


@attrs.frozen(kw_only=True)
class Balance:
    """What an account has left; `amount` is None if RunComfy does not tell it."""

    amount: Decimal | None = None
    currency: str = "USD"


@attrs.frozen
class Website:
    """The website of an account; each method raises `TransportError` and `ApiError`."""

    base_url: str
    timeouts: Timeouts = DEFAULT_TIMEOUTS
    clock: Clock = SYSTEM_CLOCK

    def user(self, token: str) -> User:
        """Return the user that a token belongs to."""
        found = self._ask("GET", "/api/auth/me", Access(authorization=bearer(token)))
        if not (user_id := _word(found, "id")):
            raise ApiError("RunComfy: GET /api/auth/me: the answer has no user id", status=200)
        return User(id=user_id, email=_word(found, "email"))

    def balance(self, token: str) -> Mapping[str, Any]:
        """Return what the API answers about the balance; the base URL is the API's."""
        return self._ask("GET", "/prod/v2/balance", Access(authorization=bearer(token)))

    def begin(self) -> SignInCode:
        """Begin to sign in."""
        found = self._ask("POST", "/api/cli-auth/start", NO_ACCESS, json={})
        device, user = _word(found, "device_code", "code"), _word(found, "user_code")
        if not device or not user:
            raise ApiError("RunComfy: POST /api/cli-auth/start: the answer has no code", status=200)
        register_secret(device)
        page = _word(found, "verification_uri", "verification_url", "verificationUrl")
        return SignInCode(
            user_code=user,
            page=page if is_http_url(page) else f"{self.base_url.rstrip('/')}/cli-auth",
            device_code=device,
            interval_s=max(1.0, number(found.get("interval")) or 2.0),
            expires_s=max(10.0, number(found.get("expires_in")) or 600.0),
        )

    def poll(self, code: SignInCode) -> str | None:
        """Return the token once the user has confirmed, None before."""
        body = {"device_code": code.device_code}
        try:
            found = self._ask("POST", "/api/cli-auth/poll", NO_ACCESS, json=body)
        except ApiError as error:
            if error.code in _PENDING:
                return None
            raise
        token = _word(found, "access_token", "token", "api_key")
        if token:
            register_secret(token)
        return token or None

    def _ask(self, method: str, path: str, access: Access, **options: Any) -> Mapping[str, Any]:
        http = Transport(
            self.base_url.rstrip("/"),
            "RunComfy",
            access=access,
            timeouts=self.timeouts,
            clock=self.clock,
        )
        try:
            longest_s = self.timeouts.status_s
            answer = http.send(method, path, backoff=NO_RETRY, timeout_s=longest_s, **options)
        finally:
            http.close()
        return _facts(answer, f"{method} {path}")


def _facts(answer: requests.Response, request: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = {}
    with suppress(ValueError, RecursionError):
        found = mapping(json.loads(answer.content))
    if 200 <= answer.status_code < 300:
        return found
    code = _word(found, "error", "status")
    if answer.status_code == 401:
        raise Unauthorized(f"RunComfy: {_EXPIRED}", status=401, request=request)
    what = f"RunComfy: {request} answered {answer.status_code}"
    reason = text(found.get("message")) or text(found.get("error_description")) or code
    message = f"{what}: {reason}" if reason else what
    raise ApiError(message, status=answer.status_code, code=code, request=request)


def balance_of(api_base_url: str, token: str) -> Balance:
    """Return the balance of an account, as far as RunComfy tells it."""
    try:
        found = Website(api_base_url).balance(token)
        amount = None if (value := found.get("balance_usd")) is None else Decimal(str(value))
    except (TransportError, ApiError, InvalidOperation):
        return Balance()
    return Balance(amount=amount, currency=text(found.get("currency")) or "USD")


def known_user_id(website: Website, token: str) -> str:
    """Return the user id of a token, from the cache or from the website.

    Raises:
        TransportError, ApiError: The website does not tell it.
    """
    key = hashlib.sha256(f"{website.base_url} {token}".encode()).hexdigest()[:32]
    path = cache_folder("accounts") / f"{key}.json"
    with suppress(OSError, ValueError, RecursionError):
        if known := text(mapping(json.loads(path.read_bytes())).get("id")):
            return known
    user_id = website.user(token).id
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"id": user_id}).encode(), mode=PRIVATE)
    return user_id


def _word(found: Mapping[str, Any], *names: str) -> str:
    """Return the first value that is one word: it is printed, and written into a file of lines."""
    values = (text(found.get(name)) for name in names)
    return next((value for value in values if value and is_word(value) is None), "")
