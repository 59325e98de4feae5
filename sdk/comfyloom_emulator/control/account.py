"""All machines of the account, including those that have ended."""

from collections.abc import Callable

import attrs

from comfyloom_emulator.clock import EmulatorClock
from comfyloom_emulator.control.machine import EmulatedMachine
from comfyloom_emulator.fault_queue import FaultQueue
from comfyloom_emulator.options import Options


@attrs.define(kw_only=True)
class EmulatedAccount:
    """Launches, finds and stops machines.

    Attributes:
        on_end: Called with the id of each machine that ends, for whatever reason.
    """

    options: Options
    clock: EmulatorClock
    faults: FaultQueue
    on_end: Callable[[str], None]
    _machines: dict[str, EmulatedMachine] = attrs.field(
        factory=dict[str, EmulatedMachine], init=False
    )

    def launch_foreign(self, server_type: str, estimated_duration: int) -> str:
        """Launch a machine as another user of the account would, and return its id.

        Raises:
            ValueError: The type is unknown, or the duration is not positive.
        """
        if server_type not in self.options.server_types:
            raise ValueError(f"server_type must be one of {', '.join(self.options.server_types)}")
        if isinstance(estimated_duration, bool) or estimated_duration < 1:
            raise ValueError("estimated_duration must be 1 second or more")
        return self.launch(server_type, estimated_duration).server_id

    def launch(self, server_type: str, estimated_duration: int) -> EmulatedMachine:
        """Launch a machine."""
        machine = EmulatedMachine(
            user_id=self.options.user_id,
            server_type=server_type,
            estimated_duration=estimated_duration,
            launched_at=self.clock.now(),
            startup_s=self.options.startup_s,
            fault=self.faults.take_machine(),
            expires=self.options.expire_leases,
        )
        self._machines[machine.server_id] = machine
        self._schedule_expiry(machine)
        return machine

    def find(self, server_id: str) -> EmulatedMachine | None:
        """Return the machine with this id, if the API knows it."""
        machine = self._machines.get(server_id)
        if machine is None:
            return None
        self._expire(machine)
        return machine if machine.is_found(self.clock.now()) else None

    def find_for_status(self, server_id: str) -> EmulatedMachine | None:
        """Like `find`, for a status request: the fault `not_found` hides a machine at first."""
        machine = self.find(server_id)
        if machine is None:
            return None
        machine.status_requests += 1
        fault = machine.fault
        if (
            fault is not None
            and fault.action == "not_found"
            and machine.status_requests <= fault.calls
        ):
            return None
        return machine

    def listed(self) -> list[EmulatedMachine]:
        """Return the machines that the API lists."""
        now = self.clock.now()
        for machine in self._machines.values():
            self._expire(machine)
        return [machine for machine in self._machines.values() if machine.is_listed(now)]

    def all_machines(self, now: float) -> list[EmulatedMachine]:
        """Return all machines ever launched, in their state at a time."""
        for machine in self._machines.values():
            self._expire(machine, now)
        return [*self._machines.values()]

    def stop(self, machine: EmulatedMachine) -> None:
        """Stop a machine now."""
        if machine.stopped_at is None:
            machine.stopped_at = self.clock.now()
            self.on_end(machine.server_id)

    def stop_by_id(self, server_id: str) -> None:
        """Stop the machine with this id now, if there is one."""
        machine = self._machines.get(server_id)
        if machine is not None:
            self.stop(machine)

    def steal(self, server_id: str) -> None:
        """Stop a machine as another user of the account would.

        Raises:
            LookupError: There is no such machine.
        """
        if server_id not in self._machines:
            raise LookupError(f"there is no machine {server_id}")
        self.stop_by_id(server_id)

    def change_duration(self, machine: EmulatedMachine, estimated_duration: int) -> None:
        """Set the lease, counted from Ready; if it is already over, the machine stops now."""
        machine.estimated_duration = estimated_duration
        stops_at = machine.stops_at
        now = self.clock.now()
        if stops_at is not None and machine.is_ready(now) and stops_at <= now:
            self.stop(machine)
        else:
            self._schedule_expiry(machine)

    def clear(self) -> None:
        """Stop and remove all machines."""
        for machine in self._machines.values():
            self.stop(machine)
        self._machines.clear()

    def _schedule_expiry(self, machine: EmulatedMachine) -> None:
        # Sockets and runs of a machine must end with its lease even if no request comes in.
        if machine.stops_at is not None and machine.expires:
            self.clock.call_at(machine.stops_at, lambda: self._expire(machine))

    def _expire(self, machine: EmulatedMachine, now: float | None = None) -> None:
        was_running = machine.stopped_at is None
        machine.expire(self.clock.now() if now is None else now)
        if was_running and machine.stopped_at is not None:
            self.on_end(machine.server_id)
