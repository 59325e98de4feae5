"""The backend for a target."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import attrs

from comfyloom._backends.base import Backend
from comfyloom._backends.comfyui import ComfyUIBackend
from comfyloom._core.clock import SYSTEM_CLOCK, Clock
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._http.address import Address
from comfyloom.errors import ConfigError
from comfyloom.settings import ComfyUISettings, Settings, is_http_url, load_comfyui_settings
from comfyloom.settings.comfyui import access_of

if TYPE_CHECKING:
    from comfyloom.emulator import Emulator

RUNCOMFY: Final = "runcomfy"
EMULATOR: Final = "emulator"
_KNOWN: Final = f"{RUNCOMFY}, {EMULATOR}, the http(s):// URL of a ComfyUI server"


class HasEnvironment(Protocol):
    """A running emulator, with the environment variables for a client."""

    def environment(self) -> Mapping[str, str]:
        """Return `RUNCOMFY_API_TOKEN` and the other variables."""
        ...


TargetLike: TypeAlias = "str | HasEnvironment | None"
"""`"runcomfy"` (or None), `"emulator"`, the URL of a ComfyUI server, or an `Emulator`."""


@attrs.define(eq=False)
class _OwnEmulator:
    """An emulator in this process, started when needed."""

    options: Mapping[str, Any]
    changes: Mapping[str, Any]
    _emulator: Emulator | None = attrs.field(default=None, init=False, repr=False)

    def settings(self) -> Settings:
        """Start the emulator, if needed, and return the settings of its account."""
        if self._emulator is None:
            self._emulator = _start_emulator(self.options)
        return _settings_of(self._emulator, self.changes)

    def close(self) -> None:
        """Stop the emulator."""
        if self._emulator is not None:
            self._emulator.close()


def resolve(
    target: TargetLike,
    *,
    settings: Settings | None = None,
    server_type: str | Sequence[str] | None = None,
    emulator_options: Mapping[str, Any] | None = None,
    may_launch: bool = True,
    asking: Mapping[str, Any] | None = None,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    clock: Clock = SYSTEM_CLOCK,
) -> tuple[Backend, ComfyUISettings]:
    """Return the backend for a target, and the settings of its ComfyUI; nothing is started yet.

    Args:
        target: `"runcomfy"` or None, `"emulator"`, an `http(s)://` URL, or an `Emulator`.
        settings: For `runcomfy`; by default gathered from the environment and credentials file.
        server_type: The machine type, or several, instead of those in the settings.
        emulator_options: For `"emulator"`: how the emulator behaves.
        may_launch: Whether to launch a machine when there is no dev server to use.
        asking: Fields of `ComfyUISettings` that replace those of the settings.
        timeouts: Time limits and intervals.
        clock: The time.

    Raises:
        ConfigError: The target is invalid, or settings are missing.
    """
    asking = {name: value for name, value in (asking or {}).items() if value is not None}
    if isinstance(target, str) and target not in (RUNCOMFY, EMULATOR):
        url = _checked_url(target)
        asked = attrs.evolve(settings or load_comfyui_settings(), **asking)
        return ComfyUIBackend(url, access_of(asked), timeouts, clock), asked
    # Imported when first used: a plain ComfyUI does not need it.
    from comfyloom._backends.runcomfy import RunComfyBackend

    changes = {**asking, "server_type": server_type} if server_type else asking
    if target is None or target == RUNCOMFY:
        account = _changed(settings or Settings.load(server_type=server_type), changes)
        account.demand_checked_certificates()
        return RunComfyBackend(lambda: account, timeouts, clock, may_launch=may_launch), account
    # Of an emulator's surroundings only what no login is concerned with.
    asked = ComfyUISettings(keep_all=load_comfyui_settings().keep_all)
    if isinstance(target, str):
        own = _OwnEmulator(emulator_options or {}, changes)
        return RunComfyBackend(own.settings, timeouts, clock, own.close, is_real=False), asked
    if not callable(getattr(target, "environment", None)):
        raise ConfigError(f"target {target!r} is not one of {_KNOWN}, or an Emulator")
    given = _settings_of(target, changes)
    return RunComfyBackend(lambda: given, timeouts, clock, may_launch=may_launch), asked


def _settings_of(emulator: HasEnvironment, changes: Mapping[str, Any]) -> Settings:
    # Only the emulator's own variables count, never the real account's.
    return _changed(Settings.of_environment(emulator.environment()), changes)


def _changed(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    sources = {**settings.sources, **dict.fromkeys(changes, "argument")}
    return attrs.evolve(settings, **changes, sources=sources)


def _checked_url(target: str) -> str:
    try:
        Address.parse(target)
    except ValueError as error:
        # It may contain a password, or a token in its query.
        visible = re.split(r"[?#]", target)[0]
        guess = f"http://{visible}"
        is_bare = "://" not in visible and ":" in visible and is_http_url(guess)
        hint = f"; did you mean {guess}?" if is_bare and "@" not in target else ""
        shown = f"target {visible!r}" if "@" not in target else "the target"
        raise ConfigError(f"{shown} is not one of {_KNOWN}: {error}{hint}") from None
    return target


def _start_emulator(options: Mapping[str, Any]) -> Emulator:
    try:
        from comfyloom.emulator import Emulator

        emulator = Emulator(**options)
        emulator.start()
    except ImportError as error:
        text = f"the emulator needs {error.name}: pip install 'comfyloom[emulator]'"
    else:
        return emulator
    raise ConfigError(text)
