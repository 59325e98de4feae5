"""Files there and back, many runs at once, and what a run tells of itself."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import attrs
import pytest
import requests

from comfyloom import RunComfySession
from comfyloom._comfyui import client
from comfyloom._comfyui.cancel_scope import CancelScope
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, PollIntervals, Timeouts
from comfyloom._session.execution import SubmissionTicket
from comfyloom._workflow.formats import complaint
from comfyloom._workflow.run_values import read_files
from comfyloom.emulator import Emulator, HttpFault, PromptFault, RunFault
from comfyloom.errors import (
    ComfyloomError,
    ConfigError,
    InputFileError,
    InputValueError,
    OutputMissing,
    PromptRejected,
    RunTimeout,
)
from comfyloom.progress import Progress
from comfyloom_workflows import FluxImageWorkflow, FluxMeshWorkflow
from faults.trial import QUICK
from support import RENDER, HastyClock, free_port


def work(image: Any = RENDER, **values: Any) -> FluxMeshWorkflow:
    given = {"prompt": "a robot", "width": 64, "height": 64, "steps": 4} | values
    return FluxMeshWorkflow(input_image=image, **given)


def plain(emulator: Emulator, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> RunComfySession:
    return RunComfySession(emulator.comfyui_url, timeouts=timeouts, clock=HastyClock())


def asked(emulator: Emulator, method: str, end: str) -> list[int]:
    """Return the status of each request for a path that ends so."""
    return [
        each["status"]
        for each in emulator.state()["requests"]
        if each["method"] == method and each["path"].endswith(end)
    ]


# --- uploads -------------------------------------------------------------------------------------


def test_a_file_is_sent_once_in_all_sessions(emulator: Emulator) -> None:
    for _ in range(2):
        with plain(emulator) as session:
            for seed in (1, 2):
                session.run(work(seed=seed))
    assert asked(emulator, "POST", "/upload/image") == [200]


def test_runs_at_once_send_their_common_file_once(emulator: Emulator) -> None:
    with plain(emulator) as session:
        runs = [session.submit(work(seed=seed)) for seed in range(6)]
        for run in runs:
            run.wait()
    assert asked(emulator, "POST", "/upload/image") == [200]


def test_a_server_that_lost_a_file_is_sent_it_again() -> None:
    port = free_port()
    for _ in range(2):  # the second one answers at the same URL, and has no files
        with Emulator(port=port) as emulator:
            with plain(emulator) as session:
                assert session.run(work()).mesh.size
            posts = asked(emulator, "POST", "/prompt")
            assert asked(emulator, "POST", "/upload/image") == [200]
    assert posts == [400, 200]
    assert len(emulator.state()["prompts"]) == 1


def test_a_file_that_is_too_large_is_not_sent(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from comfyloom_emulator.comfyui import hub, info

    features = {"supports_preview_metadata": True, "max_upload_size": 2_000_000}
    monkeypatch.setattr(hub, "SERVER_FEATURES", features)
    monkeypatch.setattr(info, "SERVER_FEATURES", features)
    content = RENDER.read_bytes() + bytes(3_000_000)
    too_large = pytest.raises(InputFileError, match=r"the server accepts 2\.0")
    with plain(emulator) as session, too_large:
        session.run(work(content))
    assert asked(emulator, "POST", "/upload/image") == []


@pytest.mark.usefixtures("large_files")
def test_a_large_file_is_streamed(emulator: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "render.png"
    path.write_bytes(RENDER.read_bytes())
    with plain(emulator) as session:
        result = session.run(work(path))
    assert result.mesh.size
    with pytest.raises(InputFileError, match="has changed since the run was begun"):
        _changed_while_it_waits(emulator, path)
    first, second = asked(emulator, "POST", "/upload/image")
    assert (first, second == 200) == (200, False)  # the second body broke off


def _changed_while_it_waits(emulator: Emulator, path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")
    with plain(emulator) as session:
        going = work(path)
        files = read_files(going)
        path.write_bytes(path.read_bytes()[:-4] + b"MORE")
        session.server().uploads.put(files["input_image"], CancelScope())


@pytest.fixture
def large_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file on the disk is a large one."""
    monkeypatch.setattr("comfyloom._workflow.files.HELD_BYTES", 1000)


