"""Text that only ComfyUI's page replaces is named, not silently sent."""

from __future__ import annotations

import logging

import pytest

from comfyloom._workflow.page_syntax import page_syntax
from comfyloom._workflow.validation import validate
from comfyloom_workflows import FluxImageWorkflow


def named(text: str) -> list[str]:
    graph = {"7": {"class_type": "Any", "inputs": {"text": text, "link": ["3", 0], "steps": 4}}}
    return list(page_syntax(graph))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a {red|blue} car", "'{red|blue}'"),
        ("{a|b|c}", "'{a|b|c}'"),
        ("x-%date:yyyy-MM-dd%", "'%date:yyyy-MM-dd%'"),
        ("%date%", "'%date%'"),
        ("%KSampler.seed%", "'%KSampler.seed%'"),
        ("%Empty Latent Image.width%_x", "'%Empty Latent Image.width%'"),
    ],
)
def test_what_the_page_replaces_is_named(text: str, part: str) -> None:
    (found,) = named(text)
    assert found.startswith("node 7 (Any), text: ")
    assert part in found
    assert "sent as it is" in found


@pytest.mark.parametrize(
    "text",
    [
        "a car",
        "{red}",
        "a | b",
        '{"a": "b|c"}',
        "%year%-%month%/%width%x%height%",
        "50% of 20%, 3.5% more",
        "50%, 1.5% and 2%",
        "",
    ],
)
def test_what_a_server_takes_is_not(text: str) -> None:
    assert named(text) == []


def test_a_run_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    workflow = FluxImageWorkflow(prompt="a {green|yellow} bird")
    with caplog.at_level(logging.WARNING, "comfyloom"):
        validate(workflow)
        validate(workflow)
    assert caplog.text.count("'{green|yellow}' is sent as it is") == 2  # it has two targets
