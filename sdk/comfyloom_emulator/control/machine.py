"""One rented machine, from launch to end."""

import uuid

import attrs

from comfyloom_emulator.faults import MachineAction, MachineFault
from comfyloom_emulator.request_log import iso_time


@attrs.define(kw_only=True)
class EmulatedMachine:
    """A machine; its status is derived from the time, so no task has to make it ready.

    Times are in epoch seconds, durations in seconds.
    """

    user_id: str
    server_type: str
    estimated_duration: int
    launched_at: float
    startup_s: float
    fault: MachineFault | None
    expires: bool = True
    server_id: str = attrs.field(factory=lambda: str(uuid.uuid4()))
    stopped_at: float | None = None
    status_requests: int = 0

    @property
    def ready_at(self) -> float | None:
        """The time it becomes ready; None if it never does."""
        if self.fault is not None and self.fault.action in {"error", "never_ready"}:
            return None
        return self.launched_at + self.startup_s

    @property
    def stops_at(self) -> float | None:
        """The end of its lease; None if it never becomes ready."""
        return None if self.ready_at is None else self.ready_at + self.estimated_duration

    def is_ready(self, now: float) -> bool:
        """Return whether it has become ready, whether or not it was stopped since."""
        ready_at = self.ready_at
        if self.stopped_at is not None and ready_at is not None and ready_at > self.stopped_at:
            return False
        return ready_at is not None and now >= ready_at

    def is_visible(self, now: float) -> bool:
        """Return whether the API shows it at all."""
        if self.stopped_at is not None and now >= self.stopped_at + self._fault_seconds("lingers"):
            return False
        return now >= self.launched_at + self._fault_seconds("late")

    def is_listed(self, now: float) -> bool:
        """Return whether the list of machines contains it."""
        return self.is_visible(now) and now >= self.launched_at + self._fault_seconds("unlisted")

    def is_found(self, now: float) -> bool:
        """Return whether the API finds it by its id."""
        return self.is_visible(now) and now >= self.launched_at + self._fault_seconds("young")

    def _fault_seconds(self, action: MachineAction) -> float:
        """Return the seconds of its fault; 0 if its fault is not this one."""
        fault = self.fault
        return fault.seconds if fault is not None and fault.action == action else 0.0

    def expire(self, now: float) -> None:
        """Stop it at the end of its lease, if that has passed."""
        stops_at = self.stops_at
        if self.expires and self.stopped_at is None and stops_at is not None and now >= stops_at:
            self.stopped_at = stops_at

    def status(self, now: float) -> str:
        """Return its status in the platform's words."""
        if self.stopped_at is not None:
            lingers = now < self.stopped_at + self._fault_seconds("lingers")
            return "Deleting" if lingers else "Stopped"
        if self.fault is not None and self.fault.action == "error":
            return "Error" if now >= self.launched_at + self.startup_s else "Starting"
        return "Ready" if self.is_ready(now) else "Starting"

    def billed_s(self, now: float) -> float:
        """Return the seconds billed so far: from ready to the stop."""
        if self.ready_at is None or not self.is_ready(now):
            return 0.0
        end = now if self.stopped_at is None else self.stopped_at
        return max(0.0, end - self.ready_at)

    def as_json(self, now: float, base_url: str, status: str | None = None) -> dict[str, object]:
        """Return the machine object of the API."""
        ready = self.is_ready(now)
        return {
            "server_id": self.server_id,
            "user_id": self.user_id,
            "server_type": self.server_type,
            "estimated_duration": self.estimated_duration,
            "current_status": status or self.status(now),
            "main_service_url": f"{base_url}/comfyui/{self.server_id}" if ready else None,
            "service_ready_at": iso_time(self.ready_at) if ready else None,
            "estimated_stopping_at": iso_time(self.stops_at) if ready else None,
        }

    def state_json(self, now: float) -> dict[str, object]:
        """Return the machine object of `GET /_emulator/state`."""
        return {
            "server_id": self.server_id,
            "server_type": self.server_type,
            "status": self.status(now),
            "launched_at": iso_time(self.launched_at),
            "ready_at": iso_time(self.ready_at) if self.is_ready(now) else None,
            "stopped_at": iso_time(self.stopped_at),
            "billed_seconds": self.billed_s(now),
        }
