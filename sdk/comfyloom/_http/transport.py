"""One HTTP server: connections, timeouts, retries, and errors that tell no secret.

Both planes stand on it: the control plane sends the account token, the data plane never does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs

from comfyloom._core.clock import SYSTEM_CLOCK, Clock
from comfyloom._core.redact import log, redact
from comfyloom._core.waiting import Deadline
from comfyloom._http.rate_limit import RateLimiter
from comfyloom._http.retry import Backoff
from comfyloom.errors import TransportError

if TYPE_CHECKING:
    import requests

CONNECT_S: Final = 5.0
READ_S: Final = 60.0
_PIECE: Final = 1 << 16

_REPEATABLE: Final = frozenset({"GET", "HEAD", "DELETE"})
_PASSING: Final = frozenset({429, 500, 502, 503, 504})
# A refusal for the rate is the one answer after which any request may be sent again.
_RATE: Final = 429
_REFUSED: Final = frozenset({_RATE})


@attrs.define(eq=False)
class Transport:
    """Requests to one server.

    Retried are GET, HEAD and DELETE, and a POST that is marked `repeatable`: after an error of
    the connection and after 429, 500, 502, 503 and 504. Any other POST is retried after 429
    alone. How often and how long is the `backoff`. Redirects are not followed.

    Args:
        base_url: Without a slash at the end.
        name: What messages call the server; its URL may be a secret.
        token: The bearer token, None for none.
        backoff: How often to try and how long to wait.
        clock: The time.
        observe: Called with every answer, for its headers.
        pace: How often it may be asked, None for any time. DELETE does not wait for its turn:
            what costs money is never kept waiting.
        connections: How many connections are kept for the next request.
    """

    base_url: str = attrs.field(repr=False)
    name: str
    token: str | None = attrs.field(default=None, repr=False)
    backoff: Backoff = attrs.field(factory=Backoff)
    clock: Clock = SYSTEM_CLOCK
    observe: Callable[[requests.Response], object] = lambda _: None
    pace: RateLimiter | None = None
    connections: int = 10
    _session: requests.Session | None = attrs.field(default=None, init=False, repr=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)

    def send(
        self,
        method: str,
        path: str,
        *,
        repeatable: bool | None = None,
        backoff: Backoff | None = None,
        timeout_s: float = READ_S,
        connect_s: float = CONNECT_S,
        whole_s: float | None = None,
        errors: list[str] | None = None,
        **options: Any,
    ) -> requests.Response:
        """Send a request and return the answer, whatever its status.

        Args:
            method: The HTTP method.
            path: Below the base URL, with a leading slash.
            repeatable: Whether a second time does no harm; by default that of the method.
            backoff: Another one than the transport's.
            timeout_s: Longest silence of the server, in seconds.
            connect_s: The same while a connection is made and the body is sent.
            whole_s: How long the answer's body may take in all, for one that is small.
            errors: Where to put what each failed attempt ran into, newest first.
            **options: As for `requests.Session.request`.

        Raises:
            TransportError: No answer came; `errors` has what each attempt ran into, and `sent`
                is False when the request surely never reached the server.
        """
        again = method in _REPEATABLE if repeatable is None else repeatable
        notes = [] if errors is None else errors
        attempt = _Attempts(self, f"{method} {path}", backoff or self.backoff, notes)
        while True:
            try:
                answer = self._once(method, path, (connect_s, timeout_s), whole_s, options)
            except _requests().RequestException as error:
                attempt.failed(error)
                # A URL or proxy that cannot be is no passing trouble.
                if again and not isinstance(error, ValueError) and attempt.wait():
                    continue
                break
            passing = answer.status_code in (_PASSING if again else _REFUSED)
            if passing:
                attempt.refused(answer)
            if not (passing and attempt.wait(answer)):
                return answer
        raise attempt.error()

    @contextmanager
    def stream(self, path: str, **options: Any) -> Generator[requests.Response]:
        """GET without reading the body; the caller reads it from the answer, within the block.

        Raises:
            TransportError: No answer came, or the body broke off.
        """
        answer = self.send("GET", path, stream=True, **options)
        failure: TransportError | None = None
        try:
            yield answer
        except (_requests().RequestException, _urllib3().HTTPError) as error:
            failure = _broken(self.name, f"GET {path}", [describe(error)], sent=True)
        finally:
            answer.close()
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Close all connections; a later request opens new ones."""
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.close()

    def _once(
        self,
        method: str,
        path: str,
        times_s: tuple[float, float],
        whole_s: float | None,
        options: Mapping[str, Any],
    ) -> requests.Response:
        if self.pace is not None:
            self.pace.take(urgent=method == "DELETE")
        log.debug("%s: %s %s", self.name, method, path)
        requests = _requests()
        try:
            answer = self._connected().request(
                method,
                self.base_url + path,
                timeout=(min(times_s), times_s[1]),
                allow_redirects=False,
                **(options if whole_s is None else {**options, "stream": True}),
            )
            if whole_s is not None:
                _read_whole(answer, Deadline.after(whole_s, self.clock))
        except requests.RequestException:
            raise
        except ValueError:  # it reads where a redirect leads, also if it is not followed
            raise requests.ConnectionError("the answer's headers cannot be read") from None
        self.observe(answer)
        return answer

    def _connected(self) -> requests.Session:
        with self._lock:
            if self._session is None:
                self._session = self._make_session()
            return self._session

    def _make_session(self) -> requests.Session:
        import requests
        from requests.adapters import HTTPAdapter

        from comfyloom import __version__

        session = requests.Session()
        adapter = HTTPAdapter(pool_maxsize=self.connections)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        session.headers["User-Agent"] = f"comfyloom/{__version__}"
        # Without an auth of its own, requests would put a password of ~/.netrc in the header.
        session.auth = self._authorise
        return session

    def _authorise(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.token is not None:
            request.headers["Authorization"] = f"Bearer {self.token}"
            return request
        from requests.auth import HTTPBasicAuth
        from requests.utils import get_auth_from_url

        user, password = get_auth_from_url(self.base_url)
        if user:
            HTTPBasicAuth(user, password)(request)
        return request


@attrs.define
class _Attempts:
    """What the attempts of one request ran into, and whether there is another."""

    transport: Transport
    what: str
    backoff: Backoff
    errors: list[str]
    sent: bool = attrs.field(default=False, init=False)
    _delays: Iterator[float] = attrs.field(init=False)
    _deadline: Deadline = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._delays = self.backoff.delays()
        self._deadline = Deadline.after(self.backoff.total_s, self.transport.clock)

    def failed(self, error: Exception) -> None:
        """Note an attempt without an answer."""
        self.errors.insert(0, describe(error))
        self.sent = self.sent or reached_the_server(error)

    def refused(self, answer: requests.Response) -> None:
        """Note an attempt that the server could not serve just now."""
        self.errors.insert(0, f"{answer.status_code} {answer.reason or ''}".strip())

    def wait(self, answer: requests.Response | None = None) -> bool:
        """Wait before the next attempt and return True, or return False when none is left."""
        delay = next(self._delays, None)
        if delay is None or self._deadline.over:
            return False
        asked_s = 0.0 if answer is None else asked_to_wait_s(answer, self.backoff)
        if answer is not None:
            answer.close()
        # What the server asks for is waited in full: to come back too early would be refused.
        wait_s = asked_s or min(delay, self._deadline.remaining_s)
        if self.transport.pace is not None and answer is not None and answer.status_code == _RATE:
            self.transport.pace.pause(wait_s)
        self.transport.clock.sleep(wait_s)
        return True

    def error(self) -> TransportError:
        """Return the error of a request that got no answer."""
        return _broken(self.transport.name, self.what, self.errors, sent=self.sent)


def asked_to_wait_s(answer: requests.Response, backoff: Backoff) -> float:
    """Return the seconds that a server asks to wait (`Retry-After`), up to our own limit."""
    try:
        seconds = float(answer.headers.get("Retry-After", "0"))
    except ValueError:  # a date: our own delays are as good
        return 0.0
    return min(max(seconds, 0.0), backoff.retry_after_s)


def _broken(name: str, what: str, errors: list[str], *, sent: bool) -> TransportError:
    reason = errors[0] if errors else "no answer"
    return TransportError(f"{name}: {what}: {reason}", errors=errors, sent=sent)


def _read_whole(answer: requests.Response, deadline: Deadline) -> None:
    """Read a body that may not take longer than this: a server that trickles resets any timeout."""
    if vars(answer).get("_content_consumed"):  # somebody who listens to the library has read it
        return
    pieces: list[bytes] = []
    try:
        while piece := answer.raw.read1(_PIECE, decode_content=True):
            pieces.append(piece)
            if deadline.over:
                answer.close()
                raise _requests().ReadTimeout("the answer takes too long")
    except _urllib3().HTTPError as error:
        answer.close()
        raise _requests().ConnectionError(error) from None
    # What the library itself does when it has read a body.
    vars(answer).update(_content=b"".join(pieces), _content_consumed=True)


def text_of(answer: requests.Response, most: int) -> str:
    """Return an answer's text, at most so much of it, whatever charset it claims."""
    try:
        text = answer.text
    except (LookupError, UnicodeError):
        text = answer.content.decode("utf-8", "replace")
    return text[:most]


def describe(error: Exception) -> str:
    """Return a short text for an error of the HTTP library, without its secrets."""
    requests = _requests()
    if isinstance(error, requests.exceptions.SSLError):
        return redact(f"TLS failed: {_innermost(error)}")
    if isinstance(error, ValueError):
        return f"the URL or the proxy in the environment is wrong ({type(error).__name__})"
    if isinstance(error, requests.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    return redact(_innermost(error))


def reached_the_server(error: Exception) -> bool:
    """Return False when a failed request surely never reached the server."""
    requests = _requests()
    if isinstance(error, requests.ConnectTimeout | ValueError):
        return False
    if isinstance(error, requests.exceptions.SSLError):
        # TLS can fail while the answer is read, too; only a certificate is judged before all else.
        return not _is_about_a_certificate(error)
    from urllib3.exceptions import NameResolutionError, NewConnectionError

    cause: object = error.args[0] if error.args else None
    reason = getattr(cause, "reason", cause)
    return not isinstance(reason, NewConnectionError | NameResolutionError)


def _is_about_a_certificate(error: BaseException) -> bool:
    import ssl

    seen: BaseException | None = error
    while seen is not None:
        reason = getattr(seen.args[0], "reason", None) if seen.args else None
        for each in (seen, reason, *seen.args):
            if isinstance(each, ssl.SSLCertVerificationError):
                return True
        deeper = reason if isinstance(reason, BaseException) else None
        seen = seen.__cause__ or seen.__context__ or deeper
    return False


def _innermost(error: BaseException) -> str:
    """Return the operating system's own words, which name no host."""
    seen: BaseException = error
    while (inner := seen.__cause__ or seen.__context__) is not None:
        seen = inner
    if isinstance(seen, OSError) and seen.strerror:
        return seen.strerror
    return f"{type(seen).__name__}"


def _urllib3() -> Any:
    # What reading the raw body raises.
    from urllib3 import exceptions

    return exceptions


def _requests() -> Any:
    # Imported when first used: it costs more than all the rest of the SDK.
    import requests

    return requests
