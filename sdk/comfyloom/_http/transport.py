"""One HTTP server: connections, timeouts, retries, and errors without secrets.

Used for RunComfy, which gets the account token, and for ComfyUI, which never does.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs

from comfyloom._core.clock import SYSTEM_CLOCK, Clock
from comfyloom._core.forks import importing, renew_after_fork
from comfyloom._core.redact import log
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._core.version import __version__
from comfyloom._core.waiting import FOREVER, Deadline
from comfyloom._http.access import NO_ACCESS, Access
from comfyloom._http.failures import describe, is_transient, reached_the_server
from comfyloom._http.handshake import Handshake
from comfyloom._http.pace import Pace, pacing
from comfyloom._http.proxies import NO_PROXY_OPTIONS, Proxy
from comfyloom._http.rate_limit import RateLimiter
from comfyloom._http.retry import NO_RETRY, Backoff
from comfyloom._http.watch import NO_WATCH, ServerWatch
from comfyloom.errors import ConfigError, TransportError

if TYPE_CHECKING:
    import requests

# Idempotent: safe to repeat.
_REPEATABLE: Final = frozenset({"GET", "HEAD", "DELETE"})
_TRANSIENT: Final = frozenset({429, 500, 502, 503, 504})
# A gateway gives these answers in the place of a server that it cannot reach.
_OF_GATEWAYS: Final = frozenset({404, 502, 503, 504})
# After a rate limit, any request may be sent again.
_RATE: Final = 429
_RATE_ONLY: Final = frozenset({_RATE})


@attrs.define(eq=False)
class Transport:
    """Requests to one server.

    GET, HEAD, DELETE and a POST marked `repeatable` are retried after a connection error and after
    429, 500, 502, 503 and 504; any other POST only after 429. The `backoff` limits attempts and
    waits. Redirects are not followed.

    Args:
        base_url: The start of every URL, without user or query.
        name: The server's name in messages; its URL may be a secret.
        access: What every request carries, and how the server is checked.
        observe: Called with every answer, for its headers.
        rate_limit: None for no limit. DELETE does not wait for it: a stop must not be delayed.
        reserve: How many requests beyond the burst of that limit do not wait.
        connections: Connections kept open for later requests.
        watch: Hears of answers and failures; it ends the attempts for a server that is gone.
    """

    base_url: str = attrs.field(repr=False)
    name: str
    access: Access = attrs.field(default=NO_ACCESS, repr=False)
    backoff: Backoff = attrs.field(factory=Backoff)
    timeouts: Timeouts = DEFAULT_TIMEOUTS
    clock: Clock = SYSTEM_CLOCK
    observe: Callable[[requests.Response], object] = lambda _: None
    rate_limit: RateLimiter | None = None
    reserve: int = 0
    connections: int = 10
    watch: ServerWatch = attrs.field(default=NO_WATCH, repr=False)
    _session: requests.Session | None = attrs.field(default=None, init=False, repr=False)
    _proxy: Proxy | None = attrs.field(default=None, init=False, repr=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        renew_after_fork(self.after_fork)

    def after_fork(self) -> None:
        """Forget the parent's connections."""
        self._session, self._lock = None, threading.Lock()

    @property
    def proxy(self) -> Proxy | None:
        """The proxy that the server is reached through, None for none."""
        return self._proxy

    def send(
        self,
        method: str,
        path: str,
        *,
        repeatable: bool | None = None,
        backoff: Backoff | None = None,
        timeout_s: float | None = None,
        connect_s: float | None = None,
        whole_s: float | None = None,
        is_over: Callable[[], bool] = lambda: False,
        errors: list[str] | None = None,
        **options: Any,
    ) -> requests.Response:
        """Send a request and return the answer, whatever its status.

        Args:
            method: The HTTP method.
            path: Below the base URL, with a leading slash.
            repeatable: Whether it is idempotent; by default, the method decides.
            backoff: Instead of the transport's.
            timeout_s: Longest silence of the server, and the time that the headers may take; by
                default `Timeouts.answer_s`.
            connect_s: The same while connecting and sending; by default `Timeouts.connect_s`.
            whole_s: Longest time for the whole body, by default `timeout_s` once more; one that is
                large may come for longer, if it brings at least 1 KiB in each `timeout_s`.
            is_over: Whether to give it up now, asked while it comes.
            errors: A list that receives the error of each failed attempt, newest first.
            **options: As for `requests.Session.request`.

        Raises:
            TransportError: No answer; `errors` has the error of each attempt, and `sent` is False
                if the request certainly never reached the server.
        """
        again = method in _REPEATABLE if repeatable is None else repeatable
        notes = [] if errors is None else errors
        answer_s = self.timeouts.answer_s if timeout_s is None else timeout_s
        answer_s = min(answer_s, self.watch.patience_s(path))
        connect_s = min(answer_s, self.timeouts.connect_s if connect_s is None else connect_s)
        options["timeout"] = (connect_s, answer_s)
        pace = Pace(self.clock, answer_s, whole_s or answer_s, is_over)
        attempt = _Attempts(self, f"{method} {path}", backoff or self.backoff, notes)
        while True:
            since = self.clock.monotonic()
            try:
                answer = self._once(method, path, pace, options)
            except _requests().RequestException as error:
                attempt.failed(error)
                if self.watch.is_gone(path, 0, since):
                    break
                if again and is_transient(error) and attempt.wait():
                    continue
                break
            is_gone = self._note_status(path, answer.status_code, since)
            if is_gone or answer.status_code not in (_TRANSIENT if again else _RATE_ONLY):
                return answer
            attempt.refused(answer)
            if not attempt.wait(answer):
                return answer
        how = {"sent": attempt.sent, "timed_out": attempt.timed_out}
        raise _broken(self.name, attempt.what, notes, **how)

    @contextmanager
    def stream(self, path: str, **options: Any) -> Generator[requests.Response]:
        """GET without reading the body; the caller reads it from the answer inside the block.

        Raises:
            TransportError: No answer, or the body broke off.
        """
        answer = self.send("GET", path, stream=True, whole_s=FOREVER, **options)
        failure: TransportError | None = None
        try:
            yield answer
        except (_requests().RequestException, _urllib3().HTTPError) as error:
            failure = _broken(self.name, f"GET {path}", [describe(error, self.proxy)], sent=True)
        finally:
            answer.close()
        if failure is not None:
            raise failure

    def handshake(self, path: str, *, challenge: bool = False, **query: str) -> Handshake:
        """Return the WebSocket handshake for a path, carrying what a request would carry now.

        Args:
            path: Below the base URL, with a leading slash.
            challenge: Whether to send a request first: some logins, such as Digest, answer only
                what the server asks.
            **query: Parameters of the URL.

        Raises:
            TransportError: No answer to that request.
        """
        if challenge:
            self.send("GET", path, backoff=NO_RETRY).close()
        from comfyloom._http import tls

        session = self._connected()
        request = _requests().Request("GET", self.base_url + path, params=query)
        proxy = NO_PROXY_OPTIONS if self._proxy is None else self._proxy.socket_options()
        is_tls = self.base_url.startswith("https:")
        options = {"context": tls.Certificates.of(self.access).context()} if is_tls else {}
        return Handshake.like(session.prepare_request(request), proxy, options)

    def close(self) -> None:
        """Close all connections; a later request opens new ones."""
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.close()

    def _note_status(self, path: str, status: int, since: float) -> bool:
        """Note an answer, and return whether it tells that the server is gone."""
        if status in _OF_GATEWAYS:
            return self.watch.is_gone(path, status, since)
        self.watch.heard()
        return False

    def _once(
        self,
        method: str,
        path: str,
        pace: Pace,
        options: Mapping[str, Any],
    ) -> requests.Response:
        if self.rate_limit is not None:
            self.rate_limit.take(urgent=method == "DELETE", reserve=self.reserve)
        log.debug("%s: %s %s", self.name, method, path)
        requests = _requests()
        try:
            session = self._connected()
            with pacing(pace):
                answer = session.request(
                    method, self.base_url + path, allow_redirects=False, **options
                )
        except requests.RequestException:
            raise
        except ValueError:  # requests parses a redirect's target even without following it
            raise requests.ConnectionError("the response headers cannot be read") from None
        except OSError as error:  # the files of a certificate are read at each connection
            raise ConfigError(f"{self.name}: {error}") from None
        self.observe(answer)
        return answer

    def _connected(self) -> requests.Session:
        with self._lock:
            if self._session is None:
                self._session = self._make_session()
            return self._session

    def _make_session(self) -> requests.Session:
        from comfyloom._http import tls

        self._proxy = proxy = Proxy.of(self.base_url)
        certificates = tls.Certificates.of(self.access)
        session: requests.Session = _requests().Session()
        adapter = tls.adapter(certificates, proxy, self.connections)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        session.headers["User-Agent"] = f"comfyloom/{__version__}"
        if not certificates.is_named:
            session.verify, session.cert = certificates.bundle or False, certificates.client
        if proxy is not None:
            session.proxies = {"http": proxy.url, "https": proxy.url}
        self.access.prepare(session, self.base_url)
        return session


