"""Settings: arguments before environment variables before a credentials file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import attrs

from comfyloom._redact import keep_secret
from comfyloom.errors import ConfigError

DEFAULT_BASE_URL: Final = "https://api.runcomfy.net"
DEFAULT_SERVER_TYPE: Final = "medium"
CREDENTIALS_PLACES: Final = ("credentials.txt", "runcomfy/credentials.txt")

_ENVIRONMENT: Final[Mapping[str, tuple[str, ...]]] = {
    "api_token": ("RUNCOMFY_API_TOKEN", "RUNCOMFY_API_KEY", "RUNCOMFY_TOKEN"),
    "user_id": ("RUNCOMFY_USER_ID",),
    "api_base_url": ("RUNCOMFY_API_BASE_URL",),
    "workflow_version_id": ("RUNCOMFY_WORKFLOW_VERSION_ID",),
    "server_type": ("RUNCOMFY_SERVER_TYPE",),
}
# The names of a credentials file, compared without case, beside those of the environment.
_IN_FILE: Final[Mapping[str, tuple[str, ...]]] = {
    "user_id": ("userID", "user_id"),
    "workflow_version_id": ("version_id",),
}
_NAMES: Final = {
    spelling.lower(): name
    for table in (_ENVIRONMENT, _IN_FILE)
    for name, spellings in table.items()
    for spelling in spellings
}
_LINE: Final = re.compile(r"^\s*(?P<name>[A-Za-z_]\w*)\s*[:=]\s*(?P<value>.*?)\s*$")
_DEFAULTS: Final = {"api_base_url": DEFAULT_BASE_URL, "server_type": DEFAULT_SERVER_TYPE}
_HINT: Final = (
    "; a credentials.txt may hold them too. Without an account, try the emulator: "
    'RunComfySession(target="emulator"), or --target emulator'
)
_REQUIRED: Final = ("api_token", "user_id")


@attrs.frozen(kw_only=True)
class Settings:
    """What is needed to launch machines on an account.

    Attributes:
        api_token: The account's token.
        user_id: The account's id.
        api_base_url: Where the Server API answers.
        workflow_version_id: The version id of the saved workflow to launch; without one, the
            account's workflow that is named like the workflow file is looked up.
        server_type: The kind of machine.
        sources: Where each value came from, for people.
    """

    api_token: str = attrs.field(repr=lambda _: "<token>")
    user_id: str
    api_base_url: str = DEFAULT_BASE_URL
    workflow_version_id: str | None = None
    server_type: str = DEFAULT_SERVER_TYPE
    sources: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False, eq=False)

    @classmethod
    def load(
        cls,
        *,
        api_token: str | None = None,
        user_id: str | None = None,
        api_base_url: str | None = None,
        workflow_version_id: str | None = None,
        server_type: str | None = None,
        credentials: str | os.PathLike[str] | None = None,
        environ: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ) -> Settings:
        """Gather the settings: arguments, then the environment, then a credentials file.

        Args:
            api_token: The account's token.
            user_id: The account's id.
            api_base_url: Where the Server API answers.
            workflow_version_id: The version id of the saved workflow to launch.
            server_type: The kind of machine.
            credentials: A credentials file, else `COMFYLOOM_CREDENTIALS`, `./credentials.txt` or
                `./runcomfy/credentials.txt`: one `name: value` a line, `#` begins a comment.
            environ: The environment variables, by default those of the process.
            cwd: The folder to look for credentials files in, by default the current one.

        Raises:
            ConfigError: Settings are missing or wrong; it lists them all.
        """
        arguments = {
            "api_token": api_token,
            "user_id": user_id,
            "api_base_url": api_base_url,
            "workflow_version_id": workflow_version_id,
            "server_type": server_type,
        }
        variables = os.environ if environ is None else environ
        gathered = _Gathered()
        gathered.take({name: (value, "argument") for name, value in arguments.items() if value})
        gathered.take_environment(variables)
        gathered.take_file(credentials or variables.get("COMFYLOOM_CREDENTIALS"), Path(cwd or "."))
        return cls._of(gathered)

    @classmethod
    def of_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Gather the settings from these variables alone.

        Raises:
            ConfigError: Settings are missing or wrong; it lists them all.
        """
        gathered = _Gathered()
        gathered.take_environment(environ)
        return cls._of(gathered)

    @classmethod
    def _of(cls, gathered: _Gathered) -> Settings:
        gathered.take({name: (value, "default") for name, value in _DEFAULTS.items()})
        return cls(**gathered.checked(), sources=gathered.sources)


