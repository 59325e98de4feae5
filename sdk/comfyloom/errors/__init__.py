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
            Unauthorized        user: check the account token, or the login
            Forbidden           user: check the account or login, and the URL
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

from comfyloom._core.input_problem import InputProblem
from comfyloom.errors._base import ComfyloomError, ConfigError, OutputNotWritable
from comfyloom.errors._exit_codes import EXIT_CODES, exit_code
from comfyloom.errors._machines import (
    MachineBusy,
    MachineError,
    MachineLeak,
    MachineLimit,
    MachineStartFailed,
    MachineTimeout,
)
from comfyloom.errors._records import BudgetExceeded, JobError, LedgerError, LedgerTooNew
from comfyloom.errors._requests import (
    ApiError,
    Forbidden,
    NotFound,
    PromptRejected,
    RateLimited,
    TransportError,
    Unauthorized,
)
from comfyloom.errors._runs import (
    OutputGone,
    OutputMissing,
    RunCancelled,
    RunError,
    RunFailed,
    RunLost,
    RunTimeout,
)
from comfyloom.errors._workflows import GraphError, InputFileError, InputValueError, WorkflowError

__all__ = [
    "ApiError",
    "BudgetExceeded",
    "ComfyloomError",
    "ConfigError",
    "EXIT_CODES",
    "Forbidden",
    "GraphError",
    "InputFileError",
    "InputProblem",
    "InputValueError",
    "JobError",
    "LedgerError",
    "LedgerTooNew",
    "MachineBusy",
    "MachineError",
    "MachineLeak",
    "MachineLimit",
    "MachineStartFailed",
    "MachineTimeout",
    "NotFound",
    "OutputGone",
    "OutputMissing",
    "OutputNotWritable",
    "PromptRejected",
    "RateLimited",
    "RunCancelled",
    "RunError",
    "RunFailed",
    "RunLost",
    "RunTimeout",
    "TransportError",
    "Unauthorized",
    "WorkflowError",
    "exit_code",
]

for _each in [*vars().values()]:
    if isinstance(_each, type) and issubclass(_each, ComfyloomError):
        # What a traceback shows and a pickle keeps is where users import it from.
        _each.__module__ = __name__
