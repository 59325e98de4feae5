"""All machines that a session has used."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import attrs

from comfyloom._comfyui.client import ComfyUI
from comfyloom._machines.machine import Machine
from comfyloom.errors import ComfyloomError, MachineError, MachineLeak


@attrs.define(eq=False)
class SessionMachines:
    """The machines of a session, the one in use last; stopping each is tried again at the end.

    Attributes:
        is_closed: Whether no more may be added.
    """

    is_closed: bool = attrs.field(default=False, init=False)
    _all: list[Machine] = attrs.field(factory=list[Machine], init=False)

    @property
    def current(self) -> Machine | None:
        """The machine that was used last, None before the first."""
        return self._all[-1] if self._all else None

    def __iter__(self) -> Iterator[Machine]:
        return iter(tuple(self._all))

    def add(self, machine: Machine) -> None:
        """Use a machine from now on.

        Raises:
            ComfyloomError: The session was closed by another thread, which did not see it.
        """
        self._all.append(machine)
        if self.is_closed:
            raise ComfyloomError("this session is closed")

    def check_alive(self, server: ComfyUI) -> None:
        """Raise `MachineError` if the machine of a server has ended; it is given up."""
        if (machine := self._of(server)) is None:
            return
        try:
            machine.check_alive()
        except MachineError:
            machine.disconnect()
            machine.comfyui = None
            if machine.is_silent:  # releasing it stops one of our own
                machine.release()
            raise

    def end_of(self, server: ComfyUI) -> MachineError | None:
        """Return why the machine of a server has ended, None if it has not; it is then given up.

        Raises:
            MachineLeak: It was silent, and its stop is not confirmed.
        """
        try:
            self.check_alive(server)
        except MachineLeak:
            raise
        except MachineError as error:
            return error
        return None

    def give_up(self, server: ComfyUI) -> bool:
        """Use the machine of a server no longer, if it has ended; return whether it runs nothing.

        Raises:
            MachineLeak: It was silent, and its stop is not confirmed.
        """
        self.end_of(server)
        machine = self._of(server)
        return machine is not None and machine.runs_nothing

    def _of(self, server: ComfyUI) -> Machine | None:
        return next((each for each in self._all if each.serves(server)), None)

    @property
    def summary(self) -> list[str]:
        """One human-readable line for each machine: its use and cost."""
        return [machine.summary for machine in self._all if machine.server_id]

    @property
    def cost(self) -> Decimal | None:
        """The cost of all, in USD; None if a price is unknown."""
        costs = [machine.cost for machine in self._all if machine.server_id]
        return None if None in costs else sum(filter(None, costs), Decimal(0))