@attrs.define
class _Gathered:
    """Values found so far; the first place that has one wins."""

    values: dict[str, str] = attrs.field(factory=dict[str, str])
    sources: dict[str, str] = attrs.field(factory=dict[str, str])
    problems: list[str] = attrs.field(factory=list[str])

    def take(self, found: Mapping[str, tuple[str, str]]) -> None:
        """Take values that no earlier place had."""
        for name, (value, source) in found.items():
            if name not in self.values:
                self.values[name], self.sources[name] = value, source

    def take_environment(self, environ: Mapping[str, str]) -> None:
        """Take what the environment has; an empty variable is none."""
        for name, variables in _ENVIRONMENT.items():
            for variable in variables:
                if environ.get(variable, "").strip():
                    self.take({name: (environ[variable].strip(), variable)})

    def take_file(self, named: str | os.PathLike[str] | None, cwd: Path) -> None:
        """Take what the credentials file has that is named, or else found."""
        places = [Path(named)] if named else [cwd / place for place in CREDENTIALS_PLACES]
        path = next((place for place in places if place.is_file()), places[0])
        try:
            text = path.read_text("utf-8-sig")
        except FileNotFoundError:
            if named:
                self.problems.append(f"credentials file: {path} is not there")
            return
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
            self.problems.append(f"credentials file: cannot read {path}: {reason}")
            return
        problems = self._take_lines(text, path)
        # Somebody else's file may have this name: it matters only when something is missing.
        if named or any(name not in self.values for name in _REQUIRED):
            self.problems += problems

    def checked(self) -> dict[str, str]:
        """Return all values.

        Raises:
            ConfigError: Some are missing or wrong.
        """
        missing = [name for name in _REQUIRED if name not in self.values]
        self.problems += [f"{name} is missing: set {_ENVIRONMENT[name][0]}" for name in missing]
        self._check_characters()
        self._check_base_url()
        if self.problems:
            text = "; ".join(self.problems) + (_HINT if missing else "")
            raise ConfigError(text, problems=self.problems)
        keep_secret(self.values["api_token"])
        return self.values

    def _take_lines(self, text: str, path: Path) -> list[str]:
        problems: list[str] = []
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            match = _LINE.match(line)
            if match is None:  # the line itself may hold a secret, so it is not shown
                problems.append(f"{path}, line {number}: `name: value` is expected")
            elif (name := _NAMES.get(match["name"].lower())) and (
                value := _unquoted(match["value"])
            ):
                self.take({name: (value, str(path))})
        return problems

    def _check_characters(self) -> None:
        for name, value in self.values.items():
            if not value.isascii() or not value.isprintable() or " " in value:
                source = self.sources[name]
                self.problems.append(f"{name} (from {source}) holds characters that it cannot have")

    def _check_base_url(self) -> None:
        if not is_http_url(self.values["api_base_url"]):
            source = self.sources["api_base_url"]
            self.problems.append(f"api_base_url (from {source}) is no https:// or http:// URL")


def is_http_url(text: str) -> bool:
    """Return whether a text is an `http(s)://` URL with a host."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port that cannot be
        return False


def _unquoted(value: str) -> str:
    """Return a value without its quotes, or without the comment behind it."""
    if value[:1] in ("'", '"'):
        return value[1:].partition(value[0])[0]
    return value.partition(" #")[0].strip()
