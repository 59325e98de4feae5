"""`comfyloom account`: whose account is used, where its token comes from, and its balance."""

from __future__ import annotations

import click

from comfyloom.cli.json_output import print_json
from comfyloom.cli.main import CONTEXT
from comfyloom.cli.shared import credentials_option, json_option, print_pairs
from comfyloom.errors import ApiError, TransportError, Unauthorized
from comfyloom.settings import Settings
from comfyloom.settings.website import Website, balance_of


@click.command(context_settings=CONTEXT)
@credentials_option
@json_option
def account(credentials: str | None, as_json: bool) -> None:
    """Show whose account is used, where its token comes from, and its balance."""
    settings = Settings.load(credentials=credentials)
    email = ""
    try:
        email = Website(settings.web_base_url).user(settings.api_token).email
    except Unauthorized:
        raise
    except (TransportError, ApiError) as error:
        click.echo(f"warning: the name is not known: {error}", err=True)
    balance = balance_of(settings.api_base_url, settings.api_token)
    if as_json:
        print_json(
            {
                "user_id": settings.user_id,
                "email": email or None,
                "api_base_url": settings.api_base_url,
                "token_from": settings.sources["api_token"],
                "user_id_from": settings.sources["user_id"],
                "balance": balance.amount,
                "currency": balance.currency,
            }
        )
        return
    known = f"{balance.amount} {balance.currency}" if balance.amount is not None else "not known"
    print_pairs(
        {
            "account": email or settings.user_id,
            "user id": f"{settings.user_id} (from {settings.sources['user_id']})",
            "token": f"from {settings.sources['api_token']}",
            "platform": settings.api_base_url,
            "balance": known,
        }
    )
