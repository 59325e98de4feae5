"""Scripted faults: what goes wrong, where, and how often.

A fault strikes `times` matching occasions after letting the first `after` of them pass. The same
fields make the JSON of `POST /_emulator/faults`, with `"kind"` naming the class: `http`, `socket`,
`prompt`, `run` or `machine`.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

import attrs
from attrs.validators import deep_mapping, in_, instance_of, optional

_STATUSES = (200, 599)


def _count(_fault: object, attribute: "attrs.Attribute[int]", value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{attribute.name} must be a whole number, 0 or more")


def _status(_fault: object, attribute: "attrs.Attribute[int]", value: object) -> None:
    if not isinstance(value, int) or not _STATUSES[0] <= value <= _STATUSES[1]:
        raise ValueError(f"{attribute.name} must be an HTTP status from 200 to 599")


def _seconds(_fault: object, attribute: "attrs.Attribute[float]", value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise ValueError(f"{attribute.name} must be a number of seconds, 0 or more")


HttpAction = Literal[
    "answer",
    "drop",
    "lose_answer",
    "cut",
    "shorten",
    "drip",
    "nan",
    "delay",
    "answer_late",
    "hang",
]
SocketAction = Literal[
    "refuse",
    "drop",
    "silence",
    "half_open",
    "garbage",
    "unknown",
    "flood",
    "duplicate",
    "disorder",
]
PromptAction = Literal["delete", "late_history", "lose_files"]
RunAction = Literal[
    "raise",
    "no_output",
    "truncate",
    "lose_file",
    "interrupt",
    "die",
    "restart",
    "kill_worker",
    "hang",
]
MachineAction = Literal["error", "never_ready", "not_found", "late", "young", "unlisted", "lingers"]


def _check_pattern(_fault: object, attribute: "attrs.Attribute[str]", value: str) -> None:
    try:
        re.compile(value)
    except (re.error, TypeError) as error:
        raise ValueError(f"{attribute.name} is not a regular expression: {error}") from error


@attrs.frozen(kw_only=True)
class HttpFault:
    """Something goes wrong with an HTTP request, to the control plane or to a ComfyUI.

    Attributes:
        action: `answer` replies with `status`, `body` and `headers` and does nothing else; `drop`
            closes the connection before handling; `lose_answer` handles the request and then
            closes without a word; `cut` sends all headers but only `size` bytes of the body, and
            `shorten` the same with a `Content-Length` that says so; `drip` sends `size` bytes of
            the body, then the rest in up to a hundred pieces, one in `seconds` real seconds; `nan`
            puts a bare NaN and an Infinity into a JSON answer; `delay` waits `seconds` of the
            emulator's time, then handles; `answer_late` handles, then waits, so that a prompt's
            events overtake the answer; `hang` never answers.
        path: Regular expression searched in the path, such as `/servers$` or `/history/`.
        method: The method it is limited to; any when None.
        times: How many matching requests it strikes.
        after: How many matching requests it lets pass first.
    """

    action: HttpAction = attrs.field(default="answer", validator=in_(get_args(HttpAction)))
    path: str = attrs.field(default="", validator=_check_pattern)
    method: str | None = attrs.field(default=None, validator=optional(instance_of(str)))
    times: int = attrs.field(default=1, validator=_count)
    after: int = attrs.field(default=0, validator=_count)
    status: int = attrs.field(default=503, validator=_status)
    body: str = attrs.field(default="", validator=instance_of(str))
    headers: Mapping[str, str] = attrs.field(
        factory=dict[str, str], validator=deep_mapping(instance_of(str), instance_of(str))
    )
    size: int = attrs.field(default=0, validator=_count)
    seconds: float = attrs.field(default=0.0, validator=_seconds)

    def matches(self, method: str, path: str) -> bool:
        """Whether a request is one of those that this fault is about."""
        if self.method is not None and self.method.upper() != method:
            return False
        return re.search(self.path, path) is not None


@attrs.frozen(kw_only=True)
class SocketFault:
    """Something goes wrong with a websocket connection to a ComfyUI.

    Attributes:
        action: `refuse` answers the handshake with 503. The others begin after `frames` frames:
            `drop` breaks the connection off; `silence` keeps it open but sends nothing any more, as
            after a takeover of the client id; `half_open` answers no ping, either; `garbage` sends
            frames that are no events of any kind in between, and `unknown` some of types that do
            not exist; `flood` sends a text and a preview of 20 MB each; `duplicate` sends each
            frame twice; `disorder` exchanges each frame with the next.
        path: Regular expression searched in the path.
        times: How many connections it strikes.
        after: How many connections it lets pass first.
    """

    action: SocketAction = attrs.field(default="drop", validator=in_(get_args(SocketAction)))
    frames: int = attrs.field(default=0, validator=_count)
    path: str = attrs.field(default="", validator=_check_pattern)
    times: int = attrs.field(default=1, validator=_count)
    after: int = attrs.field(default=0, validator=_count)

    def matches(self, path: str) -> bool:
        """Whether a handshake is one of those that this fault is about."""
        return re.search(self.path, path) is not None


@attrs.frozen(kw_only=True)
class PromptFault:
    """Something happens to a prompt when its turn comes.

    Attributes:
        action: `delete` takes it out of the queue before it runs, which no event tells;
            `late_history` stores its history `seconds` real seconds after the last event of a
            node; `lose_files` first deletes all that earlier runs have saved, so that a cached run
            names files which are gone.
        seconds: For `late_history`.
        times: How many prompts it strikes.
        after: How many prompts it lets pass first.
    """

    action: PromptAction = attrs.field(default="delete", validator=in_(get_args(PromptAction)))
    seconds: float = attrs.field(default=0.0, validator=_seconds)
    times: int = attrs.field(default=1, validator=_count)
    after: int = attrs.field(default=0, validator=_count)

    def matches(self) -> bool:
        """Whether a prompt is one of those that this fault is about: all are."""
        return True


@attrs.frozen(kw_only=True)
class RunFault:
    """Something goes wrong while a node runs.

    Attributes:
        action: `raise` fails the node with `exception_type` and `message`; `no_output` runs it but
            leaves its outputs out of the history; `truncate` cuts the files it saved to `size`
            bytes, and `lose_file` deletes them; `interrupt` is somebody's interrupt; `die` ends the
            machine; `restart` restarts ComfyUI, which forgets queue and history; `kill_worker`
            leaves the run, and all after it, silent for ever, deaf to interrupts; `hang` leaves
            only this one silent.
        node: Node id it is limited to; any when None.
        class_type: Class it is limited to; any when None.
        step: Progress step at which all but `no_output`, `truncate` and `lose_file` strike; when
            the node starts if None.
        times: How many matching node runs it strikes.
        after: How many matching node runs it lets pass first.
    """

    action: RunAction = attrs.field(
        default="raise",
        validator=in_(get_args(RunAction)),
    )
    node: str | None = attrs.field(default=None, validator=optional(instance_of(str)))
    class_type: str | None = attrs.field(default=None, validator=optional(instance_of(str)))
    step: int | None = attrs.field(default=None, validator=optional(_count))
    message: str = attrs.field(default="emulated failure", validator=instance_of(str))
    exception_type: str = attrs.field(default="RuntimeError", validator=instance_of(str))
    size: int = attrs.field(default=0, validator=_count)
    times: int = attrs.field(default=1, validator=_count)
    after: int = attrs.field(default=0, validator=_count)

    def matches(self, node: str, class_type: str) -> bool:
        """Whether a node run is one of those that this fault is about."""
        return self.node in {None, node} and self.class_type in {None, class_type}


@attrs.frozen(kw_only=True)
class MachineFault:
    """Something goes wrong with a machine that is launched.

    Attributes:
        action: `error` ends the start in the status Error; `never_ready` keeps it Starting;
            `not_found` answers the first `calls` status requests with 404; `late` hides the
            machine from every call for `seconds` after the launch; `young` lists it, but answers
            404 to every other call for so long; `unlisted` leaves it out of the list for so long;
            `lingers` shows it as Deleting for `seconds` after its end.
        times: How many launches it strikes.
        after: How many launches it lets pass first.
    """

    action: MachineAction = attrs.field(default="error", validator=in_(get_args(MachineAction)))
    calls: int = attrs.field(default=1, validator=_count)
    seconds: float = attrs.field(default=0.0, validator=_seconds)
    times: int = attrs.field(default=1, validator=_count)
    after: int = attrs.field(default=0, validator=_count)

    def matches(self) -> bool:
        """Whether a launch is one of those that this fault is about: all are."""
        return True


Fault: TypeAlias = HttpFault | SocketFault | PromptFault | RunFault | MachineFault

KINDS: Mapping[str, type[Fault]] = {
    "http": HttpFault,
    "socket": SocketFault,
    "prompt": PromptFault,
    "run": RunFault,
    "machine": MachineFault,
}


def fault_from_json(data: object) -> Fault:
    """The fault that a JSON object describes.

    Raises:
        ValueError: It is no object, the kind is unknown, or a field is unknown or wrong.
    """
    if not isinstance(data, dict):
        raise ValueError("a fault is a JSON object")  # noqa: TRY004 - it is the data that is wrong
    fields: dict[str, Any] = {str(key): value for key, value in data.items()}  # pyright: ignore
    kind = KINDS.get(str(fields.pop("kind", "")))
    if kind is None:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}")
    known = [each.name for each in attrs.fields(kind)]
    if unknown := [name for name in fields if name not in known]:
        raise ValueError(f"unknown field {unknown[0]!r}; known are {', '.join(known)}")
    try:
        return kind(**fields)
    except (TypeError, ValueError) as error:
        # attrs adds the field and more to its own text.
        raise ValueError(str(error.args[0]) if error.args else "wrong") from error


def fault_to_json(fault: Fault) -> dict[str, Any]:
    """The JSON object that describes a fault."""
    kind = next(name for name, each in KINDS.items() if isinstance(fault, each))
    return {"kind": kind, **attrs.asdict(fault)}
