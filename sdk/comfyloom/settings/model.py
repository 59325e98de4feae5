"""The settings, and the loader that collects them from all sources."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Unpack, cast

import attrs

from comfyloom._core.redact import log, register_secret
from comfyloom.errors import ApiError, ConfigError, TransportError
from comfyloom.settings import sources
from comfyloom.settings.comfyui import ComfyUISettings
from comfyloom.settings.declaration import (
    Plan,
    Prices,
    ServerTypes,
    SettingMeta,
    are_words,
    at_least,
    is_url,
    is_word,
    meta,
    one_of,
    parse_value,
    setting_metas,
    to_server_types,
)
from comfyloom.settings.given import Given
from comfyloom.settings.sources import RawValue, Source, project_folder
from comfyloom.settings.website import DEFAULT_WEB_BASE, Website, known_user_id

DEFAULT_BASE_URL: Final = "https://api.runcomfy.net"
_KNOWN_BASES: Final = (DEFAULT_BASE_URL, "https://beta-api.runcomfy.net")
DEFAULT_SERVER_TYPE: Final = "medium"
STATE_FILE: Final = Path(".comfyloom", "dev-server.json")
_DEFAULT: Final = "default"
_HINT: Final = (
    "; a credentials.txt may contain them too, and comfyloom login gets them. Without an account, "
    'try the emulator: RunComfySession(target="emulator"), --target emulator, or comfyloom emulate'
)


def _server_types(given: str | Sequence[str]) -> ServerTypes:
    try:
        return to_server_types(given, ServerTypes)
    except ValueError as error:
        raise ConfigError(problems=[f"server_type: {error}"]) from None


def _state_file() -> Path:
    return project_folder(Path.cwd()) / STATE_FILE


@attrs.frozen(kw_only=True)
class Settings(ComfyUISettings):
    """An account, the limits for its machines, and how their ComfyUI is asked.

    Attributes:
        api_token: The account's token.
        user_id: The account's id; if it is not set, RunComfy is asked for the token's.
        api_base_url: The base URL of the Server API.
        web_base_url: RunComfy's website, for signing in.
        workflow_version_id: The version id of the saved workflow to launch; if None, the
            account's workflow with the name of the workflow file is used.
        server_type: The machine type, or several in order of preference: if RunComfy refuses to
            launch one (sold out, for example), the next is tried. Kept as a tuple.
        plan: RunComfy's plan, for prices: `payg` (pay as you go) or `pro`.
        prices: USD per hour by server type; they replace the packaged prices.
        max_machines: The most machines that the account may have at once; a further launch is
            refused. None for no limit.
        max_duration_s: The longest time that the machine of a session may run, in seconds.
        idle_timeout_s: Seconds after its last run for which the machine of a session is kept
            alive; after that its lease is no longer renewed.
        ready_grace_s: Seconds from Ready for which a machine's ComfyUI may not answer; then it is
            stopped, and once replaced. This time is billed.
        dev_idle_timeout_s: Seconds without use after which the dev server ends by itself.
        dev_max_duration_s: The longest time that the dev server may run, in seconds.
        state_file: The file that records the dev server.
        ledger: The database that records all machines: the path of an SQLite file, or a
            `postgresql://` URL; by default a file in the user's state folder.
        sources: The human-readable source of each value.
    """

    api_token: str = attrs.field(
        metadata=meta(
            "RUNCOMFY_API_TOKEN",
            "RUNCOMFY_API_KEY",
            "RUNCOMFY_TOKEN",
            is_secret=True,
            check=is_word,
        ),
        repr=lambda _: "<token>",
    )
    user_id: str = attrs.field(
        metadata=meta("RUNCOMFY_USER_ID", file_names=("userID", "user_id"), check=is_word)
    )
    api_base_url: str = attrs.field(
        default=DEFAULT_BASE_URL, metadata=meta("RUNCOMFY_API_BASE_URL", check=is_url)
    )
    web_base_url: str = attrs.field(
        default=DEFAULT_WEB_BASE, metadata=meta("RUNCOMFY_WEB_BASE", check=is_url)
    )
    workflow_version_id: str | None = attrs.field(
        default=None,
        metadata=meta("RUNCOMFY_WORKFLOW_VERSION_ID", file_names=("version_id",), check=is_word),
    )
    server_type: ServerTypes = attrs.field(
        default=(DEFAULT_SERVER_TYPE,),
        converter=_server_types,
        metadata=meta("RUNCOMFY_DEFAULT_SERVER_TYPE", "RUNCOMFY_SERVER_TYPE", check=are_words),
    )
    plan: Plan = attrs.field(
        default="payg", metadata=meta("COMFYLOOM_PLAN", check=one_of("payg", "pro"))
    )
    prices: Prices = attrs.field(factory=dict[str, Decimal], metadata=meta("COMFYLOOM_PRICES"))
    max_machines: int | None = attrs.field(
        default=None, metadata=meta("COMFYLOOM_MAX_MACHINES", check=at_least(1))
    )
    max_duration_s: float = attrs.field(
        default=4 * 3600.0, metadata=meta("COMFYLOOM_MAX_DURATION_S", check=at_least(60, " s"))
    )
    idle_timeout_s: float = attrs.field(
        default=600.0, metadata=meta("COMFYLOOM_IDLE_TIMEOUT_S", check=at_least(60, " s"))
    )
    ready_grace_s: float = attrs.field(
        default=180.0, metadata=meta("COMFYLOOM_READY_GRACE_S", check=at_least(1, " s"))
    )
    dev_idle_timeout_s: float = attrs.field(
        default=1800.0, metadata=meta("COMFYLOOM_DEV_IDLE_TIMEOUT_S", check=at_least(60, " s"))
    )
    dev_max_duration_s: float = attrs.field(
        default=8 * 3600.0,
        metadata=meta("COMFYLOOM_DEV_MAX_DURATION_S", check=at_least(60, " s")),
    )
    state_file: Path = attrs.field(factory=_state_file, metadata=meta("COMFYLOOM_STATE_FILE"))
    ledger: str | None = attrs.field(
        default=None,
        metadata=meta("COMFYLOOM_LEDGER", is_secret=True),
        repr=False,  # the URL of a database may contain its password
    )
    sources: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        register_secret(self.api_token)

    @property
    def asked_server_type(self) -> ServerTypes | None:
        """The machine types that were set explicitly, None if it is only the default."""
        source = self.sources.get("server_type", "")
        is_default = source == _DEFAULT and self.server_type == (DEFAULT_SERVER_TYPE,)
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
        """Load the settings from all sources.

        Arguments come first, then the environment, then `[tool.comfyloom]` of `pyproject.toml`,
        then a credentials file, then the token of RunComfy's own command line (`token.json`), then
        the defaults. Without a user id, RunComfy is asked for the token's, once.

        Args:
            credentials: A credentials file, by default `COMFYLOOM_CREDENTIALS`,
                `./credentials.txt`, `./runcomfy/credentials.txt`, the same two in the project's
                folder, or `credentials.txt` in the user's configuration folder. It has one
                `name: value` per line; `#` begins a comment.
            environ: The environment variables, by default those of the process.
            cwd: The folder to start looking in, by default the current one.
            **given: Any attribute of `Settings`; None counts as not given.

        Raises:
            ConfigError: Settings are missing or wrong; it lists them all.
            TypeError: A keyword is not a setting.
        """
        loader = SettingsLoader.of(credentials=credentials, environ=environ, cwd=cwd, **given)
        for warning in loader.warnings:
            log.warning("%s", warning)
        return loader.settings()

    @classmethod
    def of_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Load the settings from the given variables only.

        Raises:
            ConfigError: Settings are missing or wrong; it lists them all.
        """
        loader = SettingsLoader()
        loader.add(sources.environment(environ, _METAS, _METAS))
        loader.parse()
        return loader.settings()


