"""The emulator's own routes: what happened, and what shall go wrong next."""

import json
from collections.abc import Callable, ItemsView

import attrs
from starlette.requests import Request
from starlette.responses import Response

from comfyloom_emulator.catalogue import SCENARIOS, Scenario, scenario
from comfyloom_emulator.clock import Clock, ManualClock
from comfyloom_emulator.control.fleet import Fleet
from comfyloom_emulator.fault_queue import FaultBook
from comfyloom_emulator.faults import Fault, fault_from_json, fault_to_json
from comfyloom_emulator.json_access import as_object
from comfyloom_emulator.server.replies import json_reply
from comfyloom_emulator.server.routing import Miss, Route, Router


@attrs.define(kw_only=True)
class OwnApi:
    """Answers `/_emulator/...`."""

    clock: Clock
    faults: FaultBook
    read_state: Callable[[], dict[str, object]]
    forget: Callable[[], None]
    fleet: Fleet

    async def handle(self, request: Request) -> Response:
        """The response to a request."""
        found = _ROUTER.find(request, request.scope["path"])
        if isinstance(found, Miss):
            return json_reply({"message": "no such route"}, 405 if found.allowed else 404)
        try:
            return await found(self, request)
        except ValueError as error:
            return json_reply({"message": str(error)}, 400)

    async def state(self, _request: Request) -> Response:
        """GET state."""
        return json_reply(self.read_state())

    async def reset(self, _request: Request) -> Response:
        """POST reset."""
        self.forget()
        return json_reply({})

    async def add_fault(self, request: Request) -> Response:
        """POST faults: one fault, or a list of them."""
        data = _json(await request.body())
        entries: list[object] = [*data] if isinstance(data, list) else [data]
        self.faults.add(*[fault for entry in entries for fault in _faults(entry)])
        return json_reply({"pending": len(self.faults.pending())})

    async def list_faults(self, _request: Request) -> Response:
        """GET faults: the names of all scenarios, and what has not struck yet."""
        known = {name: {"group": each.group, "title": each.title} for name, each in _scenarios()}
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
        return json_reply({"server_id": self.fleet.launch_foreign(str(kind), duration)})

    async def steal(self, request: Request) -> Response:
        """DELETE machines/{id}."""
        try:
            self.fleet.steal(request.path_params["id"])
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
        raise ValueError("the body has to be JSON: a fault, or a list of them") from None


def _faults(entry: object) -> tuple[Fault, ...]:
    """The faults that an entry describes, or that the scenario which it names is made of."""
    data = as_object(entry) or {}
    if "scenario" not in data:
        return (fault_from_json(entry),)
    if len(data) > 1:
        raise ValueError("a scenario is named alone")
    return scenario(str(data["scenario"])).faults


def _scenarios() -> ItemsView[str, Scenario]:
    return SCENARIOS.items()


_ROUTER: Router[OwnApi] = Router(
    [
        Route("GET", "/_emulator/state", OwnApi.state),
        Route("POST", "/_emulator/reset", OwnApi.reset),
        Route("POST", "/_emulator/faults", OwnApi.add_fault),
        Route("GET", "/_emulator/faults", OwnApi.list_faults),
        Route("DELETE", "/_emulator/faults", OwnApi.clear_faults),
        Route("POST", "/_emulator/clock", OwnApi.advance),
        Route("POST", "/_emulator/machines", OwnApi.launch_foreign),
        Route("DELETE", "/_emulator/machines/{id}", OwnApi.steal),
    ]
)
