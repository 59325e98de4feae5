"""The guard process: it outlives its owner and stops the machines that the owner leaves behind.

It runs as a script and imports only the standard library, so that it starts quickly and uses
little memory while it waits. Its standard input is a pipe from its owner. Each line is one message
in JSON:

    {"do": "hold", "key": K, "api": URL of the account, "token": T, "server_type": …,
     "seconds": duration of the launch, "before": ids listed before it or null,
     "server_id": ID or "", "seen": whether the platform has listed it,
     "journal": file or null, "ca": file or null}
    {"do": "launched", "key": K, "server_id": ID}     the platform answered the launch
    {"do": "seen", "key": K}                          the platform has listed the machine
    {"do": "stop", "key": K}                          the owner gave up waiting for its end
    {"do": "refused", "key": K}                       the platform refused the launch
    {"do": "forget", "key": K}                        confirmed stopped, or handed over

When the owner dies, every machine that was not forgotten is deleted. The machine of an unanswered
launch is looked up in the account's list by three facts: it was not listed before the launch, and
it has exactly the duration and the machine type of the launch. A refusal may come from a gateway
that passed the launch on, so that two lists some seconds apart must lack its machine. Each outcome
is appended to the journal, which the next reaper reads.
"""

import json
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing takes longer than all other imports together
    from typing import Any

SEARCH_EVERY_S = 2.0
SEARCH_FOR_S = 60.0
SECOND_LOOK_S = 5.0  # between the two lists that must lack the machine of a refused launch
GIVE_UP_S = 600.0
YOUNG_S = 60.0  # a machine launched this recently may answer 404 although it exists
REQUEST_TIMEOUT_S = 10.0
ENDED = ("deleting", "deleted", "stopping", "stopped", "error", "failed")
FIRST_DELAY_S = 1.0
MAX_DELAY_S = 30.0


