"""The heartbeat of a process: one thread for all of its machines."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Final

import attrs

from comfyloom._core.redact import log
from comfyloom._core.threads import daemon_thread

EVERY_S: Final = 15.0


@attrs.define(eq=False)
class Heartbeat:
    """Calls each beat every `every_s` seconds, in a thread that runs while there are any.

    The thread waits in real time: a test's clock that leaps at each sleep must not be driven by it.
    """

    every_s: float = EVERY_S
    _beats: list[Callable[[], object]] = attrs.field(
        factory=list[Callable[[], object]], init=False, repr=False
    )
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)
    _empty: threading.Event = attrs.field(factory=threading.Event, init=False, repr=False)

    def add(self, beat: Callable[[], object]) -> None:
        """Call `beat` from now on; its errors are only logged."""
        with self._lock:
            is_first = not self._beats
            self._beats.append(beat)
            if is_first:
                self._empty = threading.Event()
            empty = self._empty
        # Not under the lock: a signal handler that closes the session waits for `remove`.
        if is_first:
            daemon_thread(partial(self._run, empty), "heartbeat").start()

    def remove(self, beat: Callable[[], object]) -> None:
        """Stop calling `beat`; an unknown one is ignored."""
        with self._lock:
            if beat in self._beats:
                self._beats.remove(beat)
                if not self._beats:
                    self._empty.set()

    def disown(self) -> None:
        """Forget all, in a forked child: machines and thread are the parent's."""
        self._lock, self._beats = threading.Lock(), []

    def beat(self) -> None:
        """Do one round."""
        with self._lock:
            beats = tuple(self._beats)
        for each in beats:
            try:
                each()
            except Exception:  # noqa: BLE001 - one machine must not end the heartbeat of others
                log.exception("the heartbeat of a machine failed")

    def _run(self, empty: threading.Event) -> None:
        while not empty.wait(self.every_s):
            self.beat()


HEARTBEAT: Final = Heartbeat()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=HEARTBEAT.disown)