@attrs.define
class _Attempts:
    """The attempts of one request: their errors, and whether there is another."""

    transport: Transport
    what: str
    backoff: Backoff
    errors: list[str]
    sent: bool = attrs.field(default=False, init=False)
    timed_out: bool = attrs.field(default=False, init=False)
    _delays: Iterator[float] = attrs.field(init=False)
    _deadline: Deadline = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._delays = self.backoff.delays()
        self._deadline = Deadline.after(self.backoff.total_s, self.transport.clock)

    def failed(self, error: Exception) -> None:
        """Note an attempt without an answer."""
        self.errors.insert(0, describe(error, self.transport.proxy))
        self.sent = self.sent or reached_the_server(error)
        self.timed_out = isinstance(error, _requests().Timeout)

    def refused(self, answer: requests.Response) -> None:
        """Note an attempt that got a transient error status."""
        self.errors.insert(0, f"{answer.status_code} {answer.reason or ''}".strip())

    def wait(self, answer: requests.Response | None = None) -> bool:
        """Wait before the next attempt and return True, or return False when none is left."""
        delay = next(self._delays, None)
        if delay is None or self._deadline.over:
            return False
        asked_s = 0.0 if answer is None else retry_after_s(answer, self.backoff)
        if answer is not None:
            answer.close()
        # Wait as long as the server asks: an earlier attempt would be refused.
        wait_s = asked_s or min(delay, self._deadline.remaining_s)
        limit = self.transport.rate_limit
        if limit is not None and answer is not None and answer.status_code == _RATE:
            limit.pause(wait_s)
        self.transport.clock.sleep(wait_s)
        return True


