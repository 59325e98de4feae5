"""One run on the real RunComfy, for people with an account: `nox -s live`.

It launches a machine, runs the flux-mesh workflow, stops the machine, checks that it is gone,
and writes what the servers answered. It asks first, and costs at most 1.00 USD: at that cost the
platform ends the machine, whatever happens to this process.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import attrs
import click
from recorder import Recorder

from comfyloom import RunComfySession, Settings
from comfyloom._machines.launch import LONGEST_LEASE_S
from comfyloom._money.prices import PriceList
from comfyloom._runcomfy.client import ServerApi
from comfyloom._workflow.compatibility import compare
from comfyloom._workflow.graph_view import GraphView
from comfyloom._workflow.node_schemas import Schemas, pinned
from comfyloom.errors import ComfyloomError, exit_code
from comfyloom.settings import SettingsLoader
from comfyloom_workflows import FluxMeshWorkflow

MOST_USD: Final = Decimal("1.00")
ROOT: Final = Path(__file__).parents[2]


@click.command()
@click.option("--server-type", help="The machine type.  [default: from the settings]")
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "live", show_default=False)
@click.option("--yes", is_flag=True, help="Do not ask.")
def main(server_type: str | None, out: Path, yes: bool) -> None:
    """Launch a machine on your account, run a workflow, stop it."""
    loader = SettingsLoader.of(server_type=server_type)
    if loader.missing:
        click.echo(f"skipped: no account ({', '.join(loader.missing)} missing)")
        return
    try:
        settings = loader.settings()
        seconds = _affordable_s(settings)
        if not yes:
            click.confirm(f"{_question(settings)} Go on?", abort=True)
        _run(settings, seconds, out)
    except ComfyloomError as error:
        click.echo(f"live: {error}", err=True)
        sys.exit(exit_code(error))


def _affordable_s(settings: Settings) -> float:
    """Return how long the machine may run; refuse what could cost more than allowed."""
    prices = PriceList.of(settings)
    price = prices.per_hour(settings.server_type[0])
    if price is None:
        raise click.UsageError(f"the price of {settings.server_type[0]} is not known: set `prices`")
    if price * LONGEST_LEASE_S / 3600 > MOST_USD:
        raise click.UsageError(
            f"a {settings.server_type[0]} machine ({price} USD an hour) could cost more than "
            f"{MOST_USD} USD in its first lease alone: try --server-type medium"
        )
    return float(MOST_USD / price * 3600) if price else 3600.0


def _question(settings: Settings) -> str:
    price = PriceList.of(settings).rate(settings.server_type[0])
    return (
        f"This launches a {settings.server_type[0]} machine ({price}) on the account "
        f"{settings.user_id[:4]}… at {settings.api_base_url}, for {MOST_USD} USD at most."
    )


def _run(settings: Settings, seconds: float, out: Path) -> None:
    secrets = {settings.api_token: "<token>", settings.user_id: "<user>"}
    recorder = Recorder(secrets)
    facts: dict[str, Any] = {"at": datetime.now(UTC).isoformat(timespec="minutes")}
    name = datetime.now(UTC).strftime("answers-%Y%m%d-%H%M%S.json")
    with tempfile.TemporaryDirectory() as folder:
        # A machine of its own, never the dev server.
        own = attrs.evolve(settings, max_duration_s=seconds, state_file=Path(folder, "none.json"))
        try:
            with recorder.recording():
                facts |= _one_run(own, seconds)
        except ComfyloomError as error:
            facts["error"] = f"{type(error).__name__}: {error}"
            raise
        finally:
            recorder.write(out / name, **facts)
            click.echo(f"answers: {out / name}")


def _one_run(settings: Settings, seconds: float) -> dict[str, Any]:
    job = FluxMeshWorkflow(
        input_image=ROOT / "examples" / "render.png", prompt="a brass automaton on a workbench"
    )
    with RunComfySession(settings=settings, on_progress=_tell, start=True) as session:
        server = session.server(job)
        stats = server.system_stats()
        live = Schemas(server.object_info())
        found = compare(GraphView(job.to_graph(), live), pinned("comfyloom_workflows"), frozenset())
        result = session.run(job, timeout=seconds * 0.8)
        sizes = {"image": result.image.size, "mesh": result.mesh.size}
    assert session.machine is not None
    _see_it_gone(settings, session.machine.server_id)
    return {
        "server_type": settings.server_type[0],
        "started_in_s": round(session.machine.started_in_s, 1),
        "billed_s": round(session.machine.billed_s, 1),
        "cost_usd": session.cost,
        "run_s": round(result.seconds, 1),
        "bytes": sizes,
        "comfyui": stats.get("system"),
        "node_classes": len(live.names),
        "findings": [str(finding) for finding in found],
    }


def _see_it_gone(settings: Settings, server_id: str) -> None:
    api = ServerApi(settings.api_base_url, settings.user_id, settings.api_token)
    try:
        left = [each for each in api.list_servers() if each.server_id == server_id]
    finally:
        api.close()
    if any(not each.has_ended for each in left):
        raise ComfyloomError(f"machine {server_id} is still listed: see comfyloom machines list")


def _tell(progress: Any) -> None:
    if progress.kind in ("machine", "cost", "finished"):
        click.echo(progress.message, err=True)


if __name__ == "__main__":
    main()
