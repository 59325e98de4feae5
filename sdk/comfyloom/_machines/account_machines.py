"""All machines of an account, whichever process launched them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

from comfyloom._core.redact import log
from comfyloom._machines.stopping import Stopped, Stopping
from comfyloom._money.prices import PriceList
from comfyloom._records.best_effort import best_effort
from comfyloom._records.dev_state import DevState
from comfyloom._records.dev_state_file import StateFile
from comfyloom._records.locations import records_of
from comfyloom._runcomfy.client import ServerApi
from comfyloom._runcomfy.models import Server
from comfyloom.errors import LedgerError, MachineBusy, MachineError, NotFound
from comfyloom.settings import Settings

if TYPE_CHECKING:
    from comfyloom._records.machine_records import MachineRecords
    from comfyloom._records.machine_row import MachineRow

Whose: TypeAlias = Literal["dev server", "this computer", "others"]

SHORTEST_NAME: Final = 4
_WHOLE_ID: Final = 36
"""The length of a UUID."""


@attrs.frozen(kw_only=True)
class Rented:
    """A machine of the account.

    Attributes:
        whose: `dev server` (of this project), `this computer` (launched from here) or `others`.
        uptime_s: Seconds since it became ready, 0 before.
        left_s: Seconds until it ends by itself, None if not known.
        price: USD per hour, None if not known.
        cost: What it has cost so far in USD, None if its price is not known.
    """

    server: Server
    whose: Whose
    uptime_s: float
    left_s: float | None
    price: Decimal | None
    cost: Decimal | None


@attrs.define(eq=False)
class AccountMachines:
    """The machines of an account."""

    api: ServerApi
    settings: Settings
    prices: PriceList = attrs.field(init=False)
    _records: MachineRecords = attrs.field(init=False, repr=False)
    _dev: StateFile = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        settings = self.settings
        self.prices = PriceList.of(settings)
        self._records = records_of(settings, self.api.timeouts)
        self._dev = StateFile(settings.state_file, self.api.timeouts)

    def list(self) -> list[Rented]:
        """Return the machines that have not ended.

        Raises:
            ApiError, TransportError: The platform does not list them.
        """
        dev, ours = self._dev_id(), self._ours()
        living = [server for server in self.api.list_servers() if not server.has_ended]
        return [self._rented(server, dev, ours) for server in living]

    def find(self, name: str) -> Server:
        """Return the machine with an id, or the beginning of one.

        Raises:
            MachineError: There is none, or several.
        """
        if len(name) < SHORTEST_NAME:
            raise MachineError(
                f"{name!r} is too short: give at least {SHORTEST_NAME} characters of the id"
            )
        servers = self.api.list_servers()
        found = [server for server in servers if server.server_id.startswith(name)]
        exact = [server for server in found if server.server_id == name]
        if len(exact or found) == 1:
            return (exact or found)[0]
        if found:
            names = ", ".join(server.server_id for server in found)
            raise MachineError(f"{name} is ambiguous ({names}): give more of the id")
        known = ", ".join(server.server_id for server in servers) or "none"
        raise MachineError(f"the account has no machine {name} (it has: {known})", server_id=name)

    def show(self, name: str) -> Rented:
        """Return one machine; a complete id is looked up even if it is not listed.

        Raises:
            MachineError: There is none of that name, or several.
        """
        try:
            server = self.api.get_server(self._whole(name))
        except NotFound:
            text = f"the account has no machine {name}"
            raise MachineError(text, server_id=name) from None
        return self._rented(server, self._dev_id(), self._ours())

    def stop(self, name: str) -> Server:
        """Stop a machine, wait for the confirmation, and return its last description.

        Raises:
            MachineError: There is none of that name, or several.
            MachineLeak: The platform did not confirm it; the machine may still cost money.
            Unauthorized, Forbidden: The account may not stop it.
        """
        server_id = self._whole(name)
        dev = self._dev_state_of(server_id)
        # When it was launched from here; else 0, long ago.
        since = dev.launch_time if dev else 0.0
        if not since and (row := self._row(server_id)) is not None:
            since = row.intended_at
        # Stop without asking first: the platform may not list a young machine, or not answer.
        stopped = Stopping(
            api=self.api,
            server_id=server_id,
            server_type=(dev.server_type if dev else "") or "type not known",
            prices=self.prices,
            was_seen=False,
            launched_at=self.api.clock.monotonic() - (self.api.now() - since),
            retry_auth_errors=False,
        ).confirm()
        self._record_ended(server_id, stopped)
        if not stopped.was_there:
            raise MachineError(f"the account has no machine {name}", server_id=server_id)
        return stopped.server or Server(server_id=server_id)

    def extend(self, name: str, seconds: int) -> Rented:
        """Extend the lease of a machine by `seconds`, and return the machine.

        Raises:
            MachineError: There is none of that name, or several, or it has ended.
            ApiError: The platform refuses.
        """
        server = self.find(name)
        if server.has_ended or server.estimated_duration is None:
            state = server.current_status or "unknown"
            text = f"machine {server.server_id} cannot be extended (state: {state})"
            raise MachineError(text, server_id=server.server_id, status=state)
        longer = self.api.set_duration(server.server_id, int(server.estimated_duration) + seconds)
        return self._rented(longer, self._dev_id(), self._ours())

    def _ours(self) -> frozenset[str]:
        """Return the ids of the machines launched from here, as far as known."""
        with best_effort():
            return self._records.list_ids()
        return frozenset()

    def _row(self, server_id: str) -> MachineRow | None:
        with best_effort():
            return self._records.find(server_id)
        return None

    def _dev_state_of(self, server_id: str) -> DevState | None:
        """Return the state of a machine, None if it is not this project's dev server."""
        state = self._dev_state()
        return state if state is not None and state.server_id == server_id else None

    def _whole(self, name: str) -> str:
        # A complete id needs no list: a stop must work even if listing does not.
        return name if len(name) >= _WHOLE_ID else self.find(name).server_id

    def _rented(self, server: Server, dev: str, ours: frozenset[str]) -> Rented:
        now = self.api.now()
        ready, ends = server.service_ready_at, server.estimated_stopping_at
        uptime_s = max(0.0, now - ready.timestamp()) if ready else 0.0
        kind = server.server_type
        if not kind and server.server_id == dev:
            state = self._dev_state_of(dev)
            kind = (state.server_type if state else "") or "type not known"
        whose: Whose = "this computer" if server.server_id in ours else "others"
        return Rented(
            server=attrs.evolve(server, server_type=kind),
            whose="dev server" if server.server_id == dev else whose,
            uptime_s=uptime_s,
            left_s=max(0.0, ends.timestamp() - now) if ends else None,
            price=self.prices.per_hour(kind),
            cost=self.prices.cost(kind, uptime_s),
        )

    def _dev_id(self) -> str:
        return state.server_id if (state := self._dev_state()) is not None else ""

    def _dev_state(self) -> DevState | None:
        """Return the state of the dev server, None if it belongs to another account."""
        with best_effort():
            state = self._dev.read()
            return state if state.is_of(self.settings) else None
        return None

    def _record_ended(self, server_id: str, stopped: Stopped) -> None:
        """Record everywhere that it has ended."""
        server = stopped.server
        if (row := self._row(server_id)) is not None:
            with best_effort():
                self._records.record_ended(row.key, self.api.now(), stopped.by)

        def ended(state: DevState) -> DevState:
            if state.server_id != server_id:
                return state
            known = server is not None
            return state.ended(self.api.now(), self.prices, server, is_cost_known=known)

        try:
            if self._dev_id() == server_id:
                self._dev.change(ended)
        except (LedgerError, MachineBusy) as error:
            log.warning("cannot update the dev server's state: %s", error)
