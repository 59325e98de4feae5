"""What a target is: the place that workflows run at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import attrs

from comfyloom._clock import SYSTEM_CLOCK, Clock
from comfyloom._redact import keep_url_secret, log
from comfyloom.comfyui.client import ComfyUI
from comfyloom.errors import ConfigError, MachineError
from comfyloom.machines import Machine, OwnMachine, Register
from comfyloom.machines.dev import Borrowing, Refusal
from comfyloom.money import PriceList
from comfyloom.progress import Progress, ProgressCallback
from comfyloom.runcomfy import ServerApi, find_version
from comfyloom.settings import Settings, is_http_url

if TYPE_CHECKING:
    from comfyloom.emulator import Emulator

RUNCOMFY: Final = "runcomfy"
EMULATOR: Final = "emulator"


class HasEnvironment(Protocol):
    """An emulator that runs: it tells the environment variables that a client needs."""

    def environment(self) -> Mapping[str, str]:
        """Return `RUNCOMFY_API_TOKEN` and the others, by name."""
        ...


TargetLike: TypeAlias = "str | HasEnvironment | None"
"""`"runcomfy"` (or None), `"emulator"`, the URL of a ComfyUI server, or an `Emulator`."""


class Place(Protocol):
    """Where a session runs its workflows."""

    def open(self, workflow: str | None, report: ProgressCallback) -> ComfyUI | None:
        """Return the ComfyUI, starting what has to be started.

        Args:
            workflow: The name of the workflow file, None before the first run; when it is needed
                to know what to launch, and is None, nothing happens and None is returned.
            report: Told how it goes.
        """
        ...

    def touch(self) -> None:
        """Keep it alive: it is in use."""
        ...

    def still_there(self) -> None:
        """Raise when it has ended for good."""
        ...

    def close(self) -> None:
        """End what `open` started."""
        ...

    @property
    def machine(self) -> Machine | None:
        """The paid machine, None if there is none."""
        ...

    def summary(self) -> list[str]:
        """Return what was used of each machine and what that cost, for people."""
        ...

    def cost(self) -> Decimal | None:
        """Return what it has cost in USD; None when a price is not known."""
        ...


@attrs.define(eq=False)
class PlainPlace:
    """A ComfyUI server that somebody else runs."""

    url: str = attrs.field(repr=False)
    clock: Clock = SYSTEM_CLOCK
    machine: Machine | None = attrs.field(default=None, init=False)
    _comfyui: ComfyUI | None = attrs.field(default=None, init=False, repr=False)

    def open(self, workflow: str | None, report: ProgressCallback) -> ComfyUI:  # noqa: ARG002
        """Return the server's client, once it has answered."""
        if self._comfyui is None:
            self._comfyui = ComfyUI(self.url, clock=self.clock)
            self._comfyui.system_stats()
        return self._comfyui

    def touch(self) -> None:
        """Do nothing: it is not ours."""

    def still_there(self) -> None:
        """Do nothing: whether it comes back, only it knows."""

    def summary(self) -> list[str]:
        """Return nothing: no machine is paid for."""
        return []

    def cost(self) -> Decimal:
        """Return 0: what it costs is somebody else's business."""
        return Decimal(0)

    def close(self) -> None:
        """Close the connections."""
        if self._comfyui is not None:
            self._comfyui.close()


