"""What `comfyloom doctor` looks at, one question after the other."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Final, Literal, TypeAlias

import attrs

from comfyloom import __version__
from comfyloom._dev.health import DevStatus
from comfyloom._dev.server import DevServer
from comfyloom._machines.account_machines import AccountMachines, Rented
from comfyloom._money.prices import PriceList
from comfyloom._records.locations import records_of
from comfyloom._runcomfy.client import ServerApi
from comfyloom._runcomfy.models import CloudWorkflow
from comfyloom.cli.shared import span, usd
from comfyloom.cli.workflows import workflow_classes
from comfyloom.errors import ComfyloomError, ConfigError, exit_code
from comfyloom.settings import Settings, SettingsLoader

State: TypeAlias = Literal["ok", "note", "warning", "error"]

LARGEST_SKEW_S: Final = 5.0


@attrs.frozen(kw_only=True)
class Diagnostic:
    """One answer.

    Attributes:
        check: What was looked at.
        state: `ok`, `note`, `warning` or `error`.
        message: What was found.
        advice: What to do about it, "" if nothing has to be done.
        code: The exit code that an error stands for.
    """

    check: str
    state: State
    message: str
    advice: str = ""
    code: int = 0


def check_up(loader: SettingsLoader) -> Iterator[Diagnostic]:
    """Yield what there is to say, until something stands in the way of the rest."""
    yield Diagnostic(
        check="comfyloom", state="ok", message=f"{__version__}, Python {platform.python_version()}"
    )
    yield from _workflow_classes()
    for warning in loader.warnings:
        yield Diagnostic(check="settings", state="warning", message=warning)
    if loader.problems:
        for problem in loader.problems:
            yield _error("settings", ConfigError(problem), "see docs/settings.md")
        return
    yield Diagnostic(check="settings", state="ok", message="complete")
    yield from _account(loader.settings())


def _workflow_classes() -> Iterator[Diagnostic]:
    try:
        names = sorted(workflow_classes())
    except ConfigError as error:
        yield _error("workflow classes", error)
        return
    if names:
        yield Diagnostic(check="workflow classes", state="ok", message=", ".join(names))
    else:
        advice = "generate some: comfyloom codegen"
        yield Diagnostic(
            check="workflow classes", state="note", message="none is installed", advice=advice
        )


def _account(settings: Settings) -> Iterator[Diagnostic]:
    api = ServerApi(settings.api_base_url, settings.user_id, settings.api_token)
    try:
        # First, because it holds the machine's URL, which no message may show from then on.
        remembered = list(_guarded("state file", lambda: _cache(settings)))
        yield from remembered
        saved = api.list_workflows()
        yield Diagnostic(check="token", state="ok", message=f"accepted by {settings.api_base_url}")
        yield _skew(api)
        yield from _versions(settings, saved)
        if all(diagnostic.state == "ok" for diagnostic in remembered):
            yield from _guarded("dev server", lambda: _dev(settings))
        yield from _guarded("ledger", lambda: _ledger(settings, api))
        yield from _guarded("machines", lambda: _machines(AccountMachines(api, settings)))
        yield _prices(settings)
    except ComfyloomError as error:
        yield _error("token", error, _ACCOUNT_ADVICE)
    finally:
        api.close()


_ACCOUNT_ADVICE: Final = "check token, user id and base URL; a proxy is taken from HTTPS_PROXY"


def _cache(settings: Settings) -> Iterator[Diagnostic]:
    if DevServer(settings).is_remembered:
        message = f"remembered in {settings.state_file}"
        yield Diagnostic(check="state file", state="ok", message=message)


def _skew(api: ServerApi) -> Diagnostic:
    seconds = api.skew_s
    if seconds is None:
        return Diagnostic(check="clock", state="note", message="RunComfy tells no time")
    if abs(seconds) <= LARGEST_SKEW_S:
        return Diagnostic(check="clock", state="ok", message="agrees with RunComfy's")
    way = "behind" if seconds > 0 else "ahead of"
    return Diagnostic(
        check="clock",
        state="warning",
        message=f"{abs(seconds):.0f} s {way} RunComfy's",
        advice="set this computer's clock; leases are reckoned by RunComfy's all the same",
    )


def _versions(settings: Settings, saved: list[CloudWorkflow]) -> Iterator[Diagnostic]:
    wanted = settings.workflow_version_id
    if wanted is not None:
        names = [entry.workflow_name for entry in saved if entry.version_id == wanted]
        if names:
            yield Diagnostic(check="workflow version", state="ok", message=f"{wanted} ({names[0]})")
        else:
            yield _unknown_version(wanted, saved)
        return
    for cls in workflow_classes().values():
        name = cls.__workflow__.name
        count = sum(1 for entry in saved if entry.workflow_name == name)
        if count == 1:
            yield Diagnostic(check="workflow version", state="ok", message=f"found {name} by name")
        else:
            known = ", ".join(sorted({entry.workflow_name for entry in saved})) or "none"
            yield Diagnostic(
                check="workflow version",
                state="warning",
                message=f"the account has {count} workflows named {name} (it has: {known})",
                advice="save it in the cloud under this name, or set RUNCOMFY_WORKFLOW_VERSION_ID",
            )


def _unknown_version(wanted: str, saved: list[CloudWorkflow]) -> Diagnostic:
    mistaken = next((entry for entry in saved if entry.workflow_id == wanted), None)
    advice = "comfyloom needs the version id of a workflow that is saved in the cloud"
    if mistaken is not None:
        advice = f"that is its workflow id; its version id is {mistaken.version_id}"
    return Diagnostic(
        check="workflow version",
        state="error",
        message=f"the account has no workflow version {wanted}",
        advice=advice,
        code=exit_code(ConfigError()),
    )


def _dev(settings: Settings) -> Iterator[Diagnostic]:
    status = DevServer(settings).status()
    if not status.is_there:
        yield Diagnostic(
            check="dev server",
            state="note",
            message="there is none",
            advice="comfyloom dev up starts one: runs need not wait for a machine then",
        )
        return
    spent = f"{usd(status.session_cost)} so far"
    what = f"{status.server_id} ({status.server_type}), {status.health}, {spent}"
    if status.health in ("unreachable", "unknown"):
        message = f"{what}: {status.reason}"
        yield Diagnostic(
            check="dev server",
            state="error",
            message=message,
            advice="comfyloom dev restart, or comfyloom dev down",
            code=69,
        )
        return
    yield Diagnostic(check="dev server", state="ok", message=what)
    yield from _comfyui(status)


def _comfyui(status: DevStatus) -> Iterator[Diagnostic]:
    if status.health == "healthy":
        version = status.comfyui_version or "tells no version"
        yield Diagnostic(check="ComfyUI", state="ok", message=version)


def _ledger(settings: Settings, api: ServerApi) -> Iterator[Diagnostic]:
    from comfyloom._machines.reaper import Reaper  # with the ledger's database

    machines = records_of(settings)
    orphans = Reaper.of(settings, api).orphans()
    count = len(machines.list_open())
    where = machines.ledger.path or "PostgreSQL"
    yield Diagnostic(check="ledger", state="ok", message=f"{where}, machines in use: {count}")
    for orphan in orphans:
        yield Diagnostic(
            check="ledger",
            state="warning",
            message=f"{orphan.row.server_id or 'a launch'} has no living owner: {orphan.why}",
            advice="comfyloom machines reap",
        )


def _machines(fleet: AccountMachines) -> Iterator[Diagnostic]:
    found = fleet.list()
    if not found:
        yield Diagnostic(check="machines", state="ok", message="none runs")
        return
    for rented in found:
        yield _machine(rented, fleet.prices)
    known = [each.price for each in found if each.price is not None]
    unknown = len(found) - len(known)
    parts = [f"{sum(known, Decimal(0))} USD an hour"] if known else []
    parts += [f"{unknown} at an unknown price"] if unknown else []
    yield Diagnostic(check="machines", state="note", message=f"{' and '.join(parts)} in all")


def _machine(rented: Rented, prices: PriceList) -> Diagnostic:
    server = rented.server
    rate = prices.rate(server.server_type)
    up = f"for {span(rented.uptime_s)}" if rented.uptime_s else server.current_status.lower()
    is_dev = rented.whose == "dev server"
    return Diagnostic(
        check="machines",
        state="ok" if is_dev else "warning",
        message=f"{server.server_id} ({server.server_type}, {rate}), {_WHOSE[rented.whose]}, {up}",
        advice="" if is_dev else f"comfyloom machines stop {server.server_id}, if it is not needed",
    )


_WHOSE: Final = {
    "dev server": "the dev server",
    "this computer": "launched from this computer",
    "others": "launched by others",
}


def _prices(settings: Settings) -> Diagnostic:
    prices = PriceList.of(settings)
    rate = prices.rate(settings.server_type)
    is_known = prices.per_hour(settings.server_type) is not None
    is_set = settings.server_type in settings.prices
    origin = settings.sources["prices"] if is_set else f"{settings.plan}; {prices.origin}"
    return Diagnostic(
        check="prices",
        state="ok" if is_known else "warning",
        message=f"{settings.server_type}: {rate} ({origin})",
        advice="" if is_known else "set it: COMFYLOOM_PRICES, or prices in pyproject.toml",
    )


def _guarded(check: str, diagnostics: Callable[[], Iterator[Diagnostic]]) -> Iterator[Diagnostic]:
    """Yield what a check finds; an error of it does not keep the next from being made."""
    try:
        yield from diagnostics()
    except ComfyloomError as error:
        yield _error(check, error)


def _error(check: str, error: ComfyloomError, advice: str = "") -> Diagnostic:
    return Diagnostic(
        check=check, state="error", message=str(error), advice=advice, code=exit_code(error)
    )
