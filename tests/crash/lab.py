"""A place to kill clients in: an emulator, a folder for each client, and checks of what is left."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, TypeAlias

import attrs

from comfyloom._machines.reaper import Reaper
from comfyloom._records.dev_state import DevState
from comfyloom._records.dev_state_file import StateFile
from comfyloom._records.ledger import Ledger
from comfyloom._records.machine_records import MachineRecords
from comfyloom._runcomfy.client import ServerApi
from comfyloom.emulator import Emulator, HttpFault
from comfyloom.errors import ComfyloomError
from comfyloom.settings import Settings
from shells import COMMAND, bare_environment
from support import HastyClock

Net: TypeAlias = Literal["guard", "reaper", "lease"]

CLIENT = Path(__file__).with_name("client.py")
NEVER = 10**9
SOON_S = 5.0
"""Seconds that a guard may take."""
LONGEST_S = 90.0
PAST_EVERY_LEASE_S = 20_000.0


@attrs.define
class Home:
    """The folders of one user, and what a client writes there."""

    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / ".local" / "state" / "comfyloom"

    @property
    def ledger(self) -> Path:
        return self.state / "ledger.db"

    def dev(self) -> DevState:
        return StateFile(self.folder / ".comfyloom" / "dev-server.json").read()


class Lab:
    """An emulator on which clients are killed; machines of another user run all the time.

    Args:
        folder: For the homes of the clients.
    """

    def __init__(self, folder: Path, emulator: Emulator) -> None:
        self.emulator = emulator
        self.folder = folder
        self._homes = 0
        self.foreign = [emulator.launch_foreign(kind, 10**9) for kind in ("medium", "large")]
        self.touched = 0
        self.mark = f"{os.getpid()}-{id(self)}"

    @classmethod
    @contextlib.contextmanager
    def opened(cls, folder: Path) -> Iterator[Lab]:
        with Emulator(time="manual", startup_s=0.0, run_s=0.0, rate_limit=None) as emulator:
            yield cls(folder, emulator)

    def home(self) -> Home:
        self._homes += 1
        home = Home(self.folder / str(self._homes))
        home.folder.mkdir(parents=True)
        return home

    # --- clients ---------------------------------------------------------------------------------

    def environment(self, home: Home, **more: str) -> dict[str, str]:
        log = {"CRASH_LOG": str(home.folder / "points"), "CRASH_OF": self.mark}
        return {**bare_environment(home.folder), **self.emulator.environment(), **log, **more}

    def begin(
        self, scenario: str, home: Home, point: int = NEVER, *, is_piped: bool = False, **more: str
    ) -> subprocess.Popen[bytes]:
        """Start a client; its stderr goes to a file, or to a pipe where no file may grow."""
        with (home.folder / "stderr").open("ab") as file:
            return subprocess.Popen(
                [sys.executable, str(CLIENT), scenario, str(point)],
                env=self.environment(home, **more),
                cwd=home.folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE if is_piped else file,
                start_new_session=True,
            )

    def client(self, scenario: str, home: Home, point: int = NEVER, **more: str) -> int:
        return self.begin(scenario, home, point, **more).wait(LONGEST_S)

    def command(self, home: Home, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            env=self.environment(home, **more),
            cwd=home.folder,
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )

    def points(self, scenario: str, net: Net) -> list[str]:
        """Return the names of all points that a client passes."""
        home = self.prepared(scenario)
        (home.folder / "points").unlink(missing_ok=True)
        code = self.client(scenario, home, NEVER, **_without(net))
        assert code == 0, (home.folder / "stderr").read_text()
        self.clear(home)
        return (home.folder / "points").read_text().splitlines()

    def prepared(self, scenario: str) -> Home:
        """Return a home in which the client can do its work."""
        home = self.home()
        if scenario == "dev down":
            assert self.client("dev up", home) == 0
        if scenario == "refused":
            # By a gateway that has passed it on.
            refusal = {"action": "misreport", "status": 503, "body": '{"message": "sold out"}'}
            launch = {"method": "POST", "path": "/servers$"}
            self.emulator.faults.add(HttpFault(**refusal, **launch))  # type: ignore[arg-type]
        return home

    # --- what is left ----------------------------------------------------------------------------

    def running(self) -> set[str]:
        """Return the running machines, except those of the other user."""
        found = self.emulator.state()["machines"]
        living = {each["server_id"] for each in found if not each["stopped_at"]}
        return living - set(self.foreign)

    def unowned(self, home: Home) -> set[str]:
        """Return the machines that run and that no state file of a dev server names."""
        left = self.running()
        if not left:
            return left
        state = home.dev()
        asked = {row.server_id for row in self.machines(home).list_unended() if row.stopping_at}
        return left - ({state.server_id} - asked)

    def settings(self, home: Home) -> Settings:
        given = Settings.of_environment(self.emulator.environment())
        file = home.folder / ".comfyloom" / "dev-server.json"
        return attrs.evolve(given, state_file=file, ledger=str(home.ledger))

    def machines(self, home: Home) -> MachineRecords:
        given = self.settings(home)
        ledger = Ledger.of(str(home.ledger))
        return MachineRecords(ledger=ledger, base_url=given.api_base_url, user_id=given.user_id)

    def soon(self, holds: Callable[[], bool], longest_s: float = SOON_S) -> bool:
        """Return whether a condition becomes true soon, and stays true."""
        end = time.monotonic() + longest_s
        while not holds() or not self._still(holds):
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def _still(self, holds: Callable[[], bool]) -> bool:
        # A launch sent at the last moment may still be in progress.
        time.sleep(0.1)
        return holds()

    def reap(self, home: Home) -> None:
        """Do what `comfyloom machines reap` does, without its waits."""
        given = self.settings(home)
        clock = HastyClock()
        api = ServerApi(given.api_base_url, given.user_id, given.api_token, clock=clock)
        reaper = Reaper(api=api, records=self.machines(home), folder=home.state / "guard")
        try:
            for orphan in reaper.orphans():
                reaper.reap(orphan)
        finally:
            api.close()

    def clear(self, home: Home) -> None:
        """End what a trial leaves: its guards, its machines, its folder. Count what was touched."""
        for pid in guards(self.mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for server_id in self.running():
            self.emulator.steal(server_id)
        self.emulator.faults.clear()
        self.check_foreign()

    def check_foreign(self) -> None:
        """Count the machines of the other user that were stopped, or given another lease."""
        found = {each["server_id"]: each for each in self.emulator.state()["machines"]}
        asked = [each["path"] for each in self.emulator.state()["requests"]]
        for name in self.foreign:
            changed = any(name in path for path in asked)
            self.touched += changed or bool(found[name]["stopped_at"])

    # --- trials ----------------------------------------------------------------------------------

    def trial(self, scenario: str, point: int, net: Net) -> bool:
        """Kill a client at a point; return whether the net left no machine of the client."""
        home = self.prepared(scenario)
        self.client(scenario, home, point, **_without(net))
        is_clean = self._caught(home, net)
        self.clear(home)
        shutil.rmtree(home.folder, ignore_errors=True)
        return is_clean

    def _caught(self, home: Home, net: Net) -> bool:
        if net == "reaper":
            time.sleep(0.1)
            self.reap(home)
        elif net == "lease":
            time.sleep(0.1)
            self.emulator.clock.advance(PAST_EVERY_LEASE_S)  # type: ignore[attr-defined]
            return not self.running()
        return self.soon(lambda: not self.unowned(home))


def _without(net: Net) -> dict[str, str]:
    # Of two types, the second is launched where the first is refused.
    types = {"RUNCOMFY_SERVER_TYPE": "medium,large"}
    return types if net == "guard" else {**types, "CRASH_NO_GUARD": "1"}


def guards(mark: str) -> Mapping[int, int]:
    """Return the guard processes of a lab's clients, and the pid of the owner of each."""
    found: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if any(word.endswith(b"_guard/child.py") for word in words):
                home = (folder / "environ").read_bytes()
                if f"CRASH_OF={mark}".encode() in home:
                    found[int(folder.name)] = int(words[-2])
    return found


def tried(action: Callable[[], object]) -> ComfyloomError | None:
    """Return the error that an action ends with, None if it ends well."""
    try:
        action()
    except ComfyloomError as error:
        return error
    return None
