"""Who owns a machine: a process, told apart from every other one that ever had its pid."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path
from typing import Final

import attrs

_PROC: Final = Path("/proc")
_STATE, _STARTED = 0, 19
"""Where a process's state and start time are among the fields that follow its name in `stat`."""
_DEAD: Final = "ZX"


@attrs.frozen(kw_only=True)
class Owner:
    """A process.

    Where the system tells no boot id (anything but Linux), nothing is concluded from a pid, and
    only the heartbeat tells whether the process lives.

    Attributes:
        host: The computer's name, for people.
        machine: What tells computers of the same name apart, "" if nothing does.
        boot_id: Which start of the computer it belongs to; "" if not told.
        namespace: The pid namespace: a pid means another process in another container.
        pid: Its number.
        started: When it started, in ticks of the kernel since the boot; 0 if not told.
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
        """Whether it still runs; None where that cannot be told from here."""
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
    # The id itself is not to leave the computer: see machine-id(5).
    found = _read(Path("/etc/machine-id"))
    return hashlib.sha256(f"comfyloom {found}".encode()).hexdigest()[:16] if found else ""


def _is_hidden(pid: int) -> bool:
    """Return whether a process is there, but another user's that /proc does not show."""
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
    """Return when a process started, None if there is none of that number, or a dead one."""
    # The name, in brackets, may itself hold spaces and brackets.
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
