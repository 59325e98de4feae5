"""The machine of a launch that was interrupted before its answer was written down."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from comfyloom._core.redact import log
from comfyloom._money.prices import PriceList
from comfyloom._records.dev_state import DevState
from comfyloom._records.dev_state_file import StateFile
from comfyloom._records.tracker import records_of
from comfyloom._runcomfy.client import ServerApi
from comfyloom.errors import LedgerError
from comfyloom.settings import Settings

if TYPE_CHECKING:
    # Loaded with the ledger's database, when first used.
    from comfyloom._machines.reaper import Reaper
    from comfyloom._records.machine_records import MachineRow


class Keeping(Protocol):
    """What there is to know of an account and its dev server's file."""

    @property
    def api(self) -> ServerApi:
        """The account."""
        ...

    @property
    def settings(self) -> Settings:
        """Its settings."""
        ...

    @property
    def file(self) -> StateFile:
        """The file that remembers the dev server."""
        ...

    @property
    def prices(self) -> PriceList:
        """What machines cost."""
        ...

    @property
    def say(self) -> Callable[[str], object]:
        """Tells people how it goes."""
        ...


def end(state: DevState, keeping: Keeping) -> None:
    """End the machine of an interrupted launch, if there is one.

    It is not taken over: the guard of the process that launched it may be stopping it.

    Raises:
        ComfyloomError: Which machine it is cannot be told, or its end is not confirmed.
    """
    from comfyloom._machines.reaper import Orphan, Reaper

    keeping.say("a launch was interrupted: looking for its machine")
    machines = records_of(keeping.settings)
    reaper = Reaper(api=keeping.api, machines=machines, prices=keeping.prices)
    row = _row(state, str(keeping.file.path.absolute()), reaper)
    if row.ended_at is not None:
        keeping.say(f"its machine has ended ({row.ended_by})")
        return
    reaped = reaper.reap(Orphan(row=row, why="its launch was interrupted"))
    if reaped.error is not None:
        raise reaped.error
    keeping.say(f"its machine: {reaped.server_id or 'none'}, {reaped.outcome}")


def _row(state: DevState, path: str, reaper: Reaper) -> MachineRow:
    """Return what is known of a launch; what the ledger does not tell, the file does."""
    from comfyloom._records.machine_records import MachineRow
    from comfyloom._records.owner import Owner

    try:
        reaper.fold()
        if row := reaper.machines.find_launch(path, state.launched_for):
            return row
    except LedgerError as error:
        log.warning("%s", error)
    known = None if state.known_servers is None else frozenset(state.known_servers)
    return MachineRow(
        key=str(uuid.uuid4()),
        kind="dev",
        server_type=state.server_type,
        workflow_version=state.workflow_version,
        launched_for=state.launched_for,
        known_servers=known,
        intended_at=state.launch_time,
        state_file=path,
        heartbeat_at=state.launch_time,
        lease_s=state.launched_for,
        owner=Owner.current(),
    )
