"""Runs on one server: many together, their progress, their timeouts, older and newer servers."""

from __future__ import annotations

import threading
import time
from typing import Any
from unittest import mock

import attrs
import pytest
import requests

from comfyloom import RunComfySession, Timeouts
from comfyloom._comfyui.cancel_scope import CancelScope
from comfyloom._core.timeouts import PollIntervals
from comfyloom._session.execution import SubmissionTicket
from comfyloom.emulator import Emulator, HttpFault, RunFault
from comfyloom.errors import (
    ComfyloomError,
    ConfigError,
    RunTimeout,
)
from comfyloom.progress import Progress
from comfyloom_workflows import FluxImageWorkflow
from faults.trial import QUICK
from small_runs import direct_session, small_workflow
from support import ROOT, HastyClock, request_statuses

# --- many runs ------------------------------------------------------------------------------------


def test_sixty_four_runs_share_one_socket(emulator: Emulator) -> None:
    # However slow the machine is, silence must not make it reconnect.
    polling = PollIntervals(stopped_s=600.0, silent_s=600.0)
    timeouts = Timeouts(connect_s=60.0, ping_s=600.0, polling=polling)
    with direct_session(emulator, timeouts) as session:
        threads = []
        found: dict[int, Any] = {}

        def go(seed: int) -> None:
            quick_work = FluxImageWorkflow(prompt="x", seed=seed, width=32, height=32, steps=1)
            found[seed] = session.run(quick_work)

        for seed in range(64):
            threads.append(threading.Thread(target=go, args=(seed,)))
            threads[-1].start()
        for thread in threads:
            thread.join()
        graphs = {seed: result.image.embedded_graph() for seed, result in found.items()}
    assert len(found) == 64
    # Each has its own picture, as the graph embedded in it shows.
    assert all(graphs[seed]["3"]["inputs"]["noise_seed"] == seed for seed in graphs)
    assert request_statuses(emulator, "GET", "/ws") == [101]
    assert len(emulator.state()["prompts"]) == 64


def test_a_run_takes_three_requests_and_one_more_for_each_output(emulator: Emulator) -> None:
    with direct_session(emulator) as session:
        session.run(small_workflow())
        before = len(emulator.state()["requests"])
        session.run(FluxImageWorkflow(prompt="x", width=64, height=64, steps=4))
        one = len(emulator.state()["requests"])
        session.run(small_workflow(seed=5))
        two = len(emulator.state()["requests"])
    assert one - before == 3
    assert two - one == 4


def test_runs_are_submitted_in_order_although_one_of_them_fails() -> None:
    first = SubmissionTicket()
    second = SubmissionTicket.after(first)
    third = SubmissionTicket.after(second)
    second.end()
    reached: list[int] = []
    waiting = threading.Thread(target=lambda: (third.wait(CancelScope(), 0.2), reached.append(3)))
    waiting.start()
    time.sleep(0.4)
    assert reached == []
    first.end()
    waiting.join(30)
    assert reached == [3]
    third.end()
    assert SubmissionTicket.after(third)._before is None  # earlier tickets are not kept


def test_a_run_without_a_thread_is_an_error_and_does_not_block_later_runs(
    emulator: Emulator,
) -> None:
    with direct_session(emulator) as session:
        server = session.server()
        no_thread = mock.patch("threading.Thread.start", side_effect=RuntimeError("can't start"))
        with no_thread, pytest.raises(ComfyloomError, match="cannot start the run: can't start"):
            session.submit(small_workflow())
        assert server is session.server()
        assert session.run(small_workflow(), timeout=20).image.size


# --- progress -------------------------------------------------------------------------------------


def test_the_documented_loop_prints_no_line_twice(emulator: Emulator) -> None:
    page = (ROOT / "docs" / "running.md").read_text("utf-8")
    loop = page.partition("for progress in run.events():\n")[2].partition("result = ")[0]
    printed: list[str] = []
    with direct_session(emulator) as session:
        run = session.submit(small_workflow(steps=8))
        code = f"for progress in run.events():\n{loop}"
        exec(code, {"run": run, "print": printed.append})
    assert len(printed) > 20
    assert len(set(printed)) == len(printed)


def test_the_time_left_is_known_by_the_second_run(emulator: Emulator) -> None:
    reported: list[list[Progress]] = []
    for seed in range(2):
        with direct_session(emulator) as session:
            events: list[Progress] = []
            session.run(small_workflow(seed=seed), on_progress=events.append)
            reported.append(events)
    first, second = reported
    assert all(each.eta_s is None for each in first)
    running = [each.eta_s for each in second if each.kind == "step"]
    assert running
    assert all(eta is not None and eta >= 0 for eta in running)
    assert second[-1].eta_s == 0.0
    fractions = [each.fraction for each in second]
    assert fractions == sorted(fractions)


def test_cached_runs_do_not_shorten_the_time_left(emulator: Emulator) -> None:
    with direct_session(emulator) as session:
        session.run(small_workflow(seed=1))
        for _ in range(3):
            session.run(small_workflow(seed=1))  # everything is in the server's cache
        reported: list[Progress] = []
        session.run(small_workflow(seed=1), on_progress=reported.append)
    assert [each.message for each in reported if each.kind == "started"][1:] == [
        "started, 18 of 18 nodes are in the server's cache"
    ]
    from comfyloom._session.eta import Timings

    assert len(Timings.of("generate_flux_mesh", emulator.comfyui_url).runs) == 1


