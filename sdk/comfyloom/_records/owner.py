"""The owner of a machine: a process, distinguished from others with the same pid."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path
from typing import Final

import attrs

_PROC: Final = Path("/proc")
_STATE, _STARTED = 0, 19
"""Positions of a process's state and start time after its name in `stat`."""
_DEAD: Final = "ZX"


@attrs.frozen(kw_only=True)
class Owner:
    """A process.

    Without a boot id (on any system but Linux), only the heartbeat shows whether it is alive.

    Attributes:
        machine: A hash of the computer's id, "" if unknown.
        boot_id: The boot of the computer; "" if unknown.
        namespace: The pid namespace, which differs between containers.
        started: When it started, in kernel ticks since the boot; 0 if unknown.
    """

    host: str
    machine: str
    boot_id: str
    namespace: str
    pid: int
    started: int

    @classmethod
    def current(cls) -> Owner:
        """Return this process."""
        pid = os.getpid()
        return cls(
            host=socket.gethostname(),
            machine=_machine(),
            boot_id=_boot_id(),
            namespace=_namespace(),
            pid=pid,
            started=_started(pid) or 0,
        )

    @property
    def lives(self) -> bool | None:
        """Whether it is still running; None if unknown."""
        if not self.boot_id or (self.boot_id, self.namespace) != (_boot_id(), _namespace()):
            return None
        started = _started(self.pid)
        if started is None and _is_hidden(self.pid):
            return None
        return started == self.started

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, a process of this computer."""
        here = Owner.current()
        return (self.host, self.machine) == (here.host, here.machine)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _machine() -> str:
    # Hashed, because the id itself must not leave the computer: see machine-id(5).
    found = _read(Path("/etc/machine-id"))
    return hashlib.sha256(f"comfyloom {found}".encode()).hexdigest()[:16] if found else ""


def _is_hidden(pid: int) -> bool:
    """Return whether a process exists, but belongs to another user and is hidden in /proc."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        pass
    return False


def _boot_id() -> str:
    return _read(_PROC / "sys/kernel/random/boot_id")


def _namespace() -> str:
    try:
        return str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return ""


def _started(pid: int) -> int | None:
    """Return when a process started, None if it does not exist or is dead."""
    # The name, in brackets, may itself contain spaces and brackets.
    _, _, rest = _read(_PROC / str(pid) / "stat").rpartition(")")
    fields = rest.split()
    if len(fields) <= _STARTED or fields[_STATE] in _DEAD:
        return None
    return int(fields[_STARTED])


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return ""