def test_pictures_in_every_form(emulator: Emulator) -> None:
    import numpy as np
    from PIL import Image

    with Image.open(RENDER) as opened:
        image = opened.convert("RGB").resize((64, 64))
    array = np.asarray(image)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    forms: list[Any] = [
        *(image, array, array[None], array.astype(np.float32) / 255, array[..., 0] > 100),
        *(buffer, buffer.getvalue()),
    ]
    with plain(emulator) as session:
        for each in forms:
            assert session.run(work(each)).image.size
        again = session.run(work(buffer))  # an open file can be run twice
    assert again.image.size
    assert asked(emulator, "POST", "/upload/image") == [200, 200]  # the mask is another picture


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda np: np.zeros((4, 4, 5), np.uint8), "(4, 4, 5) is no picture"),
        (lambda np: np.zeros((2, 4, 4, 3), np.uint8), "is no picture"),
        (lambda np: np.zeros((0, 4), np.uint8), "is no picture"),
        (lambda np: np.full((4, 4), 2.0), "from 0 to 1"),
        (lambda np: np.full((4, 4), np.nan), "from 0 to 1"),
        (lambda np: np.zeros((4, 4), np.int32), "int32 is no picture"),
        (lambda _: io.StringIO("text"), "text mode"),
        (lambda _: io.BytesIO(), "the file is empty"),
    ],
)
def test_what_is_no_picture(make: Callable[[Any], Any], text: str) -> None:
    import numpy as np

    with pytest.raises(InputValueError) as caught:
        read_files(work(make(np)))
    assert text in str(caught.value)
    assert caught.value.field == "input_image"


# --- downloads -----------------------------------------------------------------------------------


def test_a_download_goes_on_where_it_broke_off(emulator: Emulator, tmp_path: Path) -> None:
    emulator.faults.add(
        HttpFault(action="cut", path="/view$", size=3000),
        HttpFault(action="cut", path="/view$", size=1000),
    )
    with plain(emulator) as session:
        result = session.run(FluxImageWorkflow(prompt="x", width=64, height=64, steps=4))
    assert asked(emulator, "GET", "/view") == [200, 206, 206]
    assert result.image.pil().size == (64, 64)


def test_a_file_that_changed_meanwhile_is_begun_anew(emulator: Emulator) -> None:
    """ComfyUI sends the rest of whatever has the name now: only the ETag tells."""
    emulator.faults.add(HttpFault(action="cut", path="/view$", size=3000))
    seen: list[Path] = []

    def rewrite() -> None:
        root = Path(emulator._files.name)  # type: ignore[union-attr]
        (path,) = root.rglob("output/**/*.png")
        content = path.read_bytes()
        path.write_bytes(content)
        import os

        os.utime(path, (1, 1))
        seen.append(path)

    class Rewriting(HastyClock):
        def sleep(self, seconds: float) -> None:
            if not seen and asked(emulator, "GET", "/view"):
                rewrite()
            super().sleep(seconds)

    with RunComfySession(emulator.comfyui_url, clock=Rewriting()) as session:
        result = session.run(FluxImageWorkflow(prompt="x", width=64, height=64, steps=4))
    assert asked(emulator, "GET", "/view") == [200, 206, 200]
    assert result.image.pil().size == (64, 64)


def test_a_cached_run_without_its_file_says_so(emulator: Emulator, tmp_path: Path) -> None:
    emulator.faults.add(PromptFault(action="lose_files", after=1))
    with plain(emulator) as session:
        session.run(work(seed=1))
        with pytest.raises(OutputMissing, match="names the file of an earlier run") as caught:
            session.run(work(seed=1), out_dir=tmp_path / "out")
        assert caught.value.field in ("image", "mesh")  # they are fetched at the same time
        assert not (tmp_path / "out").exists()
        assert session.run(work(seed=2)).image.size  # as the message says


@pytest.mark.parametrize(
    "name", ["../../../evil.png", "/etc/evil.png", "..\\..\\evil.png", "a/../../evil.png", ".."]
)
def test_no_name_of_the_server_leaves_the_folder(tmp_path: Path, name: str) -> None:
    from comfyloom._comfyui.downloads import plan
    from comfyloom._comfyui.history import HistoryEntry
    from comfyloom._workflow.outputs import OutputSpec

    raw = {
        "outputs": {"1": {"images": [{"filename": name, "subfolder": "../..", "type": "output"}]}}
    }
    entry = HistoryEntry.parse("p", raw)
    assert entry is not None
    (item,) = plan(entry, [OutputSpec(kind="image", node="1", name="picture")])
    assert (tmp_path / item.name).resolve().parent == tmp_path.resolve()


# --- many at once --------------------------------------------------------------------------------


def test_sixty_four_runs_share_one_socket(emulator: Emulator) -> None:
    with plain(emulator) as session:
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
    # Each has its own picture, by the graph that stands in it.
    assert all(graphs[seed]["3"]["inputs"]["noise_seed"] == seed for seed in graphs)
    assert asked(emulator, "GET", "/ws") == [101]
    assert len(emulator.state()["prompts"]) == 64


