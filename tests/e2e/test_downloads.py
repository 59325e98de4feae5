"""Result files on their way from the server."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from comfyloom import RunComfySession
from comfyloom._workflow.formats import complaint
from comfyloom.emulator import Emulator, HttpFault
from comfyloom.errors import (
    OutputGone,
)
from comfyloom_workflows import FluxImageWorkflow
from small_runs import direct_session, small_workflow
from support import RENDER, HastyClock, request_statuses

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


def test_a_download_resumes_where_it_broke_off(emulator: Emulator, tmp_path: Path) -> None:
    emulator.faults.add(
        HttpFault(action="cut", path="/view$", size=3000),
        HttpFault(action="cut", path="/view$", size=1000),
    )
    with direct_session(emulator) as session:
        result = session.run(FluxImageWorkflow(prompt="x", width=64, height=64, steps=4))
    assert request_statuses(emulator, "GET", "/view") == [200, 206, 206]
    assert result.image.pil().size == (64, 64)


def test_a_download_restarts_when_the_file_has_changed(emulator: Emulator) -> None:
    """ComfyUI sends the rest of the file that has the name now: only the ETag shows the change."""
    emulator.faults.add(HttpFault(action="cut", path="/view$", size=3000))
    seen: list[Path] = []

    def rewrite() -> None:
        (path,) = emulator._files.rglob("output/**/*.png")
        content = path.read_bytes()
        path.write_bytes(content)
        import os

        os.utime(path, (1, 1))
        seen.append(path)

    class Rewriting(HastyClock):
        def sleep(self, seconds: float) -> None:
            if not seen and request_statuses(emulator, "GET", "/view"):
                rewrite()
            super().sleep(seconds)

    with RunComfySession(emulator.comfyui_url, clock=Rewriting()) as session:
        result = session.run(FluxImageWorkflow(prompt="x", width=64, height=64, steps=4))
    assert request_statuses(emulator, "GET", "/view") == [200, 206, 200]
    assert result.image.pil().size == (64, 64)


def test_an_answer_compressed_by_a_gateway_is_unpacked(emulator: Emulator) -> None:
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
            headers_sent = {"Content-Encoding": "gzip", "Content-Type": "image/png"}
            return Response(body, 200, headers_sent)

        with mock.patch.object(views, "file_reply", packed), direct_session(emulator) as session:
            result = session.run(FluxImageWorkflow(prompt="x", width=64, height=64, steps=4))
    assert begin.called
    assert result.image.pil().size == (64, 64)


def test_a_cached_run_without_its_file_is_explained(emulator: Emulator, tmp_path: Path) -> None:
    with direct_session(emulator) as session:
        session.run(small_workflow(seed=1))
        emulator.faults.add(HttpFault(path="/view$", status=404, times=9))
        with pytest.raises(OutputGone, match="names the file of an earlier run") as caught:
            session.run(small_workflow(seed=1), out_dir=tmp_path / "out")
        assert caught.value.field in ("image", "mesh")  # they are downloaded concurrently
        assert not (tmp_path / "out").exists()
        emulator.faults.clear()
        assert session.run(small_workflow(seed=2)).image.size  # as the message says


@pytest.mark.parametrize(
    "name", ["../../../evil.png", "/etc/evil.png", "..\\..\\evil.png", "a/../../evil.png", ".."]
)
def test_file_names_of_the_server_stay_in_the_folder(tmp_path: Path, name: str) -> None:
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


@pytest.mark.parametrize("after_s", [0.25, 0.35, 0.45, 0.6])
def test_a_killed_client_leaves_no_partial_file_and_harms_no_later_run(
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
        with direct_session(emulator) as session:  # with the upload cache of the killed client
            result = session.run(small_workflow(), out_dir=folder)
    assert complaint(result.image.path) is complaint(result.mesh.path) is None
