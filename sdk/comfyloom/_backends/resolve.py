"""The backend for a target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import attrs

from comfyloom._backends.base import Backend
from comfyloom._backends.comfyui import ComfyUIBackend
from comfyloom._core.clock import SYSTEM_CLOCK, Clock
from comfyloom._core.redact import register_url_secret
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom.errors import ConfigError
from comfyloom.settings import Settings, is_http_url

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
    server_type: str | None
    _emulator: Emulator | None = attrs.field(default=None, init=False, repr=False)

    def settings(self) -> Settings:
        """Start the emulator, if needed, and return the settings of its account."""
        if self._emulator is None:
            self._emulator = _start_emulator(self.options)
        return _settings_of(self._emulator, self.server_type)

    def close(self) -> None:
        """Stop the emulator."""
        if self._emulator is not None:
            self._emulator.close()


def resolve(
    target: TargetLike,
    *,
    settings: Settings | None = None,
    server_type: str | None = None,
    emulator_options: Mapping[str, Any] | None = None,
    may_launch: bool = True,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    clock: Clock = SYSTEM_CLOCK,
) -> Backend:
    """Return the backend for a target; nothing is started yet.

    Args:
        target: `"runcomfy"` or None, `"emulator"`, an `http(s)://` URL, or an `Emulator`.
        settings: For `runcomfy`; by default gathered from the environment and credentials file.
        server_type: The machine type, instead of the one in the settings.
        emulator_options: For `"emulator"`: how the emulator behaves.
        may_launch: Whether to launch a machine when there is no dev server to use.
        timeouts: Time limits and intervals.
        clock: The time.

    Raises:
        ConfigError: The target is invalid, or settings are missing.
    """
    if isinstance(target, str) and target not in (RUNCOMFY, EMULATOR):
        return ComfyUIBackend(_checked_url(target), timeouts, clock)
    # Imported when first used: a plain ComfyUI does not need it.
    from comfyloom._backends.runcomfy import RunComfyBackend

    if target is None or target == RUNCOMFY:
        account = _with_type(settings or Settings.load(server_type=server_type), server_type)
        return RunComfyBackend(lambda: account, timeouts, clock, may_launch=may_launch)
    if isinstance(target, str):
        own = _OwnEmulator(emulator_options or {}, server_type)
        return RunComfyBackend(own.settings, timeouts, clock, own.close, is_real=False)
    if not callable(getattr(target, "environment", None)):
        raise ConfigError(f"target {target!r} is not one of {_KNOWN}, or an Emulator")
    given = _settings_of(target, server_type)
    return RunComfyBackend(lambda: given, timeouts, clock, may_launch=may_launch)


def _settings_of(emulator: HasEnvironment, server_type: str | None) -> Settings:
    # Only the emulator's own variables count, never the real account's.
    return _with_type(Settings.of_environment(emulator.environment()), server_type)


def _with_type(settings: Settings, server_type: str | None) -> Settings:
    if not server_type:
        return settings
    sources = {**settings.sources, "server_type": "argument"}
    return attrs.evolve(settings, server_type=server_type, sources=sources)


def _checked_url(target: str) -> str:
    if not is_http_url(target):
        guess = f"http://{target}"
        hint = f"; did you mean {guess}?" if ":" in target and is_http_url(guess) else ""
        raise ConfigError(f"target {target!r} is not one of {_KNOWN}{hint}")
    register_url_secret(target)
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
