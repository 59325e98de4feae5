"""Bounds and orders that a user relies on: what is never more, never earlier, never overwritten."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest

from comfyloom import Result, Settings, Workflow, inputs, workflow_class
from comfyloom._backends.comfyui import ComfyUIBackend
from comfyloom._comfyui import downloads
from comfyloom._comfyui.cancel_scope import CancelScope
from comfyloom._comfyui.client import ComfyUI
from comfyloom._comfyui.history import FileReference, HistoryEntry
from comfyloom._comfyui.poll_schedule import Poll, PollSchedule, RunPhase
from comfyloom._comfyui.queue_poll import SharedQueuePoll
from comfyloom._comfyui.uploads import FORM_BYTES, WORTH_ASKING, Uploads
from comfyloom._core.timeouts import PollIntervals, Timeouts
from comfyloom._dev.health import HealthCheck, status_of
from comfyloom._money.prices import PriceList
from comfyloom._records.dev_state import DevState, Health
from comfyloom._records.ledger import Ledger
from comfyloom._records.machine_records import MachineRecords
from comfyloom._session.run import UNREAD, Run
from comfyloom._workflow.files import read_input
from comfyloom._workflow.run_values import run_graph
from comfyloom.errors import InputFileError, LedgerError, RunCancelled
from comfyloom.outputs import OutputSpec
from comfyloom.progress import Progress
from support import FakeClock

# --- downloads and uploads -----------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [("A.png", "a.png"), ("a.png", "A.png")])
def test_names_that_differ_only_in_case_do_not_overwrite_each_other(
    first: str, second: str
) -> None:
    entry = HistoryEntry(
        prompt_id="p",
        outputs={
            "1": {"images": [{"filename": "a.png"}]},
            "2": {"images": [{"filename": "b.png"}]},
        },
    )
    specs = [
        OutputSpec(kind="image", node="1", key="images", file=first, name="upper"),
        OutputSpec(kind="image", node="2", key="images", file=second, name="lower"),
    ]
    names = [each.name for each in downloads.plan(entry, specs)]
    assert names == [first, second.replace(".", "_2.")]


class Cut(BaseHTTPRequestHandler):
    """Breaks the first answer off in the middle; its file has the ETag of the class."""

    etag: ClassVar[str] = ""
    ranges: ClassVar[list[str]] = []
    content: ClassVar[bytes] = bytes(range(256)) * 40

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.ranges.append(wanted)
        first = int(wanted[6:-1]) if wanted else 0
        total, body = len(self.content), self.content[first:]
        self.send_response(206 if wanted else 200)
        self.send_header("ETag", self.etag)
        self.send_header("Content-Length", str(len(body)))
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
        self.end_headers()
        self.wfile.write(body if len(self.ranges) > 1 else body[: len(body) // 2])

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Cut) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.parametrize(("etag", "resumes"), [('"v1"', True), ('W/"v1"', False)])
def test_only_a_strong_etag_continues_a_download(
    server: str, tmp_path: Path, clock: FakeClock, etag: str, resumes: bool
) -> None:
    Cut.etag, Cut.ranges = etag, []
    comfyui = ComfyUI(server, clock=clock)
    spec = OutputSpec(kind="file", node="1", key="files", file="a.bin", name="a")
    item = downloads.Download(spec, FileReference(filename="a.bin"), "a.bin")
    path = downloads.fetch(comfyui, item, tmp_path, "p", scope=CancelScope())
    comfyui.close()
    assert path.read_bytes() == Cut.content
    assert Cut.ranges == ["", f"bytes={len(Cut.content) // 2}-" if resumes else ""]


class NoCache:
    """An upload cache that remembers nothing."""

    def get(self, _: str) -> None: ...

    def put(self, *_: str) -> None: ...


@pytest.mark.parametrize("spare", [FORM_BYTES, FORM_BYTES - 1])
def test_the_form_around_a_file_counts_for_the_servers_limit(spare: int) -> None:
    file = read_input(bytes(WORTH_ASKING + 1), "file")
    uploads = Uploads(lambda *_: "stored", lambda: file.size + spare, NoCache())  # type: ignore[arg-type]
    if spare == FORM_BYTES:
        assert uploads.put(file, CancelScope()) == "stored"
        return
    with pytest.raises(InputFileError, match="MB"):
        uploads.put(file, CancelScope())


# --- watching ------------------------------------------------------------------------------------


def test_a_look_at_the_queue_before_the_submission_is_not_used(clock: FakeClock) -> None:
    pictures = iter([(("other",), ()), (("mine",), ())])
    shared = SharedQueuePoll(lambda **_: next(pictures), clock)
    how: dict[str, Any] = {"timeout_s": 1.0, "is_over": lambda: False}
    assert shared.since(clock.now - 1, **how) == (("other",), ())
    clock.now += 0.1
    schedule = PollSchedule(PollIntervals(), begun=clock.now)  # submitted after that look
    clock.now += 0.1
    assert shared.since(schedule.begin_look(clock.now), **how) == (("mine",), ())


@pytest.mark.parametrize("is_cancelling", [True, False])
def test_a_change_of_the_queue_is_looked_at_at_once_while_cancelling(is_cancelling: bool) -> None:
    schedule = PollSchedule(PollIntervals(), begun=0.0)
    schedule.event_arrived(1.0)
    schedule.queue_changed(1.5, is_cancelling=is_cancelling)
    due = schedule.next_poll(1.5, is_connected=True)
    assert (due == 1.5) is is_cancelling
    poll = schedule.begin_poll(2.0, is_cancelling=is_cancelling)
    assert (poll is Poll.QUEUE) is is_cancelling
    assert schedule.phase is RunPhase.RUNNING


class Endless:
    """An execution that reports more than anyone reads, until it is released."""

    prompt_id = "p"
    backend = ComfyUIBackend("http://127.0.0.1:1")

    def __init__(self, report: Any) -> None:
        self.report = report
        self.reported = threading.Event()
        self.released = threading.Event()

    def run(self) -> None:
        for number in range(UNREAD + 500):
            self.report(Progress(kind="step", value=float(number)))
        self.reported.set()
        self.released.wait(30)

    def cancel(self) -> None:
        self.released.set()

    def cancel_on_server(self) -> None: ...


def test_progress_without_a_reader_is_bounded_and_the_latest_is_kept() -> None:
    made: list[Endless] = []

    def start(report: Any) -> Any:
        made.append(Endless(report))
        return made[-1]

    run = Run[Any](start)
    assert made[0].reported.wait(30)
    run.cancel()
    kept = list(run.events())
    assert len(kept) == UNREAD
    assert kept[-1].value == UNREAD + 499


def test_the_first_reason_to_cancel_counts() -> None:
    scope = CancelScope()
    scope.cancel(RunCancelled("first"))
    scope.cancel(RunCancelled("second"))
    with pytest.raises(RunCancelled, match="first"):
        CancelScope(parent=scope).checkpoint()


# --- money and settings --------------------------------------------------------------------------


def test_a_dev_server_of_unknown_price_has_not_cost_nothing() -> None:
    state = DevState(server_id="s", server_type="giant", ready_time=0.0, session_cost=None)
    status = status_of(state, HealthCheck(health=Health.HEALTHY), 100.0, PriceList())
    assert status.session_cost is None
    assert status.total_cost is None
    known = attrs.evolve(state, total_cost=Decimal("0.5"), earlier_cost=Decimal("0.5"))
    again = status_of(known, HealthCheck(health=Health.HEALTHY), 100.0, PriceList())
    assert again.total_cost == Decimal("0.5")


def test_the_first_environment_variable_of_a_setting_counts() -> None:
    names = ("RUNCOMFY_API_TOKEN", "RUNCOMFY_API_KEY", "RUNCOMFY_TOKEN")
    for at, name in enumerate(names):
        given = {later: f"token-of-{later}" for later in names[at:]} | {"RUNCOMFY_USER_ID": "u"}
        assert Settings.of_environment(given).api_token == f"token-of-{name}"


# --- values --------------------------------------------------------------------------------------


def test_an_input_set_to_none_is_sent_as_null(monkeypatch: pytest.MonkeyPatch) -> None:
    @workflow_class(graph="none.json", command="none")
    class NoneWorkflow(Workflow[Result]):
        """One input of any value."""

        anything: Any = inputs.value("1.anything", default="file's own")

    graph = {"1": {"class_type": "K", "inputs": {"anything": "file's own"}}}
    monkeypatch.setattr(NoneWorkflow, "template_graph", classmethod(lambda _: graph))
    made = run_graph(NoneWorkflow(anything=None), files={}, seeds={})
    assert made["1"]["inputs"] == {"anything": None}


def test_a_ledger_that_never_answers_is_given_up() -> None:
    errors: list[LedgerError] = []

    def ask(port: int) -> None:
        ledger = Ledger.of(f"postgresql://me@127.0.0.1:{port}/db", Timeouts(ledger_busy_s=0.2))
        records = MachineRecords(ledger=ledger, base_url="https://api.example/", user_id="me")
        with pytest.raises(LedgerError) as caught:
            records.list_unended()
        errors.append(caught.value)

    with socket.create_server(("127.0.0.1", 0)) as mute:
        asking = threading.Thread(target=ask, args=(mute.getsockname()[1],), daemon=True)
        asking.start()
        asking.join(60)
        assert errors
