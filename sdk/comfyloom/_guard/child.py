"""The guard: a small process that outlives its owner and ends what the owner leaves behind.

It runs as a script of its own, with nothing but the standard library: it has to be there at once,
and must cost nothing while it waits. Its standard input is a pipe from its owner. Each line is one
message in JSON:

    {"do": "hold", "key": K, "api": URL of the account, "token": T, "server_type": …,
     "seconds": duration of the launch, "before": ids listed before it or null,
     "server_id": ID or "", "seen": whether the platform has shown it,
     "journal": file or null, "ca": file or null}
    {"do": "launched", "key": K, "server_id": ID}     the launch has an answer
    {"do": "seen", "key": K}                          the platform has shown the machine
    {"do": "stop", "key": K}                          the owner gave up waiting for its end
    {"do": "forget", "key": K}                        confirmed stopped, or handed over

When the owner dies, every machine that was not forgotten is deleted. A launch without an answer is
looked for by what tells its machine from all others: not among those before, exactly its duration,
its kind. What was done is appended to the journal, which the next reaper reads.
"""

import json
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would take longer to load than all the rest
    from typing import Any

SEARCH_EVERY_S = 2.0
SEARCH_FOR_S = 60.0
GIVE_UP_S = 600.0
YOUNG_S = 60.0
ANSWER_S = 10.0
FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 30.0
REFUSED = "refused"


