"""The root of the command line, and what becomes of an error."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, NoReturn, cast

import click

from comfyloom import __version__
from comfyloom._core.redact import RedactingFilter, redact
from comfyloom.errors import ComfyloomError, ConfigError, MachineLeak, exit_code

USAGE: Final = 64
OUTPUT: Final = 74
INTERRUPTED: Final = 130
CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

_OWN: Final = {
    "check": "comfyloom.cli.check:check",
    "demo": "comfyloom.cli.demo:demo",
    "dev": "comfyloom.cli.dev:dev",
    "doctor": "comfyloom.cli.doctor:doctor",
    "machines": "comfyloom.cli.machines:machines",
    "run": "comfyloom.cli.run:run",
}
_COMMANDS: Final = "comfyloom.commands"


class Root(click.Group):
    """A group that imports a command when it is called.

    Beside its own commands it has those that installed packages register as entry points of
    `comfyloom.commands`.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of all commands."""
        return sorted({*_OWN, *(point.name for point in entry_points(group=_COMMANDS))})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return a command, None if there is none of that name."""
        if cmd_name in _OWN:
            module, _, name = _OWN[cmd_name].partition(":")
            return cast("click.Command", getattr(importlib.import_module(module), name))
        found = next(iter(entry_points(group=_COMMANDS, name=cmd_name)), None)
        return None if found is None else _load(found)


def _load(point: EntryPoint) -> click.Command:
    return cast("click.Command", point.load())


@click.group(cls=Root, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="comfyloom")
@click.option("--debug", is_flag=True, help="Log to the terminal, and show tracebacks.")
def root(debug: bool) -> None:
    """Run ComfyUI workflows on RunComfy machines that are always given back."""
    if debug:
        handler = logging.StreamHandler()
        handler.addFilter(RedactingFilter())
        logging.basicConfig(
            level=logging.DEBUG, format="%(asctime)s %(name)s: %(message)s", handlers=[handler]
        )
        # A library's own debug output may hold addresses and headers.
        logging.getLogger().setLevel(logging.WARNING)
        logging.getLogger("comfyloom").setLevel(logging.DEBUG)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit code (sysexits.h; 130 when interrupted)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(invoke(given))


def invoke(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code; an error is one line on stderr."""
    try:
        code: Any = root.main(list(arguments), "comfyloom", standalone_mode=False)
    except click.UsageError as error:
        error.show()
        return USAGE
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        _fail(error, "interrupted", debug="--debug" in arguments)
        return INTERRUPTED
    except ComfyloomError as error:
        return _fail(error, str(error), debug="--debug" in arguments)
    except ModuleNotFoundError as error:
        message = f"{error.name} is missing: pip install 'comfyloom[all]'"
        return _fail(ConfigError(message), message, debug="--debug" in arguments)
    except OSError as error:
        return _broken_output(error)
    return code if isinstance(code, int) else 0


def _broken_output(error: OSError) -> int:
    """Leave when nobody reads the output any more, or it cannot be written."""
    with contextlib.suppress(OSError):
        if not isinstance(error, BrokenPipeError):
            click.echo(f"comfyloom: {error.strerror or error}", err=True)
    # Python would try to write the rest at its exit, and complain again.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return 0 if isinstance(error, BrokenPipeError) else OUTPUT


def _fail(error: BaseException, message: str, *, debug: bool) -> int:
    if debug:
        click.echo(redact("".join(traceback.format_exception(error))), err=True)
    if not (isinstance(error, MachineLeak) and error.already_printed):
        click.echo(f"comfyloom: {message}", err=True)
    return exit_code(error)
