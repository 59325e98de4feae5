"""All machines of an account, whoever launched them."""

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
        server: The machine, as the platform tells of it.
        whose: `dev server` (of this project), `this computer` (launched from here) or `others`.
        uptime_s: Seconds since it became ready, 0 before.
        left_s: Seconds until it ends by itself, None if not known.
        price: USD an hour, None if not known.
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
    """The machines of an account.

    Args:
        api: The account.
        settings: Its settings.
    """

    api: ServerApi
    settings: Settings
    prices: PriceList = attrs.field(init=False)
    _records: MachineRecords = attrs.field(init=False, repr=False)
    _dev: StateFile = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        settings = self.settings
        self.prices = PriceList.of(settings)
        self._records = records_of(settings)
        self._dev = StateFile(settings.state_file)

    def list(self) -> list[Rented]:
        """Return the machines that have not ended.

        Raises:
            ApiError: The platform refuses to tell.
            TransportError: The platform is out of reach.
        """
        dev, ours = self._dev_id(), self._ours()
        living = [server for server in self.api.list_servers() if not server.has_ended]
        return [self._rented(server, dev, ours) for server in living]

    def find(self, name: str) -> Server:
        """Return the machine that an id, or the beginning of one, names.

        Raises:
            MachineError: There is none, or several.
        """
        if len(name) < SHORTEST_NAME:
            raise MachineError(f"{name!r} is no machine: give {SHORTEST_NAME} letters of its id")
        servers = self.api.list_servers()
        found = [server for server in servers if server.server_id.startswith(name)]
        exact = [server for server in found if server.server_id == name]
        if len(exact or found) == 1:
            return (exact or found)[0]
        if found:
            names = ", ".join(server.server_id for server in found)
            raise MachineError(f"{name} may be {names}: give more of the id")
        known = ", ".join(server.server_id for server in servers) or "none"
        raise MachineError(f"the account has no machine {name} (it has: {known})", server_id=name)

    def show(self, name: str) -> Rented:
        """Return one machine; a whole id is asked for even when it is not listed.

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
        """Stop a machine and see it confirmed, and return it as the platform told in the end.

        Raises:
            MachineError: There is none of that name, or several.
            MachineLeak: The platform did not confirm it; the machine may still cost money.
            Unauthorized, Forbidden: The account may not.
        """
        server_id = self._whole(name)
        since = self._launched(server_id)
        # The platform is not asked first: it may not know a young machine, or not answer.
        stopped = Stopping(
            api=self.api,
            server_id=server_id,
            server_type=self._type(server_id),
            prices=self.prices,
            was_seen=False,
            launched_at=self.api.clock.monotonic() - (self.api.now() - since),
            retry_auth_errors=False,
        ).confirm()
        self._forget(server_id, stopped)
        if not stopped.was_there:
            raise MachineError(f"the account has no machine {name}", server_id=server_id)
        return stopped.server or Server(server_id=server_id)

    def extend(self, name: str, seconds: int) -> Rented:
        """Let a machine end so many seconds later, and return it.

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

    def _launched(self, server_id: str) -> float:
        """Return when a machine was launched from here, as far as known; else 0, long ago."""
        state = self._dev_state()
        is_dev = state is not None and state.server_id == server_id
        return (state.launch_time if state and is_dev else None) or (
            row.intended_at if (row := self._row(server_id)) is not None else 0.0
        )

    def _ours(self) -> frozenset[str]:
        """Return the ids of the machines that were launched from here, as far as known."""
        with best_effort():
            return self._records.list_ids()
        return frozenset()

    def _row(self, server_id: str) -> MachineRow | None:
        with best_effort():
            return self._records.find(server_id)
        return None

    def _type(self, server_id: str) -> str:
        state = self._dev_state()
        is_dev = state is not None and state.server_id == server_id
        return (state.server_type if state and is_dev else "") or "kind not known"

    def _whole(self, name: str) -> str:
        # A whole id needs no list: a stop must work although the list does not.
        return name if len(name) >= _WHOLE_ID else self.find(name).server_id

    def _rented(self, server: Server, dev: str, ours: frozenset[str]) -> Rented:
        now = self.api.now()
        ready, ends = server.service_ready_at, server.estimated_stopping_at
        uptime_s = max(0.0, now - ready.timestamp()) if ready else 0.0
        kind = server.server_type or (
            self._type(server.server_id) if server.server_id == dev else ""
        )
        return Rented(
            server=attrs.evolve(server, server_type=kind),
            whose=_whose(server.server_id, dev, ours),
            uptime_s=uptime_s,
            left_s=max(0.0, ends.timestamp() - now) if ends else None,
            price=self.prices.per_hour(kind),
            cost=self.prices.cost(kind, uptime_s),
        )

    def _dev_id(self) -> str:
        state = self._dev_state()
        return "" if state is None else state.server_id

    def _dev_state(self) -> DevState | None:
        """Return what is remembered of the dev server, None if it is not of this account."""
        with best_effort():
            state = self._dev.read()
            return state if state.is_of(self.settings) else None
        return None

    def _forget(self, server_id: str, stopped: Stopped) -> None:
        """Remember nowhere that it runs."""
        server = stopped.server
        if (row := self._row(server_id)) is not None:
            with best_effort():
                self._records.record_ended(row.key, self.api.now(), stopped.by)

        def ended(state: DevState) -> DevState:
            if state.server_id != server_id:
                return state
            now = self.api.now()
            last = state.seen(server, now, self.prices) if server else state
            return last.ended(now, self.prices, is_cost_known=server is not None)

        try:
            if self._dev_id() == server_id:
                self._dev.change(ended)
        except (LedgerError, MachineBusy) as error:
            log.warning("the dev server's file is not changed: %s", error)


def _whose(server_id: str, dev: str, ours: frozenset[str]) -> Whose:
    if server_id == dev:
        return "dev server"
    return "this computer" if server_id in ours else "others"
