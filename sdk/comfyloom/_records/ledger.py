"""The ledger's database: SQLite in the user's state folder, or PostgreSQL."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
from sqlalchemy import create_engine, event, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from comfyloom._core.redact import redact
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._records.schema import METADATA, MIGRATIONS, SCHEMA, VERSION
from comfyloom.errors import ConfigError, LedgerError, LedgerTooNew
from comfyloom.settings.declaration import expanded

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_POSTGRES: Final = "postgresql+psycopg"


@attrs.define(eq=False)
class Ledger:
    """The machines known to all processes that use the same file or database.

    Each statement is its own transaction; none is open during a request to the platform. The
    database is opened when first used.

    Args:
        timeouts: How long other processes may write to it, or hold a lock.
        version: The version of the tables that this code knows.
        migrations: The statements that migrate from a version to the next.
    """

    url: URL = attrs.field(repr=False)
    timeouts: Timeouts = DEFAULT_TIMEOUTS
    version: int = VERSION
    migrations: Mapping[int, Sequence[str]] = MIGRATIONS
    _engine: Engine | None = attrs.field(default=None, init=False, repr=False)

    @classmethod
    def of(cls, where: str, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> Ledger:
        """Return the ledger in a file or at a `postgresql://` URL.

        Raises:
            ConfigError: It is neither.
        """
        try:
            if "://" not in where:
                path = str(expanded(where).absolute())
                return cls(URL.create("sqlite", database=path), timeouts)
            url = make_url(where)
        except (ArgumentError, ValueError, RuntimeError):
            url = URL.create("none")
        if url.drivername not in ("postgresql", _POSTGRES):
            raise ConfigError("ledger must be the path of a file or a postgresql:// URL")
        return cls(url.set(drivername=_POSTGRES), timeouts)

    @property
    def secrets(self) -> list[str]:
        """The passwords in the URL."""
        named = [self.url.query.get(name) for name in ("password", "sslpassword")]
        return [str(each) for each in (self.url.password, *named) if each]

    @property
    def path(self) -> Path | None:
        """The file, None for a server."""
        is_file = self.url.get_backend_name() == "sqlite"
        return Path(self.url.database or "") if is_file else None

    @contextmanager
    def connected(self) -> Generator[Connection]:
        """Yield a connection that commits each statement.

        Raises:
            LedgerError: The database cannot be used; the message says why.
        """
        try:
            with self._opened().connect() as connection:
                yield connection
        except (SQLAlchemyError, OSError) as error:
            raise self._failure(error) from None

    @contextmanager
    def exclusive(self, name: str) -> Generator[None]:
        """Lock out blocks of the same name, also in other processes.

        Raises:
            LedgerError: The lock is held for too long, or the database cannot be used.
        """
        path = self.path
        with self._with_file_lock(path, name) if path is not None else self._with_advisory(name):
            yield

    @contextmanager
    def _with_file_lock(self, path: Path, name: str) -> Generator[None]:
        from filelock import FileLock, Timeout

        lock = FileLock(f"{path}.{_digest(name):016x}.lock", thread_local=False)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock.acquire(timeout=self.timeouts.lock_s)
        except Timeout:
            raise self._error("another process keeps it locked") from None
        except OSError as error:
            raise self._failure(error) from None
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _with_advisory(self, name: str) -> Generator[None]:
        with self.connected() as connection:
            connection.execute(text(f"SET lock_timeout = '{self.timeouts.lock_s:.0f}s'"))
            connection.execute(text("SET statement_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _digest(name)})
            yield  # the lock ends with the connection

    def _opened(self) -> Engine:
        if self._engine is None:
            engine = self._make_engine()
            self._prepare(engine)
            self._engine = engine
        return self._engine

    def _make_engine(self) -> Engine:
        path = self.path
        if path is None:
            options: dict[str, Any] = {
                "connect_timeout": math.ceil(self.timeouts.ledger_busy_s) or 1  # 0: for ever
            }
        else:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))  # only for this user
            options = {"timeout": self.timeouts.ledger_busy_s}
        try:
            # No pool: a connection must neither outlive a fork nor be shared by threads.
            engine = create_engine(
                self.url, connect_args=options, poolclass=NullPool, isolation_level="AUTOCOMMIT"
            )
        except (NoSuchModuleError, ModuleNotFoundError):
            text = "a ledger in PostgreSQL needs psycopg: pip install 'comfyloom[postgres]'"
            raise ConfigError(text) from None
        hasty = partial(_make_hasty, self.timeouts.ledger_busy_s)
        event.listen(engine, "connect", hasty if path is None else _make_durable)
        return engine

    def _prepare(self, engine: Engine) -> None:
        """Create or migrate the tables, one process at a time."""
        with engine.connect() as connection:
            if self._found(connection) == self.version:
                return
        with self._exclusive_transaction(engine) as connection:
            found = self._found(connection)
            if found is None:
                METADATA.create_all(connection)
                connection.execute(SCHEMA.insert().values(version=self.version))
                return
            for step in range(found, self.version):
                for statement in self.migrations[step]:
                    connection.execute(text(statement))
                connection.execute(SCHEMA.update().values(version=step + 1))

    @contextmanager
    def _exclusive_transaction(self, engine: Engine) -> Generator[Connection]:
        """Yield an exclusive transaction: no half of a migration must remain."""
        with engine.connect() as connection:
            # Explicitly: the driver's own transaction would start after the first DDL statement.
            if self.path is None:
                connection.exec_driver_sql("BEGIN")
                key = {"key": _digest("schema")}
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), key)
            else:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise
            connection.exec_driver_sql("COMMIT")

    def _found(self, connection: Connection) -> int | None:
        """Return the version of the tables, None if there are none; a newer one is an error."""
        if not inspect(connection).has_table(SCHEMA.name):
            return None
        found = connection.execute(select(SCHEMA.c.version)).scalar()
        if found is not None and found > self.version:
            raise LedgerTooNew(
                f"{self._name} was made by a newer comfyloom (table version {found}, this one "
                f"knows {self.version}): upgrade, or set COMFYLOOM_LEDGER to another file",
                path=str(self.path or ""),
            )
        return found

    @property
    def _name(self) -> str:
        return f"the ledger {self.path or self.url.set(query={}).render_as_string()}"

    def _failure(self, error: Exception) -> LedgerError:
        if isinstance(error, OSError):
            return self._error(error.strerror or str(error))
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        if "locked" in reason:
            reason = (
                f"another process keeps it locked for more than {self.timeouts.ledger_busy_s:g} s"
            )
        elif "not a database" in reason or "malformed" in reason:
            reason = f"it is damaged ({reason}); move it away, and see comfyloom machines list"
        return self._error(redact(reason))

    def _error(self, reason: str) -> LedgerError:
        return LedgerError(f"{self._name} cannot be used: {reason}", path=str(self.path or ""))


def _make_durable(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    # Must survive a power failure: it may be the only record of a machine.
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _make_hasty(busy_s: float, connection: Any, _: object) -> None:
    connection.autocommit = True  # else the settings would be rolled back
    cursor = connection.cursor()
    # A table locked by another process must not delay a stop.
    for name in ("lock_timeout", "statement_timeout"):
        cursor.execute(f"SET {name} = '{max(1, round(1000 * busy_s))}ms'")  # 0: for ever
    cursor.close()


@functools.cache
def _digest(name: str) -> int:
    """Return the number of a PostgreSQL advisory lock; never negative."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) >> 1
