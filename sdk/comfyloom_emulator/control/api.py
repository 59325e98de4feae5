"""The Server API's routes."""

import attrs
from starlette.requests import Request
from starlette.responses import Response

from comfyloom_emulator.clock import EmulatorClock
from comfyloom_emulator.control.account import EmulatedAccount
from comfyloom_emulator.control.machine import EmulatedMachine
from comfyloom_emulator.control.request_bodies import InvalidBody, parse_duration, parse_launch
from comfyloom_emulator.control.token_bucket import TokenBucket
from comfyloom_emulator.options import AccountWorkflow, Options
from comfyloom_emulator.server.replies import json_reply
from comfyloom_emulator.server.routing import NoRoute, Route, Router

# The answer of the gateway in front of the API to an unknown path.
_UNKNOWN_PATH = (
    "Invalid key=value pair (missing equal-sign) in Authorization header "
    "(hashed with SHA-256 and encoded with Base64): 'ZW11bGF0b3I='."
)


def _message(status: int, text: str) -> Response:
    return json_reply({"message": text}, status)


@attrs.define(kw_only=True)
class ControlApi:
    """Answers requests to the Server API."""

    options: Options
    clock: EmulatorClock
    account: EmulatedAccount
    base_url: str
    bucket: TokenBucket | None
    workflows: list[AccountWorkflow]

    async def handle(self, request: Request) -> Response:
        """Return the response to a request."""
        handler = _ROUTER.find(request, request.scope["path"])
        if isinstance(handler, NoRoute):
            return _message(403, _UNKNOWN_PATH)
        refusal = self._refuse(request)
        if refusal is not None:
            return refusal
        try:
            return await handler(self, request)
        except InvalidBody as invalid:
            detail = [error.as_json() for error in invalid.errors]
            return json_reply({"detail": detail}, 422)

    def _refuse(self, request: Request) -> Response | None:
        if request.headers.get("Authorization") != f"Bearer {self.options.token}":
            return _message(401, "Unauthorized")
        if request.path_params["user"] != self.options.user_id:
            return _message(403, "Forbidden")
        if self.bucket is not None and not self.bucket.take():
            after_s = self.options.retry_after_s
            headers = {} if after_s is None else {"Retry-After": str(after_s)}
            body = {"error": "rate_limited", "message": "Too many requests"}
            return json_reply(body, 429, headers)
        return None

    async def list_workflows(self, _request: Request) -> Response:
        """GET workflows."""
        return json_reply([attrs.asdict(workflow) for workflow in self.workflows])

    async def list_servers(self, _request: Request) -> Response:
        """GET servers."""
        machines = self.account.listed()
        reply = json_reply([self._as_json(machine) for machine in machines])
        self._skip_startup(machines)
        return reply

    async def launch(self, request: Request) -> Response:
        """POST servers."""
        launch = parse_launch(await request.body(), self.options.server_types)
        known = {workflow.version_id for workflow in self.workflows}
        if launch.workflow_version_id not in known:
            return _message(404, f"Workflow version {launch.workflow_version_id} not found")
        machine = self.account.launch(launch.server_type, launch.estimated_duration)
        return json_reply(machine.as_json(machine.launched_at, self.base_url, "Starting"))

    async def get_server(self, request: Request) -> Response:
        """GET servers/{id}."""
        machine = self.account.find_for_status(request.path_params["id"])
        if machine is None:
            return self._not_found(request)
        reply = json_reply(self._as_json(machine))
        self._skip_startup([machine])
        return reply

    async def stop_server(self, request: Request) -> Response:
        """DELETE servers/{id}."""
        machine = self.account.find(request.path_params["id"])
        if machine is None:
            return self._not_found(request)
        self.account.stop(machine)
        return json_reply(self._as_json(machine, "Deleting"))

    async def change_duration(self, request: Request) -> Response:
        """POST servers/{id}/update-estimated-duration."""
        duration = parse_duration(await request.body())
        machine = self.account.find(request.path_params["id"])
        if machine is None:
            return self._not_found(request)
        self.account.change_duration(machine, duration)
        return json_reply(self._as_json(machine, "Deleting" if machine.stopped_at else None))

    def _as_json(self, machine: EmulatedMachine, status: str | None = None) -> dict[str, object]:
        return machine.as_json(self.clock.now(), self.base_url, status)

    def _not_found(self, request: Request) -> Response:
        return _message(404, f"Server {request.path_params['id']} not found")

    def _skip_startup(self, machines: list[EmulatedMachine]) -> None:
        # The caller waits for a status. Where waits are skipped, its next request finds it.
        for machine in machines:
            if machine.ready_at is not None:
                self.clock.skip_to(machine.ready_at)
            elif machine.fault is not None and machine.fault.action == "error":
                self.clock.skip_to(machine.launched_at + machine.startup_s)


_USER = "/prod/api/users/{user}"
_ROUTER: Router[ControlApi] = Router(
    [
        Route("GET", f"{_USER}/workflows", ControlApi.list_workflows),
        Route("GET", f"{_USER}/servers", ControlApi.list_servers),
        Route("POST", f"{_USER}/servers", ControlApi.launch),
        Route("GET", f"{_USER}/servers/{{id}}", ControlApi.get_server),
        Route("DELETE", f"{_USER}/servers/{{id}}", ControlApi.stop_server),
        Route(
            "POST",
            f"{_USER}/servers/{{id}}/update-estimated-duration",
            ControlApi.change_duration,
        ),
    ]
)
