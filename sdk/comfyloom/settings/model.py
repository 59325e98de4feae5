"""The settings themselves, and how they are gathered."""

from __future__ import annotations

import os
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypedDict, Unpack, cast

import attrs

from comfyloom._core.redact import log, register_secret
from comfyloom.errors import ConfigError
from comfyloom.settings import sources
from comfyloom.settings.fields import (
    Plan,
    Prices,
    at_least,
    check_all,
    is_url,
    is_word,
    named,
    one_of,
    setting_metas,
    structured,
)
from comfyloom.settings.sources import RawValue, Source, project_folder

DEFAULT_BASE_URL: Final = "https://api.runcomfy.net"
DEFAULT_SERVER_TYPE: Final = "medium"
STATE_FILE: Final = Path(".comfyloom", "dev-server.json")
_DEFAULT: Final = "default"
_HINT: Final = (
    "; a credentials.txt may hold them too. Without an account, try the emulator: "
    'RunComfySession(target="emulator"), --target emulator, or comfyloom emulate'
)


class Given(TypedDict, total=False):
    """Settings as arguments; None was not given."""

    api_token: str | None
    user_id: str | None
    api_base_url: str | None
    workflow_version_id: str | None
    server_type: str | None
    plan: Plan | None
    prices: Prices | None
    max_machines: int | None
    max_duration_s: float | None
    idle_timeout_s: float | None
    dev_idle_timeout_s: float | None
    dev_max_duration_s: float | None
    state_file: str | os.PathLike[str] | None
    ledger: str | None


def _state_file() -> Path:
    return project_folder(Path.cwd()) / STATE_FILE


