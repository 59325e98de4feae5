"""How a run can end other than well."""

from collections.abc import Mapping
from typing import Any


class InterruptedRun(Exception):
    """The interrupt flag was seen."""


class FailedNode(Exception):
    """A node raised.

    Attributes:
        exception_type: The name of what it raised.
        exception_message: Its text.
        traceback: Lines, as the protocol shows them.
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


class DeadServer(Exception):
    """The machine has ended under the run."""


class RestartedServer(Exception):
    """ComfyUI was restarted under the run."""


class DeadWorker(Exception):
    """The prompt killed the thread that runs prompts: nothing will ever run again."""
