"""Launching one machine, and finding it again when the answer is lost.

A launch has no idempotency key, and the platform keeps no label of ours. The one field that it
echoes is the duration: each launch draws one that no person would type, and notes which machines
there were before. Only a machine that was not there, with exactly that duration and type, is
ours.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import attrs

from comfyloom._core.redact import log
from comfyloom._core.waiting import Deadline, polling
from comfyloom._machines.stopping import leak
from comfyloom._money.prices import PriceList
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
    """Return a duration in seconds that is no whole number of minutes."""
    while (seconds := rng.randint(SHORTEST_LEASE_S, LONGEST_LEASE_S)) % 60 == 0:
        pass
    return seconds


@attrs.frozen(kw_only=True)
class Launch:
    """One launch, from the intent to a machine's id. It is never sent twice.

    Args:
        api: The account.
        workflow_version_id: What to launch.
        server_type: The kind of machine.
        lease_s: Its distinctive duration.
        on_launched: Called with the machine before anything else can go wrong.
        on_intent: Called with the duration and the machines that existed before, just before it is
            sent.
        max_machines: How many the account may have at once, None for no limit.
        prices: What machines cost.
    """

    api: ServerApi
    workflow_version_id: str
    server_type: str
    lease_s: int
    on_launched: Callable[[Server], object]
    on_intent: Callable[[int, frozenset[str] | None], object] = lambda _seconds, _before: None
    max_machines: int | None = None
    prices: PriceList = attrs.field(factory=PriceList)

    def send(self) -> Server:
        """Launch a machine and return it.

        Raises:
            MachineStartFailed: The launch got no answer, and no machine appeared.
            MachineLeak: The launch got no answer, and which machine is ours cannot be told.
            MachineLimit: The account has enough machines.
            ApiError: The platform refuses it.
        """
        before = self._servers()
        self.on_intent(self.lease_s, before)
        try:
            server = self.api.launch(self.workflow_version_id, self.server_type, self.lease_s)
        except (TransportError, ApiError) as error:
            if not _may_have_launched(error):
                raise
            failure = error
        else:
            self.on_launched(server)
            return server
        log.warning("the launch got no proper answer, looking for the machine: %s", failure)
        server = self._find_fresh(before, failure)
        self.on_launched(server)
        return server

    def _find_fresh(self, before: frozenset[str] | None, failure: ComfyloomError) -> Server:
        try:
            return self.find(before, failure)
        except MachineStartFailed:
            # A new one of our kind, but not with our duration, is probably somebody else's. That
            # the platform has changed a duration was never seen; yet nobody shall pay for a guess.
            if strangers := self._strangers(before or frozenset()):
                raise self._ambiguous(strangers) from None
            raise

    def _servers(self) -> frozenset[str] | None:
        """Return the ids of the machines there are; None when the platform does not tell."""
        try:
            servers = self.api.list_servers()
        except ApiError as error:
            # A limit that cannot be checked is not passed over.
            if error.status in (401, 403) or self.max_machines is not None:
                raise
            log.warning("the machines there are cannot be listed: %s", error)
            return None
        self._check_limit([server.server_id for server in servers if not server.has_ended])
        return frozenset(server.server_id for server in servers)

    def _check_limit(self, living: list[str]) -> None:
        if self.max_machines is None or len(living) < self.max_machines:
            return
        raise MachineLimit(
            f"the account has {len(living)} already ({', '.join(living)}), and max_machines is "
            f"{self.max_machines}: comfyloom machines list"
        )

    def find(
        self,
        before: frozenset[str] | None,
        failure: ComfyloomError,
        longest_s: float | None = None,
    ) -> Server:
        """Look for the machine of a launch whose answer is not known.

        Args:
            before: The machines that were there before it, None when that is not known: then none
                is taken for ours, but those that may be are named.
            failure: Why the answer is not known.
            longest_s: Seconds to look for it, at least once.

        Raises:
            MachineStartFailed: No machine appeared.
            MachineLeak: Which machine is ours cannot be told.
        """
        timeouts = self.api.timeouts
        longest_s = timeouts.launch_search_s if longest_s is None else longest_s
        has_listed = False
        deadline = Deadline.after(longest_s, self.api.clock)
        for _ in polling(timeouts.launch_search_every_s, deadline):
            ours = self._candidates(before or frozenset())
            has_listed = has_listed or ours is not None
            if ours and (len(ours) > 1 or before is None):
                raise self._ambiguous(ours)
            if ours:
                return ours[0]
        if not has_listed:
            raise self._leak(
                f"its launch got no answer and RunComfy does not list the machines ({failure})"
            )
        text = f"the launch got no answer and no machine appeared in {longest_s:.0f} s: {failure}"
        raise MachineStartFailed(text)

    def _leak(self, reason: str) -> MachineLeak:
        return leak("", self.server_type, reason, self.prices)

    def _ambiguous(self, ours: list[Server]) -> MachineLeak:
        names = " ".join(server.server_id for server in ours)
        text = (
            f"a launch got no answer, and {names} may be it: stop yours (comfyloom machines stop)"
        )
        return MachineLeak(text, server_id=names)

    def _candidates(self, before: frozenset[str]) -> list[Server] | None:
        """Return the machines that may be ours, None when they cannot be listed."""
        found = self._new(before)
        if found is None:
            return None
        return [server for server in found if server.estimated_duration == self.lease_s]

    def _strangers(self, before: frozenset[str]) -> list[Server]:
        """Return new machines of our kind that have not our duration."""
        return [server for server in self._new(before) or [] if not server.has_ended]

    def _new(self, before: frozenset[str]) -> list[Server] | None:
        """Return the machines of our kind that were not there before, None if they are not told."""
        try:
            servers = self.api.list_servers()
        except (TransportError, ApiError) as error:
            log.warning("looking for the machine: %s", error)
            return None
        kinds = (self.server_type, "")
        return [
            server
            for server in servers
            if server.server_id not in before and server.server_type in kinds
        ]


def _may_have_launched(error: TransportError | ApiError) -> bool:
    if isinstance(error, TransportError):
        return error.sent
    # A 4xx is a refusal, but for those by which a gateway gives up waiting; a broken or unreadable
    # answer says nothing of what was done either.
    return error.status >= 500 or error.status < 400 or error.status in _GIVEN_UP
