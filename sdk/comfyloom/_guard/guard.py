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
from comfyloom._http.tls import default_bundle

START_S: Final = 10.0
"""Seconds that its start may take; usually a few hundredths of a second are enough."""
_STARTS: Final = 3
_CHILD: Final = Path(__file__).with_name("child.py")
_OWN_PREFIXES: Final = ("RUNCOMFY_", "COMFYLOOM_")


@attrs.frozen(kw_only=True)
class Held:
    """A launch as the guard must know it to stop its machine.

    Attributes:
        key: Identifies the launch in later messages.
        api: The URL of the account in the Server API.
        token: The account's token.
        server_type: The machine type.
        seconds: The duration of the launch, chosen so that no other machine has it.
        before: The ids of the machines listed before the launch, None if listing failed.
        journal: The file that the guard appends its outcome to, None for none.
        server_id: The machine's id, "" while it is not known.
        seen: Whether the platform has listed the machine.
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
    """The guard process of this process: it stops the machines that this process leaves behind.

    It is started with the first machine. If it is killed, the next message starts another one,
    which receives all earlier messages again. If no guard process can run here, each method
    returns False.
    """

    # The messages about each machine, by its key: a new guard process receives them again.
    _messages: dict[str, list[dict[str, Any]]] = attrs.field(
        factory=dict[str, list[dict[str, Any]]], init=False, repr=False
    )
    _pipe: int | None = attrs.field(default=None, init=False)
    _failed: bool = attrs.field(default=False, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)

    def hold(self, held: Held) -> bool:
        """Make the guard responsible for a launch; returns when the guard process runs.

        The token is passed through the pipe, never in arguments or environment variables, which
        other users of the computer may read.
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
            "ca": default_bundle() if held.api.startswith("https:") else None,
        }
        with self._lock:
            self._messages[held.key] = []
            return self._send(held.key, message)

    def launched(self, key: str, server_id: str) -> bool:
        """Pass on the machine id that a launch returned."""
        return self._update(key, {"do": "launched", "key": key, "server_id": server_id})

    def seen(self, key: str) -> bool:
        """Report that the platform has listed the machine: from now on a 404 means its end."""
        return self._update(key, {"do": "seen", "key": key})

    def stop(self, key: str) -> bool:
        """Let the guard stop a machine, for up to ten minutes, even after this process ended."""
        return self._update(key, {"do": "stop", "key": key})

    def refused(self, key: str) -> bool:
        """Let the guard make sure that a refused launch has given no machine, or stop it."""
        return self._update(key, {"do": "refused", "key": key})

    def forget(self, key: str) -> bool:
        """Release the guard: the machine is confirmed stopped, or another process owns it."""
        with self._lock:
            is_held = self._messages.pop(key, None) is not None
            return is_held and self._is_alive() and self._write({"do": "forget", "key": key})

    def check(self) -> bool:
        """Return whether the guard runs, or is not needed; start it again if it was killed."""
        with self._lock:
            return not self._messages or self._is_alive() or self._restart()

    def disown(self) -> None:
        """Drop all messages and close the pipe, as a forked child must: the guard is its parent's.

        A pipe that the child keeps open would hide the owner's death from the guard.
        """
        self._lock = threading.Lock()
        self._messages, self._failed = {}, False
        if self._pipe is not None:
            with contextlib.suppress(OSError):
                os.close(self._pipe)
            self._pipe = None

    def _update(self, key: str, message: dict[str, Any]) -> bool:
        with self._lock:
            return key in self._messages and self._send(key, message)

    def _send(self, key: str, message: dict[str, Any]) -> bool:
        self._messages[key].append(message)
        return (self._is_alive() and self._write(message)) or self._restart()

    def _restart(self) -> bool:
        if self._failed:
            return False
        if self._pipe is not None:
            log.warning("the guard process has ended; starting another")
            os.close(self._pipe)
            self._pipe = None
        try:
            self._pipe = _start_despite_signals()
        except (OSError, subprocess.SubprocessError, NotImplementedError) as error:
            # What killed it may not do so again: the next message tries once more.
            self._failed = not isinstance(error, subprocess.SubprocessError)
            log.warning(
                "no guard process (%s): if this program is killed, its machines run until their "
                "lease ends",
                error,
            )
            return False
        return all(self._write(each) for sent in self._messages.values() for each in sent)

    def _is_alive(self) -> bool:
        if self._pipe is None:
            return False
        poll = select.poll()
        poll.register(self._pipe, 0)
        return not poll.poll(0)  # the only possible event is an error: the reader has ended

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


def _start_despite_signals() -> int:
    """Start a guard process; again if something ended it before it was armoured."""
    for _ in range(_STARTS - 1):
        try:
            return _start()
        except subprocess.CalledProcessError as error:
            log.info("the guard process was ended while it started (%s)", error.returncode)
    return _start()


def _start() -> int:
    """Start a guard process and return the pipe to it.

    Raises:
        NotImplementedError: This system, or this program, cannot run one.
        OSError, subprocess.SubprocessError: It did not start.
    """
    if os.name != "posix":
        raise NotImplementedError("this system is not POSIX")
    is_python = Path(sys.executable or "").name.lower().startswith(("python", "pypy"))
    if getattr(sys, "frozen", False) or not is_python or not _CHILD.is_file():
        # The executable of a frozen application would start the application again.
        raise NotImplementedError("this program has no Python interpreter to start")
    read, write = os.pipe()
    try:
        subprocess.run(
            [sys.executable, "-I", "-S", str(_CHILD), str(os.getpid())],
            stdin=read,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={k: v for k, v in os.environ.items() if not k.startswith(_OWN_PREFIXES)},
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


_guard: Final = Guard()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_guard.disown)


def guard_of_process() -> Guard:
    """Return the guard of this process; a forked child starts its own."""
    return _guard
