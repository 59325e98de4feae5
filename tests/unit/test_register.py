"""Which machines are ours: a small file each, in nobody's way."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from comfyloom.machines import Register


def test_machines_of_one_account_are_not_those_of_another() -> None:
    mine, other = Register.of("http://x", "u"), Register.of("http://x", "v")
    mine.add("s-1")
    mine.add("s-2")
    mine.add("s-1")
    assert mine.ids() == {"s-1", "s-2"}
    assert other.ids() == frozenset()
    mine.discard("s-1")
    mine.discard("s-3")
    assert Register.of("http://x/", "u").ids() == {"s-2"}


@pytest.mark.parametrize("name", ["../../evil", "..", ".", "a/b", "x" * 20, "ü", "a.b"])
def test_an_id_from_the_network_stays_in_the_folder(tmp_path: Path, name: str) -> None:
    register = Register(tmp_path / "r")
    register.add(name)
    assert register.ids() == {name}
    assert [path.parent for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "r"]
    register.discard(name)
    assert register.ids() == frozenset()


def test_a_folder_that_cannot_be_is_told_and_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("x")
    register = Register(tmp_path / "file" / "r")
    with caplog.at_level(logging.WARNING, "comfyloom"):
        register.add("s-1")
    assert "s-1 is not written down" in caplog.text
    assert register.ids() == frozenset()
    register.discard("s-1")
