"""What the client relies on: the same assertions on every server."""

from __future__ import annotations

import json
import queue
import re
import secrets
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from comfyloom import RunComfySession
from comfyloom._comfyui.cancel_scope import CancelScope
from comfyloom._comfyui.client import ComfyUI
from comfyloom._comfyui.events import ServerEvent
from comfyloom._comfyui.history import FileReference
from comfyloom._comfyui.jobs_api import JobState
from comfyloom._comfyui.run_watcher import RunWatcher
from comfyloom._comfyui.submit import Submission
from comfyloom._comfyui.upload_file import UploadLimit
from comfyloom._core.waiting import Deadline
from comfyloom.errors import ApiError, NotFound, PromptRejected, RunCancelled, RunLost, RunTimeout
from contract.conftest import COPY, FILL, LINGER


def fresh() -> str:
    """Return a file prefix that no earlier run had: nothing is found in the cache."""
    return f"contract/{uuid.uuid4().hex}"


def novel() -> int:
    """Return a colour that no earlier run had, for the same reason."""
    return secrets.randbelow(0xFFFF00)


def graph_of(base: dict[str, Any], **inputs: Any) -> dict[str, Any]:
    """Return a graph with other inputs of its first node."""
    graph: dict[str, Any] = json.loads(json.dumps(base))
    graph["1"]["inputs"] |= inputs
    return graph


# --- what a server reports -----------------------------------------------------------------------


def test_the_server_reports_its_version_and_upload_limit(server: ComfyUI) -> None:
    assert server.system_stats()["system"]["comfyui_version"]
    limit = UploadLimit(server._calls, server.event_router).read()
    assert limit is None or limit > 0


def test_the_server_reports_its_node_types(server: ComfyUI) -> None:
    classes = server.object_info()
    assert {"LoadImage", "SaveImage", "PreviewImage", "EmptyImage"} <= set(classes)
    assert classes["SaveImage"]["output_node"] is True


def test_history_of_an_unknown_run_is_none(server: ComfyUI) -> None:
    assert server.history(str(uuid.uuid4())) is None
    assert not server.knows(str(uuid.uuid4()))


# --- runs ----------------------------------------------------------------------------------------


def test_a_picture_is_uploaded_and_downloaded(
    session: RunComfySession, copying: Any, picture: Path
) -> None:
    work = copying(image=picture, prefix=fresh())
    result = session.run(work, timeout=60)
    from PIL import Image

    with Image.open(picture) as sent:
        assert result.copy.pil().convert("RGB").tobytes() == sent.convert("RGB").tobytes()
    graph = result.copy.embedded_graph()
    assert graph["2"]["inputs"]["filename_prefix"] == work.prefix
    assert result.ui["2"]["images"][0]["type"] == "output"


def test_a_picture_is_sent_once(session: RunComfySession, copying: Any, picture: Path) -> None:
    events = []
    for _ in range(2):
        session.run(copying(image=picture, prefix=fresh()), timeout=60, on_progress=events.append)
    assert [each.kind for each in events].count("upload") == 1


def test_two_pictures_of_the_same_name_stay_distinct(
    session: RunComfySession, copying: Any, tmp_path: Path
) -> None:
    from PIL import Image

    for value in (0, 255):
        path = tmp_path / str(value) / "render.png"
        path.parent.mkdir()
        Image.new("RGB", (8, 8), (value,) * 3).save(path)
        result = session.run(copying(image=path, prefix=fresh()), timeout=60)
        assert (result.copy.numpy()[..., :3] == value).all()


def test_events_come_in_order_and_history_is_there_at_the_end(server: ComfyUI) -> None:
    for _ in range(10):
        seen: queue.SimpleQueue[Any] = queue.SimpleQueue()
        prompt_id = str(uuid.uuid4())
        graph = graph_of(FILL, color=novel())
        with server.event_router.listening(prompt_id, seen.put):
            accepted = Submission(server, graph, server.event_router.client_id, prompt_id).send()
            assert accepted == prompt_id
            kinds: list[str] = []
            while True:
                event = seen.get(timeout=30)
                if not isinstance(event, ServerEvent) or event.prompt_id != prompt_id:
                    continue
                kinds.append(event.type)
                if event.type == "executing" and event.node is None:
                    break
            entry = server.history(prompt_id)
        assert entry is not None, "history has to be complete when the last event comes"
        assert entry.files("2")
        assert kinds[:2] == ["execution_start", "execution_cached"]
        assert "execution_success" in kinds


class Ignoring:
    """A listener that ignores everything, on a server whose life is not ours."""

    def on_event(self, event: ServerEvent) -> None: ...

    def on_queued(self, position: int) -> None: ...

    def on_running(self) -> None: ...

    def on_silent(self, seconds: float) -> None: ...

    def touch(self) -> None: ...

    def check_alive(self, server: object) -> None: ...