def test_a_silent_run_is_reported(emulator: Emulator) -> None:
    polling = PollIntervals(silent_s=0.5, stopped_s=0.2, queue_s=0.2)
    timeouts = attrs.evolve(QUICK, polling=polling)
    emulator.faults.add(RunFault(action="hang", class_type="XlabsSampler", step=2))
    seen: list[Progress] = []
    with direct_session(emulator, timeouts) as session:
        run = session.submit(small_workflow(), timeout=None)
        for progress in run.events():  # however slow the machine is
            seen.append(progress)
            if progress.kind == "silent" and progress.node == "3":
                break
        run.cancel()
    silent = [each for each in seen if each.kind == "silent"]
    assert "is running, but has been silent for" in silent[-1].message
    assert silent[-1].node == "3"


def test_a_failing_callback_does_not_harm_the_run(emulator: Emulator) -> None:
    def fail(_: Progress) -> None:
        raise RuntimeError("mine")

    with direct_session(emulator) as session:
        assert session.run(small_workflow(), on_progress=fail).image.size


def test_a_failing_callback_is_logged_once(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    with direct_session(emulator) as session:
        session.run(small_workflow(), on_progress=lambda _: 1 / 0)
    assert sum("a progress callback failed" in each.message for each in caplog.records) == 1


# --- timeouts and waits ---------------------------------------------------------------------------


def test_a_short_timeout_holds_when_the_server_is_silent_after_the_graph(
    emulator: Emulator,
) -> None:
    emulator.faults.add(
        HttpFault(action="hang", path="/prompt$", method="POST"),
        HttpFault(action="hang", path="/queue$", times=100),
    )
    with RunComfySession(emulator.comfyui_url) as session:
        begun = time.monotonic()
        with pytest.raises(RunTimeout):
            session.run(small_workflow(), timeout=2.0)
        assert time.monotonic() - begun < 15.0


@pytest.mark.parametrize("path", ["/history/", "/prompt$"])
def test_a_trickling_answer_does_not_outlive_the_timeout(emulator: Emulator, path: str) -> None:
    trickle = HttpFault(action="drip", path=path, size=5, seconds=0.5, times=100)
    emulator.faults.add(trickle)
    with RunComfySession(emulator.comfyui_url) as session:
        begun = time.monotonic()
        with pytest.raises(RunTimeout):
            session.run(small_workflow(), timeout=2.0)
        assert time.monotonic() - begun < 9.0


@pytest.mark.parametrize("timeout", ["5", -1, float("nan"), True, [5]])
def test_an_invalid_timeout_is_refused_and_does_not_block_later_runs(
    emulator: Emulator, timeout: Any
) -> None:
    with direct_session(emulator) as session:
        with pytest.raises(ConfigError, match="timeout must be a number of seconds"):
            session.run(small_workflow(), timeout=timeout)
        assert session.run(small_workflow(), timeout=20).image.size


def test_retry_after_is_honoured() -> None:
    waited: list[float] = []

    class Counting(HastyClock):
        def sleep(self, seconds: float) -> None:
            waited.append(seconds)
            super().sleep(seconds)

    with Emulator() as emulator:
        headers = {"Retry-After": "7"}
        emulator.faults.add(
            HttpFault(status=429, path="/prompt$", headers=headers),
            HttpFault(status=503, path="/view$", headers=headers),
        )
        with RunComfySession(emulator.comfyui_url, clock=Counting()) as session:
            session.run(small_workflow())
    assert [each for each in waited if each > 6] == [7.0, 7.0]


# --- newer servers, older servers and gateways ----------------------------------------------------


def test_a_newer_server_is_cancelled_in_one_step() -> None:
    times = {"XlabsSampler": 20.0}
    with (
        Emulator(time="real", run_s=0.0, node_seconds=times, comfyui_version="0.9.0") as emulator,
        RunComfySession(emulator.comfyui_url) as session,
    ):
        run = session.submit(small_workflow(steps=100))
        assert next(each for each in run.events() if each.kind == "step")
        run.cancel()
        assert run.status == "cancelled"
        assert (
            request_statuses(emulator, "POST", "/interrupt")
            == request_statuses(emulator, "POST", "/queue")
            == []
        )
        assert 200 in request_statuses(emulator, "POST", "/cancel")
        assert emulator.state()["prompts"][0]["status"] == "interrupted"


def test_a_server_may_choose_its_own_ids(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first versions of 0.3.x ignore `prompt_id`."""
    import uuid

    from comfyloom_emulator.comfyui import prompts

    theirs = str(uuid.uuid4())
    monkeypatch.setattr(prompts, "_prompt_id", lambda *_: theirs)
    with direct_session(emulator) as session:
        run = session.submit(small_workflow())
        result = run.wait()
    assert result.prompt_id == run.id == theirs
    assert result.mesh.size


def test_a_run_is_cancelled_although_a_gateway_refuses_the_jobs_api(emulator: Emulator) -> None:
    emulator.faults.add(
        HttpFault(status=403, path="/api/jobs/", times=100),
        RunFault(action="hang", class_type="XlabsSampler", step=2),
    )
    with direct_session(emulator) as session:
        run = session.submit(small_workflow())
        assert any(each.kind == "step" for each in run.events())
        run.cancel()
        assert run.status == "cancelled"
    assert emulator.state()["prompts"][0]["status"] == "interrupted"


def test_the_emulators_faults_hold_no_token(emulator: Emulator) -> None:
    answer = requests.get(f"{emulator.base_url}/_emulator/faults", timeout=30)
    assert emulator.token not in answer.text


def test_a_target_of_the_wrong_type_is_refused() -> None:
    with pytest.raises(ConfigError, match="target 5 is not one of runcomfy, emulator"):
        RunComfySession(5)  # type: ignore[arg-type]
