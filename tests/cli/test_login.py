"""Signing in, whose account is used, and where its token comes from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Comfyloom
from comfyloom.cli import login as login_module
from comfyloom.emulator import Emulator, HttpFault
from comfyloom.errors import ConfigError
from comfyloom.settings import Settings
from comfyloom.settings.website import Website

ESCAPES = json.dumps({"device_code": "d", "user_code": "\x1b[2J"})
LINES = json.dumps({"access_token": "t\nRUNCOMFY_API_BASE_URL: http://evil"})


@pytest.fixture
def site(emulator: Emulator, here: Path, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """Its website and platform, and nothing else of its account."""
    monkeypatch.setenv("RUNCOMFY_WEB_BASE", emulator.base_url)
    monkeypatch.setenv("RUNCOMFY_API_BASE_URL", emulator.base_url)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(here / "config"))
    monkeypatch.setattr(login_module, "polling", lambda _, deadline: iter([1.0, 1.0, 1.0]))
    return emulator


def ours(here: Path) -> Path:
    return here / "config" / "comfyloom" / "credentials.txt"


# --- signing in ----------------------------------------------------------------------------------


def test_it_writes_a_private_file(site: Emulator, comfyloom: Comfyloom, here: Path) -> None:
    done = comfyloom("login", "--no-browser")
    assert done.code == 0
    assert "ABCD-1234" in done.err
    assert f"{site.base_url}/cli-auth" in done.err
    assert "signed in as artist@emulator.example" in done.out
    assert site.token not in done.out + done.err
    assert ours(here).stat().st_mode & 0o777 == 0o600
    settings = Settings.load()
    assert (settings.api_token, settings.user_id) == (site.token, site.user_id)
    assert settings.sources["api_token"] == str(ours(here))
    assert comfyloom("machines", "list").code == 0


def test_other_lines_of_the_file_stay(site: Emulator, comfyloom: Comfyloom, here: Path) -> None:
    file = here / "mine.txt"
    file.write_text('# mine\nversion_id: "v-1"\nuserID: "old"\nRUNCOMFY_API_KEY = old\n')
    assert comfyloom("login", "--credentials", file, "--json").code == 0
    lines = file.read_text().splitlines()
    assert lines[:2] == ["# mine", 'version_id: "v-1"']
    assert lines[2:] == [f"RUNCOMFY_API_TOKEN: {site.token}", f"RUNCOMFY_USER_ID: {site.user_id}"]
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_token_that_is_replaced_is_kept_in_a_copy(
    site: Emulator, comfyloom: Comfyloom, here: Path
) -> None:
    ours(here).parent.mkdir(parents=True)
    before = "RUNCOMFY_API_TOKEN: real\nversion_id: v-1\n"
    ours(here).write_text(before)
    done = comfyloom("login")
    copy = ours(here).with_name("credentials.txt.old")
    assert f"This is not RunComfy, but {site.base_url}." in done.err
    assert f"what the file had before is kept in {copy}" in done.err
    assert copy.read_text() == before
    assert copy.stat().st_mode & 0o777 == 0o600
    # The same account again: nothing is lost, so the copy stays the one of the other account.
    assert "kept in" not in comfyloom("login").err
    assert copy.read_text() == before


@pytest.mark.parametrize(("arguments", "is_written"), [((), False), (("--yes",), True)])
def test_on_a_terminal_it_asks_before_it_replaces_a_token_by_an_emulators(
    site: Emulator,
    comfyloom: Comfyloom,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    is_written: bool,
) -> None:
    monkeypatch.setattr(login_module, "is_interactive", lambda: True)
    monkeypatch.setattr("click.launch", lambda _: 0)
    monkeypatch.setattr("builtins.input", lambda *_: "n")
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda *_: "n")
    ours(here).parent.mkdir(parents=True)
    ours(here).write_text("RUNCOMFY_API_TOKEN: real\n")
    done = comfyloom("login", *arguments)
    assert done.code == (0 if is_written else 130)
    assert (site.token in ours(here).read_text()) is is_written


def test_the_website_may_be_named_in_the_project(
    site: Emulator, comfyloom: Comfyloom, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUNCOMFY_WEB_BASE")
    (here / "pyproject.toml").write_text(f'[tool.comfyloom]\nweb_base_url = "{site.base_url}"\n')
    assert comfyloom("login").code == 0
    monkeypatch.setenv("RUNCOMFY_WEB_BASE", "nonsense")
    assert comfyloom("login").code == 78


def test_a_source_that_comes_first_is_named(
    site: Emulator, comfyloom: Comfyloom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNCOMFY_API_TOKEN", "another")
    assert "the token in RUNCOMFY_API_TOKEN comes first" in comfyloom("login").err


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"path": "/start$", "status": 502}, 69),
        ({"path": "/start$", "status": 200, "body": "{}"}, 69),
        ({"path": "/start$", "status": 200, "body": "<html>"}, 69),
        ({"path": "/start$", "status": 200, "body": ESCAPES}, 69),
        ({"path": "/poll$", "status": 200, "body": LINES, "times": 99}, 77),
        ({"path": "/auth/me$", "status": 200, "body": '{"id": "a b"}'}, 69),
        ({"path": "/poll$", "status": 400, "body": '{"error": "expired_token"}'}, 69),
        ({"path": "/poll$", "status": 400, "body": '{"error": "access_denied"}'}, 69),
        ({"path": "/poll$", "status": 200, "body": "{}", "times": 99}, 77),
        ({"path": "/auth/me$", "status": 401}, 77),
        ({"path": "/auth/me$", "status": 200, "body": "{}"}, 69),
        ({"path": "/auth/me$", "action": "drop"}, 69),
    ],
)
def test_what_fails_writes_nothing(
    site: Emulator, comfyloom: Comfyloom, here: Path, fault: dict[str, Any], code: int
) -> None:
    site.faults.add(HttpFault(**fault))
    done = comfyloom("login")
    assert done.code == code
    assert len(done.err.splitlines()) <= 7
    assert not ours(here).exists()


def test_a_file_that_cannot_be_written(site: Emulator, comfyloom: Comfyloom, here: Path) -> None:
    (here / "file").touch()
    assert comfyloom("login", "--credentials", here / "file" / "x.txt").code == 73
    assert site.state()["requests"] == []  # before anybody signs in


# --- whose account -------------------------------------------------------------------------------


def test_the_account_and_its_balance(
    account: Emulator, comfyloom: Comfyloom, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = json.loads(comfyloom("account", "--json").out)
    assert found["user_id"] == account.user_id
    assert found["email"] == "artist@emulator.example"
    assert (found["balance"], found["currency"]) == ("25.5", "USD")
    assert found["token_from"] == "RUNCOMFY_API_TOKEN"
    account.faults.add(HttpFault(path="/balance$", status=404))
    account.faults.add(HttpFault(path="/auth/me$", status=502))
    done = comfyloom("account")
    assert done.code == 0
    assert "balance   not known" in done.out
    assert account.token not in done.out
    monkeypatch.setenv("RUNCOMFY_API_TOKEN", "wrong-t0ken")
    refused = comfyloom("account")
    assert (refused.code, "comfyloom login" in refused.err) == (77, True)


def test_the_user_id_is_asked_for_once(site: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNCOMFY_API_TOKEN", site.token)
    for _ in range(3):
        settings = Settings.load()
        assert settings.user_id == site.user_id
        assert settings.sources["user_id"] == "RunComfy, by the token"
    asked = [each["path"] for each in site.state()["requests"]]
    assert asked == ["/api/auth/me"]


def test_a_token_of_another_platform_is_not_shown_to_runcomfy(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(Website, "user", lambda _, token: shown.append(token))
    given = {"RUNCOMFY_API_TOKEN": "t", "RUNCOMFY_API_BASE_URL": "http://127.0.0.1:1"}
    with pytest.raises(ConfigError, match="user_id is missing: set RUNCOMFY_USER_ID"):
        Settings.load(environ=given, cwd=here)
    assert shown == []


def test_a_website_that_does_not_tell_leaves_the_setting_missing(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"RunComfy does not tell it: .*Connection refused"):
        Settings.load(environ={"RUNCOMFY_API_TOKEN": "t"}, cwd=here)


def test_a_launch_names_account_and_source(account: Emulator, comfyloom: Comfyloom) -> None:
    done = comfyloom("dev", "up", "flux-mesh", "--server-type", "medium")
    first = done.err.splitlines()[0]
    assert first == (
        f"launching a medium machine for account {account.user_id} (token from RUNCOMFY_API_TOKEN)"
    )
    assert comfyloom("dev", "down").code == 0


# --- the token of RunComfy's own command line ----------------------------------------------------


@pytest.fixture
def official(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Write its file, and return the environment that finds it."""

    def write(
        variable: str = "RUNCOMFY_CONFIG_DIR", folder: str = "", **fields: Any
    ) -> dict[str, str]:
        place = tmp_path / folder
        place.mkdir(parents=True, exist_ok=True)
        (place / "token.json").write_text(json.dumps(fields))
        return {variable: str(tmp_path), "RUNCOMFY_USER_ID": "u"}

    return write


