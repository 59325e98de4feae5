"""The types in public signatures: callbacks, targets, machines, statuses, times.

They are made by the SDK; a program needs them for annotations and `isinstance`.
"""

from comfyloom._backends.availability import Availability
from comfyloom._backends.resolve import HasEnvironment, TargetLike
from comfyloom._comfyui.client import ComfyUI
from comfyloom._comfyui.history import FileReference, HistoryEntry
from comfyloom._comfyui.queue_poll import QueueIds
from comfyloom._core.clock import Clock
from comfyloom._core.timeouts import PollIntervals, Timeouts
from comfyloom._dev.health import DevStatus
from comfyloom._dev.launch import WorkflowLike
from comfyloom._dev.watch import PromptState, StatusSnapshot, WatchedPrompt
from comfyloom._http.retry import Backoff
from comfyloom._machines.machine import Machine
from comfyloom._records.dev_state import Health
from comfyloom._session.run import RunStatus
from comfyloom._workflow.files import FileSource, ImageSource, InputFile
from comfyloom._workflow.graph import Graph
from comfyloom._workflow.run_options import PreviewMethod, RunOptions
from comfyloom.progress import Kind as ProgressKind
from comfyloom.progress import ProgressCallback
from comfyloom.settings import Auth, ClientCert, Headers, Plan, Prices, Verify

__all__ = [
    "Auth",
    "Availability",
    "Backoff",
    "ClientCert",
    "Clock",
    "ComfyUI",
    "DevStatus",
    "FileReference",
    "FileSource",
    "Graph",
    "HasEnvironment",
    "Headers",
    "Health",
    "HistoryEntry",
    "ImageSource",
    "InputFile",
    "Machine",
    "Plan",
    "PollIntervals",
    "PreviewMethod",
    "Prices",
    "ProgressCallback",
    "ProgressKind",
    "PromptState",
    "QueueIds",
    "RunOptions",
    "RunStatus",
    "StatusSnapshot",
    "TargetLike",
    "Timeouts",
    "Verify",
    "WatchedPrompt",
    "WorkflowLike",
]