@attrs.frozen(kw_only=True)
class Settings:
    """An account, and what its machines may do.

    Attributes:
        api_token: The account's token.
        user_id: The account's id.
        api_base_url: Where the Server API answers.
        workflow_version_id: The version id of the saved workflow to launch; without one, the
            account's workflow that is named like the workflow file is looked up.
        server_type: The kind of machine.
        plan: Which of RunComfy's price lists counts: `payg` (pay as you go) or `pro`.
        prices: USD an hour by server type, where they are others than the packaged ones.
        max_machines: So many machines of the account may there be at once; a launch beyond is
            refused. None for no limit.
        max_duration_s: Seconds that a session's machine may run at most.
        idle_timeout_s: Seconds after its last run for which a session's machine is kept alive;
            after that its lease is no longer renewed.
        dev_idle_timeout_s: Seconds without use after which the dev server ends by itself.
        dev_max_duration_s: Seconds that the dev server may run at most.
        state_file: Where the dev server is remembered.
        ledger: Where all machines are written down: the path of an SQLite file, or a
            `postgresql://` URL; by default a file in the user's state folder.
        sources: Where each value came from, for people.
    """

    api_token: str = attrs.field(
        metadata=named(
            "RUNCOMFY_API_TOKEN",
            "RUNCOMFY_API_KEY",
            "RUNCOMFY_TOKEN",
            is_secret=True,
            check=is_word,
        ),
        repr=lambda _: "<token>",
    )
    user_id: str = attrs.field(
        metadata=named("RUNCOMFY_USER_ID", in_file=("userID", "user_id"), check=is_word)
    )
    api_base_url: str = attrs.field(
        default=DEFAULT_BASE_URL, metadata=named("RUNCOMFY_API_BASE_URL", check=is_url)
    )
    workflow_version_id: str | None = attrs.field(
        default=None,
        metadata=named("RUNCOMFY_WORKFLOW_VERSION_ID", in_file=("version_id",), check=is_word),
    )
    server_type: str = attrs.field(
        default=DEFAULT_SERVER_TYPE,
        metadata=named("RUNCOMFY_DEFAULT_SERVER_TYPE", "RUNCOMFY_SERVER_TYPE", check=is_word),
    )
    plan: Plan = attrs.field(
        default="payg", metadata=named("COMFYLOOM_PLAN", check=one_of("payg", "pro"))
    )
    prices: Prices = attrs.field(factory=dict[str, Decimal], metadata=named("COMFYLOOM_PRICES"))
    max_machines: int | None = attrs.field(
        default=None, metadata=named("COMFYLOOM_MAX_MACHINES", check=at_least(1))
    )
    max_duration_s: float = attrs.field(
        default=4 * 3600.0, metadata=named("COMFYLOOM_MAX_DURATION_S", check=at_least(60, " s"))
    )
    idle_timeout_s: float = attrs.field(
        default=600.0, metadata=named("COMFYLOOM_IDLE_TIMEOUT_S", check=at_least(60, " s"))
    )
    dev_idle_timeout_s: float = attrs.field(
        default=1800.0, metadata=named("COMFYLOOM_DEV_IDLE_TIMEOUT_S", check=at_least(60, " s"))
    )
    dev_max_duration_s: float = attrs.field(
        default=8 * 3600.0,
        metadata=named("COMFYLOOM_DEV_MAX_DURATION_S", check=at_least(60, " s")),
    )
    state_file: Path = attrs.field(factory=_state_file, metadata=named("COMFYLOOM_STATE_FILE"))
    ledger: str | None = attrs.field(
        default=None,
        metadata=named("COMFYLOOM_LEDGER", is_secret=True),
        repr=False,  # the URL of a database may hold its password
    )
    sources: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        check_all(self)
        register_secret(self.api_token)

    @property
    def asked_server_type(self) -> str | None:
        """The kind of machine that somebody asked for, None where it is only the default."""
        source = self.sources.get("server_type", "")
        is_default = source == _DEFAULT and self.server_type == DEFAULT_SERVER_TYPE
        return None if is_default else self.server_type

    @classmethod
    def load(
        cls,
        *,
        credentials: str | os.PathLike[str] | None = None,
        environ: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        **given: Unpack[Given],
    ) -> Settings:
        """Gather the settings.

        Arguments come first, then the environment, then `[tool.comfyloom]` of `pyproject.toml`,
        then a credentials file, then the defaults.

        Args:
            credentials: A credentials file, else `COMFYLOOM_CREDENTIALS`, `./credentials.txt`,
                `./runcomfy/credentials.txt` or `credentials.txt` in the configuration folder of
                the user: one `name: value` a line, `#` begins a comment.
            environ: The environment variables, by default those of the process.
            cwd: The folder to look from, by default the current one.
            **given: Any attribute of `Settings`; None was not given.

        Raises:
            ConfigError: Settings are missing or wrong; it lists them all.
            TypeError: There is no setting of that name.
        """
        loader = SettingsLoader.of(credentials=credentials, environ=environ, cwd=cwd, **given)
        for warning in loader.warnings:
            log.warning("%s", warning)
        return loader.settings()

    @classmethod
    def of_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Gather the settings from these variables alone.

        Raises:
            ConfigError: Settings are missing or wrong; it lists them all.
        """
        loader = SettingsLoader()
        loader.take(sources.environment(environ, _NAMES))
        loader.complete()
        return loader.settings()


_NAMES: Final = setting_metas(Settings)


@attrs.define
class SettingsLoader:
    """What was found of the settings, complete or not, and all that is wrong with it.

    Attributes:
        found: Raw values with their sources; the first place that has one wins.
        values: The same, checked.
        problems: One line each.
        warnings: What is not wrong, but should be told.
    """

    found: dict[str, RawValue] = attrs.field(factory=dict[str, RawValue])
    values: dict[str, Any] = attrs.field(factory=dict[str, Any])
    problems: list[str] = attrs.field(factory=list[str])
    warnings: list[str] = attrs.field(factory=list[str])

    @classmethod
    def of(
        cls,
        *,
        credentials: str | os.PathLike[str] | None = None,
        environ: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        **given: Unpack[Given],
    ) -> SettingsLoader:
        """Look everywhere; see `Settings.load`, but nothing is raised for what is missing."""
        if unknown := set(given) - set(_NAMES):
            raise TypeError(f"no such setting: {', '.join(sorted(unknown))}")
        variables = os.environ if environ is None else environ
        here = Path(cwd or ".")
        loader = cls()
        loader.take(sources.arguments(given))
        loader.take(sources.environment(variables, _NAMES))
        loader.take(sources.project(here, _NAMES))
        loader.take_credentials(credentials or variables.get(sources.CREDENTIALS_VARIABLE), here)
        loader.complete(project_folder(here) / STATE_FILE)
        return loader

    def take(self, place: Source) -> None:
        """Take the values that no earlier place had."""
        for name, value in place.values.items():
            self.found.setdefault(name, value)
        self.problems += place.problems

    def take_credentials(self, named: str | os.PathLike[str] | None, cwd: Path) -> None:
        """Take what the credentials file has."""
        place, is_ours = sources.credentials(named, cwd, _NAMES)
        used = any(name not in self.found for name in place.values)
        for name, value in place.values.items():
            self.found.setdefault(name, value)
        if is_ours or self.missing:
            self.problems += place.problems
        if used:
            self.warnings += place.warnings

    def complete(self, state_file: Path | None = None) -> None:
        """Check all values, and fill in the defaults."""
        if state_file is not None:
            self.found.setdefault("state_file", RawValue(str(state_file), _DEFAULT))
        kinds = attrs.fields_dict(attrs.resolve_types(Settings))
        for name, value in self.found.items():
            try:
                self.values[name] = structured(value.raw, kinds[name].type, _NAMES[name].check)
            except ValueError as error:
                # What stands in the place of a token is not shown either.
                reason = "it is no text" if _NAMES[name].is_secret else str(error)
                self.problems.append(f"{name} (from {value.source}): {reason}")
        self.problems += [
            f"{name} is missing: set {_NAMES[name].variables[0]}" for name in self.missing
        ]
        if token := self.values.get("api_token"):
            register_secret(token)

    @property
    def missing(self) -> list[str]:
        """The settings that must be there and are not."""
        return [name for name in ("api_token", "user_id") if name not in self.found]

    @property
    def sources(self) -> dict[str, str]:
        """Where each value comes from; `default` where nobody set it."""
        return {
            name: self.found[name].source if name in self.found else _DEFAULT for name in _NAMES
        }

    def shown(self) -> dict[str, str]:
        """Return the value of each setting for people; a secret only says that it is there."""
        return {name: self._shown(name) for name in _NAMES}

    def plain(self) -> dict[str, object]:
        """Return the value of each setting for programs; a secret only says that it is there."""
        return {
            name: bool(self.values.get(name)) if _NAMES[name].is_secret else self._value(name)
            for name in _NAMES
        }

    def _value(self, name: str) -> object:
        default: Any = attrs.fields_dict(Settings)[name].default
        is_plain = isinstance(default, str | int | float)
        return self.values.get(name, default if is_plain else None)

    def _shown(self, name: str) -> str:
        value = self._value(name)
        if _NAMES[name].is_secret:
            return "set" if value else "missing" if name in self.missing else "not set"
        if isinstance(value, Mapping):
            prices = cast("Prices", value)
            return ", ".join(f"{kind}={price}" for kind, price in prices.items())
        if value is None:
            return "not set"
        return f"{value:g}" if isinstance(value, float) else str(value)

    def settings(self) -> Settings:
        """Return the settings.

        Raises:
            ConfigError: Some are missing or wrong; it lists them all.
        """
        if self.problems:
            text = "; ".join(self.problems) + (_HINT if self.missing else "")
            raise ConfigError(text, problems=self.problems)
        return Settings(**self.values, sources=self.sources)
