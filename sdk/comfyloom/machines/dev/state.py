"""What is remembered of the dev server, in a file that outlives every process.

The field names down to `health_status` are those that launchers of the field already read.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from comfyloom._json import is_mapping, mapping
from comfyloom._redact import keep_url_secret
from comfyloom.errors import LedgerError, MachineBusy
from comfyloom.money import PriceList
from comfyloom.runcomfy import Server
from comfyloom.settings import Settings

if TYPE_CHECKING:
    from cattrs import Converter

LAUNCHING: Final = "Launching"
STOPPED: Final = "Stopped"
LOCK_S: Final = 180.0
"""How long another process may hold the file: a launch whose answer is lost takes two minutes."""


@attrs.frozen(kw_only=True)
class DevState:
    """The dev server, as it was last seen.

    Attributes:
        server_id: The machine, "" while there is none.
        base_url: Where its ComfyUI answers, "" until that is known. A secret.
        status: The platform's last word, `Launching` before it has given one, `Stopped` without a
            machine.
        launch_time: When it was launched, seconds since the epoch; 0 if never.
        workflow_version: The version id that it was launched with.
        total_cost: What all dev servers before this one have cost, in USD, and this one so far.
        session_cost: What this one has cost so far, in USD; None if its price is not known.
        user_id: The account.
        server_type: The kind of machine.
        last_health_check: When it was last looked at, seconds since the epoch; 0 if never.
        health_status: `healthy`, `starting`, `unreachable` (its ComfyUI), `unknown` (the platform
            does not tell) or `stopped`.
        api_base_url: The account's platform.
        ready_time: When it became ready and its billing began; 0 before.
        stopping_time: When it ends by itself; 0 if not known.
        launched_for: The distinctive duration of its launch, in seconds.
        known_servers: The machines that were there before the launch, None if not known.
        idle_timeout: Seconds without use after which it ends.
        max_duration: Seconds that it may run at all.
        earlier_cost: The part of `total_cost` of the dev servers before this one.
        unpriced_s: Seconds of earlier dev servers whose price was not known.
    """

    server_id: str = ""
    base_url: str = attrs.field(default="", repr=False)
    status: str = STOPPED
    launch_time: float = 0.0
    workflow_version: str = ""
    total_cost: Decimal = Decimal(0)
    session_cost: Decimal | None = Decimal(0)
    user_id: str = ""
    server_type: str = ""
    last_health_check: float = 0.0
    health_status: str = "stopped"
    api_base_url: str = ""
    ready_time: float = 0.0
    stopping_time: float = 0.0
    launched_for: int = 0
    known_servers: tuple[str, ...] | None = None
    idle_timeout: float = 0.0
    max_duration: float = 0.0
    earlier_cost: Decimal = Decimal(0)
    unpriced_s: float = 0.0

    @property
    def is_there(self) -> bool:
        """Whether there is, or may be, a machine that costs money."""
        return bool(self.server_id) or self.is_open

    @property
    def is_open(self) -> bool:
        """Whether a launch was begun whose machine is not known."""
        return not self.server_id and self.status == LAUNCHING

    def is_of(self, settings: Settings) -> bool:
        """Whether it belongs to the account of these settings."""
        base = self.api_base_url or settings.api_base_url
        return (base.rstrip("/"), self.user_id) == (
            settings.api_base_url.rstrip("/"),
            settings.user_id,
        )

    def seen(self, server: Server, now: float, prices: PriceList) -> DevState:
        """Return the state with what the platform tells of the machine."""
        ready, ends = server.service_ready_at, server.estimated_stopping_at
        state = attrs.evolve(
            self,
            server_id=server.server_id,
            base_url=server.main_service_url or self.base_url,
            status=server.current_status or self.status,
            ready_time=ready.timestamp() if ready else self.ready_time,
            stopping_time=ends.timestamp() if ends else self.stopping_time,
        )
        return state.billed(now, prices)

    def billed(self, now: float, prices: PriceList) -> DevState:
        """Return the state with what the machine has cost by now."""
        cost = prices.cost(self.server_type, self.billed_s(now))
        total = self.earlier_cost + (cost or 0)
        return attrs.evolve(self, session_cost=cost, total_cost=total)

    def billed_s(self, now: float) -> float:
        """Return the seconds that the machine was paid for by now."""
        if not self.ready_time:
            return 0.0
        return max(0.0, min(now, self.stopping_time or now) - self.ready_time)

    def ended(self, now: float, prices: PriceList) -> DevState:
        """Return the state after the machine's end."""
        last = self.billed(now, prices)
        unpriced = self.billed_s(now) if last.session_cost is None else 0.0
        return DevState(
            total_cost=last.total_cost,
            session_cost=last.session_cost,
            earlier_cost=last.total_cost,
            user_id=self.user_id,
            server_type=self.server_type,
            workflow_version=self.workflow_version,
            launch_time=self.launch_time,
            api_base_url=self.api_base_url,
            idle_timeout=self.idle_timeout,
            max_duration=self.max_duration,
            last_health_check=now,
            unpriced_s=self.unpriced_s + unpriced,
        )