def test_a_run_takes_three_requests_and_one_more_for_each_output(emulator: Emulator) -> None:
    with plain(emulator) as session:
        session.run(work())
        before = len(emulator.state()["requests"])
        session.run(FluxImageWorkflow(prompt="x", width=64, height=64, steps=4))
        one = len(emulator.state()["requests"])
        session.run(work(seed=5))
        two = len(emulator.state()["requests"])
    assert one - before == 3
    assert two - one == 4


# --- what a run tells ----------------------------------------------------------------------------


def test_the_time_left_is_known_by_the_second_run(emulator: Emulator) -> None:
    told: list[list[Progress]] = []
    for seed in range(2):
        with plain(emulator) as session:
            events: list[Progress] = []
            session.run(work(seed=seed), on_progress=events.append)
            told.append(events)
    first, second = told
    assert all(each.eta_s is None for each in first)
    running = [each.eta_s for each in second if each.kind == "step"]
    assert running
    assert all(eta is not None and eta >= 0 for eta in running)
    assert second[-1].eta_s == 0.0
    fractions = [each.fraction for each in second]
    assert fractions == sorted(fractions)


def test_a_silent_run_is_reported(emulator: Emulator) -> None:
    polling = PollIntervals(silent_s=0.5, stopped_s=0.2, queue_s=0.2)
    timeouts = attrs.evolve(QUICK, polling=polling)
    emulator.faults.add(RunFault(action="hang", class_type="XlabsSampler", step=2))
    seen: list[Progress] = []
    with plain(emulator, timeouts) as session:
        run = session.submit(work(), timeout=None)
        for progress in run.events():  # however slow the machine is
            seen.append(progress)
            if progress.kind == "silent":
                break
        run.cancel()
    silent = [each for each in seen if each.kind == "silent"]
    assert "is running, but has been silent for" in silent[0].message
    assert silent[0].node == "3"


def test_a_callback_that_fails_harms_nothing(emulator: Emulator) -> None:
    def fail(_: Progress) -> None:
        raise RuntimeError("mine")

    with plain(emulator) as session:
        assert session.run(work(), on_progress=fail).image.size


# --- newer and older servers ---------------------------------------------------------------------


def test_a_newer_server_is_cancelled_in_one_step() -> None:
    times = {"XlabsSampler": 20.0}
    with (
        Emulator(time="real", run_s=0.0, node_seconds=times, comfyui_version="0.9.0") as emulator,
        RunComfySession(emulator.comfyui_url) as session,
    ):
        run = session.submit(work(steps=100))
        assert next(each for each in run.events() if each.kind == "step")
        run.cancel()
        assert run.status == "cancelled"
        assert asked(emulator, "POST", "/interrupt") == asked(emulator, "POST", "/queue") == []
        assert 200 in asked(emulator, "POST", "/cancel")
        assert emulator.state()["prompts"][0]["status"] == "interrupted"


