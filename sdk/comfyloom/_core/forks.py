"""What a forked child does with the objects of its parent: it never uses their connections.

A child has the parent's objects, but not its threads; its sockets are the parent's own, and a lock
that a thread of the parent held is held for ever. So an object with any of these is registered
here, and renews itself in the child before any other code runs there.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
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


def _renew_all() -> None:
    for reference, function in tuple(_entries.values()):
        if (owner := reference()) is not None:
            function(owner)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
