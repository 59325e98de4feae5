"""The Server API's routes."""

import attrs
from starlette.requests import Request
from starlette.responses import Response

from comfyloom_emulator.clock import Clock
from comfyloom_emulator.control.bodies import BadBody, parse_duration, parse_launch
from comfyloom_emulator.control.bucket import TokenBucket
from comfyloom_emulator.control.fleet import Fleet
from comfyloom_emulator.control.machine import Machine
from comfyloom_emulator.options import Options, Workflow
from comfyloom_emulator.server.replies import json_reply
from comfyloom_emulator.server.routing import Miss, Route, Router

# What the gateway in front of the API says to a path it does not know.
_GATEWAY = (
    "Invalid key=value pair (missing equal-sign) in Authorization header "
    "(hashed with SHA-256 and encoded with Base64): 'ZW11bGF0b3I='."
)


def _message(status: int, text: str) -> Response:
    return json_reply({"message": text}, status)


@attrs.define(kw_only=True)
class ControlApi:
    """Answers the requests of the account's clients."""

    options: Options
    clock: Clock
    fleet: Fleet
    base_url: str
    bucket: TokenBucket | None
    workflows: list[Workflow]

    async def handle(self, request: Request) -> Response:
        """The response to a request."""
        found = _ROUTER.find(request, request.scope["path"])
        if isinstance(found, Miss):
            return _message(403, _GATEWAY)
        refusal = self._refuse(request)
        if refusal is not None:
            return refusal
        try:
            return await found(self, request)
        except BadBody as bad:
            detail = [problem.as_json() for problem in bad.problems]
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
        machines = self.fleet.visible()
        reply = json_reply([self._show(machine) for machine in machines])
        self._hurry(machines)
        return reply

    async def launch(self, request: Request) -> Response:
        """POST servers."""
        wanted = parse_launch(await request.body(), self.options.server_types)
        known = {workflow.version_id for workflow in self.workflows}
        if wanted.workflow_version_id not in known:
            return _message(404, f"Workflow version {wanted.workflow_version_id} not found")
        machine = self.fleet.launch(wanted.server_type, wanted.estimated_duration)
        return json_reply(machine.as_json(machine.launched_at, self.base_url, "Starting"))

    async def get_server(self, request: Request) -> Response:
        """GET servers/{id}."""
        machine = self.fleet.lookup(request.path_params["id"])
        if machine is None:
            return self._unknown(request)
        reply = json_reply(self._show(machine))
        self._hurry([machine])
        return reply

    async def stop_server(self, request: Request) -> Response:
        """DELETE servers/{id}."""
        machine = self.fleet.find(request.path_params["id"])
        if machine is None:
            return self._unknown(request)
        self.fleet.stop(machine)
        return json_reply(self._show(machine, "Deleting"))

    async def change_duration(self, request: Request) -> Response:
        """POST servers/{id}/update-estimated-duration."""
        duration = parse_duration(await request.body())
        machine = self.fleet.find(request.path_params["id"])
        if machine is None:
            return self._unknown(request)
        self.fleet.change_duration(machine, duration)
        return json_reply(self._show(machine, "Deleting" if machine.stopped_at else None))

    def _show(self, machine: Machine, status: str | None = None) -> dict[str, object]:
        return machine.as_json(self.clock.now(), self.base_url, status)

    def _unknown(self, request: Request) -> Response:
        return _message(404, f"Server {request.path_params['id']} not found")

    def _hurry(self, machines: list[Machine]) -> None:
        # Whoever asks is waiting: where waits are skipped, the next answer has good news.
        for machine in machines:
            if machine.ready_at is not None:
                self.clock.settle(machine.ready_at)
            elif machine.fault is not None and machine.fault.action == "error":
                self.clock.settle(machine.launched_at + machine.startup_s)


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