class Charge:
    """A machine, or an unanswered launch, that the guard must stop if its owner does not."""

    def __init__(self, message: "dict[str, Any]") -> None:
        self.key: str = message["key"]
        self.api: str = message["api"]
        self.token: str = message["token"]
        self.server_type: str = message["server_type"]
        self.seconds: int = message["seconds"]
        self.before: list[str] | None = message["before"]
        self.journal: str | None = message["journal"]
        self.ca: str | None = message["ca"]
        self.server_id: str = message["server_id"]
        self.seen: bool = message["seen"]
        self.held_at = time.monotonic()
        self.stop_since: float | None = None
        self.is_refused = False
        self.missed_at: float | None = None
        self.due = 0.0
        self.delay_s = FIRST_DELAY_S

    def stop(self) -> None:
        """Start stopping it; `act` does the work."""
        if self.stop_since is None:
            self.stop_since = time.monotonic()

    def act(self) -> str | None:
        """Try the next step; return the final outcome, None if another step is needed."""
        now = time.monotonic()
        try:
            outcome = self._delete() if self.server_id else self._find()
        except Exception:  # noqa: BLE001 - whatever failed, the machine must still be stopped
            outcome = None
            self._back_off(now)
        if outcome is None and self._stopping_s(now) > GIVE_UP_S:
            return "gave up"
        return outcome

    def _back_off(self, now: float) -> None:
        self.due = now + self.delay_s
        self.delay_s = min(2 * self.delay_s, MAX_DELAY_S)

    def _delete(self) -> str | None:
        now = time.monotonic()
        status, body = self._request("DELETE", f"/servers/{quoted(self.server_id)}")
        is_done = 200 <= status < 300
        if is_done and self._is_confirmed(body):
            return "deleted"
        if not is_done and status != 404:
            self._back_off(now)
            return None
        # A gateway may have answered in the platform's place, so the list must lack it, too; and
        # for some seconds after the launch, a 404 does not mean that the machine has ended.
        is_old = is_done or self.seen or now - self.held_at > YOUNG_S
        if is_old and not self._is_listed():
            return "deleted" if is_done else "not found"
        self.due = now + SEARCH_EVERY_S
        return None

    def _is_confirmed(self, body: bytes) -> bool:
        """Return whether a body is the platform's answer to the stop: none, or the machine."""
        if not body.strip():
            return True
        try:
            answer: Any = json.loads(body)
            return answer == {} or str(answer["server_id"]) == self.server_id
        except (ValueError, LookupError, TypeError):
            return False

    def _is_listed(self) -> bool:
        row = self._list().get(self.server_id)
        return row is not None and str(row.get("current_status") or "").lower() not in ENDED

    def _find(self) -> str | None:
        now = time.monotonic()
        rows = self._list()
        found = [name for name, row in rows.items() if self._may_be_ours(name, row)]
        if self.before is None or len(found) > 1:
            # It is not certain which machine is ours: the guard never stops one on a guess.
            return self._end_search(now, "ambiguous", is_final=bool(found))
        if found:
            self.server_id, self.seen, self.due = found[0], True, 0.0
            return None
        return self._end_search(now, "never appeared", is_final=False)

    def _end_search(self, now: float, outcome: str, *, is_final: bool) -> "str | None":
        """Return the outcome if it is final or the time for the search is over."""
        if self.missed_at is None:
            self.missed_at = now
        is_long = (
            now - self.missed_at >= SECOND_LOOK_S
            if self.is_refused
            else self._stopping_s(now) > SEARCH_FOR_S
        )
        if is_final or is_long:
            return outcome
        self.due = now + (SECOND_LOOK_S if self.is_refused else SEARCH_EVERY_S)
        return None

    def _stopping_s(self, now: float) -> float:
        return 0.0 if self.stop_since is None else now - self.stop_since

    def _may_be_ours(self, name: str, row: "dict[str, Any]") -> bool:
        server_type = str(row.get("server_type") or "")
        if name in (self.before or ()) or server_type not in (self.server_type, ""):
            return False
        try:
            return 0 < float(row.get("estimated_duration") or 0) == self.seconds
        except (TypeError, ValueError):
            return False

    def _list(self) -> "dict[str, dict[str, Any]]":
        """Return the account's machines by id."""
        status, body = self._request("GET", "/servers")
        if not 200 <= status < 300:
            raise OSError(f"HTTP status {status}")
        rows: Any = json.loads(body)
        if "servers" in rows:
            rows = rows["servers"]
        return {str(row["server_id"]): row for row in rows if row.get("server_id")}

    def _request(self, method: str, path: str) -> tuple[int, bytes]:
        """Return the status and body of an answer; one that drips is given up."""
        import threading

        found: list[Any] = [OSError("no answer in time")]

        def ask() -> None:
            try:
                found[0] = self._exchange(method, path)
            except Exception as error:  # noqa: BLE001 - raised below, in the guard's own thread
                found[0] = error

        exchange = threading.Thread(target=ask, daemon=True)
        exchange.start()
        exchange.join(2 * REQUEST_TIMEOUT_S)
        if isinstance(found[0], Exception):
            raise found[0]
        status, body = found[0]
        return status, body

    def _exchange(self, method: str, path: str) -> tuple[int, bytes]:
        # Imported only when the owner is dead: until then the guard needs little memory.
        import ssl
        import urllib.error
        import urllib.request

        class NoRedirect(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *_: object, **__: object) -> None:
                return None  # the token must not be sent to another address

        request = urllib.request.Request(self.api + path, method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        request.add_header("User-Agent", "comfyloom-guard")
        is_folder = self.ca is not None and os.path.isdir(self.ca)  # noqa: PTH112
        context = (
            ssl.create_default_context(capath=self.ca)
            if is_folder
            else ssl.create_default_context(cafile=self.ca)
        )
        proxies = urllib.request.ProxyHandler({} if is_loopback(self.api) else None)
        opener = urllib.request.build_opener(
            NoRedirect, proxies, urllib.request.HTTPSHandler(context=context)
        )
        try:
            with opener.open(request, timeout=REQUEST_TIMEOUT_S) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, b""


class GuardProcess:
    """Reads the owner's messages, notices its death, and then stops its machines.

    Args:
        pipe: The file descriptor that the owner's messages come from.
        owner_exit: A file descriptor that becomes readable when the owner ends, None if the
            system has none; the end of the pipe is noticed in any case.
    """

    def __init__(self, pipe: int, owner_exit: int | None) -> None:
        self.pipe = pipe
        self.watched = [each for each in (pipe, owner_exit) if each is not None]
        self.charges: dict[str, Charge] = {}
        self.partial_line = b""

    def run(self) -> None:
        """Return when the owner is dead and no machine is left to stop."""
        while self.watched or self.charges:
            ready, _, _ = select.select(self.watched, [], [], self._wait_s())
            if ready and not self._read(owner_has_ended=ready != [self.pipe]):
                self.watched = []
                for charge in self.charges.values():
                    charge.stop()
            self._act()

    def _wait_s(self) -> float | None:
        """Return the seconds until the next step is due, None if there is no next step."""
        due = [each.due for each in self.charges.values() if each.stop_since is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _act(self) -> None:
        for charge in list(self.charges.values()):
            if charge.stop_since is None or charge.due > time.monotonic():
                continue
            outcome = charge.act()
            if outcome is not None:
                del self.charges[charge.key]
                append_to_journal(charge, outcome)

    def _read(self, *, owner_has_ended: bool) -> bool:
        """Handle all messages in the pipe; return whether the owner is still alive."""
        while True:
            try:
                data = os.read(self.pipe, 65536)
            except BlockingIOError:
                return not owner_has_ended
            except OSError:
                return False
            if not data:
                return False
            *lines, self.partial_line = (self.partial_line + data).split(b"\n")
            for line in lines:
                self._handle(line)

    def _handle(self, line: bytes) -> None:
        """Apply one message; a malformed one is ignored."""
        try:
            message = json.loads(line)
            command, key = message["do"], message["key"]
            if command == "hold":
                self.charges[key] = Charge(message)
                return
        except (ValueError, KeyError, TypeError):
            return
        charge = self.charges.get(key)
        if charge is None:
            return
        if command == "launched":
            charge.server_id = message["server_id"]
        elif command == "seen":
            charge.seen = True
        elif command == "refused":
            charge.is_refused = True
            charge.stop()
        elif command == "stop":
            charge.stop()
        elif command == "forget":
            del self.charges[key]


def append_to_journal(charge: Charge, outcome: str) -> None:
    """Append the outcome to the journal, if it can be written."""
    line = {
        "key": charge.key,
        "server_id": charge.server_id,
        "outcome": outcome,
        "at": time.time(),
    }
    if charge.journal is None:
        return
    try:
        with open(charge.journal, "a", encoding="utf-8") as file:  # noqa: PTH123 - no pathlib here
            file.write(json.dumps(line) + "\n")
    except OSError:
        pass


def is_loopback(url: str) -> bool:
    """Return whether a URL names this computer, which no proxy reaches.

    As `comfyloom._http.proxies` says it; this process imports nothing of ours.
    """
    import ipaddress
    from urllib.parse import urlsplit

    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def quoted(text: str) -> str:
    """Return an id as one part of a URL path; it comes from the network."""
    from urllib.parse import quote

    return quote(text, safe="")


def open_process_exit(owner: int) -> int | None:
    """Return a file descriptor that becomes readable when a process ends.

    None if the system has none; then only the end of the pipe shows that the owner is dead.
    """
    try:
        if hasattr(os, "pidfd_open"):
            return os.pidfd_open(owner)
        bsd: Any = select
        queue = bsd.kqueue()
        flags = {"flags": bsd.KQ_EV_ADD, "fflags": bsd.KQ_NOTE_EXIT}
        queue.control([bsd.kevent(owner, filter=bsd.KQ_FILTER_PROC, **flags)], 0)
    except (AttributeError, OSError):
        return None
    return os.dup(queue.fileno())  # the queue object is closed when it is garbage-collected


def main() -> None:
    """Detach from the owner, so that signals to its process group do not end the guard; run."""
    owner = int(sys.argv[1])
    is_owner_alive = os.getppid() == owner
    # Before the fork, which inherits it: once the owner relies on the guard, no signal ends it.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    if os.fork():
        os._exit(0)  # shows the owner that the guard runs, and leaves it no child to wait for
    os.chdir("/")
    os.set_blocking(0, False)
    # If the owner is dead already, its pid may belong to another process.
    GuardProcess(0, open_process_exit(owner) if is_owner_alive else None).run()


if __name__ == "__main__":
    main()
