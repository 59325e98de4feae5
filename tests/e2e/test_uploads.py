"""Input files on their way to the server, and the forms in which they can be given."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from comfyloom._comfyui import answers
from comfyloom._comfyui.cancel_scope import CancelScope
from comfyloom._workflow.run_values import read_files
from comfyloom.emulator import Emulator, HttpFault
from comfyloom.errors import (
    InputFileError,
    InputValueError,
    PromptRejected,
    RunTimeout,
)
from comfyloom_workflows import FluxImageWorkflow
from guard_lab import soon
from small_runs import direct_session, small_workflow
from support import RENDER, free_port, request_statuses


@pytest.fixture
def large_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat every file on disk as large."""
    monkeypatch.setattr("comfyloom._workflow.files.HELD_BYTES", 1000)


# --- uploads --------------------------------------------------------------------------------------


def test_a_file_is_sent_once_in_all_sessions(emulator: Emulator) -> None:
    for _ in range(2):
        with direct_session(emulator) as session:
            for seed in (1, 2):
                session.run(small_workflow(seed=seed))
    assert request_statuses(emulator, "POST", "/upload/image") == [200]


def test_concurrent_runs_send_a_common_file_once(emulator: Emulator) -> None:
    with direct_session(emulator) as session:
        runs = [session.submit(small_workflow(seed=seed)) for seed in range(6)]
        for run in runs:
            run.wait()
    assert request_statuses(emulator, "POST", "/upload/image") == [200]


def test_a_file_that_the_server_lost_is_sent_again() -> None:
    port = free_port()
    for _ in range(2):  # the second server answers at the same URL, without files
        with Emulator(port=port) as emulator:
            with direct_session(emulator) as session:
                assert session.run(small_workflow()).mesh.size
            posts = request_statuses(emulator, "POST", "/prompt")
            assert request_statuses(emulator, "POST", "/upload/image") == [200]
    assert posts == [400, 200]
    assert len(emulator.state()["prompts"]) == 1


def test_a_partly_accepted_graph_with_a_lost_file_works_the_next_time() -> None:
    """The server lost one of two pictures, and accepts the output of the other."""
    port = free_port()
    with Emulator(port=port) as emulator, direct_session(emulator) as session:
        session.run(small_workflow())
    real = answers.rejection

    def partly(answer: Any) -> Any:
        if (refused := real(answer)) is not None:
            refused.status = 200  # as if another output had been valid
        return refused

    with Emulator(port=port) as emulator, direct_session(emulator) as session:
        patched = mock.patch("comfyloom._comfyui.submit.rejection", partly)
        with patched, pytest.raises(PromptRejected):
            session.run(small_workflow())
        assert session.run(small_workflow()).mesh.size
        assert request_statuses(emulator, "POST", "/upload/image") == [200]


