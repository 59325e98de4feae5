"""`comfyloom dev`: what is shown, asked and watched."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import pytest
from rich.console import Console

from cli.conftest import Comfyloom
from comfyloom._dev.health import DevStatus
from comfyloom._dev.watch import StatusSnapshot, WatchedPrompt
from comfyloom._money.prices import PriceList
from comfyloom._records.dev_state import Health
from comfyloom.cli.dev import prompt_server_type, show, warm, watching
from comfyloom.emulator import Emulator
from comfyloom.settings import Settings
from comfyloom_workflows import FluxImageWorkflow, FluxMeshWorkflow
from support import running

HEALTHY = DevStatus(
    health=Health.HEALTHY,
    server_id="s-1",
    server_type="medium",
    comfyui_version="0.3.64",
    uptime_s=300.0,
    lease_left_s=1500.0,
    price=Decimal("0.99"),
    session_cost=Decimal("0.0825"),
    total_cost=Decimal("1.5"),
)


# --- status --------------------------------------------------------------------------------------


def test_a_healthy_dev_server_in_words() -> None:
    assert show.pairs(HEALTHY) == {
        "dev server": "s-1",
        "machine": "medium, 0.99 USD an hour",
        "health": "healthy, ComfyUI 0.3.64",
        "uptime": "5 min",
        "lease": "ends in 25 min without use",
        "spend": "0.0825 USD, 1.5000 USD in total",
        "prompts": "none",
    }


def test_no_dev_server_in_words() -> None:
    assert show.pairs(DevStatus()) == {"dev server": "stopped: there is none"}
    last = DevStatus(session_cost=Decimal("0.1"), total_cost=Decimal("2"), unpriced_s=600.0)
    spend = "the last 0.1000 USD, 2.0000 USD in total, and 10 min at an unknown price"
    assert show.pairs(last)["spend"] == spend


def test_what_is_not_known_is_said() -> None:
    unknown = DevStatus(
        health=Health.UNREACHABLE,
        server_type="huge",
        reason="no answer in time",
        session_cost=None,
        total_cost=None,
    )
    found = show.pairs(unknown)
    assert found["dev server"] == "(not known yet)"
    assert found["machine"] == "huge, price not known"
    assert found["health"] == "unreachable: no answer in time"
    assert found["lease"] == "not known"
    assert found["spend"] == "price not known"


@pytest.mark.parametrize(
    ("current", "pending", "text"),
    [
        ((), (), "none"),
        (("p-1",), (), "1 running (p-1)"),
        ((), ("p-2", "p-3"), "2 waiting"),
        (("p-1",), ("p-2",), "1 running (p-1), 1 waiting"),
    ],
)
def test_prompts_in_words(current: tuple[str, ...], pending: tuple[str, ...], text: str) -> None:
    assert show.prompts(DevStatus(running=current, pending=pending)) == text


def test_json_has_null_for_what_is_not_known() -> None:
    found = show.status_as_json(HEALTHY)
    assert found["usd_per_hour"] == Decimal("0.99")
    assert found["reason"] is None
    assert found["health"] == "healthy"
    assert "price" not in found


def test_health_has_a_colour(capsys: pytest.CaptureFixture[str]) -> None:
    show.print_status(HEALTHY)
    assert "health      healthy" in click.unstyle(capsys.readouterr().out)
    assert set(show.COLOURS) == {each.value for each in Health} - {"stopped"}


# --- the prompt for a machine type ---------------------------------------------------------------


@pytest.fixture
def settings(account: Emulator) -> Settings:
    assert account.base_url
    return Settings.load()


def test_a_pipe_is_not_asked(settings: Settings) -> None:
    assert prompt_server_type.prompt_server_type(settings) is None


@pytest.mark.parametrize(("typed", "chosen"), [("2", "large"), ("extra-large", "extra-large")])
def test_a_terminal_is_asked_with_the_prices(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    typed: str,
    chosen: str,
) -> None:
    monkeypatch.setattr(prompt_server_type, "is_interactive", lambda: True)
    monkeypatch.setattr(click, "prompt", _answering(typed))
    assert prompt_server_type.prompt_server_type(settings) == chosen
    shown = capsys.readouterr().err
    for offer in PriceList.of(settings).offers():
        assert offer.server_type in shown
        assert str(offer.price) in shown


@pytest.mark.parametrize("typed", ["0", "6", "huge", ""])
def test_a_wrong_answer_is_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    monkeypatch.setattr(prompt_server_type, "is_interactive", lambda: True)
    monkeypatch.setattr(click, "prompt", _answering(typed))
    with pytest.raises(click.BadParameter, match="1 to 5, or a name"):
        prompt_server_type.prompt_server_type(settings)


def _answering(typed: str) -> Any:
    def prompt(_: str, *, value_proc: Any, **options: Any) -> Any:
        assert options["default"] == "medium"
        return value_proc(typed)

    return prompt


def test_a_type_in_the_settings_is_not_asked_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings
    monkeypatch.setattr(prompt_server_type, "is_interactive", lambda: True)
    monkeypatch.setenv("RUNCOMFY_DEFAULT_SERVER_TYPE", "large")
    assert prompt_server_type.prompt_server_type(Settings.load()) is None


# --- warm ----------------------------------------------------------------------------------------


def test_warming_uses_the_packaged_image_and_the_texts_of_the_file() -> None:
    job = warm.warm_up_job(FluxMeshWorkflow)
    assert isinstance(job, FluxMeshWorkflow)
    assert isinstance(job.input_image, bytes)
    assert job.input_image.startswith(b"\x89PNG")
    assert job.prompt
    only_text = warm.warm_up_job(FluxImageWorkflow)
    assert isinstance(only_text, FluxImageWorkflow)
    assert only_text.prompt


def test_warming_runs_once_on_the_dev_server(account: Emulator, comfyloom: Comfyloom) -> None:
    done = comfyloom("dev", "up", "flux-image", "--warm", "--json")
    assert done.code == 0, done.err
    (prompt,) = account.state()["prompts"]
    assert prompt["status"] == "success"
    assert json.loads(done.out)["health"] == "healthy"
    assert len(running(account)) == 1
    assert json.loads(comfyloom("dev", "down", "--json").out)["health"] == "stopped"


def test_restart_keeps_what_is_not_given(account: Emulator, comfyloom: Comfyloom) -> None:
    first = json.loads(comfyloom("dev", "up", "--server-type", "large", "--json").out)
    done = comfyloom("dev", "restart", "--idle-timeout", "20m", "--json")
    second = json.loads(done.out)
    assert second["server_id"] != first["server_id"]
    assert second["server_type"] == "large"
    assert 1100 < second["lease_left_s"] <= 1200
    assert running(account) == [second["server_id"]]
    comfyloom("dev", "down")


# --- watching ------------------------------------------------------------------------------------


class Watched:
    """A dev server that is being watched."""

    def __init__(self, snapshots: Sequence[StatusSnapshot], status: DevStatus = HEALTHY) -> None:
        self._snapshots = snapshots
        self._status = status
        self.forced: list[bool] = []

    def watch(self) -> Iterator[StatusSnapshot]:
        yield from self._snapshots
        raise KeyboardInterrupt

    def status(self) -> DevStatus:
        return self._status

    def down(self, *, force: bool) -> DevStatus:
        self.forced.append(force)
        return DevStatus(session_cost=Decimal("0.25"))


def snapshot(*states: str) -> StatusSnapshot:
    prompts = tuple(
        WatchedPrompt(prompt_id=f"p-{n}", state=state, seconds=65.0 * n)  # type: ignore[arg-type]
        for n, state in enumerate(states)
    )
    return StatusSnapshot(status=HEALTHY, prompts=prompts)


def test_a_pipe_gets_a_line_for_each_change_of_a_prompt(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = [snapshot(), snapshot("running"), snapshot("running"), snapshot("done")]
    watching.watch(Watched(seen))  # type: ignore[arg-type]
    *lines, last = capsys.readouterr().err.splitlines()
    assert lines == [
        "s-1 healthy: no prompts",
        "s-1 healthy: p-0 running",
        "s-1 healthy: p-0 done",
    ]
    assert last == "It keeps running and costs 0.99 USD an hour; comfyloom dev down stops it"


@pytest.mark.parametrize(("answer", "forced"), [(True, [True]), (False, [])])
def test_the_end_of_watching_offers_to_stop(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: bool,
    forced: list[bool],
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(watching, "is_interactive", lambda: True)
    monkeypatch.setattr(click, "confirm", lambda text, **_: asked.append(text) or answer)
    import attrs

    server = Watched([], attrs.evolve(HEALTHY, running=("p-1",)))
    watching.watch(server)  # type: ignore[arg-type]
    assert asked == ["Stop the dev server s-1 although it has prompts?"]
    assert server.forced == forced
    if answer:
        assert "machine s-1 is stopped; it cost 0.2500 USD" in capsys.readouterr().err


def test_a_second_interrupt_means_no(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def abort(*_: Any, **__: Any) -> bool:
        raise click.Abort

    monkeypatch.setattr(watching, "is_interactive", lambda: True)
    monkeypatch.setattr(click, "confirm", abort)
    server = Watched([])
    watching.watch(server)  # type: ignore[arg-type]
    assert server.forced == []
    assert "It keeps running" in capsys.readouterr().err


def test_nothing_is_offered_once_it_has_ended(capsys: pytest.CaptureFixture[str]) -> None:
    watching.watch(Watched([], DevStatus()))  # type: ignore[arg-type]
    assert capsys.readouterr().err == ""


def rendered(found: StatusSnapshot) -> str:
    out = Console(file=io.StringIO(), width=80, color_system=None)
    with out.capture() as captured:
        out.print(watching.render(found))
    return captured.get()


def test_the_live_view_fits_eighty_columns() -> None:
    shown = rendered(snapshot("done", "running", "waiting", "failed", "cancelled", "gone"))
    assert max(map(len, shown.splitlines())) <= 80
    for part in ("medium, 0.99 USD an hour", "✓ p-0 done", "▶ p-1 running", "65 s", "Ctrl-C"):
        assert part in shown
    assert "no prompts" in rendered(snapshot())


def test_a_live_view_is_drawn_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "screen").open("w", encoding="utf-8") as file:
        screen = Console(file=file, force_terminal=True, width=80)
        monkeypatch.setattr(watching, "console", lambda **_: screen)
        watching.watch(Watched([snapshot("running")]))  # type: ignore[arg-type]
    assert "p-0" in (tmp_path / "screen").read_text("utf-8")
