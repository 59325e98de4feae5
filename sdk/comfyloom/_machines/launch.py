"""Launching one machine, and finding it again when the answer is lost.

A launch has no idempotency key and no label. The only field that the platform echoes is the
duration: each launch draws one that no person would type, and notes which machines existed before.
Only a new machine with exactly that duration and type is ours.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import nullcontext
from typing import Final

import attrs

from comfyloom._core.redact import log
from comfyloom._core.waiting import Deadline, polling
from comfyloom._machines.stopping import leak
from comfyloom._money.prices import PriceList
from comfyloom._records.tracker import NullTracker
from comfyloom._runcomfy.client import ServerApi
from comfyloom._runcomfy.models import Server
from comfyloom.errors import (
    ApiError,
    ComfyloomError,
    MachineLeak,
    MachineLimit,
    MachineStartFailed,
    TransportError,
)

SHORTEST_LEASE_S: Final = 900
LONGEST_LEASE_S: Final = 1799
_GIVEN_UP: Final = frozenset({408, 425, 499})


def draw_lease(rng: random.Random) -> int:
    """Return a duration in seconds that is not a whole number of minutes."""
    while (seconds := rng.randint(SHORTEST_LEASE_S, LONGEST_LEASE_S)) % 60 == 0:
        pass
    return seconds


@attrs.frozen(kw_only=True)
class Launch:
    """One launch, from the intent to a machine's id. It is never sent twice.

    Args:
        workflow_version_id: What to launch.
        server_type: The machine type.
        lease_s: Its distinctive duration.
        on_launched: Called with the machine before anything else can fail.
        on_intent: Called just before it is sent, with the duration and the machines before it.
        max_machines: How many the account may have at once, None for no limit.
        tracker: Gets the intent before the launch, and the outcome of one that fails.
        record_s: How long the machine's record is valid without a heartbeat; by default `lease_s`.
    """

    api: ServerApi
    workflow_version_id: str
    server_type: str
    lease_s: int
    on_launched: Callable[[Server], object]
    on_intent: Callable[[int, frozenset[str] | None], object] = lambda _seconds, _before: None
    max_machines: int | None = None
    prices: PriceList = attrs.field(factory=PriceList)
    tracker: NullTracker = attrs.field(factory=NullTracker)
    record_s: float = 0.0

    def send(self) -> Server:
        """Launch a machine and return it.

        Raises:
            MachineStartFailed: The launch got no answer, and no machine appeared.
            MachineLeak: The launch got no answer, and it is unclear which machine is ours.
            MachineLimit: The account has too many machines.
            ApiError: The platform refuses it.
        """
        # Counting the machines and launching one more must not overlap with another launch.
        with self.tracker.exclusive_launch() if self.max_machines else nullcontext():
            before = self._servers()
            self.tracker.record_intent(self.lease_s, before, self.record_s or self.lease_s)
            try:
                self.on_intent(self.lease_s, before)
                server = self._request(before)
            except MachineLeak:
                # The guard continues the search; it does not guess either.
                self.tracker.hand_over_to_guard()
                raise
            except ComfyloomError as error:
                is_search = isinstance(error, MachineStartFailed)
                self.tracker.record_ended("never appeared" if is_search else "refused")
                raise
            self.on_launched(server)
            return server

    def _request(self, before: frozenset[str] | None) -> Server:
        """Send the launch once; without a valid answer, look for its machine."""
        try:
            return self.api.launch(self.workflow_version_id, self.server_type, self.lease_s)
        except (TransportError, ApiError) as error:
            if not _may_have_launched(error):
                raise
            failure = error
        log.warning("the launch got no valid answer, looking for the machine: %s", failure)
        return self._find_fresh(before, failure)

    def _find_fresh(self, before: frozenset[str] | None, failure: ComfyloomError) -> Server:
        try:
            return self.find(before, failure)
        except MachineStartFailed:
            # A new one of our type with another duration is probably another process's: the
            # platform was never seen to change a duration. Still, report it instead of guessing.
            new = self._new(before or frozenset()) or []
            if living := [server for server in new if not server.has_ended]:
                raise self._ambiguous(living) from None
            raise

    def _servers(self) -> frozenset[str] | None:
        """Return the ids of the existing machines; None if they cannot be listed."""
        try:
            servers = self.api.list_servers()
        except ApiError as error:
            # A limit that cannot be checked is not ignored.
            if error.status in (401, 403) or self.max_machines is not None:
                raise
            log.warning("the existing machines cannot be listed: %s", error)
            return None
        living = [server.server_id for server in servers if not server.has_ended]
        if self.max_machines is not None and len(living) >= self.max_machines:
            raise MachineLimit(
                f"the account already has {len(living)} machines ({', '.join(living)}), and "
                f"max_machines is {self.max_machines}: stop one, or raise max_machines"
            )
        return frozenset(server.server_id for server in servers)

    def find(
        self, before: frozenset[str] | None, failure: ComfyloomError, longest_s: float | None = None
    ) -> Server:
        """Look for the machine of a launch whose answer is not known.

        Args:
            before: The machines before it, None if not known: then the candidates are named in the
                error, and none counts as ours.
            failure: Why the answer is not known.
            longest_s: Seconds to look for it, at least once.

        Raises:
            MachineStartFailed: No machine appeared.
            MachineLeak: It is unclear which machine is ours.
        """
        timeouts = self.api.timeouts
        longest_s = timeouts.launch_search_s if longest_s is None else longest_s
        has_listed = False
        deadline = Deadline.after(longest_s, self.api.clock)
        for _ in polling(timeouts.launch_search_every_s, deadline):
            new = self._new(before or frozenset())
            has_listed = has_listed or new is not None
            ours = [server for server in new or [] if server.estimated_duration == self.lease_s]
            if ours and (len(ours) > 1 or before is None):
                raise self._ambiguous(ours)
            if ours:
                return ours[0]
        if not has_listed:
            text = f"its launch got no answer and RunComfy does not list the machines ({failure})"
            raise leak("", self.server_type, text, self.prices)
        text = f"the launch got no answer and no machine appeared in {longest_s:.0f} s: {failure}"
        raise MachineStartFailed(text)

    def _ambiguous(self, ours: list[Server]) -> MachineLeak:
        names = " ".join(server.server_id for server in ours)
        text = (
            f"a launch got no answer, and {names} may be its machine: stop only yours "
            "(comfyloom machines stop ID)"
        )
        return MachineLeak(text, server_id=names)

    def _new(self, before: frozenset[str]) -> list[Server] | None:
        """Return the new machines of our type, None if they cannot be listed."""
        try:
            servers = self.api.list_servers()
        except (TransportError, ApiError) as error:
            log.warning("looking for the machine: %s", error)
            return None
        new = [server for server in servers if server.server_id not in before]
        return [server for server in new if server.server_type in (self.server_type, "")]


def _may_have_launched(error: TransportError | ApiError) -> bool:
    if isinstance(error, TransportError):
        return error.sent
    # A 4xx is a refusal, except where a gateway gave up waiting; after a broken or unreadable
    # answer the outcome is unknown, too.
    return error.status >= 500 or error.status < 400 or error.status in _GIVEN_UP
