"""What a forked child does with the objects of its parent: it never uses their connections.

A child has the parent's objects, but not its threads; its sockets are the parent's own, and a lock
that a thread of the parent held is held for ever. So an object with any of these is registered
here, and renews itself in the child before any other code runs there.
"""

from __future__ import annotations

import os
import weakref
from typing import Final, Protocol


class Renewable(Protocol):
    """An object that does not survive a fork as it is."""

    def after_fork(self) -> None:
        """Replace locks, and forget connections and threads; called in the child."""
        ...


# A dict, not a WeakSet: a fork may happen while another thread changes it.
_objects: Final[dict[int, weakref.ref[Renewable]]] = {}


def renew_after_fork(thing: Renewable) -> None:
    """Call `thing.after_fork()` in each forked child, as long as the object exists."""
    key = id(thing)
    _objects[key] = weakref.ref(thing, lambda _: _objects.pop(key, None))


def _renew_all() -> None:
    for reference in tuple(_objects.values()):
        if (thing := reference()) is not None:
            thing.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
