"""The checks of `comfyloom doctor`, in order."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Final, Literal, TypeAlias

import attrs

from comfyloom import __version__
from comfyloom._dev.server import DevServer
from comfyloom._machines.account_machines import AccountMachines, Rented
from comfyloom._money.prices import PriceList
from comfyloom._records.locations import records_of
from comfyloom._runcomfy.client import ServerApi
from comfyloom._runcomfy.models import CloudWorkflow
from comfyloom.cli.shared import span, usd
from comfyloom.cli.workflows import workflow_classes
from comfyloom.errors import ComfyloomError, ConfigError, MachineError, exit_code
from comfyloom.settings import Settings, SettingsLoader

State: TypeAlias = Literal["ok", "note", "warning", "error"]

MAX_SKEW_S: Final = 5.0


@attrs.frozen
class Diagnostic:
    """One finding of one check.

    Attributes:
        check: The name of the check.
        state: `ok`, `note`, `warning` or `error`.
        message: What was found.
        advice: What to do about it, "" if nothing.
        code: The exit code of an error, else 0.
        error: The error that was found, None if it is none of ours.
    """

    check: str
    state: State
    message: str
    advice: str = ""
    code: int = 0
    error: ComfyloomError | None = None


def run_checks(loader: SettingsLoader) -> Iterator[Diagnostic]:
    """Yield the findings of all checks; without complete settings the account is not checked."""
    yield Diagnostic("comfyloom", "ok", f"{__version__}, Python {platform.python_version()}")
    yield from _workflow_classes()
    for warning in loader.warnings:
        yield Diagnostic("settings", "warning", warning)
    if loader.problems:
        for problem in loader.problems:
            yield _error("settings", ConfigError(problem), "see docs/settings.md")
        return
    yield Diagnostic("settings", "ok", "complete")
    yield from _account(loader.settings())


def _workflow_classes() -> Iterator[Diagnostic]:
    try:
        names = sorted(workflow_classes())
    except ConfigError as error:
        yield _error("workflow classes", error)
        return
    if names:
        yield Diagnostic("workflow classes", "ok", ", ".join(names))
    else:
        advice = "generate some: comfyloom codegen"
        yield Diagnostic("workflow classes", "note", "none installed", advice=advice)


def _account(settings: Settings) -> Iterator[Diagnostic]:
    with ServerApi.of(settings) as api:
        yield from _account_checks(settings, api)


def _account_checks(settings: Settings, api: ServerApi) -> Iterator[Diagnostic]:
    try:
        # First: reading the file registers the machine's URL as a secret, for later messages.
        state_file = list(_isolated("state file", lambda: _state_file(settings)))
        yield from state_file
        saved = api.list_workflows()
        yield Diagnostic("token", "ok", f"accepted by {settings.api_base_url}")
        yield _clock(api)
        yield from _workflow_versions(settings, saved)
        if all(diagnostic.state == "ok" for diagnostic in state_file):
            yield from _isolated("dev server", lambda: _dev_server(settings))
        yield from _isolated("ledger", lambda: _ledger(settings, api))
        yield from _isolated("machines", lambda: _machines(AccountMachines(api, settings)))
        yield _prices(settings)
    except ComfyloomError as error:
        yield _error("token", error, _ACCOUNT_ADVICE)


_ACCOUNT_ADVICE: Final = "check token, user id and base URL; the proxy comes from HTTPS_PROXY"


def _state_file(settings: Settings) -> Iterator[Diagnostic]:
    if DevServer(settings).is_remembered:
        message = f"{settings.state_file} records a dev server"
        yield Diagnostic("state file", "ok", message)


def _clock(api: ServerApi) -> Diagnostic:
    skew_s = api.skew_s
    if skew_s is None:
        return Diagnostic("clock", "note", "RunComfy did not report its time")
    if abs(skew_s) <= MAX_SKEW_S:
        return Diagnostic("clock", "ok", "agrees with RunComfy's")
    direction = "behind" if skew_s > 0 else "ahead of"
    return Diagnostic(
        "clock",
        "warning",
        f"{abs(skew_s):.0f} s {direction} RunComfy's",
        advice="set this computer's clock; leases follow RunComfy's clock in any case",
    )


def _workflow_versions(settings: Settings, saved: list[CloudWorkflow]) -> Iterator[Diagnostic]:
    wanted = settings.workflow_version_id
    if wanted is not None:
        names = [entry.workflow_name for entry in saved if entry.version_id == wanted]
        if names:
            yield Diagnostic("workflow version", "ok", f"{wanted} ({names[0]})")
        else:
            yield _unknown_version(wanted, saved)
        return
    names = sorted({cls.__workflow__.saved_name for cls in workflow_classes().values()})
    counts = {name: sum(each.workflow_name == name for each in saved) for name in names}
    has_one = 1 in counts.values()
    for name, count in counts.items():
        if count == 1:
            yield Diagnostic("workflow version", "ok", f"found {name} by name")
            continue
        known = ", ".join(sorted({entry.workflow_name for entry in saved})) or "none"
        yield Diagnostic(
            "workflow version",
            # Not every workflow that is installed has to be in use.
            "note" if has_one and not count else "warning",
            f"the account has {count or 'no'} workflow{'s' * (count > 1)} named {name} "
            f"(it has: {known})",
            advice="to run it, save it in the cloud under this name, name another in its binding "
            "(runs_on), or set RUNCOMFY_WORKFLOW_VERSION_ID",
        )


def _unknown_version(wanted: str, saved: list[CloudWorkflow]) -> Diagnostic:
    mistaken = next((entry for entry in saved if entry.workflow_id == wanted), None)
    advice = "comfyloom needs the version id of a workflow that is saved in the cloud"
    if mistaken is not None:
        advice = f"that is its workflow id; its version id is {mistaken.version_id}"
    return Diagnostic(
        "workflow version",
        "error",
        f"the account has no workflow version {wanted}",
        advice=advice,
        code=exit_code(ConfigError()),
    )


def _dev_server(settings: Settings) -> Iterator[Diagnostic]:
    status = DevServer(settings).status()
    if not status.is_there:
        yield Diagnostic(
            "dev server",
            "note",
            "there is none",
            advice="comfyloom dev up starts one, so that runs do not wait for a machine",
        )
        return
    cost = f"{usd(status.session_cost)} so far"
    summary = f"{status.server_id} ({status.server_type}), {status.health}, {cost}"
    if status.health in ("unreachable", "unknown"):
        yield Diagnostic(
            "dev server",
            "error",
            f"{summary}: {status.reason}",
            advice="comfyloom dev restart, or comfyloom dev down",
            code=exit_code(MachineError()),
        )
        return
    yield Diagnostic("dev server", "ok", summary)
    if status.health == "healthy":
        version = status.comfyui_version or "version not reported"
        yield Diagnostic("ComfyUI", "ok", version)


def _ledger(settings: Settings, api: ServerApi) -> Iterator[Diagnostic]:
    from comfyloom._machines.reaper import Reaper  # imports the ledger's database

    machines = records_of(settings)
    orphans = Reaper.of(settings, api).orphans()
    count = len(machines.list_unended())
    where = machines.ledger.path or "PostgreSQL"
    yield Diagnostic("ledger", "ok", f"{where}, machines in use: {count}")
    for orphan in orphans:
        yield Diagnostic(
            "ledger",
            "warning",
            f"{orphan.row.server_id or 'a launch'} has no living owner: {orphan.why}",
            advice="comfyloom machines reap",
        )


def _machines(account_machines: AccountMachines) -> Iterator[Diagnostic]:
    found = account_machines.list()
    if not found:
        yield Diagnostic("machines", "ok", "none running")
        return
    for rented in found:
        yield _machine(rented, account_machines.prices)
    known = [each.price for each in found if each.price is not None]
    unknown = len(found) - len(known)
    parts = [f"{sum(known, Decimal(0))} USD an hour"] if known else []
    parts += [f"{unknown} at an unknown price"] if unknown else []
    yield Diagnostic("machines", "note", f"{' and '.join(parts)} in all")


def _machine(rented: Rented, prices: PriceList) -> Diagnostic:
    server = rented.server
    rate = prices.rate(server.server_type)
    state = f"for {span(rented.uptime_s)}" if rented.uptime_s else server.current_status.lower()
    is_dev = rented.whose == "dev server"
    origin = _ORIGINS[rented.whose]
    return Diagnostic(
        "machines",
        "ok" if is_dev else "warning",
        f"{server.server_id} ({server.server_type}, {rate}), {origin}, {state}",
        advice="" if is_dev else f"comfyloom machines stop {server.server_id}, if it is not needed",
    )


_ORIGINS: Final = {
    "dev server": "the dev server",
    "this computer": "launched from this computer",
    "others": "launched from elsewhere",
}


def _prices(settings: Settings) -> Diagnostic:
    prices = PriceList.of(settings)
    kinds = settings.server_type
    rates = ", ".join(f"{kind}: {prices.rate(kind)}" for kind in kinds)
    is_known = all(prices.per_hour(kind) is not None for kind in kinds)
    is_set = any(kind in settings.prices for kind in kinds)
    origin = settings.sources["prices"] if is_set else f"{settings.plan}; {prices.origin}"
    return Diagnostic(
        "prices",
        "ok" if is_known else "warning",
        f"{rates} ({origin})",
        advice="" if is_known else "set it: COMFYLOOM_PRICES, or prices in pyproject.toml",
    )


def _isolated(check: str, run: Callable[[], Iterator[Diagnostic]]) -> Iterator[Diagnostic]:
    """Yield the findings of a check; its error becomes a finding, so that the next check runs."""
    try:
        yield from run()
    except ComfyloomError as error:
        yield _error(check, error)


def _error(check: str, error: ComfyloomError, advice: str = "") -> Diagnostic:
    code = exit_code(error)
    return Diagnostic(check, "error", str(error), advice=advice, code=code, error=error)
