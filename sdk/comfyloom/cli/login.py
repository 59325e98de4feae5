"""`comfyloom login`: sign in to RunComfy in a browser, and keep the token in a private file."""

from __future__ import annotations

from pathlib import Path

import click

from comfyloom._core.clock import SYSTEM_CLOCK
from comfyloom._core.waiting import Deadline, polling
from comfyloom._session.staging import check_writable
from comfyloom.cli.json_output import print_json
from comfyloom.cli.main import CONTEXT
from comfyloom.cli.shared import is_interactive, json_option, span, yes_option
from comfyloom.errors import ConfigError, Unauthorized
from comfyloom.settings import Settings, SettingsLoader
from comfyloom.settings.credentials_file import user_credentials, write_credentials
from comfyloom.settings.declaration import setting_metas
from comfyloom.settings.website import DEFAULT_WEB_BASE, SignInCode, Website


@click.command(context_settings=CONTEXT)
@click.option(
    "--credentials",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file to write.  [default: credentials.txt in the user's configuration folder]",
)
@click.option("--no-browser", is_flag=True, help="Only print the address and the code.")
@yes_option
@json_option
def login(credentials: Path | None, no_browser: bool, yes: bool, as_json: bool) -> None:
    """Sign in to RunComfy in a browser, and keep token and user id in a private file.

    Ctrl-C ends the wait; nothing is written then. Other lines of the file stay as they are, and a
    token that it had is kept in a copy, FILE.old.
    """
    path = credentials or user_credentials()
    check_writable(path.parent)  # before anybody signs in
    wanted = {"web_base_url": setting_metas(Settings)["web_base_url"]}
    known = SettingsLoader.of(wanted=wanted)
    if known.problems:
        raise ConfigError(problems=known.problems)
    website = Website(known.values.get("web_base_url", DEFAULT_WEB_BASE))
    if website.base_url != DEFAULT_WEB_BASE:
        # The environment of an emulator is easily forgotten in a terminal.
        click.echo(f"This is not RunComfy, but {website.base_url}.", err=True)
        if path.exists() and is_interactive() and not yes:
            click.confirm(f"Write its token into {path}?", abort=True, err=True)
    code = website.begin()
    click.echo(f"Open {code.page} and enter this code:\n\n    {code.user_code}\n", err=True)
    if not no_browser and is_interactive():
        click.launch(code.page)
    click.echo(f"waiting for up to {span(code.expires_s)} (Ctrl-C ends it) …", err=True)
    token = _await_token(website, code)
    user = website.user(token)
    copy = write_credentials(path, {"api_token": token, "user_id": user.id})
    if copy is not None:
        click.echo(f"what the file had before is kept in {copy}", err=True)
    facts = {"user_id": user.id, "email": user.email or None, "file": str(path)}
    if as_json:
        print_json(facts)
    else:
        click.echo(f"signed in as {user.email or user.id}; saved in {path}")
    if (source := SettingsLoader.of(credentials=credentials).sources["api_token"]) != str(path):
        click.echo(f"warning: the token in {source} comes first, and is used", err=True)


def _await_token(website: Website, code: SignInCode) -> str:
    for _ in polling(code.interval_s, Deadline.after(code.expires_s, SYSTEM_CLOCK)):
        if (token := website.poll(code)) is not None:
            return token
    raise Unauthorized("the code was not confirmed in time: run comfyloom login again")
