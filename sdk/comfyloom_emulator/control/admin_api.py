"""The emulator's own routes: its state, faults, foreign machines and clock."""

import json
from collections.abc import Callable

import attrs
from starlette.requests import Request
from starlette.responses import Response

from comfyloom_emulator.clock import EmulatorClock, ManualClock
from comfyloom_emulator.control.account import EmulatedAccount
from comfyloom_emulator.fault_queue import FaultQueue
from comfyloom_emulator.faults import Fault, fault_from_json, fault_to_json
from comfyloom_emulator.json_access import as_object
from comfyloom_emulator.scenarios import SCENARIOS, scenario
from comfyloom_emulator.server.replies import json_reply
from comfyloom_emulator.server.routing import NoRoute, Route, Router


@attrs.define(kw_only=True)
class AdminApi:
    """Answers requests below `/_emulator`."""

    clock: EmulatorClock
    faults: FaultQueue
    read_state: Callable[[], dict[str, object]]
    reset_state: Callable[[], None]
    account: EmulatedAccount

    async def handle(self, request: Request) -> Response:
        """Return the response to a request."""
        handler = _ROUTER.find(request, request.scope["path"])
        if isinstance(handler, NoRoute):
            return json_reply({"message": "no such route"}, 405 if handler.allowed else 404)
        try:
            return await handler(self, request)
        except ValueError as error:
            return json_reply({"message": str(error)}, 400)

    async def state(self, _request: Request) -> Response:
        """GET state."""
        return json_reply(self.read_state())

    async def reset(self, _request: Request) -> Response:
        """POST reset."""
        self.reset_state()
        return json_reply({})

    async def add_fault(self, request: Request) -> Response:
        """POST faults: one fault, or a list of them."""
        data = _json(await request.body())
        entries: list[object] = [*data] if isinstance(data, list) else [data]
        self.faults.add(*[fault for entry in entries for fault in _faults(entry)])
        return json_reply({"pending": len(self.faults.pending())})

    async def list_faults(self, _request: Request) -> Response:
        """GET faults: all scenarios, and the faults that have not struck yet."""
        known = {
            name: {"group": each.group, "title": each.title} for name, each in SCENARIOS.items()
        }
        pending = [fault_to_json(fault) for fault in self.faults.pending()]
        return json_reply({"scenarios": known, "pending": pending})

    async def clear_faults(self, _request: Request) -> Response:
        """DELETE faults."""
        self.faults.clear()
        return json_reply({})

    async def launch_foreign(self, request: Request) -> Response:
        """POST machines."""
        data = as_object(json.loads(await request.body())) or {}
        kind, duration = data.get("server_type", "medium"), data.get("estimated_duration", 3600)
        if not isinstance(duration, int):
            raise ValueError("estimated_duration must be a whole number")  # noqa: TRY004
        return json_reply({"server_id": self.account.launch_foreign(str(kind), duration)})

    async def steal(self, request: Request) -> Response:
        """DELETE machines/{id}."""
        try:
            self.account.steal(request.path_params["id"])
        except LookupError as error:
            return json_reply({"message": str(error)}, 404)
        return json_reply({})

    async def advance(self, request: Request) -> Response:
        """POST clock."""
        if not isinstance(self.clock, ManualClock):
            return json_reply({"message": "only a manual clock can be advanced"}, 409)
        data = as_object(json.loads(await request.body()))
        seconds = None if data is None else data.get("advance")
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            raise ValueError("advance must be a number of seconds")  # noqa: TRY004
        self.clock.advance(seconds)
        return json_reply({})


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        raise ValueError("the body must be JSON: a fault, or a list of faults") from None


def _faults(entry: object) -> tuple[Fault, ...]:
    """Return the fault that an entry describes, or the faults of the scenario it names."""
    data = as_object(entry) or {}
    if "scenario" not in data:
        return (fault_from_json(entry),)
    if len(data) > 1:
        raise ValueError("a scenario must be named alone, without other fields")
    return scenario(str(data["scenario"])).faults


_ROUTER: Router[AdminApi] = Router(
    [
        Route("GET", "/_emulator/state", AdminApi.state),
        Route("POST", "/_emulator/reset", AdminApi.reset),
        Route("POST", "/_emulator/faults", AdminApi.add_fault),
        Route("GET", "/_emulator/faults", AdminApi.list_faults),
        Route("DELETE", "/_emulator/faults", AdminApi.clear_faults),
        Route("POST", "/_emulator/clock", AdminApi.advance),
        Route("POST", "/_emulator/machines", AdminApi.launch_foreign),
        Route("DELETE", "/_emulator/machines/{id}", AdminApi.steal),
    ]
)
