"""The root command, and how errors become one line and an exit code."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any, Final, NoReturn, cast

import click

from comfyloom import __version__
from comfyloom._core.redact import RedactingFilter, redact
from comfyloom._core.suggestions import did_you_mean
from comfyloom.cli.json_output import USAGE, JsonOutput, print_json
from comfyloom.errors import ComfyloomError, ConfigError, MachineLeak, exit_code

OUTPUT: Final = 74
INTERRUPTED: Final = 130
CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

_BUILT_IN: Final = {
    "account": "comfyloom.cli.account:account",
    "available": "comfyloom.cli.available:available",
    "check": "comfyloom.cli.check:check",
    "demo": "comfyloom.cli.demo:demo",
    "dev": "comfyloom.cli.dev:dev",
    "doctor": "comfyloom.cli.doctor:doctor",
    "login": "comfyloom.cli.login:login",
    "machines": "comfyloom.cli.machines:machines",
    "run": "comfyloom.cli.run:run",
}
_ENTRY_POINTS: Final = "comfyloom.commands"


class SuggestingGroup(click.Group):
    """A group that says which commands there are when it does not know one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name, as `click.Group` does.

        Raises:
            click.UsageError: There is no such command; it suggests the nearest.
        """
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            known = self.list_commands(ctx)
            hint = did_you_mean(args[0], known) or f"; there are: {', '.join(known) or 'none'}"
            raise click.UsageError(f"no command {args[0]!r}{hint}", ctx) from None


class Root(SuggestingGroup):
    """A group that imports a command when it is called.

    Besides the built-in commands it offers those that installed packages register as entry points
    of `comfyloom.commands`.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of all commands."""
        return sorted({*_BUILT_IN, *(point.name for point in entry_points(group=_ENTRY_POINTS))})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return a command, None if no command has that name."""
        if cmd_name in _BUILT_IN:
            module, _, name = _BUILT_IN[cmd_name].partition(":")
            return cast("click.Command", getattr(importlib.import_module(module), name))
        point = next(iter(entry_points(group=_ENTRY_POINTS, name=cmd_name)), None)
        return None if point is None else cast("click.Command", point.load())


@click.group(cls=Root, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="comfyloom")
@click.option("--debug", is_flag=True, help="Log to the terminal, and show tracebacks.")
def root(debug: bool) -> None:
    """Run ComfyUI workflows on RunComfy machines that are always stopped afterwards."""
    if debug:
        handler = logging.StreamHandler()
        handler.addFilter(RedactingFilter())
        logging.basicConfig(
            level=logging.DEBUG, format="%(asctime)s %(name)s: %(message)s", handlers=[handler]
        )
        # The debug output of other libraries may contain addresses and headers.
        logging.getLogger().setLevel(logging.WARNING)
        logging.getLogger("comfyloom").setLevel(logging.DEBUG)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code (sysexits.h; 130 if interrupted).

    Args:
        arguments: The arguments after the program's name, by default those of the process.
    """
    sys.exit(invoke(sys.argv[1:] if arguments is None else arguments))


def invoke(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code.

    An error is one line on stderr; with `--json` it is a document on stdout, too.
    """
    output = JsonOutput()

    def failed(error: BaseException) -> None:
        if "--json" in arguments and not output.is_printed:
            print_json({}, error)

    try:
        code: Any = root.main(list(arguments), "comfyloom", standalone_mode=False, obj=output)
    except click.UsageError as error:
        failed(error)
        error.show()
        return USAGE
    except click.ClickException as error:
        failed(error)
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        failed(error)
        _fail(error, "interrupted", debug="--debug" in arguments)
        return INTERRUPTED
    except ComfyloomError as error:
        failed(error)
        return _fail(error, str(error), debug="--debug" in arguments)
    except ModuleNotFoundError as error:
        message = f"{error.name} is missing: pip install 'comfyloom[all]'"
        failed(missing := ConfigError(message))
        return _fail(missing, message, debug="--debug" in arguments)
    except OSError as error:
        return _output_failed(error)
    return code if isinstance(code, int) else 0


def _output_failed(error: OSError) -> int:
    """Return the exit code when the reader of the output has ended, or writing failed."""
    with contextlib.suppress(OSError):
        if not isinstance(error, BrokenPipeError):
            click.echo(f"comfyloom: {error.strerror or error}", err=True)
    # Python flushes its buffers at exit, and would report the same error again.
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
