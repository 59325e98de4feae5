"""The one JSON document that a command prints with `--json`, whether it succeeds or fails.

Success is `{"ok": true, …}` with the facts of the command; failure is
`{"ok": false, "error": {"code", "message", "hint", "details"}, …}` with the facts that are known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import attrs
import click

from comfyloom.errors import (
    ConfigError,
    Forbidden,
    InputFileError,
    InputValueError,
    LedgerError,
    MachineBusy,
    MachineError,
    MachineLeak,
    MachineLimit,
    OutputNotWritable,
    RateLimited,
    RunTimeout,
    TransportError,
    Unauthorized,
    exit_code,
)

USAGE: Final = 64
"""The exit code of a command that was used wrongly."""


@attrs.define
class JsonOutput:
    """What a command has printed.

    Attributes:
        is_printed: Whether its document is printed.
    """

    is_printed: bool = False


def print_json(facts: Mapping[str, object], error: BaseException | None = None) -> None:
    """Print the document of a command; money and times become text.

    Args:
        facts: What it found or did.
        error: Why it failed, None if it succeeded. It is to be raised afterwards.
    """
    context = click.get_current_context(silent=True)
    output = None if context is None else context.find_root().obj
    if isinstance(output, JsonOutput):
        output.is_printed = True
    head = {"ok": True} if error is None else {"ok": False, "error": describe(error)}
    click.echo(json.dumps({**head, **facts}, indent=2, default=_plain))


def describe(error: BaseException) -> dict[str, Any]:
    """Return an error as values for JSON: its class, message, advice and fields."""
    fields = {name: value for name, value in vars(error).items() if not name.startswith("_")}
    fields.pop("already_printed", None)
    if isinstance(error, click.ClickException):
        code = USAGE if isinstance(error, click.UsageError) else error.exit_code
        return _entry(error, error.format_message(), {"exit_code": code})
    message = "interrupted" if isinstance(error, KeyboardInterrupt | click.Abort) else str(error)
    return _entry(error, message, {**fields, "exit_code": exit_code(error)})


def _entry(error: BaseException, message: str, details: Mapping[str, Any]) -> dict[str, Any]:
    hint = next((text for kind, text in _HINTS if isinstance(error, kind)), None)
    return {
        "code": type(error).__name__,
        "message": message,
        "hint": hint,
        "details": dict(details),
    }


_HINTS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (Unauthorized, "sign in again: comfyloom login"),
    (Forbidden, "check the account and its base URL: comfyloom doctor"),
    (RateLimited, "wait a minute: RunComfy allows one request a second on average"),
    (MachineLeak, "stop it by hand: comfyloom machines list, comfyloom machines stop ID"),
    (MachineBusy, "wait until its prompts have ended, or use --force"),
    (MachineLimit, "stop a machine (comfyloom machines list), or raise max_machines"),
    (MachineError, "see what runs: comfyloom machines list, comfyloom dev status"),
    (TransportError, "check the connection and the address: comfyloom doctor"),
    (ConfigError, "see all settings and where they come from: comfyloom doctor"),
    (InputFileError, "check the path of the file"),
    (InputValueError, "see which values are possible: --help"),
    (RunTimeout, "give it more time: --timeout"),
    (OutputNotWritable, "choose another folder: --out"),
    (LedgerError, "check the setting COMFYLOOM_LEDGER, and the space on its disk"),
    (click.UsageError, "see how it is used: --help"),
)
"""The most special class first."""


def _plain(value: object) -> object:
    """Return a value that JSON cannot represent as text."""
    isoformat = getattr(value, "isoformat", None)
    return isoformat() if isoformat else str(value)
