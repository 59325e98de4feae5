"""The sources of settings, and the one error that lists everything wrong with them."""

from __future__ import annotations

import logging
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

from comfyloom.errors import ConfigError
from comfyloom.settings import DEFAULT_BASE_URL, Settings, SettingsLoader, model, project_folder
from support import ROOT

ENVIRONMENT = {"RUNCOMFY_API_TOKEN": "token-env", "RUNCOMFY_USER_ID": "user-env"}
CREDENTIALS = """\
# the account of the installation
userID:"user-file"
RUNCOMFY_API_TOKEN: 'token-file'
version_id: version-file   # of the flux mesh workflow
"""


def test_a_setting_that_no_source_has_is_its_default(tmp_path: Path) -> None:
    settings = Settings.load(environ=ENVIRONMENT, cwd=tmp_path)
    assert settings.api_base_url == DEFAULT_BASE_URL
    assert settings.server_type == ("medium",)
    assert settings.workflow_version_id is None
    assert settings.sources["api_token"] == "RUNCOMFY_API_TOKEN"
    assert settings.sources["server_type"] == "default"


def test_arguments_come_before_the_environment_before_a_file(tmp_path: Path) -> None:
    (tmp_path / "credentials.txt").write_text(CREDENTIALS)
    settings = Settings.load(user_id="user-arg", environ=ENVIRONMENT, cwd=tmp_path)
    assert settings.user_id == "user-arg"
    assert settings.api_token == "token-env"
    assert settings.workflow_version_id == "version-file"