def watch(server: ComfyUI, prompt_id: str) -> RunWatcher:
    scope = CancelScope(Deadline.after(60))
    return RunWatcher(server, prompt_id, scope, Ignoring(), Ignoring())


def test_a_repeated_run_names_the_same_file(server: ComfyUI) -> None:
    graph = graph_of(FILL, color=novel())
    names = [_run(server, graph).files("2") for _ in range(2)]
    assert names[0] == names[1]


def _run(server: ComfyUI, graph: dict[str, Any]) -> Any:
    prompt_id = str(uuid.uuid4())
    watcher = watch(server, prompt_id)
    with server.event_router.listening(prompt_id, watcher.deliver):
        Submission(server, graph, server.event_router.client_id, prompt_id).send()
        return watcher.wait()


def test_without_events_polling_alone_sees_the_end(server: ComfyUI) -> None:
    prompt_id = str(uuid.uuid4())
    graph = graph_of(FILL, color=novel())
    Submission(server, graph, uuid.uuid4().hex, prompt_id).send()
    assert watch(server, prompt_id).wait().status in ("success", "")


def test_many_runs_are_submitted_together(session: RunComfySession, filling: Any) -> None:
    colors = [0x010101 * number for number in range(1, 17)]
    runs = [session.submit(filling(color=color), timeout=120) for color in colors]
    found = [run.wait().picture.numpy()[0, 0, :3].tolist() for run in runs]
    assert found == [[number] * 3 for number in range(1, 17)]


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "change", "text"),
    [
        ("1", {"inputs": {}}, "node 1"),
        ("2", {"class_type": "NoSuchNodeClass"}, "NoSuchNodeClass"),
        ("2", {"inputs": {"filename_prefix": "x"}}, "node 2"),
        ("1", {"inputs": {"image": "no-such-picture.png"}}, "no-such-picture.png"),
    ],
)
def test_a_graph_that_cannot_run_is_refused(
    server: ComfyUI, node: str, change: dict[str, Any], text: str
) -> None:
    graph = json.loads(json.dumps(COPY))
    graph[node] |= change
    prompt_id = str(uuid.uuid4())
    with pytest.raises(PromptRejected, match=re.escape(text)):
        Submission(server, graph, server.event_router.client_id, prompt_id).send()
    assert not server.knows(prompt_id)


def test_a_partly_valid_graph_is_refused_as_well(server: ComfyUI) -> None:
    """ComfyUI answers 200 and would run the rest."""
    graph = graph_of(LINGER, color=novel())
    graph["3"] = {"class_type": "LoadImage", "inputs": {"image": "no-such-picture.png"}}
    graph["4"] = {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}}
    prompt_id = str(uuid.uuid4())
    with pytest.raises(PromptRejected, match="no-such-picture"):
        Submission(server, graph, server.event_router.client_id, prompt_id).send()
    running, pending = server.queue()
    assert prompt_id not in (*running, *pending)


# --- cancelling ----------------------------------------------------------------------------------


def seen(server: ComfyUI, prompt_id: str, *, runs: bool) -> None:
    """Wait until a server shows a prompt as running, or as waiting."""
    deadline = Deadline.after(20)
    while not deadline.over:
        running, pending = server.queue()
        if prompt_id in (running if runs else pending):
            return
        time.sleep(0.02)
    pytest.fail(f"{prompt_id} never {'ran' if runs else 'waited'}")


def how_it_ended(server: ComfyUI, prompt_id: str) -> Any:
    """Return the error that history has once a prompt is done; None if it is not there."""
    deadline = Deadline.after(30)
    while server.knows(prompt_id) and not deadline.over:
        if (entry := server.history(prompt_id)) is not None:
            return entry.error()
        time.sleep(0.1)
    return None


def test_a_running_run_is_cancelled(session: RunComfySession, lingering: Any) -> None:
    run = session.submit(lingering(color=novel()), timeout=120)
    seen(session.server(), run.id, runs=True)
    run.cancel()
    with pytest.raises(RunCancelled):
        run.wait()
    assert isinstance(how_it_ended(session.server(), run.id), RunCancelled)


def test_a_waiting_run_is_cancelled_and_the_running_one_is_not(
    session: RunComfySession, lingering: Any
) -> None:
    first = session.submit(lingering(color=novel()), timeout=120)
    second = session.submit(lingering(color=novel()), timeout=120)
    seen(session.server(), second.id, runs=False)
    second.cancel()
    with pytest.raises(RunCancelled):
        second.wait()
    assert not session.server().knows(second.id)  # the first one still runs: it never did
    assert first.wait().picture.size


