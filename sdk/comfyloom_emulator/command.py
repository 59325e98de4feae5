"""`comfyloom emulate`: the emulator as a process of its own."""

import contextlib
import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Literal, NoReturn

import click

if TYPE_CHECKING:
    from comfyloom_emulator.emulator import Emulator

_TURN_S = 0.5
_USAGE, _UNAVAILABLE, _CANNOT_CREATE, _NOT_INSTALLED = 64, 69, 73, 78


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default="a free one",
    help="TCP port on the loopback interface.",
)
@click.option(
    "--ready-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="JSON file to write the address and credentials to, once requests are accepted.",
)
@click.option(
    "--time",
    "time_mode",
    type=click.Choice(["real", "immediate"]),
    default="real",
    show_default=True,
    help="Whether waits take real time or are skipped.",
)
@click.option(
    "--startup-s",
    type=click.FloatRange(min=0),
    default=3.0,
    show_default=True,
    help="Seconds until a launched machine is ready.",
)
@click.option(
    "--run-s",
    type=click.FloatRange(min=0),
    default=8.0,
    show_default=True,
    help="Duration of a flux-mesh run in seconds.",
)
@click.option(
    "--comfyui-version",
    default="0.3.64",
    show_default=True,
    help="ComfyUI version of the machines; it decides what their jobs API can do.",
)
def emulate(
    port: int,
    ready_file: Path | None,
    time_mode: Literal["real", "immediate"],
    startup_s: float,
    run_s: float,
    comfyui_version: str,
) -> None:
    """Emulate RunComfy and its ComfyUI machines on this computer, until Ctrl-C or SIGTERM.

    No data leaves the computer and nothing costs money.
    """
    ended = threading.Event()
    with _set_by_signals(ended):
        emulator = _start(port, time_mode, startup_s, run_s, comfyui_version)
        with emulator, _ready_file(emulator, ready_file):
            _print_connection(emulator, ready_file)
            # In turns: a signal that another thread gets does not wake this one.
            while not ended.wait(_TURN_S):
                pass


def _start(
    port: int,
    time_mode: Literal["real", "immediate"],
    startup_s: float,
    run_s: float,
    comfyui_version: str,
) -> "Emulator":
    try:
        from comfyloom_emulator.emulator import Emulator
    except ModuleNotFoundError as error:
        hint = f"the emulator needs {error.name}: pip install 'comfyloom[emulator]'"
        _fail(hint, _NOT_INSTALLED)
    try:
        emulator = Emulator(
            port=port,
            time=time_mode,
            startup_s=startup_s,
            run_s=run_s,
            comfyui_version=comfyui_version,
        )
        return emulator.start()
    except ValueError as error:
        _fail(str(error), _USAGE)
    except OSError as error:
        _fail(f"cannot listen on 127.0.0.1:{port}: {error.strerror or error}", _UNAVAILABLE)


@contextlib.contextmanager
def _set_by_signals(ended: threading.Event) -> Generator[None, None, None]:
    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    previous = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _ready_file(emulator: "Emulator", path: Path | None) -> Generator[None, None, None]:
    if path is None:
        yield
        return
    connection = {
        "base_url": emulator.base_url,
        "user_id": emulator.user_id,
        "token": emulator.token,
        "workflow_version_id": emulator.workflow_version_id,
    }
    text = json.dumps(connection) + "\n"
    try:
        _write_private(path, text)
    except OSError as error:
        _fail(f"cannot write {path}: {error.strerror or error}", _CANNOT_CREATE)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if path.read_text("utf-8") == text:  # a later emulator may have replaced it
                path.unlink()


def _write_private(path: Path, text: str) -> None:
    """Write a file atomically, readable by its owner only."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def _print_connection(emulator: "Emulator", ready_file: Path | None) -> None:
    variables = emulator.environment()
    names = ", ".join(variables)
    where = f"values in {ready_file}" if ready_file else "values on standard output"
    click.echo(
        f"RunComfy is emulated at {emulator.base_url}; clients need {names} ({where}). "
        "Press Ctrl-C to stop it.",
        err=True,
    )
    if ready_file is None:
        for name, value in variables.items():
            click.echo(f"export {name}={shlex.quote(value)}")
        sys.stdout.flush()


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"comfyloom emulate: {message}", err=True)
    raise SystemExit(code)