@pytest.mark.parametrize(
    ("variable", "folder"),
    [
        ("RUNCOMFY_CONFIG_DIR", ""),
        ("XDG_CONFIG_HOME", "runcomfy"),
        ("HOME", ".config/runcomfy"),
        ("USERPROFILE", ".config/runcomfy"),
    ],
)
def test_it_is_read_last(official: Any, tmp_path: Path, variable: str, folder: str) -> None:
    environ = official(variable, folder, access_token="official", user_email="a@b.c")
    settings = Settings.load(environ=environ, cwd=tmp_path)
    assert settings.api_token == "official"
    assert settings.sources["api_token"] == str(tmp_path / folder / "token.json")
    (tmp_path / "credentials.txt").write_text("RUNCOMFY_API_TOKEN: mine\n")
    assert Settings.load(environ=environ, cwd=tmp_path).api_token == "mine"


@pytest.mark.parametrize(
    "expired", [1_767_225_600, 1_767_225_600_000.0, "2026-01-01T00:00:00Z", "2026-01-01"]
)
def test_an_expired_one_is_named(official: Any, tmp_path: Path, expired: object) -> None:
    environ = official(access_token="official-s3cret", expires_at=expired)
    with pytest.raises(ConfigError, match=r"it expired at .*: run comfyloom login") as caught:
        Settings.load(environ=environ, cwd=tmp_path)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("valid", [32_503_680_000, "2999-01-01T00:00:00+02:00", "soon", None])
def test_a_valid_one_is_used(official: Any, tmp_path: Path, valid: object) -> None:
    environ = official(access_token="official", expires_at=valid)
    assert Settings.load(environ=environ, cwd=tmp_path).api_token == "official"


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"access_token": 5}', b"[" * 10**5])
def test_a_broken_one_belongs_to_another_program(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token.json").write_bytes(content)
    environ = {"RUNCOMFY_CONFIG_DIR": str(tmp_path), "RUNCOMFY_USER_ID": "u"}
    with pytest.raises(ConfigError, match="api_token is missing"):
        Settings.load(environ=environ, cwd=tmp_path)
