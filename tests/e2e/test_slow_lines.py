"""Large graphs and slow lines: nothing is given up while bytes come, and little is asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from comfyloom import RunComfySession, Timeouts
from comfyloom.emulator import Emulator
from gateway import Gateway, behind, url_through
from small_runs import small_workflow

LARGE = 1_500_000
"""Characters of a prompt that the graph contains twice."""


@pytest.fixture(params=["0.3.64", "0.8.0", "0.9.0"])
def emulator(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    with Emulator(time="real", run_s=0.5, comfyui_version=request.param) as running:
        yield running


def run_large(gateway: Gateway, emulator: Emulator, count: int) -> None:
    with RunComfySession(url_through(gateway, emulator.comfyui_url)) as session:
        runs = [
            session.submit(small_workflow(prompt=f"{number:02}" + "x" * LARGE, seed=number))
            for number in range(count)
        ]
        for run in runs:
            run.wait()


def watched_bytes(gateway: Gateway) -> int:
    """Return the bytes that came, without the results, which embed the graph."""
    return gateway.received.total() - gateway.received["view"]


def test_eight_runs_with_graphs_of_3_mb_pull_less_than_30_mb(emulator: Emulator) -> None:
    with behind(emulator.comfyui_url) as gateway:
        run_large(gateway, emulator, 8)
        assert watched_bytes(gateway) < 30_000_000


def test_they_do_without_an_event_socket_too(emulator: Emulator) -> None:
    def judge(seen: object) -> str | None:
        is_handshake = getattr(seen, "is_handshake", False)
        return "403 Forbidden\r\nContent-Length: 0" if is_handshake else None

    with behind(emulator.comfyui_url, judge=judge) as gateway:
        run_large(gateway, emulator, 8)
        assert watched_bytes(gateway) < 30_000_000


HASTY = Timeouts(connect_s=0.5, poll_s=0.5, answer_s=0.5)
"""The graph takes longer in each direction, but never pauses so long. The answer to it comes when
the system has sent what it took at once, so `submit_s` stays."""


def test_a_slow_line_loses_no_run() -> None:
    with (
        Emulator(time="real", run_s=0.2) as emulator,
        behind(emulator.comfyui_url, bytes_s=1_500_000) as gateway,
    ):
        target = url_through(gateway, emulator.comfyui_url)
        with RunComfySession(target, timeouts=HASTY) as session:
            assert session.run(small_workflow(prompt="x" * LARGE)).image.path.exists()


def test_a_large_graph_is_sent_in_pieces_that_each_have_their_time() -> None:
    """The system takes some megabytes at once; this graph is larger, and slower than its limit."""
    timeouts = Timeouts(connect_s=1.0)
    with (
        Emulator(time="real", run_s=0.2) as emulator,
        behind(emulator.comfyui_url, bytes_s=4_000_000) as gateway,
    ):
        target = url_through(gateway, emulator.comfyui_url)
        with RunComfySession(target, timeouts=timeouts) as session:
            work = small_workflow(prompt="x" * 8_000_000)
            assert session.run(work, outputs=["image"]).image.size
