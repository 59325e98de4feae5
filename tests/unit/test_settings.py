"""Where settings come from, and one error for all that is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from comfyloom.errors import ConfigError
from comfyloom.settings import DEFAULT_BASE_URL, Settings

ENVIRONMENT = {"RUNCOMFY_API_TOKEN": "token-env", "RUNCOMFY_USER_ID": "user-env"}
CREDENTIALS = """\
# the account of the installation
userID:"user-file"
RUNCOMFY_API_TOKEN: 'token-file'
version_id: version-file   # of the flux mesh workflow
"""


def test_defaults(tmp_path: Path) -> None:
    settings = Settings.load(environ=ENVIRONMENT, cwd=tmp_path)
    assert settings.api_base_url == DEFAULT_BASE_URL
    assert settings.server_type == "medium"
    assert settings.workflow_version_id is None
    assert settings.sources["api_token"] == "RUNCOMFY_API_TOKEN"
    assert settings.sources["server_type"] == "default"


def test_arguments_before_environment_before_file(tmp_path: Path) -> None:
    (tmp_path / "credentials.txt").write_text(CREDENTIALS)
    settings = Settings.load(user_id="user-arg", environ=ENVIRONMENT, cwd=tmp_path)
    assert settings.user_id == "user-arg"
    assert settings.api_token == "token-env"
    assert settings.workflow_version_id == "version-file"


@pytest.mark.parametrize("place", ["credentials.txt", "runcomfy/credentials.txt", "mine.txt"])
def test_a_credentials_file_is_found_or_named(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text(CREDENTIALS, "utf-8-sig")
    named = path if place == "mine.txt" else None
    settings = Settings.load(environ={}, cwd=tmp_path, credentials=named)
    assert (settings.user_id, settings.api_token) == ("user-file", "token-file")
    assert settings.sources["user_id"] == str(path)


def test_a_file_that_a_variable_names(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text(CREDENTIALS)
    environ = {"COMFYLOOM_CREDENTIALS": str(tmp_path / "mine")}
    assert Settings.load(environ=environ, cwd=tmp_path).user_id == "user-file"


@pytest.mark.parametrize("name", ["RUNCOMFY_API_TOKEN", "RUNCOMFY_API_KEY", "RUNCOMFY_TOKEN"])
def test_all_names_of_the_token(tmp_path: Path, name: str) -> None:
    environ = {name: "secret", "RUNCOMFY_USER_ID": "u"}
    assert Settings.load(environ=environ, cwd=tmp_path).api_token == "secret"


def test_everything_missing_is_told_at_once_and_the_emulator_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.load(environ={}, cwd=tmp_path)
    assert len(caught.value.problems) == 2
    for word in ("RUNCOMFY_API_TOKEN", "RUNCOMFY_USER_ID", "emulator"):
        assert word in str(caught.value)


def test_all_problems_are_told_together_with_their_sources(tmp_path: Path) -> None:
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


def test_somebody_elses_credentials_file_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "credentials.txt").write_text("[default]\nsomething else\n")
    assert Settings.load(environ=ENVIRONMENT, cwd=tmp_path).user_id == "user-env"


def test_a_named_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.txt is not there"):
        Settings.load(environ=ENVIRONMENT, credentials=tmp_path / "nowhere.txt")


def test_an_empty_variable_is_none(tmp_path: Path) -> None:
    environ = {**ENVIRONMENT, "RUNCOMFY_WORKFLOW_VERSION_ID": " "}
    assert Settings.load(environ=environ, cwd=tmp_path).workflow_version_id is None


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://[x", "http://h:99999", "x"])
def test_urls_that_are_none(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="api_base_url"):
        Settings.load(api_base_url=url, environ=ENVIRONMENT, cwd=tmp_path)


def test_the_token_does_not_show(tmp_path: Path) -> None:
    assert "token-env" not in repr(Settings.load(environ=ENVIRONMENT, cwd=tmp_path))