def test_a_passed_timeout_cancels_the_run(session: RunComfySession, lingering: Any) -> None:
    run = session.submit(lingering(color=novel()), timeout=1.0)
    seen(session.server(), run.id, runs=True)
    with pytest.raises(RunTimeout):
        run.wait()
    assert isinstance(how_it_ended(session.server(), run.id), RunCancelled)


def test_a_run_deleted_by_another_client_is_lost(
    session: RunComfySession, server: ComfyUI, lingering: Any
) -> None:
    first = session.submit(lingering(color=novel()), timeout=120)
    second = session.submit(lingering(color=novel()), timeout=120)
    seen(server, second.id, runs=False)
    begun = time.monotonic()
    server._calls.post("/queue", json={"delete": [second.id]})
    with pytest.raises(RunLost):
        second.wait()
    assert time.monotonic() - begun < 5.0
    first.cancel()


# --- files ---------------------------------------------------------------------------------------


def test_a_file_is_served_in_ranges_with_its_etag(
    session: RunComfySession, server: ComfyUI, copying: Any, picture: Path
) -> None:
    result = session.run(copying(image=picture, prefix=fresh()), timeout=60)
    image = result.ui["2"]["images"][0]
    file = FileReference(**image)
    with server.view(file) as whole:
        content, etag = whole.content, whole.headers["ETag"]
    assert whole.headers["Content-Length"] == str(len(content))
    with server.view(file, first=10) as part:
        assert part.status_code == 206
        assert part.content == content[10:]
        assert part.headers["ETag"] == etag
        assert part.headers["Content-Range"] == f"bytes 10-{len(content) - 1}/{len(content)}"
    with pytest.raises(ApiError) as caught, server.view(file, first=len(content)):
        pass
    assert caught.value.status == 416


def test_a_missing_file_is_not_found(server: ComfyUI) -> None:
    with pytest.raises(NotFound), server.view(FileReference(filename="no-such-file.png")):
        pass
    for name in ("../../etc/passwd", "/etc/passwd"):
        with pytest.raises(ApiError), server.view(FileReference(filename=name)):
            pass


# --- newer servers -------------------------------------------------------------------------------


def test_the_jobs_api_agrees_with_queue_and_history(
    server: ComfyUI, session: RunComfySession, filling: Any, has_jobs: bool, cancels_jobs: bool
) -> None:
    get = server._http.send
    run = session.submit(filling(color=novel()), timeout=60)
    run.wait()
    answer = get("GET", f"/api/jobs/{run.id}")
    if not has_jobs:
        assert answer.status_code in (404, 405)
        return
    job = answer.json()
    assert (job["id"], job["status"]) == (run.id, "completed")
    assert job["outputs"]["2"]["images"]
    assert get("GET", f"/api/jobs/{uuid.uuid4()}").status_code == 404
    cancelled = get("POST", f"/api/jobs/{run.id}/cancel")
    if cancels_jobs:
        assert cancelled.json() == {"cancelled": False}
    else:
        assert cancelled.status_code in (404, 405)
    listed = get("GET", "/api/jobs?status=completed&limit=1").json()
    assert listed["pagination"]["limit"] == 1
    assert get("GET", "/api/jobs?status=nonsense").status_code == 400


@pytest.mark.parametrize("is_large", [False, True])
def test_a_run_is_where_its_job_is(
    server: ComfyUI, session: RunComfySession, lingering: Any, has_jobs: bool, is_large: bool
) -> None:
    run = session.submit(lingering(color=novel()), timeout=120)
    waiting = session.submit(lingering(color=novel()), timeout=120)
    seen(session.server(), run.id, runs=True)
    seen(session.server(), waiting.id, runs=False)
    assert server.jobs.find(run.id) is (JobState.RUNNING if has_jobs else None)
    assert server.jobs.find(waiting.id) is (JobState.WAITING if has_jobs else None)
    assert server.jobs.find(str(uuid.uuid4())) is (JobState.UNKNOWN if has_jobs else None)
    if is_large:
        server.queue_size.posted("another", 10**9)
    assert server.knows(run.id)
    assert server.knows(waiting.id)
    for each in (waiting, run):
        server.cancel(each.id)
    with pytest.raises(RunCancelled):
        run.wait()
    with pytest.raises(RunLost):
        waiting.wait()
    assert server.jobs.find(run.id) is (JobState.ENDED if has_jobs else None)


def test_newer_servers_require_canonical_ids(server: ComfyUI, cancels_jobs: bool) -> None:
    odd = str(uuid.uuid4()).upper()
    answer = server.post_prompt(graph_of(FILL), client_id="c", prompt_id=odd)
    assert answer.status_code == (400 if cancels_jobs else 200)
    if cancels_jobs:
        assert answer.json()["error"]["type"] == "invalid_prompt_id"