_METAS: Final = setting_metas(Settings)


def load_comfyui_settings() -> ComfyUISettings:
    """Load the settings of a ComfyUI that needs no account, from all sources.

    Raises:
        ConfigError: Some of them are wrong; it lists them all.
    """
    loader = SettingsLoader.of(wanted=setting_metas(ComfyUISettings))
    if loader.problems:
        raise ConfigError(problems=loader.problems)
    return ComfyUISettings(**loader.values)


@attrs.define
class SettingsLoader:
    """Collects settings and everything that is wrong with them; they may be incomplete.

    Attributes:
        wanted: The metadata of the settings to collect.
        found: Raw values with their sources; the first source that has a value wins.
        values: The parsed values; invalid ones are left out.
        problems: Everything that is wrong, one line each.
        warnings: What should be reported, but is not an error.
    """

    wanted: Mapping[str, SettingMeta] = _METAS
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
        wanted: Mapping[str, SettingMeta] = _METAS,
        **given: Unpack[Given],
    ) -> SettingsLoader:
        """Collect the settings like `Settings.load`, but keep problems instead of raising them.

        Raises:
            TypeError: A keyword is not a setting.
        """
        if unknown := set(given) - set(_METAS):
            raise TypeError(f"no such setting: {', '.join(sorted(unknown))}")
        variables = os.environ if environ is None else environ
        here = Path(cwd or ".")
        loader = cls(wanted)
        loader.add(sources.arguments(given))
        loader.add(sources.environment(variables, wanted, _METAS))
        loader.add(sources.project(here, wanted, _METAS))
        loader.add_credentials(credentials or variables.get(sources.CREDENTIALS_VARIABLE), here)
        if "api_token" in wanted and "api_token" not in loader.found:
            loader.add(sources.official_token(variables))
        loader.parse(project_folder(here) / STATE_FILE if wanted is _METAS else None)
        return loader

    def add(self, source: Source) -> None:
        """Add the values that no earlier source had, and all problems."""
        self._add_values(source)
        self.problems += source.problems

    def add_credentials(self, named: str | os.PathLike[str] | None, cwd: Path) -> None:
        """Add the values of the credentials file; its problems count only if it is meant."""
        source, is_meant = sources.credentials(named, cwd, self.wanted, _METAS)
        is_used = any(name not in self.found for name in source.values)
        self._add_values(source)
        if is_meant or self.missing:
            self.problems += source.problems
        if is_used:
            self.warnings += source.warnings

    def _add_values(self, source: Source) -> None:
        for name, value in source.values.items():
            self.found.setdefault(name, value)

    def parse(self, state_file: Path | None = None) -> None:
        """Parse all values and add the problems found.

        Args:
            state_file: The default of the setting `state_file`.
        """
        if state_file is not None:
            self.found.setdefault("state_file", RawValue(str(state_file), _DEFAULT))
        fields = attrs.fields_dict(attrs.resolve_types(Settings))
        for name, value in self.found.items():
            try:
                self.values[name] = parse_value(value.raw, fields[name].type, _METAS[name].check)
            except ValueError as error:
                # The error may quote the value, which must not be shown if it is a secret.
                meta = _METAS[name]
                reason = f"it is not {meta.expected}" if meta.is_secret else str(error)
                self.problems.append(f"{name} (from {value.source}): {reason}")
        if self.missing == ["user_id"] and not self.problems:
            self._ask_for_the_user()
        said = " ".join(self.problems)
        self.problems += [
            f"{name} is missing: set {_METAS[name].variables[0]}"
            for name in self.missing
            if f"{name} is missing" not in said
        ]
        if token := self.values.get("api_token"):
            register_secret(token)

    def _ask_for_the_user(self) -> None:
        """Ask RunComfy whose token it is; no other platform's token is shown to it."""
        base, web = self.values.get("api_base_url"), self.values.get("web_base_url")
        if web is None and base not in (None, *_KNOWN_BASES):
            return
        try:
            website = Website(web or DEFAULT_WEB_BASE)
            user_id = known_user_id(website, self.values["api_token"])
        except (TransportError, ApiError) as error:
            text = f"user_id is missing: set RUNCOMFY_USER_ID (RunComfy does not tell it: {error})"
            self.problems.append(text)
            return
        self.found["user_id"] = RawValue(user_id, "RunComfy, by the token")
        self.values["user_id"] = user_id

    @property
    def missing(self) -> list[str]:
        """The names of the required settings that no source has."""
        needed = [name for name in ("api_token", "user_id") if name in self.wanted]
        return [name for name in needed if name not in self.found]

    @property
    def sources(self) -> dict[str, str]:
        """The human-readable source of each value; `default` if no source has one."""
        return {
            name: self.found[name].source if name in self.found else _DEFAULT for name in _METAS
        }

    def display_values(self) -> dict[str, str]:
        """Return each setting as human-readable text; of a secret only whether it is set."""
        return {name: self._display(name) for name in _METAS}

    def json_values(self) -> dict[str, object]:
        """Return each setting as a value for JSON; of a secret only whether it is set."""
        return {
            name: bool(self.values.get(name)) if _METAS[name].is_secret else self._value(name)
            for name in _METAS
        }

    def _value(self, name: str) -> object:
        default: Any = attrs.fields_dict(Settings)[name].default
        is_plain = isinstance(default, str | int | float | tuple)
        return self.values.get(name, default if is_plain else None)

    def _display(self, name: str) -> str:
        value = self._value(name)
        if _METAS[name].is_secret:
            return "set" if value else "missing" if name in self.missing else "not set"
        if isinstance(value, Mapping):
            prices = cast("Prices", value)
            return ", ".join(f"{server_type}={price}" for server_type, price in prices.items())
        if isinstance(value, tuple):
            return ", ".join(cast("ServerTypes", value))
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
