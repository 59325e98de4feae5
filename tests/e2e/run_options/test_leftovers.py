"""Files that the server has deleted, and results that only events bring."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from comfyloom.emulator import Emulator, Node, NodeCall, NodeResult
from comfyloom.errors import OutputGone, OutputMissing
from option_lab import EMPTY_PICTURE, FILL, RESULT, Posted, picture
from small_runs import direct_session, small_workflow

# --- files that the server has deleted -----------------------------------------------------------


def forget(folder: Path, pattern: str) -> int:
    """Delete files in the folder in which the emulated server keeps its results."""
    found = list(folder.rglob(f"comfyloom-emulator-*/**/output/**/{pattern}"))
    for path in found:
        path.unlink()
    return len(found)


def test_a_deleted_file_of_a_cached_run_is_saved_again(
    emulator: Emulator, tmp_path: Path, posted: Posted
) -> None:
    with direct_session(emulator) as session:
        first = session.run(small_workflow(seed=1))
        assert forget(tmp_path, "*.png")
        second = session.run(small_workflow(seed=1))
        assert second.image.bytes()[:4] == first.image.bytes()[:4]
        assert second.prompt_id != first.prompt_id
    _, cached, again = posted()
    assert second.prompt_id == again["id"]
    changed = [
        (node, name)
        for node in again["graph"]
        for name, value in again["graph"][node]["inputs"].items()
        if value != cached["graph"][node]["inputs"][name]
    ]
    assert {name for _, name in changed} == {"filename_prefix"}


def test_it_is_tried_only_once(emulator: Emulator, tmp_path: Path, posted: Posted) -> None:
    from comfyloom.emulator import HttpFault

    with direct_session(emulator) as session:
        session.run(small_workflow(seed=1))
        emulator.faults.add(HttpFault(path="/view", status=404, times=50))
        with pytest.raises(OutputGone, match="fresh=True"):
            session.run(small_workflow(seed=1))
    assert len(posted()) == 3


def test_a_second_generation_needs_consent(emulator: Emulator, posted: Posted) -> None:
    from comfyloom.emulator import HttpFault

    with direct_session(emulator) as session:
        emulator.faults.add(HttpFault(path="/view", status=404, times=2))
        with pytest.raises(OutputGone, match="fresh=True"):
            session.run(small_workflow(seed=1))
        assert len(posted()) == 1
        emulator.faults.clear()
        emulator.faults.add(HttpFault(path="/view", status=404, times=1))
        assert session.run(small_workflow(seed=2), fresh=True).mesh.size
    assert len(posted()) == 3


def test_a_server_forgets_on_request(emulator: Emulator) -> None:
    seen: list[str] = []
    with direct_session(emulator) as session:
        session.run(small_workflow(seed=1))
        session.free()
        session.run(small_workflow(seed=1), on_progress=lambda each: seen.append(each.message))
    assert not any("in the server's cache" in message for message in seen)


# --- what only events say ------------------------------------------------------------------------


STREAM = {"2": {"class_type": "SaveImageWebsocket", "inputs": {"images": ["1", 0]}}}


def test_images_of_the_event_socket_are_results(
    emulator: Emulator, made: Callable[..., Any], tmp_path: Path
) -> None:
    cls = made({**FILL, **STREAM}, '[results]\npicture = { node = "2", kind = "image" }\n')
    many = made(
        {**FILL, **STREAM}, '[results]\npictures = { node = "2", kind = "image", many = true }\n'
    )
    previews: list[Any] = []
    with direct_session(emulator) as session:
        result = session.run(cls(), out_dir=tmp_path, on_progress=previews.append)
        assert result.picture.path == tmp_path / "picture.png"
        assert result.picture.pil().size == (8, 8)
        assert len(session.run(many()).pictures) == 1
    assert not any(each.kind == "preview" for each in previews)


def test_images_that_are_streamed_twice_are_one_result(
    emulator: Emulator, made: Callable[..., Any]
) -> None:
    from comfyloom.emulator import HttpFault

    save = {"3": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}}
    save["3"]["inputs"] |= {"filename_prefix": "x"}
    results = (
        'live = { node = "2", kind = "image", many = true }\nkept = { node = "3", kind = "image" }'
    )
    cls = made({**FILL, **STREAM, **save}, f"[results]\n{results}\n")
    emulator.faults.add(HttpFault(path="/view", status=404, times=1))
    with direct_session(emulator) as session:
        result = session.run(cls(), fresh=True)
    assert len(emulator.state()["prompts"]) == 2
    assert len(result.live) == 1
    assert result.kept.size


def test_images_that_could_not_arrive_are_explained(
    emulator: Emulator, made: Callable[..., Any]
) -> None:
    from comfyloom import RunComfySession
    from gateway import behind, url_through

    cls = made({**FILL, **STREAM}, '[results]\npicture = { node = "2", kind = "image" }\n')
    refusal = "403 Forbidden\r\nContent-Length: 0"
    judge = lambda seen: refusal if seen.is_handshake else None  # noqa: E731
    with behind(emulator.comfyui_url, judge=judge) as gateway:
        target = url_through(gateway, emulator.comfyui_url)
        with RunComfySession(target) as session, pytest.raises(OutputMissing, match="socket"):
            session.run(cls())


def test_the_message_of_a_blocker_reaches_the_error(made: Callable[..., Any]) -> None:
    def block(call: NodeCall) -> NodeResult:
        return NodeResult(outputs=(None,), blocked="no face was found")

    nodes = {"EmptyPicture": Node(run=block), "PreviewImage": Node(run=lambda _: NodeResult())}
    cls = made(FILL, RESULT)
    with (
        Emulator(object_info=EMPTY_PICTURE, nodes=nodes) as emulator,
        direct_session(emulator) as session,
        pytest.raises(OutputMissing, match=r"node 1 was blocked: no face was found"),
    ):
        session.run(cls())


def test_a_file_keeps_the_suffix_that_its_node_gives_it(
    emulator: Emulator, made: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    def save(call: NodeCall) -> NodeResult:
        from PIL import Image

        folder = call.folders.save_target("x", "output", 8, 8)
        path = folder.directory / folder.name("JPEG", 0)
        Image.new("RGB", (8, 8)).save(path, "JPEG")
        reference = {"filename": path.name, "subfolder": "", "type": "output"}
        return NodeResult(ui={"images": [reference]}, saved=(path,))

    nodes = {"EmptyPicture": Node(run=picture), "PreviewImage": Node(run=save)}
    with (
        Emulator(object_info=EMPTY_PICTURE, nodes=nodes) as other,
        direct_session(other) as session,
    ):
        for name, kept in (("picture.png", "picture.jpeg"), ("picture.jpg", "picture.jpg")):
            entry = f'{{ node = "2", kind = "image", file = "{name}" }}'
            cls = made(FILL, f"[results]\npicture = {entry}\n")
            caplog.clear()
            assert session.run(cls()).picture.path.name == kept
            assert (kept in caplog.text) == (name != kept)
