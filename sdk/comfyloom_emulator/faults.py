"""Scripted faults: what goes wrong, where, and how often.

A fault lets the first `after` matching occasions pass, then strikes the next `times`. The same
fields make up the JSON of `POST /_emulator/faults`; there, `"kind"` names the class: `http`,
`socket`, `prompt`, `run` or `machine`.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

import attrs
from attrs.validators import deep_mapping, in_, instance_of, optional


def _count(_fault: object, attribute: "attrs.Attribute[int]", value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{attribute.name} must be a whole number, 0 or more")


def _http_status(_fault: object, attribute: "attrs.Attribute[int]", value: object) -> None:
    if not isinstance(value, int) or not 200 <= value <= 599:
        raise ValueError(f"{attribute.name} must be an HTTP status from 200 to 599")


def _seconds(_fault: object, attribute: "attrs.Attribute[float]", value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise ValueError(f"{attribute.name} must be a number of seconds, 0 or more")


HttpAction = Literal[
    "answer",
    "misreport",
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


def _pattern(_fault: object, attribute: "attrs.Attribute[str]", value: str) -> None:
    try:
        re.compile(value)
    except (re.error, TypeError) as error:
        raise ValueError(f"{attribute.name} is not a regular expression: {error}") from error


@attrs.frozen(kw_only=True)
class HttpFault:
    """Something goes wrong with an HTTP request, to the control plane or to a ComfyUI.

    Attributes:
        action: `answer` replies with `status`, `body` and `headers` and does nothing else;
            `misreport` replies with them after it has handled the request; `drop` closes the
            connection before the request is handled; `lose_answer` handles the request, then closes
            without an answer; `cut` sends all headers but only `size` bytes of the
            body; `shorten` does the same with a matching `Content-Length`; `drip` sends `size`
            bytes of the body, then the rest in up to 100 pieces, `seconds` real seconds apart;
            `nan` adds a bare NaN and an Infinity to a JSON answer; `delay` waits `seconds` of the
            emulator's time, then handles the request; `answer_late` handles the request, then
            waits, so that a prompt's events overtake the answer; `hang` never answers.
        path: Regular expression searched in the path, such as `/servers$` or `/history/`.
        method: Limits the fault to one method; any if None.
        times: Number of matching requests to strike.
        after: Number of matching requests to let pass first.
        status: HTTP status for `answer` and `misreport`, 200 to 599.
        body: Body for them.
        headers: Headers for them.
        size: Bytes for `cut`, `shorten` and `drip`.
        seconds: For `drip`, `delay` and `answer_late`.
    """

    action: HttpAction = attrs.field(default="answer", validator=in_(get_args(HttpAction)))
    path: str = attrs.field(default="", validator=_pattern)
    method: str | None = attrs.field(default=None, validator=optional(instance_of(str)))
    times: int = attrs.field(default=1, validator=_count)
    after: int = attrs.field(default=0, validator=_count)
    status: int = attrs.field(default=503, validator=_http_status)
    body: str = attrs.field(default="", validator=instance_of(str))
    headers: Mapping[str, str] = attrs.field(
        factory=dict[str, str], validator=deep_mapping(instance_of(str), instance_of(str))
    )
    size: int = attrs.field(default=0, validator=_count)
    seconds: float = attrs.field(default=0.0, validator=_seconds)

    def matches(self, method: str, path: str) -> bool:
        """Return whether this fault applies to a request."""
        if self.method is not None and self.method.upper() != method:
            return False
        return re.search(self.path, path) is not None


@attrs.frozen(kw_only=True)
class SocketFault:
    """Something goes wrong with a websocket connection to a ComfyUI.

    Attributes:
        action: `refuse` answers the handshake with 503. All other actions begin after `frames`
            frames: `drop` closes the connection; `silence` keeps it open but stops sending, as
            after a takeover of the client id; `half_open` also stops answering pings; `garbage`
            adds frames that are not events, and `unknown` adds frames of unknown types; `flood`
            sends a text frame and a preview of 20 MB each; `duplicate` sends each frame twice;
            `disorder` swaps each frame with the next.
        frames: Number of frames to send unharmed first.
        path: Regular expression searched in the path.
        times: Number of connections to strike.
        after: Number of connections to let pass first.
    """

    action: SocketAction = attrs.field(default="drop", validator=in_(get_args(SocketAction)))
    frames: int = attrs.field(default=0, validator=_count)
    path: str = attrs.field(default="", validator=_pattern)
    times: int = attrs.field(default=1, validator=_count)
    after: int = attrs.field(default=0, validator=_count)

    def matches(self, path: str) -> bool:
        """Return whether this fault applies to a handshake."""
        return re.search(self.path, path) is not None


@attrs.frozen(kw_only=True)
class PromptFault:
    """Something goes wrong with a prompt when it is about to run.

    Attributes:
        action: `delete` removes it from the queue before it runs, without an event;
            `late_history` stores its history entry `seconds` real seconds after the last event of
            a node; `lose_files` first deletes all files that earlier runs saved, so that a cached
            run names files that no longer exist.
        seconds: For `late_history`.
        times: Number of prompts to strike.
        after: Number of prompts to let pass first.
    """

    action: PromptAction = attrs.field(default="delete", validator=in_(get_args(PromptAction)))
    seconds: float = attrs.field(default=0.0, validator=_seconds)
    times: int = attrs.field(default=1, validator=_count)
    after: int = attrs.field(default=0, validator=_count)

    def matches(self) -> bool:
        """Return True: this fault applies to any prompt."""
        return True


@attrs.frozen(kw_only=True)
class RunFault:
    """Something goes wrong while a node runs.

    Attributes:
        action: `raise` fails the node with `exception_type` and `message`; `no_output` runs it but
            leaves its outputs out of the history; `truncate` cuts the files it saved to `size`
            bytes, and `lose_file` deletes them; `interrupt` acts as if another client had
            interrupted the run; `die` ends the machine; `restart` restarts ComfyUI, which loses
            queue and history; `kill_worker` makes this run and all later ones hang forever and
            ignore interrupts; `hang` makes only this run hang, until it is interrupted.
        node: Limits the fault to one node id; any if None.
        class_type: Limits the fault to one node type; any if None.
        step: Progress step at which the fault strikes; at the start of the node if None. Not used
            by `no_output`, `truncate` and `lose_file`.
        message: Exception text for `raise`.
        exception_type: Exception type for `raise`.
        size: Bytes that `truncate` leaves.
        times: Number of matching node runs to strike.
        after: Number of matching node runs to let pass first.
    """

    action: RunAction = attrs.field(default="raise", validator=in_(get_args(RunAction)))
    node: str | None = attrs.field(default=None, validator=optional(instance_of(str)))
    class_type: str | None = attrs.field(default=None, validator=optional(instance_of(str)))
    step: int | None = attrs.field(default=None, validator=optional(_count))
    message: str = attrs.field(default="emulated failure", validator=instance_of(str))
    exception_type: str = attrs.field(default="RuntimeError", validator=instance_of(str))
    size: int = attrs.field(default=0, validator=_count)
    times: int = attrs.field(default=1, validator=_count)
    after: int = attrs.field(default=0, validator=_count)

    def matches(self, node: str, class_type: str) -> bool:
        """Return whether this fault applies to a node run."""
        return self.node in {None, node} and self.class_type in {None, class_type}


@attrs.frozen(kw_only=True)
class MachineFault:
    """Something goes wrong with a launched machine.

    Attributes:
        action: `error` ends the start in the status Error; `never_ready` keeps it Starting;
            `not_found` answers the first `calls` status requests with 404. For `seconds` after the
            launch, `late` hides the machine from every call, `young` lists it but answers 404 to
            every other call, and `unlisted` leaves it out of the list. `lingers` shows it as
            Deleting for `seconds` after its end.
        calls: For `not_found`.
        seconds: For `late`, `young`, `unlisted` and `lingers`.
        times: Number of launches to strike.
        after: Number of launches to let pass first.
    """

    action: MachineAction = attrs.field(default="error", validator=in_(get_args(MachineAction)))
    calls: int = attrs.field(default=1, validator=_count)
    seconds: float = attrs.field(default=0.0, validator=_seconds)
    times: int = attrs.field(default=1, validator=_count)
    after: int = attrs.field(default=0, validator=_count)

    def matches(self) -> bool:
        """Return True: this fault applies to any launch."""
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
    """Return the fault that a JSON object describes.

    Raises:
        ValueError: It is not an object, the kind is unknown, or a field is unknown or wrong.
    """
    if not isinstance(data, dict):
        raise ValueError("a fault must be a JSON object")  # noqa: TRY004 - the input is wrong
    fields: dict[str, Any] = {str(key): value for key, value in data.items()}  # pyright: ignore
    kind = KINDS.get(str(fields.pop("kind", "")))
    if kind is None:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}")
    known = [each.name for each in attrs.fields(kind)]
    if unknown := [name for name in fields if name not in known]:
        raise ValueError(f"unknown field {unknown[0]!r}; known fields: {', '.join(known)}")
    try:
        return kind(**fields)
    except (TypeError, ValueError) as error:
        # attrs passes more than its text, such as the field.
        raise ValueError(str(error.args[0]) if error.args else "wrong") from error


def fault_to_json(fault: Fault) -> dict[str, Any]:
    """Return the JSON object that describes a fault."""
    kind = next(name for name, each in KINDS.items() if isinstance(fault, each))
    return {"kind": kind, **attrs.asdict(fault)}
