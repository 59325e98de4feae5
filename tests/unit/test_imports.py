"""Heavy packages are imported only when they are first used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import comfyloom

HEAVY = (
    "cattrs",
    "click",
    "filelock",
    "jinja2",
    "numpy",
    "PIL",
    "requests",
    "rich",
    "sqlalchemy",
    "starlette",
    "trimesh",
    "urllib3",
    "uvicorn",
    "websocket",
    "websockets",
)
ATTRS_ONLY = "from comfyloom_workflows import FluxMeshWorkflow; FluxMeshWorkflow.template_graph()"
PYTHON_ONLY = "import comfyloom, comfyloom_workflows"
# Where a credentials file may be, only a session asks; it costs 2 ms.
SESSION = "from comfyloom import RunComfySession; RunComfySession('http://127.0.0.1:1')"


def loaded(code: str) -> set[str]:
    program = f"{code}\nimport sys\nprint(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("code", [PYTHON_ONLY, ATTRS_ONLY, SESSION])
def test_no_heavy_package_is_loaded_before_it_is_used(code: str) -> None:
    unwanted = set(HEAVY) if code == SESSION else {*HEAVY, "platformdirs"}
    assert not loaded(code) & unwanted


def test_importing_the_packages_does_not_load_attrs() -> None:
    assert "attr" not in loaded(PYTHON_ONLY)


def test_a_session_loads_neither_emulator_nor_workflows_nor_generator() -> None:
    names = loaded(SESSION)
    for package in ("comfyloom.emulator", "comfyloom_workflows", "comfyloom_codegen"):
        assert package not in names


@pytest.mark.parametrize("name", comfyloom.__all__)
def test_every_public_name_exists_and_is_documented(name: str) -> None:
    member = getattr(comfyloom, name)
    assert member.__doc__
    assert name in dir(comfyloom)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        comfyloom.nothing  # noqa: B018