def test_a_server_that_draws_its_own_ids(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of 0.3.x take no notice of `prompt_id`."""
    import uuid

    from comfyloom_emulator.comfyui import prompts

    theirs = str(uuid.uuid4())
    monkeypatch.setattr(prompts, "_prompt_id", lambda *_: theirs)
    with plain(emulator) as session:
        run = session.submit(work())
        result = run.wait()
    assert result.prompt_id == run.id == theirs
    assert result.mesh.size


def test_the_emulators_own_faults_leave_no_secret(emulator: Emulator) -> None:
    answer = requests.get(f"{emulator.base_url}/_emulator/faults", timeout=5)
    assert emulator.token not in answer.text


# --- what a review found -------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["P", "LA", "L", "1", "I;16", "RGBA"])
def test_a_pillow_image_of_any_mode_stays_what_it_shows(mode: str) -> None:
    from PIL import Image

    with Image.open(RENDER) as opened:
        image = opened.resize((16, 16)).convert("L" if mode == "I;16" else mode)
    image = image.convert("I").convert("I;16") if mode == "I;16" else image
    (file,) = read_files(work(image)).values()
    with Image.open(io.BytesIO(file.content or b"")) as sent:
        assert sent.convert("RGBA").tobytes() == image.convert("RGBA").tobytes()


def test_a_pillow_image_that_png_cannot_hold() -> None:
    from PIL import Image

    with pytest.raises(InputValueError, match="cannot be written as PNG") as caught:
        read_files(work(Image.new("CMYK", (4, 4))))
    assert caught.value.field == "input_image"


def test_a_partly_accepted_graph_whose_file_is_lost_works_the_next_time() -> None:
    """Two pictures, one of which the server has lost: it runs the output of the other."""
    port = free_port()
    with Emulator(port=port) as emulator, plain(emulator) as session:
        session.run(work())
    real = client.rejection

    def partly(answer: Any) -> Any:
        if (refused := real(answer)) is not None:
            refused.status = 200  # as if another output had been valid
        return refused

    with Emulator(port=port) as emulator, plain(emulator) as session:
        patched = mock.patch("comfyloom._comfyui.submit.rejection", partly)
        with patched, pytest.raises(PromptRejected):
            session.run(work())
        assert session.run(work()).mesh.size
        assert asked(emulator, "POST", "/upload/image") == [200]


def test_a_cancelled_run_does_not_wait_for_an_upload(emulator: Emulator) -> None:
    emulator.faults.add(HttpFault(action="hang", path="/upload/image$"))
    with plain(emulator) as session:
        first = session.submit(work(), timeout=2.0)
        second = session.submit(work(seed=5), timeout=1.0)  # waits for the same file
        begun = time.monotonic()
        with pytest.raises(RunTimeout):
            second.wait()
        assert time.monotonic() - begun < 2.0
        with pytest.raises(RunTimeout):
            first.wait()
        assert time.monotonic() - begun < 6.0


def test_a_short_timeout_holds_when_the_server_falls_silent_after_the_graph(
    emulator: Emulator,
) -> None:
    emulator.faults.add(
        HttpFault(action="hang", path="/prompt$", method="POST"),
        HttpFault(action="hang", path="/queue$", times=100),
    )
    with RunComfySession(emulator.comfyui_url) as session:
        begun = time.monotonic()
        with pytest.raises(RunTimeout):
            session.run(work(), timeout=2.0)
        assert time.monotonic() - begun < 15.0


def test_runs_come_into_the_queue_in_order_when_one_of_them_fails() -> None:
    first = SubmissionTicket()
    second = first.next()
    third = second.next()
    second.end()
    reached: list[int] = []
    waiting = threading.Thread(target=lambda: (third.wait(CancelScope()), reached.append(3)))
    waiting.start()
    time.sleep(0.4)
    assert reached == []
    first.end()
    waiting.join(5)
    assert reached == [3]
    third.end()
    assert third.next()._before is None  # no chain of all that ever was


def test_an_answer_that_a_gateway_compressed_is_unpacked(emulator: Emulator) -> None:
    import gzip

    from comfyloom._comfyui.resumable_download import ResumableDownload

    with mock.patch.object(
        ResumableDownload, "_begin", autospec=True, side_effect=ResumableDownload._begin
    ) as begin:
        from comfyloom_emulator.comfyui import view as views

        real = views.file_reply

        def packed(path: Path, headers: Any) -> Any:
            from starlette.responses import Response

            answer = real(path, headers)
            body = gzip.compress(bytes(answer.body))
            told = {"Content-Encoding": "gzip", "Content-Type": "image/png"}
            return Response(body, 200, told)

        with mock.patch.object(views, "file_reply", packed), plain(emulator) as session:
            result = session.run(FluxImageWorkflow(prompt="x", width=64, height=64, steps=4))
    assert begin.called
    assert result.image.pil().size == (64, 64)


def test_a_page_in_place_of_the_features_keeps_nobody_from_uploading(emulator: Emulator) -> None:
    page = HttpFault(status=200, body="<html>", headers={"Content-Type": "text/html"}, path="/feat")
    emulator.faults.add(page)
    with plain(emulator) as session:
        assert session.run(work(RENDER.read_bytes() + bytes(2_000_000))).mesh.size


def test_a_gateway_that_refuses_the_jobs_api_does_not_keep_a_run_alive(emulator: Emulator) -> None:
    emulator.faults.add(
        HttpFault(status=403, path="/api/jobs/", times=100),
        RunFault(action="hang", class_type="XlabsSampler", step=2),
    )
    with plain(emulator) as session:
        run = session.submit(work())
        assert any(each.kind == "step" for each in run.events())
        run.cancel()
        assert run.status == "cancelled"
    assert emulator.state()["prompts"][0]["status"] == "interrupted"


def test_cached_runs_do_not_shorten_the_time_left(emulator: Emulator) -> None:
    with plain(emulator) as session:
        session.run(work(seed=1))
        for _ in range(3):
            session.run(work(seed=1))  # all of it is in the server's cache
        told: list[Progress] = []
        session.run(work(seed=1), on_progress=told.append)
    assert [each.message for each in told if each.kind == "started"][1:] == [
        "started, 18 of 18 nodes are in the server's cache"
    ]
    from comfyloom._session.eta import Timings

    assert len(Timings.of("generate_flux_mesh", emulator.comfyui_url).runs) == 1


def test_what_the_server_asks_to_wait_is_waited() -> None:
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
            session.run(work())
    assert [each for each in waited if each > 6] == [7.0, 7.0]


@pytest.mark.parametrize("path", ["/history/", "/prompt$"])
def test_an_answer_that_trickles_holds_nobody_beyond_the_time_given(
    emulator: Emulator, path: str
) -> None:
    trickle = HttpFault(action="drip", path=path, size=5, seconds=0.5, times=100)
    emulator.faults.add(trickle)
    with RunComfySession(emulator.comfyui_url) as session:
        begun = time.monotonic()
        with pytest.raises(RunTimeout):
            session.run(work(), timeout=2.0)
        assert time.monotonic() - begun < 9.0


# --- what a new user found -----------------------------------------------------------------------


def test_a_result_is_the_input_of_another_workflow(emulator: Emulator) -> None:
    with plain(emulator) as session:
        picture = session.run(FluxImageWorkflow(prompt="x", width=64, height=64, steps=2)).image
        assert session.run(work(picture)).mesh.size


@pytest.mark.parametrize("timeout", ["5", -1, float("nan"), True, [5]])
def test_a_timeout_that_is_none_is_refused_and_blocks_nobody(
    emulator: Emulator, timeout: Any
) -> None:
    with plain(emulator) as session:
        with pytest.raises(ConfigError, match="timeout is a number of seconds"):
            session.run(work(), timeout=timeout)
        assert session.run(work(), timeout=20).image.size


def test_workflows_with_arrays_are_values(render: Path) -> None:
    import numpy as np

    one, other = np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8)
    assert work(one) == work(one.copy())
    assert hash(work(one)) == hash(work(one.copy()))
    assert work(one) != work(other)
    assert work(one) != work(one.astype(np.float32))
    assert work(render) == work(render)


def test_a_pillow_image_is_not_read_before_the_run(tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "cut.png"
    path.write_bytes(RENDER.read_bytes()[:5000])
    with Image.open(path) as image:
        made = work(image)
        with pytest.raises(InputValueError) as caught:
            read_files(made)
    assert caught.value.field == "input_image"


def test_a_callback_that_fails_is_told_of_once(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    with plain(emulator) as session:
        session.run(work(), on_progress=lambda _: 1 / 0)
    assert sum("a progress callback failed" in each.message for each in caplog.records) == 1


def test_a_target_that_is_none() -> None:
    with pytest.raises(ConfigError, match="target 5 is not one of runcomfy, emulator"):
        RunComfySession(5)  # type: ignore[arg-type]


# --- what an attacker found ----------------------------------------------------------------------

CLIENT = """
import sys
from pathlib import Path
from comfyloom import RunComfySession
from comfyloom_workflows import FluxMeshWorkflow

url, render, folder = sys.argv[1:]
work = FluxMeshWorkflow(input_image=render, prompt="x", width=64, height=64, steps=4)
with RunComfySession(url) as session:
    session.run(work, out_dir=folder)
"""


@pytest.mark.parametrize("after_s", [0.25, 0.35, 0.45, 0.6])
def test_a_client_that_is_killed_leaves_no_half_file_and_harms_no_later_run(
    tmp_path: Path, after_s: float
) -> None:
    folder = tmp_path / "out"
    with Emulator(time="real", run_s=0.2) as emulator:
        command = [sys.executable, "-c", CLIENT, emulator.comfyui_url, str(RENDER), str(folder)]
        process = subprocess.Popen(command)
        time.sleep(after_s)
        process.kill()
        process.wait()
        found = sorted(path.name for path in folder.glob("*") if not path.name.startswith("."))
        assert all(complaint(folder / name) is None for name in found)
        with plain(emulator) as session:  # what the dead one noted is in the same cache
            result = session.run(work(), out_dir=folder)
    assert complaint(result.image.path) is complaint(result.mesh.path) is None


def test_no_thread_left_for_a_run_is_told_and_blocks_nobody(emulator: Emulator) -> None:
    with plain(emulator) as session:
        server = session.server()
        no_thread = mock.patch("threading.Thread.start", side_effect=RuntimeError("can't start"))
        with no_thread, pytest.raises(ComfyloomError, match="cannot start the run: can't start"):
            session.submit(work())
        assert server is session.server()
        assert session.run(work(), timeout=20).image.size
