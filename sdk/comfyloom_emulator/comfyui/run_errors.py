"""The ways in which a run can fail."""

from collections.abc import Mapping
from typing import Any


class RunInterrupted(Exception):
    """The run noticed the interrupt flag."""


class NodeFailed(Exception):
    """A node raised an exception.

    Attributes:
        exception_type: Name of the exception's class.
        exception_message: Text of the exception.
        traceback: Lines of the traceback.
        current_inputs: The node's inputs by name, each a list of printable values.
    """

    def __init__(
        self,
        exception_type: str,
        exception_message: str,
        traceback: list[str],
        current_inputs: Mapping[str, list[Any]],
    ) -> None:
        super().__init__(exception_message)
        self.exception_type = exception_type
        self.exception_message = exception_message
        self.traceback = traceback
        self.current_inputs = current_inputs


class MachineDied(Exception):
    """The machine ended during the run."""


class ServerRestarted(Exception):
    """ComfyUI restarted during the run."""


class WorkerDied(Exception):
    """The prompt killed the thread that runs prompts: no prompt will ever run again."""
