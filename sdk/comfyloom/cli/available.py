"""`comfyloom available`: whether a run could begin now, without launching anything."""

from __future__ import annotations

import attrs
import click

from comfyloom._backends.resolve import RUNCOMFY
from comfyloom._session.session import RunComfySession
from comfyloom.cli.json_output import print_json
from comfyloom.cli.main import CONTEXT
from comfyloom.cli.shared import credentials_option, json_option, span
from comfyloom.errors import MachineError
from comfyloom.settings import Settings


@click.command(context_settings=CONTEXT)
@click.option(
    "--target",
    metavar="TARGET",
    help="runcomfy (the default), emulator, or the URL of a ComfyUI server.",
)
@click.option(
    "--launch/--no-launch",
    default=True,
    help="Whether a machine may be launched when no dev server fits.  [default: launch]",
)
@credentials_option
@json_option
def available(target: str | None, launch: bool, credentials: str | None, as_json: bool) -> None:
    """Say whether a run could begin now, how long it would wait, and what the machine costs.

    Nothing is launched; the answer comes within two seconds. The exit code is 69 if nothing is
    available.
    """
    is_account = target in (None, RUNCOMFY)
    settings = Settings.load(credentials=credentials) if is_account else None
    with RunComfySession(target, settings=settings, launch=launch) as session:
        found = session.availability()
    error = None if found.available else MachineError(f"not available: {found.why}")
    if as_json:
        print_json(attrs.asdict(found), error)
    if error is not None:
        raise error
    if as_json:
        return
    wait = f", ready in about {span(found.wait_s)}" if found.wait_s else ""
    price = "price not known" if found.usd_per_hour is None else f"{found.usd_per_hour} USD an hour"
    click.echo(f"available: {found.why}{wait}, {price}")
