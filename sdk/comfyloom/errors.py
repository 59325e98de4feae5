"""Every error that the SDK raises, in one tree that is split by who must act.

    ComfyloomError              the root of all
        ConfigError             user: set or correct a setting
        OutputNotWritable       user: choose a folder that can be written
        WorkflowError           caller: change the workflow or its values
            GraphError          workflow author: correct or re-export the file
            InputValueError     caller: pass another value
                InputFileError  caller: pass another file
        TransportError          user: check the network, then try again
        ApiError                caller: read what the server said
            Unauthorized        user: check the account token
            Forbidden           user: check the account and the base URL
            NotFound            caller: check the id; it may have ended
            RateLimited         caller: wait, then try again
            PromptRejected      workflow author: correct the nodes that ComfyUI names
        RunError                caller: read what the run reported
            RunFailed           workflow author: read the machine's traceback
            RunCancelled        no one: the run was cancelled on purpose
            RunTimeout          caller: allow more time (also a TimeoutError)
            RunLost             caller: run it again
            OutputMissing       workflow author: check the node that saves it
                OutputGone      caller: run it with `fresh=True`
        MachineError            user: start another machine
            MachineStartFailed  user: try again, or another server type
            MachineTimeout      user: try again, or allow more time (also a TimeoutError)
            MachineLeak         user, at once: stop the machine
            MachineBusy         user: wait for its prompts, or use force
            MachineLimit        user: stop a machine, or raise `max_machines`
        BudgetExceeded          user: raise the budget
        LedgerError             user: make the ledger readable and writable
            LedgerTooNew        user: upgrade comfyloom
        JobError                caller: read what the job reported

Every error takes its message first and its facts as keywords, all with defaults: it can be created,
copied and pickled. Secrets are removed when it is created.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from comfyloom._core.input_problem import InputProblem as InputProblem
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
        problems: One line for each setting, with the place where it was looked for.
    """

    def __init__(self, message: str = "", *, problems: Sequence[str] = ()) -> None:
        self.problems = tuple(redact(problem) for problem in problems)
        super().__init__(message or "; ".join(self.problems))


class OutputNotWritable(ComfyloomError):
    """A result cannot be written to the requested place.

    Attributes:
        path: The file or folder.
    """

    def __init__(self, message: str = "", *, path: str = "") -> None:
        self.path = path
        super().__init__(message)


class WorkflowError(ComfyloomError):
    """A workflow cannot run, or cannot run with the given values."""


class GraphError(WorkflowError):
    """The graph of a workflow file cannot run.

    Attributes:
        node: The id of the first node at fault, or "".
        problems: Everything that is wrong, one line each.
    """

    def __init__(self, message: str = "", *, node: str = "", problems: Sequence[str] = ()) -> None:
        self.node = node
        self.problems = tuple(problems) or ((message,) if message else ())
        super().__init__(message)


