"""Faults by name: the table of what a client of ComfyUI has to live with.

    emulator.faults.add(*SCENARIOS["socket-dropped"].faults)

or, from outside, `POST /_emulator/faults` with `{"scenario": "socket-dropped"}`.
"""

import difflib
from collections.abc import Iterator, Mapping
from typing import Literal

import attrs

from comfyloom_emulator.faults import Fault, HttpFault, PromptFault, RunFault, SocketFault

Group = Literal["socket", "http", "run"]

_PAGE = "<html><body><h1>Sign in to continue</h1></body></html>"


@attrs.frozen(kw_only=True)
class Scenario:
    """A fault that has a name.

    Attributes:
        name: Lower-case words with hyphens.
        group: What it happens to.
        title: The same for people.
        faults: What is scripted for it.
        reruns: Whether it needs a workflow that ran before, so that the server has it cached.
        cancels: Whether the run hangs, for a client that has to cancel it.
    """

    name: str
    group: Group
    title: str
    faults: tuple[Fault, ...]
    reruns: bool = False
    cancels: bool = False


_CALLS: Mapping[str, tuple[str, str]] = {
    "connect": ("GET", "/system_stats$"),
    "upload": ("POST", "/upload/image$"),
    "submit": ("POST", "/prompt$"),
    "history": ("GET", "/history/"),
    "queue": ("GET", "/queue$"),
    "download": ("GET", "/view$"),
    "cancel": ("POST", "/(queue|interrupt)$"),
}


def _socket() -> Iterator[Scenario]:
    silent = SocketFault(action="silence", frames=6)
    for name, title, faults in (
        ("dropped", "dropped in the middle of a run", [SocketFault(action="drop", frames=20)]),
        ("dropped-often", "dropped again and again", [SocketFault(frames=5, times=50)]),
        ("half-open", "half open: nothing comes", [SocketFault(action="half_open", frames=6)]),
        ("refused", "refused", [SocketFault(action="refuse", times=1000)]),
        ("taken-over", "taken over by another client", [silent]),
        ("garbage", "frames that are no events", [SocketFault(action="garbage")]),
        ("unknown-types", "frames of unknown types", [SocketFault(action="unknown")]),
        ("flood", "frames of 20 MB", [SocketFault(action="flood", frames=4)]),
        ("duplicated", "each frame comes twice", [SocketFault(action="duplicate")]),
        ("out-of-order", "frames change places", [SocketFault(action="disorder")]),
        (
            "before-the-answer",
            "events before the answer to the prompt",
            [HttpFault(action="answer_late", path="/prompt$", method="POST", seconds=0.5)],
        ),
    ):
        yield Scenario(name=f"socket-{name}", group="socket", title=title, faults=tuple(faults))


def _http() -> Iterator[Scenario]:
    kind = {"Content-Type": "text/html; charset=utf-8"}
    for call, (method, path) in _CALLS.items():
        # A graph is not sent again after a 502, and of the queue one look may be all.
        times = 1 if call in {"submit", "queue"} else 2
        twice = " twice" if times > 1 else ""
        for name, title, fault in (
            ("502", "502", HttpFault(status=502, body=_PAGE, headers=kind, times=times)),
            ("503", "503", HttpFault(status=503, times=times)),
            ("429", "429", HttpFault(status=429, times=times)),
            ("timeout", "no answer", HttpFault(action="hang")),
            ("reset", "connection reset before it is read", HttpFault(action="drop")),
            ("lost-answer", "answer lost", HttpFault(action="lose_answer")),
            ("cut", "answer cut", HttpFault(action="cut", size=20)),
            (
                "shortened",
                "answer cut, and its length with it",
                HttpFault(action="shorten", size=20),
            ),
            ("nan", "NaN in the JSON", HttpFault(action="nan", times=1000)),
            (
                "page",
                "a page in place of the answer",
                HttpFault(status=200, body=_PAGE, headers=kind),
            ),
            ("drip", "in small pieces", HttpFault(action="drip", size=10, seconds=0.005)),
        ):
            if name != "nan" or call not in {"download", "cancel"}:  # these hold no JSON
                placed = attrs.evolve(fault, method=method, path=path)
                yield Scenario(
                    name=f"{call}-{name}",
                    group="http",
                    title=f"{call}: {title}{twice if name.isdecimal() else ''}",
                    faults=(placed, *_setting(call)),
                    cancels=call == "cancel",
                )


def _setting(call: str) -> tuple[Fault, ...]:
    """What has to be so for a client to make a call: it has to ask if no event tells it."""
    if call in {"history", "queue"}:
        return (SocketFault(action="refuse", times=1000),)
    if call == "cancel":
        return (RunFault(action="hang", class_type="XlabsSampler", step=2),)
    return ()


def _run() -> Iterator[Scenario]:
    sampler = "XlabsSampler"
    oom = RunFault(
        class_type=sampler,
        step=2,
        message="Allocation on device 0 would exceed allowed memory. (out of memory)",
        exception_type="torch.OutOfMemoryError",
    )
    scripted: tuple[tuple[str, str, RunFault | PromptFault], ...] = (
        ("node-error", "a node fails", RunFault(class_type=sampler, step=2)),
        ("out-of-memory", "out of memory", oom),
        ("interrupted", "interrupted by somebody else", _at_sampler("interrupt")),
        ("deleted", "deleted from the queue by somebody else", PromptFault(action="delete")),
        ("restarted", "the server is restarted", _at_sampler("restart")),
        ("worker-dead", "the worker dies, the server answers on", _at_sampler("kill_worker")),
        (
            "cached-without-file",
            "cached, but the file of the earlier run is gone",
            PromptFault(action="lose_files"),
        ),
        ("file-gone", "the file is gone", RunFault(action="lose_file", class_type="SaveImage")),
        ("no-output", "it ends well without its output", _spoilt("no_output")),
        ("output-empty", "an output is empty", _spoilt("truncate")),
        ("output-truncated", "an output is cut", _spoilt("truncate", 100)),
        ("history-late", "history is 2 s late", PromptFault(action="late_history", seconds=2.0)),
    )
    for name, title, fault in scripted:
        reruns = name == "cached-without-file"
        yield Scenario(name=f"run-{name}", group="run", title=title, faults=(fault,), reruns=reruns)


def _at_sampler(action: Literal["interrupt", "restart", "kill_worker"]) -> RunFault:
    return RunFault(action=action, class_type="XlabsSampler", step=2)


def _spoilt(action: Literal["no_output", "truncate"], size: int = 0) -> RunFault:
    return RunFault(action=action, class_type="SaveImage", size=size)


SCENARIOS: Mapping[str, Scenario] = {each.name: each for each in (*_socket(), *_http(), *_run())}
"""All scenarios, by name."""


def scenario(name: str) -> Scenario:
    """The scenario of a name.

    Raises:
        ValueError: There is none.
    """
    if name not in SCENARIOS:
        near = difflib.get_close_matches(name, SCENARIOS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(SCENARIOS)}"
        raise ValueError(f"there is no scenario {name!r}{hint}")
    return SCENARIOS[name]
