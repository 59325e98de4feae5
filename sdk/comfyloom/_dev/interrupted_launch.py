"""The machine of a dev server whose launch was interrupted before its answer was recorded."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from comfyloom._machines.reaper import Orphan, Reaper
from comfyloom._records.best_effort import best_effort
from comfyloom._records.dev_state import DevState
from comfyloom._records.machine_row import MachineRow
from comfyloom._records.owner import Owner


def stop_interrupted_launch(
    state: DevState, state_file: str, reaper: Reaper, say: Callable[[str], object]
) -> None:
    """Stop the machine of an interrupted launch, if there is one.

    It is not taken over: the guard of the process that launched it may be stopping it.

    Args:
        state: The state of the launch.
        state_file: Its absolute path.
        reaper: The account's reaper.
        say: Called with progress messages.

    Raises:
        ComfyloomError: It is unclear which machine it is, or its end is not confirmed.
    """
    say("a launch was interrupted: looking for its machine")
    row = _row(state, state_file, reaper)
    if row.ended_at is not None:
        say(f"its machine has ended ({row.ended_by})")
        return
    reaped = reaper.reap(Orphan(row=row, why="its launch was interrupted"))
    if reaped.error is not None:
        raise reaped.error
    say(f"its machine: {reaped.server_id or 'none'}, {reaped.outcome}")


def _row(state: DevState, state_file: str, reaper: Reaper) -> MachineRow:
    """Return the ledger's row of a launch, else one made from the state file."""
    with best_effort():
        reaper.fold()
        if row := reaper.records.find_launch(state_file, state.launched_for):
            return row
    known = None if state.known_servers is None else frozenset(state.known_servers)
    return MachineRow(
        key=str(uuid.uuid4()),
        kind="dev",
        server_type=state.server_type,
        workflow_version=state.workflow_version,
        launched_for=state.launched_for,
        known_servers=known,
        intended_at=state.launch_time,
        state_file=state_file,
        heartbeat_at=state.launch_time,
        lease_s=state.launched_for,
        owner=Owner.current(),
    )
