"""Everything an emulator emulates: account, machines, servers, what happened to them."""

from pathlib import Path
from typing import Any

from comfyloom_emulator.clock import clock_for
from comfyloom_emulator.comfyui.server_registry import Farm
from comfyloom_emulator.control.admin_api import OwnApi
from comfyloom_emulator.control.api import ControlApi
from comfyloom_emulator.control.bucket import TokenBucket
from comfyloom_emulator.control.fleet import Fleet
from comfyloom_emulator.fault_queue import FaultBook
from comfyloom_emulator.journal import Journal, iso_time
from comfyloom_emulator.options import Options
from comfyloom_emulator.server.app import Application


class World:
    """Connects the parts; lives in the event loop of the server while that runs.

    Attributes:
        clock: The time of all parts.
        faults: What shall go wrong.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self.clock = clock_for(options.time)
        self.faults = FaultBook()
        self._journal = Journal()
        self._workflows = options.workflows()
        limit = options.rate_limit
        self._bucket = None if limit is None else TokenBucket(self.clock, *limit)
        self._fleet = Fleet(options=options, clock=self.clock, faults=self.faults, on_end=self._end)
        self._farm: Farm | None = None
        self._ended_at: float | None = None

    def application(self, base_url: str, root: Path) -> Application:
        """What a web server is to serve.

        Args:
            base_url: Where it is served.
            root: Directory for the files of the ComfyUI servers.
        """
        self._ended_at = None
        self._farm = Farm(
            options=self._options,
            clock=self.clock,
            faults=self.faults,
            journal=self._journal,
            root=root,
            ready_since=self._ready_since,
            on_death=self._fleet.stop_id,
        )
        return Application(
            clock=self.clock,
            skew_s=self._options.date_skew_s,
            faults=self.faults,
            journal=self._journal,
            own=OwnApi(
                clock=self.clock,
                faults=self.faults,
                read_state=self.state,
                forget=self.reset,
                fleet=self._fleet,
            ),
            comfyui=self._farm,
            control=ControlApi(
                options=self._options,
                clock=self.clock,
                fleet=self._fleet,
                base_url=base_url,
                bucket=self._bucket,
                workflows=self._workflows,
            ),
        )

    def launch_foreign(self, server_type: str, estimated_duration: int) -> str:
        """Start a machine as somebody else of the account would, and return its id."""
        return self._fleet.launch_foreign(server_type, estimated_duration)

    def steal(self, server_id: str) -> None:
        """End a machine as somebody else of the account would.

        Raises:
            LookupError: There is no such machine.
        """
        self._fleet.steal(server_id)

    def state(self) -> dict[str, Any]:
        """What has happened so far; time stands still once the server has ended."""
        now = self.clock.now() if self._ended_at is None else self._ended_at
        return {
            "machines": [machine.record(now) for machine in self._fleet.everything(now)],
            "requests": [
                {
                    "method": request.method,
                    "path": request.path,
                    "status": request.status,
                    "at": iso_time(request.at),
                }
                for request in self._journal.requests
            ],
            "prompts": [
                {
                    "server_id": prompt.server_id,
                    "prompt_id": prompt.prompt_id,
                    "status": prompt.status,
                }
                for prompt in self._journal.prompts
            ],
        }

    def reset(self) -> None:
        """Forget all that happened; the clock goes on."""
        self._fleet.clear()
        if self._farm is not None:
            self._farm.clear()
        self._journal.clear()
        self.faults.clear()
        if self._bucket is not None:
            self._bucket.refill()

    async def end(self) -> None:
        """End all servers, when the event loop is about to."""
        self._ended_at = self.clock.now()
        self.clock.detach()
        if self._farm is not None:
            self._farm.clear()
            await self._farm.finish()

    def _ready_since(self, server_id: str) -> float | None:
        machine = self._fleet.find(server_id)
        if machine is None or not machine.is_ready(self.clock.now()):
            return None
        return machine.ready_at

    def _end(self, server_id: str) -> None:
        if self._farm is not None:
            self._farm.kill(server_id)
