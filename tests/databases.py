"""A PostgreSQL server that is started for the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support import free_port

START_S = 60.0
WORD = "a-pass-word"


def program(name: str) -> str:
    """Return the path of a PostgreSQL program, also from the folder where Debian keeps it."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which(name) or next(
        (str(p / name) for p in folders if (p / name).exists()), None
    )
    if found is None and os.environ.get("CI"):
        raise FileNotFoundError(f"{name} of PostgreSQL")  # in CI no test may be skipped
    if found is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    return found


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run a server on the loopback interface and give its URL."""
    with tempfile.TemporaryDirectory(prefix="comfyloom-pg-") as name:
        folder = Path(name)
        user = _user(folder)
        password = folder / "password"
        password.write_text(WORD)
        password.chmod(0o644)
        data, port = folder / "data", free_port()
        options = ["-U", "tester", "-A", "scram-sha-256", f"--pwfile={password}", "--no-sync"]
        subprocess.run(
            [program("initdb"), "-D", str(data), *options], check=True, capture_output=True, **user
        )
        server = subprocess.Popen(
            [program("postgres"), "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", folder],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **user,
        )
        try:
            url = f"postgresql://tester:{WORD}@127.0.0.1:{port}/postgres"
            _await(url)
            yield url
        finally:
            server.send_signal(signal.SIGINT)  # immediately, even with clients connected
            server.wait(30)


def _user(folder: Path) -> dict[str, Any]:
    """Return the user to run as: the server refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam("postgres")
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    # It could not read a working folder in root's home.
    return {"user": entry.pw_uid, "group": entry.pw_gid, "cwd": "/"}


def _await(url: str) -> None:
    import psycopg

    end = time.monotonic() + START_S
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return
