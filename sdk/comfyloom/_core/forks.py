"""What a forked child does with the objects of its parent: it never uses their connections.

A child has the parent's objects, but not its threads; its sockets are the parent's own, and a lock
that a thread of the parent held is held for ever. So an object with any of these is registered
here, and renews itself in the child before any other code runs there.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

_Entry: TypeAlias = tuple[weakref.ref[Any], Callable[[Any], object]]
# A dict, not a set: a fork may happen while another thread changes it.
_entries: Final[dict[int, _Entry]] = {}


def renew_after_fork(method: Callable[[], object]) -> None:
    """Call a bound method in each forked child, as long as its object exists.

    It replaces locks, and forgets connections and threads.
    """
    owner: Any = getattr(method, "__self__", None)
    function: Any = getattr(method, "__func__", None)
    key = id(owner)

    # Bound here: when the interpreter ends, the module may be gone before the object.
    def forget(_: object, drop: Callable[..., object] = _entries.pop) -> None:
        drop(key, None)

    _entries[key] = weakref.ref(owner, forget), function


@contextmanager
def importing() -> Generator[None]:
    """Import in this block what is imported when it is first used; a fork waits for its end.

    A child would wait for ever for a module that another thread of its parent was importing.
    """
    with _imports:
        yield


def _await_imports() -> None:
    # Not for ever: a module may itself fork while it is imported.
    _is_held.append(_imports.acquire(timeout=_LONGEST_IMPORT_S))


def _go_on() -> None:
    if _is_held.pop():
        _imports.release()


def _renew_all() -> None:
    _go_on()
    for reference, function in tuple(_entries.values()):
        if (owner := reference()) is not None:
            function(owner)


_LONGEST_IMPORT_S: Final = 10.0
_imports: Final = threading.RLock()
_is_held: Final[list[bool]] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_await_imports, after_in_parent=_go_on, after_in_child=_renew_all)
