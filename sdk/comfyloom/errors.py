"""Every error that the SDK raises, by who must act.

Each takes its message first and its facts as keywords, all with defaults, so that any error can
be made, copied and pickled. Secrets are taken out when the error is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from comfyloom._core.redact import redact

if TYPE_CHECKING:
    from decimal import Decimal


class ComfyloomError(Exception):
    """Something went wrong in comfyloom."""

    def __init__(self, message: str = "") -> None:
        text = message or (type(self).__doc__ or "").partition("\n")[0]
        super().__init__(redact(text))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class ConfigError(ComfyloomError):
    """A setting is missing or wrong.

    Attributes:
        problems: One line a setting, each with where it was looked for.
    """

    def __init__(self, message: str = "", *, problems: Sequence[str] = ()) -> None:
        self.problems = tuple(redact(problem) for problem in problems)
        super().__init__(message or "; ".join(self.problems))


class OutputNotWritable(ComfyloomError):
    """A result cannot be written where it was asked for.

    Attributes:
        path: The file or folder.
    """

    def __init__(self, message: str = "", *, path: str = "") -> None:
        self.path = path
        super().__init__(message)


# --- the workflow and its values -----------------------------------------------------------------


class WorkflowError(ComfyloomError):
    """A workflow or a value given to it cannot be run."""


class GraphError(WorkflowError):
    """A workflow file holds no graph that can run.

    Attributes:
        node: The id of the first node at fault, or "".
        problems: All that is wrong, one line each.
    """

    def __init__(self, message: str = "", *, node: str = "", problems: Sequence[str] = ()) -> None:
        self.node = node
        self.problems = tuple(problems) or ((message,) if message else ())
        super().__init__(message)


@attrs.frozen(kw_only=True)
class InputProblem:
    """What is wrong with one value: the field, the node it goes to, the reason, a near choice."""

    field: str
    node: str
    reason: str
    nearest: str | None = None

    def __str__(self) -> str:
        hint = f"; did you mean {self.nearest!r}?" if self.nearest is not None else ""
        return f"{self.field} (node {self.node}): {self.reason}{hint}"


class InputValueError(WorkflowError):
    """A value of a workflow is missing, of the wrong type or out of range.

    Attributes:
        problems: All that is wrong, in the order of the fields.
    """

    def __init__(self, message: str = "", *, problems: Sequence[InputProblem] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__(message or "; ".join(str(problem) for problem in self.problems))

    @property
    def field(self) -> str:
        """The public name of the first value at fault."""
        return self.problems[0].field if self.problems else ""

    @property
    def node(self) -> str:
        """The id of the node that the first value at fault goes to."""
        return self.problems[0].node if self.problems else ""

    @property
    def reason(self) -> str:
        """What is wrong with the first value at fault."""
        return self.problems[0].reason if self.problems else str(self)

    @property
    def nearest(self) -> str | None:
        """The valid choice closest to the first value at fault, if there is one."""
        return self.problems[0].nearest if self.problems else None


class InputFileError(InputValueError):
    """A file given to a workflow is missing or cannot be read."""


# --- talking to servers --------------------------------------------------------------------------


class TransportError(ComfyloomError):
    """A server could not be reached, or did not answer in full.

    Attributes:
        errors: What each attempt ran into, newest first.
        sent: Whether the request may have reached the server.
    """

    def __init__(self, message: str = "", *, errors: Sequence[str] = (), sent: bool = True) -> None:
        self.errors = tuple(redact(error) for error in errors)
        self.sent = sent
        super().__init__(message)


class ApiError(ComfyloomError):
    """A server refused a request.

    Attributes:
        status: The HTTP status.
        code: The server's own name for the error, or "".
        body: The answer's text, at most 2,000 characters of it.
        request: Method and path.
        errors: What each attempt ran into, newest first; empty where there was but one.
        retry_after_s: Seconds that the server asks to wait before another attempt, else 0.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status: int = 0,
        code: str = "",
        body: str = "",
        request: str = "",
        errors: Sequence[str] = (),
        retry_after_s: float = 0.0,
    ) -> None:
        self.errors = tuple(redact(error) for error in errors)
        self.retry_after_s = retry_after_s
        self.status = status
        self.code = code
        self.body = redact(body)
        self.request = redact(request)
        super().__init__(message)

    @property
    def is_final(self) -> bool:
        """Whether the same request would be refused again: 3xx, and 4xx but for 408 and 429."""
        return 300 <= self.status < 500 and self.status not in (408, 429)


class Unauthorized(ApiError):
    """The account token was not accepted."""


class Forbidden(ApiError):
    """The account may not do this, or the base URL or path is wrong."""


class NotFound(ApiError):
    """The server knows nothing of this name."""


class RateLimited(ApiError):
    """Too many requests: RunComfy allows one a second on average."""


class PromptRejected(ApiError):
    """ComfyUI refused the graph.

    Attributes:
        node_errors: The server's own list, by node id.
    """

    def __init__(
        self,
        message: str = "",
        *,
        node_errors: Mapping[str, Any] | None = None,
        status: int = 0,
        code: str = "",
        body: str = "",
        request: str = "",
    ) -> None:
        self.node_errors = dict(node_errors or {})
        super().__init__(message, status=status, code=code, body=body, request=request)