def test_a_file_that_is_too_large_is_not_sent(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from comfyloom_emulator.comfyui import hub, info

    features = {"supports_preview_metadata": True, "max_upload_size": 2_000_000}
    monkeypatch.setattr(hub, "SERVER_FEATURES", features)
    monkeypatch.setattr(info, "SERVER_FEATURES", features)
    content = RENDER.read_bytes() + bytes(3_000_000)
    too_large = pytest.raises(InputFileError, match=r"the server accepts at most 2\.0")
    with direct_session(emulator) as session, too_large:
        session.run(small_workflow(content))
    assert request_statuses(emulator, "POST", "/upload/image") == []


def test_a_page_in_place_of_the_features_does_not_prevent_uploads(emulator: Emulator) -> None:
    page = HttpFault(status=200, body="<html>", headers={"Content-Type": "text/html"}, path="/feat")
    emulator.faults.add(page)
    with direct_session(emulator) as session:
        assert session.run(small_workflow(RENDER.read_bytes() + bytes(2_000_000))).mesh.size


@pytest.mark.usefixtures("large_files")
def test_a_large_file_is_streamed_and_must_not_change(emulator: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "render.png"
    path.write_bytes(RENDER.read_bytes())
    with direct_session(emulator) as session:
        result = session.run(small_workflow(path))
    assert result.mesh.size
    with pytest.raises(InputFileError, match="has changed since the run began"):
        _change_before_the_upload(emulator, path)
    # The emulator notices the aborted upload a moment later.
    assert soon(lambda: len(request_statuses(emulator, "POST", "/upload/image")) == 2)
    first, second = request_statuses(emulator, "POST", "/upload/image")
    assert (first, second == 200) == (200, False)  # the second upload was aborted


def _change_before_the_upload(emulator: Emulator, path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")
    with direct_session(emulator) as session:
        going = small_workflow(path)
        files = read_files(going)
        path.write_bytes(path.read_bytes()[:-4] + b"MORE")
        session.server().uploads.put(files["input_image"], CancelScope())


def test_a_cancelled_run_does_not_wait_for_an_upload(emulator: Emulator) -> None:
    emulator.faults.add(HttpFault(action="hang", path="/upload/image$"))
    with direct_session(emulator) as session:
        session.start()
        first = session.submit(small_workflow(), timeout=2.0)
        second = session.submit(small_workflow(seed=5), timeout=1.0)  # waits for the same file
        begun = time.monotonic()
        with pytest.raises(RunTimeout):
            second.wait()
        assert time.monotonic() - begun < 2.0
        with pytest.raises(RunTimeout):
            first.wait()
        assert time.monotonic() - begun < 6.0


# --- forms of a picture ---------------------------------------------------------------------------


def test_pictures_are_accepted_in_every_form(emulator: Emulator) -> None:
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
    with direct_session(emulator) as session:
        for each in forms:
            assert session.run(small_workflow(each)).image.size
        again = session.run(small_workflow(buffer))  # an open file can be run twice
    assert again.image.size
    assert request_statuses(emulator, "POST", "/upload/image") == [
        200,
        200,
    ]  # the mask is another picture


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda np: np.zeros((4, 4, 5), np.uint8), "(4, 4, 5) is not an image"),
        (lambda np: np.zeros((2, 4, 4, 3), np.uint8), "is not an image"),
        (lambda np: np.zeros((0, 4), np.uint8), "is not an image"),
        (lambda np: np.full((4, 4), 2.0), "from 0 to 1"),
        (lambda np: np.full((4, 4), np.nan), "from 0 to 1"),
        (lambda np: np.zeros((4, 4), np.int32), "int32 is not an image"),
        (lambda _: io.StringIO("text"), "text mode"),
        (lambda _: io.BytesIO(), "the file is empty"),
    ],
)
def test_values_that_are_not_pictures_are_refused(make: Callable[[Any], Any], text: str) -> None:
    import numpy as np

    with pytest.raises(InputValueError) as caught:
        read_files(small_workflow(make(np)))
    assert text in str(caught.value)
    assert caught.value.field == "input_image"


@pytest.mark.parametrize("mode", ["P", "LA", "L", "1", "I;16", "RGBA"])
def test_a_pillow_image_of_any_mode_keeps_its_pixels(mode: str) -> None:
    from PIL import Image

    with Image.open(RENDER) as opened:
        image = opened.resize((16, 16)).convert("L" if mode == "I;16" else mode)
    image = image.convert("I").convert("I;16") if mode == "I;16" else image
    (file,) = read_files(small_workflow(image)).values()
    with Image.open(io.BytesIO(file.content or b"")) as sent:
        assert sent.convert("RGBA").tobytes() == image.convert("RGBA").tobytes()


def test_a_pillow_image_without_pixels_is_refused() -> None:
    from PIL import Image

    with pytest.raises(InputValueError, match="cannot be written as PNG"):
        read_files(small_workflow(Image.new("RGB", (0, 4))))


def test_a_pillow_image_is_not_read_before_the_run(tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "cut.png"
    path.write_bytes(RENDER.read_bytes()[:5000])
    with Image.open(path) as image:
        made = small_workflow(image)
        with pytest.raises(InputValueError) as caught:
            read_files(made)
    assert caught.value.field == "input_image"


def test_a_result_can_be_the_input_of_another_workflow(emulator: Emulator) -> None:
    with direct_session(emulator) as session:
        picture = session.run(FluxImageWorkflow(prompt="x", width=64, height=64, steps=2)).image
        assert session.run(small_workflow(picture)).mesh.size


def test_workflows_with_arrays_compare_and_hash_by_value(render: Path) -> None:
    import numpy as np

    one, other = np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8)
    assert small_workflow(one) == small_workflow(one.copy())
    assert hash(small_workflow(one)) == hash(small_workflow(one.copy()))
    assert small_workflow(one) != small_workflow(other)
    assert small_workflow(one) != small_workflow(one.astype(np.float32))
    assert small_workflow(render) == small_workflow(render)
