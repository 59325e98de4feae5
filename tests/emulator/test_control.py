"""The Server API: routes, answers, errors and rate limit."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import requests

from comfyloom.emulator import Emulator, ManualClock
from emulator.clients import TIMEOUT_S, AccountClient, Start

_KEYS = {
    "server_id",
    "user_id",
    "server_type",
    "estimated_duration",
    "current_status",
    "main_service_url",
    "service_ready_at",
    "estimated_stopping_at",
}


def test_workflows_are_listed(start: Start) -> None:
    emulator = start(workflow_names=("generate_flux_mesh", "other"))
    workflows = AccountClient(emulator).call("GET", "/workflows").json()
    assert [w["workflow_name"] for w in workflows] == ["generate_flux_mesh", "other"]
    assert workflows[0]["version_id"] == emulator.workflow_version_id
    assert workflows[0]["workflow_id"] != workflows[0]["version_id"]


def test_the_life_of_a_machine_from_launch_to_stop(account: AccountClient) -> None:
    launched = account.post_launch(server_type="extra-large").json()
    assert set(launched) == _KEYS
    assert launched["current_status"] == "Starting"
    assert launched["user_id"] == account.emulator.user_id
    assert launched["main_service_url"] is launched["service_ready_at"] is None
    server_id = launched["server_id"]
    assert account.get(server_id)["current_status"] == "Starting"
    ready = account.get(server_id)
    assert (ready["current_status"], ready["server_type"]) == ("Ready", "extra-large")
    url = ready["main_service_url"]
    assert requests.get(url + "/system_stats", timeout=TIMEOUT_S).ok
    stopped = account.stop(server_id)
    assert stopped.status_code == 200
    assert stopped.json() == {**ready, "current_status": "Deleting"}
    assert account.call("GET", f"/servers/{server_id}").status_code == 404
    assert account.stop(server_id).status_code == 404
    assert account.call("GET").json() == []
    gone = requests.get(url + "/system_stats", timeout=TIMEOUT_S)
    assert (gone.status_code, gone.headers["Content-Type"]) == (502, "text/html")


def test_listing_skips_the_startup_too(account: AccountClient) -> None:
    account.launch()
    statuses = [[m["current_status"] for m in account.call("GET").json()] for _ in range(2)]
    assert statuses == [["Starting"], ["Ready"]]


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "wrong"])
def test_a_wrong_token_is_refused(emulator: Emulator, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    url = AccountClient(emulator).url()
    response = requests.get(url, headers=headers, timeout=TIMEOUT_S)
    assert (response.status_code, response.json()) == (401, {"message": "Unauthorized"})


@pytest.mark.parametrize("path", ["/", "/prod/api/users/x/nosuch", "/v1/servers", "/comfy"])
def test_an_unknown_route_is_answered_like_the_gateway(account: AccountClient, path: str) -> None:
    response = account.http.get(account.emulator.base_url + path, timeout=TIMEOUT_S)
    assert response.status_code == 403
    message = response.json()["message"]
    assert message.startswith("Invalid key=value pair (missing equal-sign) in Authorization header")


def test_another_user_id_is_refused(account: AccountClient) -> None:
    url = account.url().replace(account.emulator.user_id, "another-user")
    assert account.http.get(url, timeout=TIMEOUT_S).status_code == 403


def test_unknown_ids_are_not_found(account: AccountClient) -> None:
    assert account.call("GET", "/servers/nosuch").status_code == 404
    assert account.stop("nosuch").status_code == 404
    response = account.post_launch(workflow_version_id="nosuch")
    assert response.status_code == 404
    assert "nosuch" in response.json()["message"]
    extended = account.call(
        "POST",
        "/servers/nosuch/update-estimated-duration",
        json={"update_estimated_duration": 5},
    )
    assert extended.status_code == 404


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"server_type": "huge"}, "server_type"),
        ({"server_type": 3}, "server_type"),
        ({"estimated_duration": 0}, "estimated_duration"),
        ({"estimated_duration": "600"}, "estimated_duration"),
        ({"estimated_duration": True}, "estimated_duration"),
        ({"workflow_version_id": None}, "workflow_version_id"),
    ],
)
def test_an_invalid_launch_is_refused(
    account: AccountClient, changes: dict[str, Any], field: str
) -> None:
    response = account.post_launch(**changes)
    assert response.status_code == 422
    (error,) = response.json()["detail"]
    assert error["loc"] == ["body", field]
    assert set(error) == {"loc", "msg", "type"}
    if changes.get("server_type") == "huge":
        assert "'2xl-turbo'" in error["msg"]
    assert account.call("GET").json() == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}"])
def test_bodies_that_are_not_a_launch_are_refused(account: AccountClient, body: bytes) -> None:
    response = account.call("POST", data=body)
    assert response.status_code == 422
    assert len(response.json()["detail"]) == (3 if body == b"{}" else 1)


def test_the_rate_limit_is_enforced(start: Start) -> None:
    emulator = start(time="manual", rate_limit=(1.0, 3), retry_after_s=2)
    account = AccountClient(emulator)
    statuses = [account.call("GET").status_code for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    refused = account.call("GET")
    assert refused.json()["error"] == "rate_limited"
    assert refused.headers["Retry-After"] == "2"
    assert isinstance(emulator.clock, ManualClock)
    emulator.clock.advance(1)
    assert [account.call("GET").status_code for _ in range(2)] == [200, 429]
    account.http.close()


def test_no_retry_after_header_by_default(start: Start) -> None:
    account = AccountClient(start(time="manual", rate_limit=(1.0, 1)))
    assert account.call("GET").status_code == 200
    assert "Retry-After" not in account.call("GET").headers
    account.http.close()


def test_the_date_header_is_the_emulators_time(start: Start) -> None:
    emulator = start(time="manual")
    account = AccountClient(emulator)
    assert isinstance(emulator.clock, ManualClock)
    emulator.clock.advance(86_400)
    date = account.call("GET").headers["Date"]
    assert parsedate_to_datetime(date).timestamp() == int(emulator.clock.now())
    account.http.close()


def test_requests_are_logged_in_order(account: AccountClient) -> None:
    server_id = account.launch()
    account.get(server_id)
    requests.get(account.emulator.base_url + "/_emulator/state", timeout=TIMEOUT_S)
    account.call("GET", "/servers/nosuch")
    root = account.url("")[len(account.emulator.base_url) :]
    assert [
        (r["method"], r["path"], r["status"]) for r in account.emulator.state()["requests"]
    ] == [
        ("POST", f"{root}/servers", 200),
        ("GET", f"{root}/servers/{server_id}", 200),
        ("GET", f"{root}/servers/nosuch", 404),
    ]
