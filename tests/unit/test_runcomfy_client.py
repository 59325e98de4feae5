"""The client of the Server API: exact paths and bodies, responses decoded leniently."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import responses

from comfyloom._http.retry import NO_RETRY
from comfyloom._runcomfy.client import ServerApi
from comfyloom.errors import ApiError, Forbidden, NotFound, RateLimited, Unauthorized
from support import FakeClock

URL = "http://127.0.0.1:1"
USER = f"{URL}/prod/api/users/user-1"
SERVER: dict[str, Any] = {
    "server_id": "s-1",
    "user_id": "user-1",
    "server_type": "extra-large",
    "estimated_duration": 600,
    "current_status": "Starting",
    "main_service_url": None,
    "service_ready_at": None,
    "estimated_stopping_at": None,
}
READY = SERVER | {
    "current_status": "Ready",
    "main_service_url": "https://s-1-comfyui.runcomfy.com",
    "service_ready_at": "2026-11-24T10:00:00.123456Z",
    "estimated_stopping_at": "2026-11-24T10:10:00.123456Z",
}


@pytest.fixture
def api(clock: FakeClock) -> ServerApi:
    return ServerApi(URL, "user-1", "t0ken-1", backoff=NO_RETRY, clock=clock)


@responses.activate
def test_a_launch_sends_version_type_and_duration(api: ServerApi) -> None:
    responses.post(f"{USER}/servers", status=201, json=SERVER)
    server = api.launch("version-1", "extra-large", 901)
    request = responses.calls[0].request
    assert request.headers["Authorization"] == "Bearer t0ken-1"
    assert json.loads(request.body or "") == {
        "workflow_version_id": "version-1",
        "server_type": "extra-large",
        "estimated_duration": 901,
    }
    assert (server.server_id, server.current_status) == ("s-1", "Starting")
    assert not server.is_ready
    assert not server.has_ended


@responses.activate
def test_a_launch_response_may_have_the_id_only(api: ServerApi) -> None:
    responses.post(f"{USER}/servers", status=202, json={"server_id": "s-1"})
    assert api.launch("v", "medium", 901).server_id == "s-1"


@responses.activate
def test_a_ready_machine_has_a_secret_url(api: ServerApi) -> None:
    responses.get(f"{USER}/servers/s-1", json=READY | {"a_new_field": {"x": 1}})
    server = api.get_server("s-1")
    assert server.is_ready
    assert server.service_ready_at == datetime(2026, 11, 24, 10, 0, 0, 123456, tzinfo=UTC)
    assert server.main_service_url == "https://s-1-comfyui.runcomfy.com"
    assert "s-1-comfyui" not in repr(server)


@responses.activate
@pytest.mark.parametrize("status", ["READY", "ready", "Ready"])
def test_states_are_compared_ignoring_case(api: ServerApi, status: str) -> None:
    responses.get(f"{USER}/servers/s-1", json=READY | {"current_status": status})
    assert api.get_server("s-1").is_ready


@responses.activate
@pytest.mark.parametrize(
    "status", ["Deleting", "deleted", "Stopping", "STOPPED", "Error", "failed"]
)
def test_final_states_mean_that_a_machine_has_ended(api: ServerApi, status: str) -> None:
    responses.get(f"{USER}/servers/s-1", json=SERVER | {"current_status": status})
    assert api.get_server("s-1").has_ended


@responses.activate
def test_an_unknown_state_is_neither_ready_nor_ended(api: ServerApi) -> None:
    responses.get(f"{USER}/servers/s-1", json=SERVER | {"current_status": "Warming"})
    server = api.get_server("s-1")
    assert not server.is_ready
    assert not server.has_ended


@responses.activate
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_list_may_come_bare_or_wrapped(api: ServerApi, wrapped: bool) -> None:
    rows = [SERVER, READY]
    responses.get(f"{USER}/servers", json={"servers": rows} if wrapped else rows)
    assert [server.is_ready for server in api.list_servers()] == [False, True]


@responses.activate
def test_the_workflows_of_the_account_are_listed(api: ServerApi) -> None:
    row = {"workflow_id": "w", "workflow_name": "generate_flux_mesh", "version_id": "v"}
    responses.get(f"{USER}/workflows", json=[row | {"created_at": "x", "updated_at": None}])
    (workflow,) = api.list_workflows()
    assert (workflow.workflow_name, workflow.version_id) == ("generate_flux_mesh", "v")


@responses.activate
def test_a_new_duration_is_sent(api: ServerApi) -> None:
    responses.post(f"{USER}/servers/s-1/update-estimated-duration", json=READY)
    api.set_duration("s-1", 400)
    body = json.loads(responses.calls[0].request.body or "")
    assert body == {"update_estimated_duration": 400}


@responses.activate
@pytest.mark.parametrize("status", [200, 202, 204])
def test_a_stop_is_one_request(api: ServerApi, status: int) -> None:
    responses.delete(f"{USER}/servers/s-1", status=status)
    api.stop_server("s-1")
    assert len(responses.calls) == 1


@responses.activate
@pytest.mark.parametrize(
    ("status", "body", "kind", "text"),
    [
        (401, {"message": "Unauthorized"}, Unauthorized, "RUNCOMFY_API_TOKEN"),
        (
            403,
            {"message": "Invalid key=value pair (missing equal-sign) in Authorization header"},
            Forbidden,
            "wrong base URL or path",
        ),
        (403, {"message": "Forbidden"}, Forbidden, "RUNCOMFY_USER_ID"),
        (404, {"message": "workflow version not found"}, NotFound, "workflow version not found"),
        (429, {"error": "rate_limited", "message": "x"}, RateLimited, "one a second"),
        (
            422,
            {"detail": [{"loc": ["body", "server_type"], "msg": "unknown", "type": "enum"}]},
            ApiError,
            "server_type: unknown",
        ),
        (500, "oops", ApiError, "answered 500"),
    ],
)
def test_a_refusal_is_a_typed_error_on_one_line(
    api: ServerApi, status: int, body: Any, kind: type[ApiError], text: str
) -> None:
    responses.post(f"{USER}/servers", status=status, json=body)
    with pytest.raises(kind, match=text) as caught:
        api.launch("v", "medium", 901)
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert "\n" not in str(caught.value)


@responses.activate
@pytest.mark.parametrize(
    "body", ['{"server_id": null}', '{"server_id": ["x"]}', "[]", "null", "<html>", ""]
)
def test_a_response_that_is_not_a_machine_is_an_error(api: ServerApi, body: str) -> None:
    responses.get(f"{USER}/servers/s-1", body=body)
    with pytest.raises(ApiError):
        api.get_server("s-1")


@responses.activate
@pytest.mark.parametrize(
    "malformed",
    [
        {"service_ready_at": "yesterday"},
        {"estimated_stopping_at": ""},
        {"estimated_duration": "soon"},
        {"server_type": ["x"]},
    ],
)
def test_a_malformed_field_does_not_hide_the_machine(
    api: ServerApi, malformed: dict[str, Any]
) -> None:
    responses.get(f"{USER}/servers/s-1", json=READY | malformed)
    server = api.get_server("s-1")
    assert server.is_ready
    assert server.main_service_url == READY["main_service_url"]


@responses.activate
def test_a_malformed_row_does_not_hide_the_other_machines(api: ServerApi) -> None:
    responses.get(f"{USER}/servers", json=[{"server_id": None}, READY, "x"])
    assert [server.server_id for server in api.list_servers()] == ["s-1"]


@responses.activate
@pytest.mark.parametrize("body", ['{"detail": "oops"}', "null", '"none"'])
def test_a_response_that_is_not_a_list_is_not_taken_for_an_empty_list(
    api: ServerApi, body: str
) -> None:
    responses.get(f"{USER}/servers", body=body)
    with pytest.raises(ApiError, match="not a list"):
        api.list_servers()


@responses.activate
def test_a_missing_id_is_named_in_the_error(api: ServerApi) -> None:
    responses.get(f"{USER}/servers/s-1", json={"current_status": "Ready"})
    with pytest.raises(ApiError, match="server_id"):
        api.get_server("s-1")


@responses.activate
def test_the_platforms_time_comes_from_its_last_response(api: ServerApi, clock: FakeClock) -> None:
    assert api.now() == clock.time()
    headers = {"Date": "Tue, 24 Nov 2026 10:00:00 GMT"}
    responses.get(f"{USER}/servers", json=[], headers=headers)
    api.list_servers()
    reported = datetime(2026, 11, 24, 10, tzinfo=UTC).timestamp()
    assert api.now() == reported + 0.5
    clock.sleep(5.0)
    assert api.now() == reported + 5.5


def test_the_token_is_not_in_the_repr(api: ServerApi) -> None:
    assert "t0ken-1" not in repr(api) + repr(vars(api))


@responses.activate
def test_ids_are_escaped_in_paths(api: ServerApi) -> None:
    responses.get(f"{USER}/servers/a%2Fb%3Fc", json=SERVER)
    api.get_server("a/b?c")
    assert len(responses.calls) == 1


@responses.activate
def test_an_empty_response_to_a_new_duration_is_looked_up(api: ServerApi) -> None:
    responses.post(f"{USER}/servers/s-1/update-estimated-duration", status=204)
    responses.get(f"{USER}/servers/s-1", json=READY)
    assert api.set_duration("s-1", 600).estimated_duration == 600


@responses.activate
@pytest.mark.parametrize("body", ["", "{}", '{"server_id": "s-1"}'])
def test_a_stop_is_confirmed_by_its_status_and_no_foreign_body(api: ServerApi, body: str) -> None:
    responses.delete(f"{USER}/servers/s-1", status=200, body=body)
    stopped = api.stop_server("s-1")
    assert stopped is None or stopped.server_id == "s-1"


@responses.activate
@pytest.mark.parametrize(
    "body", ["<html>log in", "[]", "null", "1", '{"ok": true}', '{"server_id": "s-2"}']
)
def test_a_stop_is_not_confirmed_by_what_a_gateway_answers(api: ServerApi, body: str) -> None:
    responses.delete(f"{USER}/servers/s-1", status=200, body=body)
    with pytest.raises(ApiError) as caught:
        api.stop_server("s-1")
    assert caught.value.status == 200
