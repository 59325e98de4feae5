"""Finding the machine of a launch whose answer was lost.

A launch has no idempotency key and no label. The only field that the platform echoes is the
duration: each launch draws one that no person would type, and notes which machines existed before.
Only a new machine with exactly that duration and type is ours. The guard process follows the same
rule in its own code (`_find` in `_guard/child.py`).
"""

from __future__ import annotations

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
    MachineStartFailed,
    TransportError,
)


@attrs.frozen
class LaunchSearch:
    """Looks for the machine of one launch.

    Args:
        server_type: The machine type of the launch.
        launched_for: Its distinctive duration, in seconds.
        prices: For the error of a machine that may still be running.
    """

    api: ServerApi
    server_type: str
    launched_for: int
    prices: PriceList = attrs.field(factory=PriceList)

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
            ours = [
                server for server in new or [] if server.estimated_duration == self.launched_for
            ]
            if ours and (len(ours) > 1 or before is None):
                raise self._ambiguous(ours)
            if ours:
                return ours[0]
        if not has_listed:
            text = f"its launch got no answer and RunComfy does not list the machines ({failure})"
            raise leak("", self.server_type, text, self.prices)
        text = f"the launch got no answer and no machine appeared in {longest_s:.0f} s: {failure}"
        raise MachineStartFailed(text)

    def find_fresh(self, before: frozenset[str] | None, failure: ComfyloomError) -> Server:
        """Look for the machine of a launch that was just sent, like `find`.

        Raises:
            MachineStartFailed: No machine appeared.
            MachineLeak: It is unclear which machine is ours, or whether a new one is.
        """
        try:
            return self.find(before, failure)
        except MachineStartFailed:
            # A new one of our type with another duration is probably another process's: the
            # platform was never seen to change a duration. Still, report it instead of guessing.
            new = self._new(before or frozenset()) or []
            if living := [server for server in new if not server.has_ended]:
                raise self._ambiguous(living) from None
            raise

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