@pytest.mark.parametrize("place", ["credentials.txt", "runcomfy/credentials.txt", "mine.txt"])
def test_a_credentials_file_is_found_in_default_places_or_named(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text(CREDENTIALS, "utf-8-sig")
    named = path if place == "mine.txt" else None
    settings = Settings.load(environ={}, cwd=tmp_path, credentials=named)
    assert (settings.user_id, settings.api_token) == ("user-file", "token-file")
    assert settings.sources["user_id"] == str(path)


def test_a_variable_can_name_the_credentials_file(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text(CREDENTIALS)
    environ = {"COMFYLOOM_CREDENTIALS": str(tmp_path / "mine")}
    assert Settings.load(environ=environ, cwd=tmp_path).user_id == "user-file"


@pytest.mark.parametrize("name", ["RUNCOMFY_API_TOKEN", "RUNCOMFY_API_KEY", "RUNCOMFY_TOKEN"])
def test_each_variable_of_the_token_is_read(tmp_path: Path, name: str) -> None:
    environ = {name: "secret", "RUNCOMFY_USER_ID": "u"}
    assert Settings.load(environ=environ, cwd=tmp_path).api_token == "secret"


def test_all_missing_settings_are_reported_together_with_a_hint_at_the_emulator(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.load(environ={}, cwd=tmp_path)
    assert len(caught.value.problems) == 2
    for word in ("RUNCOMFY_API_TOKEN", "RUNCOMFY_USER_ID", "emulator"):
        assert word in str(caught.value)


def test_all_problems_are_reported_together_with_their_sources(tmp_path: Path) -> None:
    (tmp_path / "credentials.txt").write_text("userID: u\nsomething secret\n")
    environ = {"RUNCOMFY_USER_ID": "a b", "RUNCOMFY_API_BASE_URL": "api.runcomfy.net"}
    with pytest.raises(ConfigError) as caught:
        Settings.load(environ=environ, cwd=tmp_path)
    text = str(caught.value)
    assert len(caught.value.problems) == 4
    assert "credentials.txt, line 2" in text
    assert "something secret" not in text
    assert "RUNCOMFY_API_TOKEN" in text
    assert "RUNCOMFY_API_BASE_URL" in text


def test_a_credentials_file_of_another_program_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "credentials.txt").write_text("[default]\nsomething else\n")
    assert Settings.load(environ=ENVIRONMENT, cwd=tmp_path).user_id == "user-env"


def test_a_named_credentials_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.txt does not exist"):
        Settings.load(environ=ENVIRONMENT, credentials=tmp_path / "nowhere.txt")


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    environ = {**ENVIRONMENT, "RUNCOMFY_WORKFLOW_VERSION_ID": " "}
    assert Settings.load(environ=environ, cwd=tmp_path).workflow_version_id is None


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://[x", "http://h:99999", "x"])
def test_an_invalid_base_url_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="api_base_url"):
        Settings.load(api_base_url=url, environ=ENVIRONMENT, cwd=tmp_path)


def test_the_token_is_not_in_the_repr(tmp_path: Path) -> None:
    assert "token-env" not in repr(Settings.load(environ=ENVIRONMENT, cwd=tmp_path))


# --- the table in pyproject.toml -----------------------------------------------------------------


def load(folder: Path, table: str = "", **environ: str) -> Settings:
    (folder / "pyproject.toml").write_text(f"[tool.comfyloom]\n{table}\n")
    return Settings.load(environ=ENVIRONMENT | environ, cwd=folder)


def test_the_pyproject_table_comes_after_the_environment_and_before_a_file(tmp_path: Path) -> None:
    (tmp_path / "credentials.txt").write_text("RUNCOMFY_SERVER_TYPE: large\nversion_id: file\n")
    table = 'server_type = "extra-large"\nmax_machines = 2\nplan = "pro"'
    settings = load(tmp_path, table, COMFYLOOM_MAX_MACHINES="3")
    assert settings.server_type == settings.asked_server_type == ("extra-large",)
    assert (settings.max_machines, settings.plan, settings.workflow_version_id) == (
        3,
        "pro",
        "file",
    )
    assert settings.sources["server_type"].endswith("pyproject.toml [tool.comfyloom]")


def test_the_pyproject_table_is_found_from_a_subfolder(tmp_path: Path) -> None:
    load(tmp_path, "max_machines = 2")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    settings = Settings.load(environ=ENVIRONMENT, cwd=below)
    assert settings.max_machines == 2
    assert settings.state_file == tmp_path / ".comfyloom" / "dev-server.json"
    assert project_folder(below) == tmp_path


def test_the_table_of_the_generator_is_ignored(tmp_path: Path) -> None:
    assert load(tmp_path, '[tool.comfyloom.codegen]\npackage = "x"').plan == "payg"


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("max_machins = 2", "max_machins is not a setting; did you mean 'max_machines'?"),
        ('api_token = "tok-98765"', "api_token is secret and must not be in a file that is shared"),
        ("max_machines = 0", "max_machines .*: 0 is too small; the minimum is 1"),
        ('max_machines = "many"', "max_machines .*: expected a whole number, got 'many'"),
        ("max_machines = true", "expected a whole number"),
        ('plan = "por"', "'por' is not one of payg, pro; did you mean 'pro'?"),
        ("plan = 3", "plan .*: expected a string, got 3"),
        ("max_duration_s = 5", "5.0 is too small; the minimum is 60 s"),
        ("max_duration_s = nan", "expected a number of seconds"),
        ('max_duration_s = "soon"', "'soon' is not a time; write 900, 30m or 1h30m"),
        ('prices = "medium"', "write prices as medium=0.99,large=1.75"),
        ("prices = 3", "expected prices by server type"),
        ('prices = {medium = "x"}', "expected a price in USD an hour, got 'x'"),
        ("prices = {medium = -1}", "expected a price in USD an hour"),
        ("x = [", "pyproject.toml: Invalid value"),
    ],
)
def test_a_wrong_value_is_reported_with_its_source(
    tmp_path: Path, table: str, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        load(tmp_path, table)
    assert len(caught.value.problems) == 1
    assert "pyproject.toml" in caught.value.problems[0]
    assert "tok-98765" not in str(caught.value)


@pytest.mark.parametrize("raw", ["medium=1.25, a100=4", None])
def test_prices_come_from_a_variable_or_a_table(tmp_path: Path, raw: str | None) -> None:
    environ = {"COMFYLOOM_PRICES": raw} if raw else {}
    settings = load(
        tmp_path, "" if raw else "[tool.comfyloom.prices]\nmedium = 1.25\na100 = 4", **environ
    )
    assert settings.prices == {"medium": Decimal("1.25"), "a100": Decimal(4)}


def test_an_unknown_variable_with_our_prefix_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'COMFYLOOM_MAX_MACHINES'"):
        load(tmp_path, COMFYLOOM_MAX_MACHINS="1")


@pytest.mark.parametrize("name", ["RUNCOMFY_DEFAULT_SERVER_TYPE", "RUNCOMFY_SERVER_TYPE"])
def test_both_variables_of_the_server_type_are_read(tmp_path: Path, name: str) -> None:
    assert load(tmp_path, **{name: "large"}).asked_server_type == ("large",)
    assert load(tmp_path).asked_server_type is None


# --- credentials files ---------------------------------------------------------------------------


def test_the_configuration_folder_is_searched_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "comfyloom").mkdir(parents=True)
    (tmp_path / "config" / "comfyloom" / "credentials.txt").write_text(CREDENTIALS)
    assert Settings.load(environ={}, cwd=tmp_path).user_id == "user-file"
    (tmp_path / "credentials.txt").write_text("userID: nearer\nRUNCOMFY_TOKEN: tok-near\n")
    assert Settings.load(environ={}, cwd=tmp_path).user_id == "nearer"


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
@pytest.mark.parametrize(("mode", "is_reported"), [(0o644, True), (0o640, True), (0o600, False)])
def test_a_credentials_file_that_other_users_can_read_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, is_reported: bool
) -> None:
    path = tmp_path / "credentials.txt"
    path.write_text(CREDENTIALS)
    path.chmod(mode)
    with caplog.at_level(logging.WARNING, "comfyloom"):
        Settings.load(environ={}, cwd=tmp_path)
    assert ("chmod 600" in caplog.text) is is_reported
    assert "token-file" not in caplog.text