def retry_after_s(answer: requests.Response, backoff: Backoff) -> float:
    """Return the seconds that a server asks to wait (`Retry-After`), up to the backoff's limit."""
    try:
        seconds = float(answer.headers.get("Retry-After", "0"))
    except ValueError:  # a date: use our own delays
        return 0.0
    return min(max(seconds, 0.0), backoff.retry_after_s)


def _broken(name: str, what: str, errors: list[str], **how: bool) -> TransportError:
    reason = errors[0] if errors else "no answer"
    return TransportError(f"{name}: {what}: {reason}", errors=errors, **how)


def text_of(answer: requests.Response, most: int) -> str:
    """Return at most `most` characters of an answer's text, whatever charset it claims."""
    try:
        text = answer.text
    except (LookupError, ValueError):
        text = answer.content.decode("utf-8", "replace")
    return text[:most]


def by_way_of(answer: requests.Response) -> str:
    """Return the words that name the proxy that an answer came through, "" for none."""
    name = str(getattr(getattr(answer, "connection", None), "proxy_name", ""))
    return f" (by way of the proxy {name})" if name else ""


def _urllib3() -> Any:
    # Raised while the raw body is read.
    from urllib3 import exceptions

    return exceptions


def _requests() -> Any:
    # Imported when first used: it costs more than the rest of the SDK.
    with importing():
        return importlib.import_module("requests")
