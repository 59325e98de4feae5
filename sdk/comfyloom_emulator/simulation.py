"""Everything an emulator simulates: account, machines, servers, and a log of what happened."""

from pathlib import Path
from typing import Any

from comfyloom_emulator.clock import clock_for
from comfyloom_emulator.comfyui.server_registry import ServerRegistry
from comfyloom_emulator.control.account import EmulatedAccount
from comfyloom_emulator.control.admin_api import AdminApi
from comfyloom_emulator.control.api import ControlApi
from comfyloom_emulator.control.token_bucket import TokenBucket
from comfyloom_emulator.control.website import Website
from comfyloom_emulator.fault_queue import FaultQueue
from comfyloom_emulator.options import Options
from comfyloom_emulator.request_log import RequestLog, iso_time
from comfyloom_emulator.server.app import Application


class Simulation:
    """Connects the parts; used only in the server's event loop while the server runs.

    Attributes:
        clock: The clock of all parts.
        faults: The scripted faults.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self.clock = clock_for(options.time)
        self.faults = FaultQueue()
        self._request_log = RequestLog()
        self._workflows = options.workflows()
        limit = options.rate_limit
        self._bucket = None if limit is None else TokenBucket(self.clock, *limit)
        self._account = EmulatedAccount(
            options=options, clock=self.clock, faults=self.faults, on_end=self._kill_server
        )
        self._servers: ServerRegistry | None = None
        self._ended_at: float | None = None

    def application(self, base_url: str, root: Path) -> Application:
        """Return the ASGI application to serve.

        Args:
            base_url: The address it will be served at.
            root: Directory for the files of the ComfyUI servers.
        """
        self._ended_at = None
        self._servers = ServerRegistry(
            options=self._options,
            clock=self.clock,
            faults=self.faults,
            request_log=self._request_log,
            root=root,
            ready_since=self._ready_since,
            on_death=self._account.stop_by_id,
        )
        return Application(
            clock=self.clock,
            skew_s=self._options.date_skew_s,
            faults=self.faults,
            request_log=self._request_log,
            admin=AdminApi(
                clock=self.clock,
                faults=self.faults,
                read_state=self.state,
                reset_state=self.reset,
                account=self._account,
            ),
            comfyui=self._servers,
            control=ControlApi(
                options=self._options,
                clock=self.clock,
                account=self._account,
                base_url=base_url,
                bucket=self._bucket,
                workflows=self._workflows,
            ),
            website=Website(self._options, base_url),
        )

    def launch_foreign(self, server_type: str, estimated_duration: int) -> str:
        """Launch a machine as another user of the account would, and return its id.

        Raises:
            ValueError: The type is unknown, or the duration is not positive.
        """
        return self._account.launch_foreign(server_type, estimated_duration)

    def steal(self, server_id: str) -> None:
        """Stop a machine as another user of the account would.

        Raises:
            LookupError: There is no such machine.
        """
        self._account.steal(server_id)

    def state(self) -> dict[str, Any]:
        """Return what happened so far; time stops once the server has ended."""
        now = self.clock.now() if self._ended_at is None else self._ended_at
        return {
            "machines": [machine.state_json(now) for machine in self._account.all_machines(now)],
            "requests": [
                {
                    "method": request.method,
                    "path": request.path,
                    "status": request.status,
                    "at": iso_time(request.at),
                }
                for request in self._request_log.requests
            ],
            "prompts": [
                {
                    "server_id": prompt.server_id,
                    "prompt_id": prompt.prompt_id,
                    "status": prompt.status,
                }
                for prompt in self._request_log.prompts
            ],
        }

    def reset(self) -> None:
        """Remove everything that happened; the clock keeps its time."""
        self._account.clear()
        if self._servers is not None:
            self._servers.clear()
        self._request_log.clear()
        self.faults.clear()
        if self._bucket is not None:
            self._bucket.refill()

    async def end(self) -> None:
        """End all ComfyUI servers, before the event loop ends."""
        self._ended_at = self.clock.now()
        self.clock.detach()
        if self._servers is not None:
            self._servers.clear()
            await self._servers.finish()

    def _ready_since(self, server_id: str) -> float | None:
        machine = self._account.find(server_id)
        if machine is None or not machine.is_ready(self.clock.now()):
            return None
        return machine.ready_at

    def _kill_server(self, server_id: str) -> None:
        if self._servers is not None:
            self._servers.kill(server_id)
