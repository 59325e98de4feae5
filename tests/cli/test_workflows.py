"""Finding the workflow classes of installed packages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint

import attrs
import pytest

from comfyloom.cli import workflows
from comfyloom.emulator import Emulator
from comfyloom.errors import ConfigError
from comfyloom.settings import Settings
from comfyloom_workflows import FluxImageWorkflow, FluxMeshWorkflow

Install = Callable[[Iterable[str]], None]
OURS = "comfyloom_workflows"


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Make only these packages offer workflows."""

    def these(packages: Iterable[str]) -> None:
        points = [EntryPoint(each, each, workflows.GROUP) for each in packages]
        monkeypatch.setattr(workflows, "entry_points", lambda **_: points)

    return these


def test_the_installed_classes_are_found_by_their_command_names() -> None:
    found = workflows.workflow_classes()
    assert found["flux-mesh"] is FluxMeshWorkflow
    assert found["flux-image"] is FluxImageWorkflow


def test_a_package_that_cannot_be_imported_is_skipped_with_a_warning(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install(["no_such_package", OURS])
    with caplog.at_level(logging.WARNING, "comfyloom"):
        assert "flux-mesh" in workflows.workflow_classes()
    (warning,) = caplog.messages
    assert "an installed package" in warning
    assert "no_such_package" in warning


def test_what_is_not_a_workflow_is_ignored(install: Install) -> None:
    install(["json", OURS, OURS])
    assert set(workflows.workflow_classes()) == {
        "flux-depth",
        "flux-image",
        "flux-mesh",
        "partpacker",
    }


def test_two_classes_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Rival(FluxMeshWorkflow):
        pass

    monkeypatch.setattr(workflows, "_all_classes", lambda: iter([FluxMeshWorkflow, Rival]))
    with pytest.raises(ConfigError, match="two workflows are named flux-mesh"):
        workflows.workflow_classes()


def test_without_a_name_only_a_single_workflow_is_meant(
    monkeypatch: pytest.MonkeyPatch, install: Install
) -> None:
    assert workflows.named_or_only_workflow(None) is None
    monkeypatch.setattr(workflows, "_all_classes", lambda: iter([FluxMeshWorkflow]))
    assert workflows.named_or_only_workflow(None) is FluxMeshWorkflow
    monkeypatch.undo()
    install([])
    assert workflows.named_or_only_workflow(None) is None
    with pytest.raises(ConfigError, match="no workflow 'flux-mesh'; installed: none"):
        workflows.named_or_only_workflow("flux-mesh")


def test_of_several_the_one_that_the_account_has_is_meant(account: Emulator) -> None:
    settings = Settings.load()
    assert workflows.find_workflow(None, settings, is_needed=True) is FluxMeshWorkflow
    assert workflows.find_workflow("flux-image", settings, is_needed=True) is FluxImageWorkflow
    requests = len(account.state()["requests"])
    assert workflows.find_workflow(None, settings, is_needed=False) is None
    assert len(account.state()["requests"]) == requests


def test_several_that_could_be_meant_are_named(account: Emulator) -> None:
    assert account.base_url
    settings = attrs.evolve(Settings.load(), workflow_version_id="another-version")
    with pytest.raises(ConfigError, match="which workflow") as caught:
        workflows.find_workflow(None, settings, is_needed=True)
    assert "flux-depth, flux-image, flux-mesh, partpacker" in str(caught.value)