@attrs.frozen
class StateFile:
    """The file, read without and changed with a lock."""

    path: Path

    def read(self) -> DevState:
        """Return what is remembered, an empty state without a file.

        Raises:
            LedgerError: The file cannot be read, or is none of ours.
        """
        try:
            raw: object = json.loads(self.path.read_text("utf-8"))
        except FileNotFoundError:
            return DevState()
        except OSError as error:
            raise self._unreadable(error.strerror or str(error)) from None
        except ValueError:
            raise self._unreadable("it is no JSON") from None
        if not is_mapping(raw):
            raise self._unreadable("it is no JSON object")
        try:
            state = _decode(mapping(raw))
        except ValueError as error:
            raise self._unreadable(str(error)) from None
        if state.base_url:
            keep_url_secret(state.base_url)
        return state

    def write(self, state: DevState) -> None:
        """Write the file, readable for this user alone, all at once.

        Raises:
            LedgerError: It cannot be written.
        """
        try:
            self._make_folder()
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(json.dumps(_encode(state), indent=2) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                Path(name).replace(self.path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            text = f"cannot write {self.path}: {error.strerror or error}"
            raise LedgerError(text, path=str(self.path)) from None

    def change(self, how: Callable[[DevState], DevState]) -> DevState:
        """Change what is remembered, under the lock, and return it."""
        with self.locked():
            before = self.read()
            after = how(before)
            if after != before:
                self.write(after)
            return after

    @contextmanager
    def locked(
        self, waiting: Callable[[], object] = lambda: None, *, longest_s: float = LOCK_S
    ) -> Generator[None]:
        """Keep all others from changing the file while the block lasts.

        Args:
            waiting: Called when somebody else has it.
            longest_s: Seconds to wait for them.

        Raises:
            MachineBusy: Somebody else keeps it for longer.
            LedgerError: The folder cannot be written.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(f"{self.path}.lock", thread_local=False)
        try:
            self._make_folder()
            try:
                lock.acquire(timeout=0.2)
            except Timeout:
                waiting()
                lock.acquire(timeout=longest_s)
        except Timeout:
            raise MachineBusy(f"another process keeps {self.path} locked") from None
        except OSError as error:
            text = f"cannot write {self.path.parent}: {error.strerror or error}"
            raise LedgerError(text, path=str(self.path)) from None
        try:
            yield
        finally:
            lock.release()

    def _make_folder(self) -> None:
        folder = self.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        if folder.name == ".comfyloom":  # it holds the machine's URL, which is a secret
            with contextlib.suppress(FileExistsError), (folder / ".gitignore").open("x") as file:
                file.write("*\n")

    def _unreadable(self, reason: str) -> LedgerError:
        return LedgerError(
            f"{self.path} cannot be read: {reason}. A machine that it names may still run: see "
            "comfyloom machines list, then delete the file",
            path=str(self.path),
        )


_TIMES: Final = ("launch_time", "last_health_check", "ready_time", "stopping_time")
_MONEY: Final = ("total_cost", "session_cost", "earlier_cost")


def _encode(state: DevState) -> dict[str, Any]:
    """Return the state as other programs read it: ISO times, numbers, null for nothing."""
    raw = attrs.asdict(state)
    for name in _TIMES:
        raw[name] = datetime.fromtimestamp(raw[name], UTC).isoformat() if raw[name] else None
    for name in _MONEY:
        raw[name] = None if raw[name] is None else float(raw[name])
    return {name: None if value == "" else value for name, value in raw.items()}


def _decode(raw: Mapping[str, Any]) -> DevState:
    """Return the state that a file describes; what it leaves out is as in a new one.

    Raises:
        ValueError: A field is not what it should be.
    """
    from cattrs import BaseValidationError, transform_error

    given = {name: raw[name] for name in attrs.fields_dict(DevState) if raw.get(name) is not None}
    given |= {name: _time(given[name]) for name in _TIMES if name in given}
    if "session_cost" in raw:
        given["session_cost"] = raw["session_cost"]
    try:
        return _converter().structure(given, DevState)
    except BaseValidationError as error:
        lines = "; ".join(transform_error(error))
    raise ValueError(lines)


@functools.cache
def _converter() -> Converter:
    from cattrs import Converter

    converter = Converter()
    converter.register_structure_hook(Decimal, lambda raw, _: Decimal(str(raw)))
    converter.register_structure_hook(str, _text)
    return converter


def _text(raw: object, _: type) -> str:
    if not isinstance(raw, str):
        raise TypeError("a text is expected")
    return raw


def _time(value: object) -> float:
    """Return a time: ISO 8601, or seconds since the epoch as some launchers write them."""
    if isinstance(value, int | float):
        return float(value)
    time = datetime.fromisoformat(str(value))
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