class Charge:
    """A machine, or a launch, that the guard answers for."""

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
        self.due = 0.0
        self.delay_s = FIRST_DELAY_S

    def stop(self) -> None:
        """Begin to end it."""
        if self.stop_since is None:
            self.stop_since = time.monotonic()

    def act(self) -> str | None:
        """Do the next thing for its end; return what it came to, None while it goes on."""
        now = time.monotonic()
        try:
            outcome = self._delete() if self.server_id else self._find()
        except Exception:  # noqa: BLE001 - whatever it was, the machine is still to be ended
            outcome = None
            self._later(now)
        if outcome is None and self._stopping_s(now) > GIVE_UP_S:
            return "gave up"
        return outcome

    def _later(self, now: float) -> None:
        self.due = now + self.delay_s
        self.delay_s = min(2 * self.delay_s, LONGEST_DELAY_S)

    def _delete(self) -> str | None:
        now = time.monotonic()
        status, _ = self._ask("DELETE", f"/servers/{quoted(self.server_id)}")
        if 200 <= status < 300:
            return "deleted"
        if status != 404:
            self._later(now)
            return None
        # A machine that was launched seconds ago is not known to every call.
        if self.seen or (now - self.held_at > YOUNG_S and self.server_id not in self._listed()):
            return "not found"
        self.due = now + SEARCH_EVERY_S
        return None

    def _find(self) -> str | None:
        now = time.monotonic()
        rows = self._listed()
        found = [name for name, row in rows.items() if self._is_ours(name, row)]
        if self.before is None or len(found) > 1:
            # Which one is ours cannot be told: nobody's machine is stopped for a guess.
            return self._give_up(now, "cannot be told", is_sure=bool(found))
        if found:
            self.server_id, self.seen, self.due = found[0], True, 0.0
            return None
        return self._give_up(now, "never appeared", is_sure=False)

    def _give_up(self, now: float, outcome: str, *, is_sure: bool) -> "str | None":
        if is_sure or self._stopping_s(now) > SEARCH_FOR_S:
            return outcome
        self.due = now + SEARCH_EVERY_S
        return None

    def _stopping_s(self, now: float) -> float:
        return 0.0 if self.stop_since is None else now - self.stop_since

    def _is_ours(self, name: str, row: "dict[str, Any]") -> bool:
        kind = str(row.get("server_type") or "")
        if name in (self.before or ()) or kind not in (self.server_type, ""):
            return False
        try:
            return 0 < float(row.get("estimated_duration") or 0) == self.seconds
        except (TypeError, ValueError):
            return False

    def _listed(self) -> "dict[str, dict[str, Any]]":
        status, body = self._ask("GET", "/servers")
        if not 200 <= status < 300:
            raise OSError(REFUSED)
        rows: Any = json.loads(body)
        if "servers" in rows:
            rows = rows["servers"]
        return {str(row["server_id"]): row for row in rows if row.get("server_id")}

    def _ask(self, method: str, path: str) -> tuple[int, bytes]:
        # Imported on the owner's death alone: they are most of what Python can load.
        import ssl
        import urllib.error
        import urllib.request

        class NoRedirect(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *_: object, **__: object) -> None:
                return None  # the token is for this address alone

        request = urllib.request.Request(self.api + path, method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        request.add_header("User-Agent", "comfyloom-guard")
        is_folder = self.ca is not None and os.path.isdir(self.ca)  # noqa: PTH112
        secure = (
            ssl.create_default_context(capath=self.ca)
            if is_folder
            else ssl.create_default_context(cafile=self.ca)
        )
        opener = urllib.request.build_opener(
            NoRedirect, urllib.request.HTTPSHandler(context=secure)
        )
        try:
            with opener.open(request, timeout=ANSWER_S) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, b""


class Guard:
    """Reads what the owner says, watches over it, and acts when it is gone."""

    def __init__(self, pipe: int, watch: int | None) -> None:
        self.pipe = pipe
        self.watched = [each for each in (pipe, watch) if each is not None]
        self.charges: dict[str, Charge] = {}
        self.rest = b""

    def run(self) -> None:
        """Return when the owner is gone and nothing is left to end."""
        while self.watched or self.charges:
            ready, _, _ = select.select(self.watched, [], [], self._wait_s())
            if ready and not self._read(is_gone=ready != [self.pipe]):
                self.watched = []
                for charge in self.charges.values():
                    charge.stop()
            self._act()

    def _wait_s(self) -> float | None:
        due = [each.due for each in self.charges.values() if each.stop_since is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _act(self) -> None:
        for charge in list(self.charges.values()):
            if charge.stop_since is None or charge.due > time.monotonic():
                continue
            outcome = charge.act()
            if outcome is not None:
                del self.charges[charge.key]
                note(charge, outcome)

    def _read(self, *, is_gone: bool) -> bool:
        """Take what the owner has said; return whether it is still there."""
        while True:
            try:
                data = os.read(self.pipe, 65536)
            except BlockingIOError:
                return not is_gone
            except OSError:
                return False
            if not data:
                return False
            *lines, self.rest = (self.rest + data).split(b"\n")
            for line in lines:
                self._obey(line)

    def _obey(self, line: bytes) -> None:
        try:
            message = json.loads(line)
            what, key = message["do"], message["key"]
            if what == "hold":
                self.charges[key] = Charge(message)
                return
        except (ValueError, KeyError, TypeError):
            return
        charge = self.charges.get(key)
        if charge is None:
            return
        if what == "launched":
            charge.server_id = message["server_id"]
        elif what == "seen":
            charge.seen = True
        elif what == "stop":
            charge.stop()
        elif what == "forget":
            del self.charges[key]


def note(charge: Charge, outcome: str) -> None:
    """Append what was done to the journal; that it cannot be written changes nothing."""
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


def quoted(text: str) -> str:
    """Return an id as a part of a path; it came from the network."""
    from urllib.parse import quote

    return quote(text, safe="")


def watch_of(owner: int) -> int | None:
    """Return what becomes readable when the owner ends, None where the system has no such thing."""
    try:
        if hasattr(os, "pidfd_open"):
            return os.pidfd_open(owner)
        bsd: Any = select
        queue = bsd.kqueue()
        flags = {"flags": bsd.KQ_EV_ADD, "fflags": bsd.KQ_NOTE_EXIT}
        queue.control([bsd.kevent(owner, filter=bsd.KQ_FILTER_PROC, **flags)], 0)
    except (AttributeError, OSError):
        return None  # the pipe alone has to tell
    return os.dup(queue.fileno())  # the queue itself is closed when nobody refers to it


def main() -> None:
    """Leave the owner's family, so that what ends it does not end the guard; then watch."""
    owner = int(sys.argv[1])
    is_there = os.getppid() == owner
    if os.fork():
        os._exit(0)  # tells the owner that the guard is there, and leaves it no child to wait for
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    os.chdir("/")
    os.set_blocking(0, False)
    # A pid that is not our parent's any more may be somebody else's by now.
    Guard(0, watch_of(owner) if is_there else None).run()


if __name__ == "__main__":
    main()
