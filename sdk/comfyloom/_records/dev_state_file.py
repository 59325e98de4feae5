"""The state file of the dev server: private, replaced atomically, changed under a lock."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from comfyloom._core.atomic_write import PRIVATE, write_atomically
from comfyloom._core.json import is_mapping, mapping
from comfyloom._core.redact import log, register_url_secret
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._records.dev_state import DevState
from comfyloom.errors import LedgerError, MachineBusy

if TYPE_CHECKING:
    from cattrs import Converter


@attrs.frozen
class StateFile:
    """The file, read without and changed with a lock."""

    path: Path
    timeouts: Timeouts = DEFAULT_TIMEOUTS

    def read(self) -> DevState:
        """Return the state, an empty one without a file.

        Raises:
            LedgerError: The file cannot be read, or is not a state file.
        """
        try:
            raw: object = json.loads(self.path.read_text("utf-8"))
        except FileNotFoundError:
            return DevState()
        except OSError as error:
            raise self._unreadable(error.strerror or str(error)) from None
        except (ValueError, RecursionError):
            raise self._unreadable("it is not JSON") from None
        if not is_mapping(raw):
            raise self._unreadable("it is not a JSON object")
        try:
            state = _decode(mapping(raw))
        except ValueError as error:
            raise self._unreadable(str(error)) from None
        if state.base_url:
            register_url_secret(state.base_url)
        return state

    def write(self, state: DevState) -> None:
        """Replace the file atomically, readable only for this user.

        Raises:
            LedgerError: It cannot be written.
        """
        try:
            self._make_folder()
            text = json.dumps(_encode(state), indent=2) + "\n"
            write_atomically(self.path, text.encode(), mode=PRIVATE, durable=True)
        except OSError as error:
            text = f"cannot write {self.path}: {error.strerror or error}"
            raise LedgerError(text, path=str(self.path)) from None

    def change(self, how: Callable[[DevState], DevState]) -> DevState:
        """Change the state under the lock, and return it."""
        with self.locked():
            before = self.read()
            after = how(before)
            if after != before:
                self.write(after)
            return after

    @contextmanager
    def locked(
        self,
        waiting: Callable[[], object] = lambda: None,
        *,
        longest_s: float | None = None,
        required: bool = True,
    ) -> Generator[None]:
        """Hold the lock of the file inside the block.

        Args:
            waiting: Called when another process holds it.
            longest_s: Seconds to wait for it; by default `Timeouts.lock_s`.
            required: Whether to fail if the folder cannot be written; else that is only logged.

        Raises:
            MachineBusy: Another process holds it for longer.
            LedgerError: The folder cannot be written.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(f"{self.path}.lock", thread_local=False)
        try:
            self._make_folder()
            try:
                lock.acquire(timeout=self.timeouts.lock_notice_s)
            except Timeout:
                waiting()
                lock.acquire(timeout=self.timeouts.lock_s if longest_s is None else longest_s)
        except Timeout:
            raise MachineBusy(f"another process keeps {self.path} locked") from None
        except OSError as error:
            text = f"cannot write {self.path.parent}: {error.strerror or error}"
            if required:
                raise LedgerError(text, path=str(self.path)) from None
            log.warning("%s", text)
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
            f"{self.path} cannot be read: {reason}. A machine that it names may still be running: "
            "see comfyloom machines list, then delete the file",
            path=str(self.path),
        )


_TIMES: Final = ("launch_time", "last_health_check", "ready_time", "stopping_time")
# Times in seconds since the epoch are below, times in milliseconds above.
_MILLISECONDS: Final = 100_000_000_000
_SECONDS: Final = ("launched_for", "idle_timeout", "max_duration", "unpriced_s")
_MONEY: Final = ("total_cost", "session_cost", "earlier_cost")


def _encode(state: DevState) -> dict[str, Any]:
    """Return the state in the file's format: ISO times, numbers, null for no value."""
    raw = attrs.asdict(state)
    for name in _TIMES:
        raw[name] = datetime.fromtimestamp(raw[name], UTC).isoformat() if raw[name] else None
    for name in _MONEY:
        raw[name] = None if raw[name] is None else float(raw[name])
    return {name: None if value == "" else value for name, value in raw.items()}


def _decode(raw: Mapping[str, Any]) -> DevState:
    """Return the state in a file, with defaults; raise `ValueError` for an invalid field."""
    from cattrs import BaseValidationError, transform_error

    given = {name: raw[name] for name in attrs.fields_dict(DevState) if raw.get(name) is not None}
    given |= {name: _time(given[name]) for name in _TIMES if name in given}
    for name in _SECONDS:
        if name in given and not 0 <= float(given[name]) < _MILLISECONDS:
            raise ValueError(f"{name} is not a duration in seconds")
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
    converter.register_structure_hook(Decimal, _amount)
    converter.register_structure_hook(str, _text)
    return converter


def _amount(raw: object, _: type) -> Decimal:
    amount = Decimal(str(raw))
    if not amount.is_finite():  # would spread to every later sum
        raise ValueError("expected an amount")
    return amount


def _text(raw: object, _: type) -> str:
    if not isinstance(raw, str):
        raise TypeError("expected a string")
    return raw


def _time(value: object) -> float:
    """Return a time: ISO 8601, or seconds since the epoch as some launchers write them."""
    if isinstance(value, int | float):
        seconds = float(value) / (1000 if value > _MILLISECONDS else 1)
        if not 0 <= seconds < _MILLISECONDS:
            raise ValueError(f"{value} is not a time")
        return seconds
    time = datetime.fromisoformat(str(value))
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