# --- runs ----------------------------------------------------------------------------------------


class RunError(ComfyloomError):
    """A run gave no result.

    Attributes:
        prompt_id: The run's id on the server.
    """

    def __init__(self, message: str = "", *, prompt_id: str = "") -> None:
        self.prompt_id = prompt_id
        super().__init__(message)


class RunFailed(RunError):
    """A node raised an error on the machine.

    Attributes:
        node: The id of the node.
        node_type: Its class type.
        exception_type: The name of the Python exception on the machine.
        traceback: The machine's traceback, line by line.
    """

    def __init__(
        self,
        message: str = "",
        *,
        prompt_id: str = "",
        node: str = "",
        node_type: str = "",
        exception_type: str = "",
        traceback: Sequence[str] = (),
    ) -> None:
        self.node = node
        self.node_type = node_type
        self.exception_type = exception_type
        self.traceback = tuple(redact(line) for line in traceback)
        super().__init__(message, prompt_id=prompt_id)


class RunCancelled(RunError):
    """The run was interrupted or taken out of the queue."""


class RunTimeout(RunError, TimeoutError):
    """The run took longer than it was given; it was cancelled."""


class RunLost(RunError):
    """The server knows nothing of the run any more: it was restarted, or somebody deleted it."""


class OutputMissing(RunError):
    """The run ended well, but a result is not there, or is no whole file.

    Attributes:
        field: The name of the result.
        node: The id of the node that should have made it.
    """

    def __init__(
        self, message: str = "", *, prompt_id: str = "", field: str = "", node: str = ""
    ) -> None:
        self.field = field
        self.node = node
        super().__init__(message, prompt_id=prompt_id)


# --- machines ------------------------------------------------------------------------------------


class MachineError(ComfyloomError):
    """A machine cannot be used.

    Attributes:
        server_id: The machine's id, or "" when it is not known.
        status: The platform's last word for its state, or "" when there was none.
        elapsed_s: Seconds that it was waited for, 0 where nothing was.
    """

    def __init__(
        self, message: str = "", *, server_id: str = "", status: str = "", elapsed_s: float = 0.0
    ) -> None:
        self.server_id = server_id
        self.status = status
        self.elapsed_s = elapsed_s
        super().__init__(message)


class MachineStartFailed(MachineError):
    """A machine ended while it started."""


class MachineTimeout(MachineError, TimeoutError):
    """A machine was not ready in time."""


class MachineLeak(MachineError):
    """A machine may still be running and costing money.

    Attributes:
        reason: Why that is so.
        already_printed: Whether it was printed already, because nobody may miss it.
    """

    already_printed = False

    def __init__(
        self,
        message: str = "",
        *,
        server_id: str = "",
        status: str = "",
        elapsed_s: float = 0.0,
        reason: str = "",
    ) -> None:
        self.reason = reason
        super().__init__(message, server_id=server_id, status=status, elapsed_s=elapsed_s)


class MachineBusy(MachineError):
    """A machine is at work, and would lose it."""


class MachineLimit(MachineError):
    """The account has as many machines as the setting `max_machines` allows."""


# --- money, records, jobs ------------------------------------------------------------------------


class BudgetExceeded(ComfyloomError):
    """A launch, a run or a longer lease would cost more than it may.

    Attributes:
        limit: The budget in USD, None when not known.
        wanted: What it would cost in USD, None when not known.
    """

    def __init__(
        self, message: str = "", *, limit: Decimal | None = None, wanted: Decimal | None = None
    ) -> None:
        self.limit = limit
        self.wanted = wanted
        super().__init__(message)


class LedgerError(ComfyloomError):
    """What is known of machines and their cost cannot be read or written.

    Attributes:
        path: The file, or "".
    """

    def __init__(self, message: str = "", *, path: str = "") -> None:
        self.path = path
        super().__init__(message)


class LedgerTooNew(LedgerError):
    """The ledger was made by a newer version of this software."""


class JobError(ComfyloomError):
    """A job of the queue came to nothing.

    Attributes:
        key: The job's key, or "".
    """

    def __init__(self, message: str = "", *, key: str = "") -> None:
        self.key = key
        super().__init__(message)


# --- what a shell sees ---------------------------------------------------------------------------

EXIT_CODES: Final[Mapping[type[BaseException], int]] = {
    ComfyloomError: 1,
    ConfigError: 78,
    OutputNotWritable: 73,
    WorkflowError: 65,
    InputFileError: 66,
    TransportError: 69,
    ApiError: 69,
    Unauthorized: 77,
    Forbidden: 77,
    RateLimited: 75,
    PromptRejected: 65,
    RunError: 69,
    RunCancelled: 1,
    RunTimeout: 75,
    MachineError: 69,
    MachineTimeout: 75,
    MachineBusy: 75,
    MachineLimit: 75,
    BudgetExceeded: 69,
    LedgerError: 74,
    JobError: 69,
    KeyboardInterrupt: 130,
}
"""The exit code of each error, by sysexits.h; an error without a row has its parent's."""


def exit_code(error: BaseException) -> int:
    """Return the exit code of a command that ended with `error`."""
    return next((EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES), 1)
