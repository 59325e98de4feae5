"""All machines of the account, also those that have ended."""

from collections.abc import Callable

import attrs

from comfyloom_emulator.clock import Clock
from comfyloom_emulator.control.machine import Machine
from comfyloom_emulator.fault_queue import FaultBook
from comfyloom_emulator.options import Options


@attrs.define(kw_only=True)
class Fleet:
    """Launches, finds and ends machines.

    Attributes:
        on_end: Called with the id of each machine that ends, whatever ended it.
    """

    options: Options
    clock: Clock
    faults: FaultBook
    on_end: Callable[[str], None]
    _machines: dict[str, Machine] = attrs.field(factory=dict[str, Machine], init=False)

    def launch_foreign(self, server_type: str, estimated_duration: int) -> str:
        """Start a machine as somebody else of the account would, and return its id.

        Raises:
            ValueError: There is no such type, or the duration is none.
        """
        if server_type not in self.options.server_types:
            raise ValueError(f"server_type must be one of {', '.join(self.options.server_types)}")
        if isinstance(estimated_duration, bool) or estimated_duration < 1:
            raise ValueError("estimated_duration must be 1 second or more")
        return self.launch(server_type, estimated_duration).server_id

    def launch(self, server_type: str, estimated_duration: int) -> Machine:
        """Start a machine."""
        machine = Machine(
            user_id=self.options.user_id,
            server_type=server_type,
            estimated_duration=estimated_duration,
            launched_at=self.clock.now(),
            startup_s=self.options.startup_s,
            fault=self.faults.take_machine(),
            expires=self.options.expire_leases,
        )
        self._machines[machine.server_id] = machine
        self._watch(machine)
        return machine

    def find(self, server_id: str) -> Machine | None:
        """A machine that the API knows, by id."""
        machine = self._machines.get(server_id)
        if machine is None:
            return None
        self._expire(machine)
        return machine if machine.is_found(self.clock.now()) else None

    def lookup(self, server_id: str) -> Machine | None:
        """Like `find`, for a status request: some machines are not found at first."""
        machine = self.find(server_id)
        if machine is None:
            return None
        machine.lookups += 1
        fault = machine.fault
        if fault is not None and fault.action == "not_found" and machine.lookups <= fault.calls:
            return None
        return machine

    def visible(self) -> list[Machine]:
        """The machines that the API lists."""
        now = self.clock.now()
        for machine in self._machines.values():
            self._expire(machine)
        return [machine for machine in self._machines.values() if machine.is_listed(now)]

    def everything(self, now: float) -> list[Machine]:
        """All machines ever launched, as they are at a time."""
        for machine in self._machines.values():
            self._expire(machine, now)
        return [*self._machines.values()]

    def stop(self, machine: Machine) -> None:
        """End a machine now."""
        if machine.stopped_at is None:
            machine.stopped_at = self.clock.now()
            self.on_end(machine.server_id)

    def stop_id(self, server_id: str) -> None:
        """End the machine with this id now, if there is one."""
        machine = self._machines.get(server_id)
        if machine is not None:
            self.stop(machine)

    def steal(self, server_id: str) -> None:
        """End a machine as somebody else of the account would.

        Raises:
            LookupError: There is no such machine.
        """
        if server_id not in self._machines:
            raise LookupError(f"there is no machine {server_id}")
        self.stop_id(server_id)

    def change_duration(self, machine: Machine, estimated_duration: int) -> None:
        """Let the lease end another time after ready; a time that has passed ends it now."""
        machine.estimated_duration = estimated_duration
        stops_at = machine.stops_at
        now = self.clock.now()
        if stops_at is not None and machine.is_ready(now) and stops_at <= now:
            self.stop(machine)
        else:
            self._watch(machine)

    def clear(self) -> None:
        """Forget all machines."""
        for machine in self._machines.values():
            self.stop(machine)
        self._machines.clear()

    def _watch(self, machine: Machine) -> None:
        # Sockets and runs of a machine must end with its lease even when nobody asks for it.
        if machine.stops_at is not None and machine.expires:
            self.clock.call_at(machine.stops_at, lambda: self._expire(machine))

    def _expire(self, machine: Machine, now: float | None = None) -> None:
        was_running = machine.stopped_at is None
        machine.expire(self.clock.now() if now is None else now)
        if was_running and machine.stopped_at is not None:
            self.on_end(machine.server_id)