class InputValueError(WorkflowError):
    """A value of a workflow is missing, of the wrong type or out of range.

    Attributes:
        problems: Everything that is wrong, in the order of the fields.
        field: The public name of the first value at fault, or "".
        node: The id of the node that it goes to, or "".
        reason: What is wrong with it.
        nearest: The valid choice closest to it, None if there is none.
    """

    def __init__(self, message: str = "", *, problems: Sequence[InputProblem] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__(message or "; ".join(str(problem) for problem in self.problems))
        no_problem = InputProblem(field="", node="", reason=str(self))
        first = self.problems[0] if self.problems else no_problem
        self.field, self.node = first.field, first.node
        self.reason, self.nearest = first.reason, first.nearest


class InputFileError(InputValueError):
    """A file given to a workflow is missing or cannot be read."""


class TransportError(ComfyloomError):
    """A server could not be reached, or did not answer in full.

    Attributes:
        errors: The error of each attempt, newest first.
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
        body: The response body as text, at most 2,000 characters.
        request: Method and path.
        errors: The error of each attempt, newest first; empty after a single attempt.
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
        """Whether the same request would be refused again: 3xx, and 4xx except 408 and 429."""
        return 300 <= self.status < 500 and self.status not in (408, 429)


class Unauthorized(ApiError):
    """The account token was not accepted."""


class Forbidden(ApiError):
    """The account may not do this, or the base URL or path is wrong."""


class NotFound(ApiError):
    """The server has nothing with this name or id."""


class RateLimited(ApiError):
    """Too many requests: RunComfy allows one a second on average."""


class PromptRejected(ApiError):
    """ComfyUI refused the graph.

    Attributes:
        node_errors: The errors that the server reported, by node id.
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


class RunError(ComfyloomError):
    """A run ended without a result.

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
        node_type: The node's class type.
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
        self.node, self.node_type, self.exception_type = node, node_type, exception_type
        self.traceback = tuple(redact(line) for line in traceback)
        super().__init__(message, prompt_id=prompt_id)


class RunCancelled(RunError):
    """The run was interrupted or removed from the queue."""


class RunTimeout(RunError, TimeoutError):
    """The run exceeded its time limit and was cancelled."""


class RunLost(RunError):
    """The server no longer knows the run: it was restarted, or another client deleted the run."""


class OutputMissing(RunError):
    """The run succeeded, but a result is missing or its file is incomplete.

    Attributes:
        field: The name of the result.
        node: The id of the node that should have saved it.
    """

    def __init__(
        self, message: str = "", *, prompt_id: str = "", field: str = "", node: str = ""
    ) -> None:
        self.field, self.node = field, node
        super().__init__(message, prompt_id=prompt_id)


class OutputGone(OutputMissing):
    """The server has deleted the file of a cached result, and saving it again would cost a run."""


class MachineError(ComfyloomError):
    """A machine cannot be used.

    Attributes:
        server_id: The machine's id, "" if it is not known.
        status: The last state that the platform reported, "" if none.
        elapsed_s: Seconds spent waiting for the machine, 0 if none.
    """

    def __init__(
        self, message: str = "", *, server_id: str = "", status: str = "", elapsed_s: float = 0.0
    ) -> None:
        self.server_id, self.status, self.elapsed_s = server_id, status, elapsed_s
        super().__init__(message)


class MachineStartFailed(MachineError):
    """A machine ended during its start."""


class MachineTimeout(MachineError, TimeoutError):
    """A machine was not ready in time."""


class MachineLeak(MachineError):
    """A machine may still be running and costing money.

    Attributes:
        reason: Why its end is not confirmed.
        already_printed: Whether the warning is already on stderr.
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
    """A machine is running prompts that would be lost."""


class MachineLimit(MachineError):
    """The account already has the number of machines that `max_machines` allows."""


class BudgetExceeded(ComfyloomError):
    """A launch, a run or a longer lease would exceed the budget.

    Attributes:
        limit: The budget in USD, None if it is not known.
        wanted: The expected cost in USD, None if it is not known.
    """

    def __init__(
        self, message: str = "", *, limit: Decimal | None = None, wanted: Decimal | None = None
    ) -> None:
        self.limit, self.wanted = limit, wanted
        super().__init__(message)


class LedgerError(ComfyloomError):
    """The records of machines and their cost cannot be read or written.

    Attributes:
        path: The file, or "".
    """

    def __init__(self, message: str = "", *, path: str = "") -> None:
        self.path = path
        super().__init__(message)


class LedgerTooNew(LedgerError):
    """The ledger was created by a newer version of comfyloom."""


class JobError(ComfyloomError):
    """A queued job failed.

    Attributes:
        key: The job's key, or "".
    """

    def __init__(self, message: str = "", *, key: str = "") -> None:
        self.key = key
        super().__init__(message)


EXIT_CODES: Final[Mapping[type[BaseException], int]] = {
    kind: code
    for code, kinds in (
        (1, (ComfyloomError, RunCancelled)),
        (65, (WorkflowError, PromptRejected)),
        (66, (InputFileError,)),
        (69, (TransportError, ApiError, RunError, MachineError, BudgetExceeded, JobError)),
        (73, (OutputNotWritable,)),
        (74, (LedgerError,)),
        (75, (RateLimited, RunTimeout, MachineTimeout, MachineBusy, MachineLimit)),
        (77, (Unauthorized, Forbidden)),
        (78, (ConfigError,)),
        (130, (KeyboardInterrupt,)),
    )
    for kind in kinds
}
"""The exit code of each error, as in sysexits.h; an error without one has its parent's."""


def exit_code(error: BaseException) -> int:
    """Return the exit code of a command that ended with `error`."""
    return next((EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES), 1)
