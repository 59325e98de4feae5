"""Errors of runs."""

from __future__ import annotations

from collections.abc import Sequence

from comfyloom._core.redact import redact
from comfyloom.errors._base import ComfyloomError


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