# --- the loader and the class --------------------------------------------------------------------


def test_the_loader_keeps_valid_values_although_others_are_wrong(tmp_path: Path) -> None:
    loader = SettingsLoader.of(
        environ={"RUNCOMFY_USER_ID": "u", "COMFYLOOM_PLAN": "x"}, cwd=tmp_path
    )
    assert loader.values["user_id"] == "u"
    assert loader.sources["server_type"] == "default"
    assert len(loader.problems) == 2


def test_settings_created_directly_are_checked() -> None:
    with pytest.raises(ConfigError) as caught:
        Settings(api_token="tok-1", user_id="a b", max_machines=0)
    assert len(caught.value.problems) == 2


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(TypeError, match="no such setting: colour"):
        Settings.load(colour="red")  # type: ignore[call-arg]


def test_the_arguments_are_the_settings_of_the_class() -> None:
    assert set(model.Given.__annotations__) == set(model._METAS)


def test_each_setting_is_documented_with_all_its_names() -> None:
    page = (ROOT / "docs" / "settings.md").read_text("utf-8")
    for name, meta in model._METAS.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        for spelling in (*meta.variables, *meta.file_names):
            assert f"`{spelling}`" in row, (name, spelling)
        default: Any = attrs.fields_dict(Settings)[name].default
        if isinstance(default, float | str):
            assert (f"{default:g}" if isinstance(default, float) else default) in row, name


# --- malformed values ----------------------------------------------------------------------------


@pytest.mark.parametrize("malformed", [b"tok-SECRET-1", 12345678, ["tok-SECRET-1"]])
def test_a_malformed_token_is_not_shown(tmp_path: Path, malformed: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.load(api_token=malformed, environ=ENVIRONMENT, cwd=tmp_path)
    assert "SECRET" not in str(caught.value)
    assert "12345678" not in str(caught.value)
    with pytest.raises(ConfigError, match="api_token"):
        Settings(api_token=malformed, user_id="u")


def test_an_unknown_name_with_our_prefix_in_a_named_file_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("COMFYLOOM_MAX_MACHINE: 1\n")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="did you mean 'COMFYLOOM_MAX_MACHINES'"):
        Settings.load(environ=ENVIRONMENT, cwd=tmp_path, credentials=path)


def test_the_pyproject_table_must_be_a_table(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool]\ncomfyloom = 5\n")
    with pytest.raises(ConfigError, match="expected a table"):
        Settings.load(environ=ENVIRONMENT, cwd=tmp_path)


def test_times_can_have_units(tmp_path: Path) -> None:
    settings = load(tmp_path, 'max_duration_s = "1h30m"', COMFYLOOM_DEV_IDLE_TIMEOUT_S="20m")
    assert (settings.max_duration_s, settings.dev_idle_timeout_s) == (5400.0, 1200.0)


def test_the_credentials_file_of_the_project_is_found_from_a_subfolder(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "credentials.txt").write_text(CREDENTIALS)
    below = tmp_path / "sub"
    below.mkdir()
    assert Settings.load(environ={}, cwd=below).user_id == "user-file"
