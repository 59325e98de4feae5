"""`comfyloom check`: whether a workflow can run on a server."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import click
import pytest

from cli.conftest import Comfyloom
from comfyloom.emulator import Emulator
from comfyloom.types import ComfyUI

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Change], str]]:
    """Return the URL of a ComfyUI whose node types were changed."""
    with Emulator(time="real", rate_limit=None) as emulator:
        original = ComfyUI.object_info

        def at(change: Change) -> str:
            def changed(self: ComfyUI) -> Any:
                schemas = copy.deepcopy(dict(original(self)))
                change(schemas)
                return schemas

            monkeypatch.setattr(ComfyUI, "object_info", changed)
            return emulator.comfyui_url

        yield at


def test_a_server_that_has_everything(server: Any, comfyloom: Comfyloom) -> None:
    done = comfyloom("check", "flux-mesh", "--target", server(lambda _: None))
    assert done.code == 0
    assert "✓ flux-mesh can run on this server: all 18 nodes are available" in click.unstyle(
        done.out
    )
    assert "✗" not in done.out


def test_a_missing_node_type_is_fatal_and_named(server: Any, comfyloom: Comfyloom) -> None:
    url = server(lambda schemas: schemas.pop("XlabsSampler"))
    done = comfyloom("check", "flux-mesh", "--target", url)
    assert done.code == 65
    assert "✗" in done.out
    assert "XlabsSampler" in done.out
    assert "→" in done.out  # what to do about it
    assert done.err.endswith("flux-mesh cannot run on this server: 1 incompatibility\n")
    report = json.loads(comfyloom("check", "flux-mesh", "--target", url, "--json").out)
    assert report["fits"] is False
    assert [each["fatal"] for each in report["findings"]] == [True, False]


def test_two_missing_node_types_are_counted(server: Any, comfyloom: Comfyloom) -> None:
    def change(schemas: dict[str, Any]) -> None:
        del schemas["XlabsSampler"], schemas["LoadFluxControlNet"]

    done = comfyloom("check", "flux-mesh", "--target", server(change))
    assert done.err.endswith("flux-mesh cannot run on this server: 2 incompatibilities\n")


def test_a_missing_model_is_fatal_and_the_file_is_named(server: Any, comfyloom: Comfyloom) -> None:
    def change(schemas: dict[str, Any]) -> None:
        required = schemas["UNETLoader"]["input"]["required"]
        required["unet_name"] = [["other.safetensors"], {}]

    done = comfyloom("check", "flux-mesh", "--target", server(change))
    assert done.code == 65
    assert "flux" in done.out


def test_the_value_of_a_field_that_the_caller_sets_does_not_matter(
    server: Any, comfyloom: Comfyloom
) -> None:
    """The file names a picture that no server has; the caller will give one."""

    def change(schemas: dict[str, Any]) -> None:
        schemas["LoadImage"]["input"]["required"]["image"] = [["other.png"], {"image_upload": True}]

    assert comfyloom("check", "flux-mesh", "--target", server(change)).code == 0


def test_a_new_input_with_a_default_is_only_noted(server: Any, comfyloom: Comfyloom) -> None:
    def change(schemas: dict[str, Any]) -> None:
        del schemas["XlabsSampler"]["input"]["required"]["denoise_strength"]

    done = comfyloom("check", "flux-mesh", "--target", server(change))
    assert done.code == 0
    assert "✗" not in done.out
    assert "denoise_strength" in done.out


@pytest.mark.usefixtures("account")
def test_nothing_is_launched_to_check(account: Emulator, comfyloom: Comfyloom) -> None:
    done = comfyloom("check", "flux-mesh")
    assert done.code == 69
    assert "no dev server" in done.err
    assert account.state()["machines"] == []


@pytest.mark.usefixtures("here")
def test_an_unknown_workflow_or_target_names_what_there_is(comfyloom: Comfyloom) -> None:
    unknown = comfyloom("check", "flux-mess")
    assert unknown.code == 78
    assert "flux-mesh" in unknown.err
    assert comfyloom("check", "flux-mesh", "--target", "ftp://x").code == 78
    assert comfyloom("check").code == 64
