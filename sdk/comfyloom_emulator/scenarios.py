"""Named faults: everything that a client of ComfyUI has to withstand.

    emulator.faults.add(*SCENARIOS["socket-dropped"].faults)

or, over HTTP, `POST /_emulator/faults` with `{"scenario": "socket-dropped"}`.
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
    """A named set of faults to script.

    Attributes:
        name: Lower-case words with hyphens.
        group: What fails: the event socket, a request or the run.
        title: Human-readable name.
        faults: The faults to script.
        reruns: Whether the workflow must have run before, so that the server has it cached.
        cancels: Whether the run hangs until the client cancels it.
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


def _socket_scenarios() -> Iterator[Scenario]:
    for name, title, faults in (
        ("dropped", "dropped in the middle of a run", [SocketFault(action="drop", frames=20)]),
        ("dropped-often", "dropped repeatedly", [SocketFault(frames=5, times=50)]),
        ("half-open", "half open: nothing arrives", [SocketFault(action="half_open", frames=6)]),
        ("refused", "refused", [SocketFault(action="refuse", times=1000)]),
        (
            "taken-over",
            "taken over by another client",
            [SocketFault(action="silence", frames=6)],
        ),
        ("garbage", "frames that are not events", [SocketFault(action="garbage")]),
        ("unknown-types", "frames of unknown types", [SocketFault(action="unknown")]),
        ("flood", "frames of 20 MB", [SocketFault(action="flood", frames=4)]),
        ("duplicated", "each frame sent twice", [SocketFault(action="duplicate")]),
        ("out-of-order", "frames out of order", [SocketFault(action="disorder")]),
        (
            "before-the-answer",
            "events before the answer to `POST /prompt`",
            [HttpFault(action="answer_late", path="/prompt$", method="POST", seconds=0.5)],
        ),
    ):
        yield Scenario(name=f"socket-{name}", group="socket", title=title, faults=tuple(faults))


def _http_scenarios() -> Iterator[Scenario]:
    html = {"Content-Type": "text/html; charset=utf-8"}
    for call, (method, path) in _CALLS.items():
        # A graph is not sent again after a 502, and the queue may be asked only once.
        times = 1 if call in {"submit", "queue"} else 2
        twice = " twice" if times > 1 else ""
        for name, title, fault in (
            ("502", "502", HttpFault(status=502, body=_PAGE, headers=html, times=times)),
            ("503", "503", HttpFault(status=503, times=times)),
            ("429", "429", HttpFault(status=429, times=times)),
            ("timeout", "no answer", HttpFault(action="hang")),
            ("reset", "connection reset before the request is read", HttpFault(action="drop")),
            ("lost-answer", "answer lost", HttpFault(action="lose_answer")),
            ("cut", "answer truncated", HttpFault(action="cut", size=20)),
            (
                "shortened",
                "answer truncated, with a matching length",
                HttpFault(action="shorten", size=20),
            ),
            ("nan", "NaN in the JSON", HttpFault(action="nan", times=1000)),
            (
                "page",
                "an HTML page instead of the answer",
                HttpFault(status=200, body=_PAGE, headers=html),
            ),
            ("drip", "answer in small pieces", HttpFault(action="drip", size=10, seconds=0.005)),
        ):
            if name != "nan" or call not in {"download", "cancel"}:  # their answers hold no JSON
                scripted = attrs.evolve(fault, method=method, path=path)
                yield Scenario(
                    name=f"{call}-{name}",
                    group="http",
                    title=f"{call}: {title}{twice if name.isdecimal() else ''}",
                    faults=(scripted, *_preconditions(call)),
                    cancels=call == "cancel",
                )


def _preconditions(call: str) -> tuple[Fault, ...]:
    """Return the faults that make a client send this call, such as a refused event socket."""
    if call in {"history", "queue"}:
        return (SocketFault(action="refuse", times=1000),)
    if call == "cancel":
        return (RunFault(action="hang", class_type="XlabsSampler", step=2),)
    return ()


def _run_scenarios() -> Iterator[Scenario]:
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
        ("interrupted", "interrupted by another client", _at_sampler("interrupt")),
        ("deleted", "deleted from the queue by another client", PromptFault(action="delete")),
        ("restarted", "the server restarts", _at_sampler("restart")),
        ("worker-dead", "the worker dies, the server keeps answering", _at_sampler("kill_worker")),
        (
            "cached-without-file",
            "cached, but the file of the earlier run is gone",
            PromptFault(action="lose_files"),
        ),
        (
            "file-gone",
            "the output file is gone",
            RunFault(action="lose_file", class_type="SaveImage"),
        ),
        ("no-output", "success without an output", _at_save("no_output")),
        ("output-empty", "an output is empty", _at_save("truncate")),
        ("output-truncated", "an output is truncated", _at_save("truncate", 100)),
        ("history-late", "history is 2 s late", PromptFault(action="late_history", seconds=2.0)),
    )
    for name, title, fault in scripted:
        reruns = name == "cached-without-file"
        yield Scenario(name=f"run-{name}", group="run", title=title, faults=(fault,), reruns=reruns)


def _at_sampler(action: Literal["interrupt", "restart", "kill_worker"]) -> RunFault:
    return RunFault(action=action, class_type="XlabsSampler", step=2)


def _at_save(action: Literal["no_output", "truncate"], size: int = 0) -> RunFault:
    return RunFault(action=action, class_type="SaveImage", size=size)


SCENARIOS: Mapping[str, Scenario] = {
    each.name: each for each in (*_socket_scenarios(), *_http_scenarios(), *_run_scenarios())
}
"""All scenarios, by name."""


def scenario(name: str) -> Scenario:
    """Return the scenario with this name.

    Raises:
        ValueError: No scenario has this name.
    """
    if name not in SCENARIOS:
        near = difflib.get_close_matches(name, SCENARIOS, 1)
        known = f"; known scenarios: {', '.join(SCENARIOS)}"
        hint = f"; did you mean {near[0]!r}?" if near else known
        raise ValueError(f"there is no scenario {name!r}{hint}")
    return SCENARIOS[name]