@attrs.define(eq=False)
class RunComfyPlace:
    """A machine on RunComfy: the dev server if it fits, else one of our own.

    Args:
        account: Gives the settings when they are needed.
        clock: The time.
        closing: What else to close in the end.
        is_real: Whether machines outlive this process: those of an emulator in it do not.
        may_launch: Whether to launch a machine when there is no dev server to use.
    """

    account: Callable[[], Settings] = attrs.field(repr=False)
    clock: Clock = SYSTEM_CLOCK
    closing: Callable[[], object] = attrs.field(default=lambda: None, repr=False)
    is_real: bool = True
    may_launch: bool = True
    machine: Machine | None = attrs.field(default=None, init=False)
    _api: ServerApi | None = attrs.field(default=None, init=False, repr=False)
    # All that were used: one that could not be stopped is tried again in the end.
    _machines: list[Machine] = attrs.field(factory=list[Machine], init=False, repr=False)

    def open(self, workflow: str | None, report: ProgressCallback) -> ComfyUI | None:
        """Borrow or launch the machine, unless that was done, and return its ComfyUI."""
        if self.machine is not None and self.machine.comfyui is not None:
            return self.machine.comfyui
        settings = self.account()
        api = self._connect(settings)
        version = settings.workflow_version_id
        if version is None:
            if workflow is None:
                return None
            version = find_version(api, workflow)
        prices = PriceList(plan=settings.plan, overrides=settings.prices)
        if (comfyui := self._borrow(settings, api, version, report, prices)) is not None:
            return comfyui
        return self._launch(settings, api, version, report, prices)

    def touch(self) -> None:
        """Renew the machine's lease when it is time."""
        if self.machine is not None:
            self.machine.touch()

    def still_there(self) -> None:
        """Raise `MachineError` when the machine has ended; the next run uses another."""
        if self.machine is None:
            return
        try:
            self.machine.still_there()
        except MachineError:
            self.machine.disconnect()
            self.machine.comfyui = None
            raise

    def summary(self) -> list[str]:
        """Return what was used of each machine and what that cost."""
        return [machine.summary for machine in self._machines if machine.server_id]

    def cost(self) -> Decimal | None:
        """Return what all its machines have cost."""
        total = Decimal(0)
        for machine in self._machines:
            if (cost := machine.cost()) is None:
                return None
            total += cost
        return total

    def close(self) -> None:
        """Stop every machine of our own that may still run, and leave what was borrowed."""
        with ExitStack() as stack:
            stack.callback(self.closing)
            if self._api is not None:
                stack.callback(self._api.close)
            for machine in self._machines:
                stack.callback(machine.release)

    def _connect(self, settings: Settings) -> ServerApi:
        if self._api is None:
            base_url, user, token = settings.api_base_url, settings.user_id, settings.api_token
            self._api = ServerApi(base_url, user, token, clock=self.clock)
        return self._api

    def _borrow(
        self,
        settings: Settings,
        api: ServerApi,
        version: str,
        report: ProgressCallback,
        prices: PriceList,
    ) -> ComfyUI | None:
        """Return the ComfyUI of the dev server, None when a machine is to be launched."""
        if not self.is_real:
            return None
        found = Borrowing(
            settings=settings,
            api=api,
            version=version,
            server_type=settings.asked_server_type,
            report=report,
            prices=prices,
        ).take()
        if isinstance(found, Refusal):
            self._refused(found)
            return None
        self._use(found)
        report(Progress(kind="machine", message=f"using the dev server {found.server_id}"))
        return found.comfyui

    def _refused(self, refusal: Refusal) -> None:
        if not self.may_launch:
            text = f"no machine to run on: {refusal.reason}. comfyloom dev up starts one"
            raise MachineError(text)
        if refusal.is_odd:
            log.warning("%s; launching another machine", refusal.reason)
        else:
            log.info("%s", refusal.reason)

    def _launch(
        self,
        settings: Settings,
        api: ServerApi,
        version: str,
        report: ProgressCallback,
        prices: PriceList,
    ) -> ComfyUI:
        register = Register.of(settings.api_base_url, settings.user_id) if self.is_real else None
        machine = OwnMachine(
            api,
            settings.server_type,
            prices=prices,
            longest_s=settings.max_duration_s,
            max_machines=settings.max_machines,
            register=register,
        )
        self._use(machine)
        report(Progress(kind="machine", message=f"launching a {machine.server_type} machine"))
        try:
            comfyui = machine.start(version, report)
        except BaseException:
            machine.stop()
            raise
        report(Progress(kind="machine", message="ready", elapsed_s=machine.started_in_s))
        return comfyui

    def _use(self, machine: Machine) -> None:
        self.machine = machine
        self._machines.append(machine)


@attrs.define(eq=False)
class _OwnEmulator:
    """An emulator that is started when it is needed, in this process."""

    options: Mapping[str, Any]
    server_type: str | None
    _emulator: Emulator | None = attrs.field(default=None, init=False, repr=False)

    def settings(self) -> Settings:
        """Start the emulator, unless that was done, and return the settings of its account."""
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
    clock: Clock = SYSTEM_CLOCK,
) -> Place:
    """Return the place that a target names; nothing is started yet.

    Args:
        target: `"runcomfy"` or None, `"emulator"`, an `http(s)://` URL, or an `Emulator`.
        settings: For `runcomfy`; by default gathered from the environment and credentials file.
        server_type: Another kind of machine than that of the settings.
        emulator_options: For `"emulator"`: how the emulator behaves.
        may_launch: Whether to launch a machine when there is no dev server to use.
        clock: The time.

    Raises:
        ConfigError: The target is none of these, or settings are missing.
    """
    if target is None or target == RUNCOMFY:
        account = _with_type(settings or Settings.load(server_type=server_type), server_type)
        return RunComfyPlace(lambda: account, clock, may_launch=may_launch)
    if target == EMULATOR:
        own = _OwnEmulator(emulator_options or {}, server_type)
        return RunComfyPlace(own.settings, clock, own.close, is_real=False)
    if isinstance(target, str):
        return PlainPlace(_checked_url(target), clock)
    given = _settings_of(target, server_type)
    return RunComfyPlace(lambda: given, clock, may_launch=may_launch)


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
        known = f"{RUNCOMFY}, {EMULATOR} or the http(s):// URL of a ComfyUI server"
        guess = f"http://{target}"
        hint = f"; did you mean {guess}?" if ":" in target and is_http_url(guess) else ""
        raise ConfigError(f"target {target!r} is none of {known}{hint}")
    keep_url_secret(target)
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
