"""The owner's side of the guard process."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Final

import attrs

from comfyloom._core.redact import log

START_S: Final = 10.0
"""How long its start may take; it takes some hundredths of a second."""
_CHILD: Final = Path(__file__).with_name("child.py")
_OUR_VARIABLES: Final = ("RUNCOMFY_", "COMFYLOOM_")


@attrs.frozen(kw_only=True)
class Held:
    """What the guard must know of a launch to end its machine.

    Attributes:
        key: SettingMeta it.
        api: The URL of the account in the Server API.
        token: Its token.
        server_type: The kind of machine.
        seconds: The distinctive duration of the launch.
        before: The machines listed before it, None if that failed.
        journal: The file that the guard appends what it did to, None for none.
        server_id: The machine, "" while there is none.
        seen: Whether the platform has shown it.
    """

    key: str
    api: str
    token: str = attrs.field(repr=False)
    server_type: str
    seconds: int
    before: frozenset[str] | None
    journal: Path | None
    server_id: str = ""
    seen: bool = False


@attrs.define(eq=False)
class Guard:
    """The guard process of this process: it ends the machines that this one leaves behind.

    It is started with the first machine. When it is killed, the next message starts another one
    that is told all again. Where there can be none, each method returns False.
    """

    _held: dict[str, list[dict[str, Any]]] = attrs.field(
        factory=dict[str, list[dict[str, Any]]], init=False, repr=False
    )
    _pipe: int | None = attrs.field(default=None, init=False)
    _failed: bool = attrs.field(default=False, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)

    def hold(self, held: Held) -> bool:
        """Answer for a launch from now on; returns once the guard process is there.

        A token or certificate bundle is told through the pipe, never in arguments or variables.
        """
        message = {
            "do": "hold",
            "key": held.key,
            "api": held.api,
            "token": held.token,
            "server_type": held.server_type,
            "seconds": held.seconds,
            "before": None if held.before is None else sorted(held.before),
            "journal": None if held.journal is None else str(held.journal),
            "server_id": held.server_id,
            "seen": held.seen,
            "ca": _certificates() if held.api.startswith("https:") else None,
        }
        with self._lock:
            self._held[held.key] = []
            return self._tell(held.key, message)

    def launched(self, key: str, server_id: str) -> bool:
        """Tell it which machine a launch gave."""
        return self._more(key, {"do": "launched", "key": key, "server_id": server_id})

    def seen(self, key: str) -> bool:
        """Tell it that the platform has shown the machine: a 404 means its end from now on."""
        return self._more(key, {"do": "seen", "key": key})

    def stop(self, key: str) -> bool:
        """Let it go on with the stop of a machine, for ten minutes and whatever we do."""
        return self._more(key, {"do": "stop", "key": key})

    def forget(self, key: str) -> bool:
        """Tell it that a machine is confirmed stopped, or somebody else's from now on."""
        with self._lock:
            told = self._held.pop(key, None)
            already_printed = told is not None and self._is_there()
            return already_printed and self._write({"do": "forget", "key": key})

    def check(self) -> bool:
        """Return whether it is there, starting it again if it was killed and has work."""
        with self._lock:
            return not self._held or self._is_there() or self._restart()

    def disown(self) -> None:
        """In a forked child: know nothing, and do not keep the owner's pipe open."""
        self._lock = threading.Lock()
        self._held, self._failed = {}, False
        if self._pipe is not None:
            with contextlib.suppress(OSError):
                os.close(self._pipe)
            self._pipe = None

    def _more(self, key: str, message: dict[str, Any]) -> bool:
        with self._lock:
            return key in self._held and self._tell(key, message)

    def _tell(self, key: str, message: dict[str, Any]) -> bool:
        self._held[key].append(message)
        return (self._is_there() and self._write(message)) or self._restart()

    def _restart(self) -> bool:
        if self._failed:
            return False
        self._close()
        try:
            self._pipe = _start()
        except (OSError, subprocess.SubprocessError, NotImplementedError) as error:
            self._failed = True
            log.warning("no guard process (%s): a machine whose owner is killed runs on", error)
            return False
        return all(self._write(each) for told in self._held.values() for each in told)

    def _is_there(self) -> bool:
        if self._pipe is None:
            return False
        poll = select.poll()
        poll.register(self._pipe, 0)
        return not poll.poll(0)  # an error is the only event: nobody reads any more

    def _write(self, message: dict[str, Any]) -> bool:
        if self._pipe is None:
            return False
        data = json.dumps(message).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self._pipe, data) :]
        except OSError:
            return False
        return True

    def _close(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None


def _start() -> int:
    """Start a guard process and return the pipe to it.

    Raises:
        NotImplementedError: There can be none on this system, or in a program of this kind.
        OSError, subprocess.SubprocessError: It does not start.
    """
    if os.name != "posix":
        raise NotImplementedError("not on this system")
    if getattr(sys, "frozen", False) or not _is_python(sys.executable) or not _CHILD.is_file():
        # A frozen application, started again, would be another application.
        raise NotImplementedError("this program has no Python of its own to start")
    read, write = os.pipe()
    try:
        subprocess.run(
            [sys.executable, "-I", "-S", str(_CHILD), str(os.getpid())],
            stdin=read,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={k: v for k, v in os.environ.items() if not k.startswith(_OUR_VARIABLES)},
            start_new_session=True,
            timeout=START_S,
            check=True,
        )
    except BaseException:
        os.close(write)
        raise
    finally:
        os.close(read)
    return write


def _is_python(executable: str | None) -> bool:
    return Path(executable or "").name.lower().startswith(("python", "pypy"))


def _certificates() -> str:
    """Return the certificates that `requests` would trust."""
    import certifi

    named = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    return named or certifi.where()


_guard: Final = Guard()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_guard.disown)


def guard_of_process() -> Guard:
    """Return the guard of this process; a forked child has one of its own."""
    return _guard
