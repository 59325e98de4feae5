"""Forked children never use what belongs to their parent: connections, sockets, threads, runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfyloom.emulator import Emulator
from shells import bare_environment
from support import assert_nothing_runs, running

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

PRELUDE = """
import hashlib, os, sys, threading
from comfyloom import RunComfySession
from comfyloom.errors import ConfigError
from comfyloom_workflows import FluxImageWorkflow

def workflow(number):
    return FluxImageWorkflow(prompt=f"picture {number}", seed=number, width=64, height=64)

def digest(result):
    return hashlib.sha256(result.image.path.read_bytes()).hexdigest()[:16]

def forked(work):
    "Do some work in a child; return what it wrote."
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.write(writing, work().encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    return pid, reading

def collected(pid, reading):
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    assert os.waitpid(pid, 0)[1] == 0
    return text
"""


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(time="real", startup_s=0.0, run_s=0.4, rate_limit=None) as made:
        yield made


def run_code(code: str, emulator: Emulator, folder: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PRELUDE + code],
        env=bare_environment(folder) | emulator.environment() | {"URL": emulator.comfyui_url},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.split()


def test_each_child_gets_the_pictures_of_its_own_runs(emulator: Emulator, tmp_path: Path) -> None:
    """While the parent's runs go on, with a session that was open before the fork."""
    code = """
with RunComfySession(os.environ["URL"]) as session:
    session.run(workflow(0))
    under_way = [session.submit(workflow(number)) for number in range(1, 4)]
    children = [
        forked(lambda: " ".join(digest(session.run(workflow(10 * c + n))) for n in range(4)))
        for c in range(1, 5)
    ]
    mine = [digest(run.wait()) for run in under_way]
    print(*mine, *(collected(*child) for child in children))
with RunComfySession(os.environ["URL"]) as session:
    print(*(digest(session.run(workflow(number))) for number in range(1, 4)))
    for c in range(1, 5):
        print(*(digest(session.run(workflow(10 * c + n))) for n in range(4)))
"""
    printed = run_code(code, emulator, tmp_path)
    assert len(printed) == 2 * 19
    assert printed[:19] == printed[19:]
    assert_nothing_runs(emulator)


def test_a_child_may_fork_while_a_lock_is_held(emulator: Emulator, tmp_path: Path) -> None:
    code = """
def hold(lock, held, release):
    with lock:
        held.set()
        release.wait()

with RunComfySession(os.environ["URL"]) as session:
    server = session.server()
    release = threading.Event()
    for lock in (
        session._backend._starts._lock, session._starter._lock,
        session._lifetime._states._lock, server._http._lock,
        server.event_router._lock, server.event_router._opening, server.queue_poll._lock,
        server.uploads._lock,
    ):
        held = threading.Event()
        threading.Thread(target=hold, args=(lock, held, release), daemon=True).start()
        held.wait()
    child = forked(lambda: digest(session.run(workflow(7))))
    print(collected(*child))
    release.set()
    print(digest(session.run(workflow(7))))
"""
    first, second = run_code(code, emulator, tmp_path)
    assert first == second


def test_a_client_of_the_parent_opens_connections_of_its_own(
    emulator: Emulator, tmp_path: Path
) -> None:
    code = """
with RunComfySession(os.environ["URL"]) as session:
    session.run(workflow(0))
    server = session.server()
    before = server.event_router.client_id
    assert server._http._session is not None

    def work():
        is_new = server._http._session is None, server.event_router.client_id != before
        version = server.system_stats()["system"]["comfyui_version"]
        return f"{is_new} {version}"

    print(collected(*forked(work)))
    print(server.event_router.client_id == before, server._http._session is not None)
"""
    printed = " ".join(run_code(code, emulator, tmp_path))
    assert printed == "(True, True) 0.3.64 True True"


def test_no_thread_of_a_first_run_imports_anything(emulator: Emulator, tmp_path: Path) -> None:
    """A child that is forked meanwhile would wait for that import for ever."""
    code = """
class Recorder:
    def find_spec(self, name, path=None, target=None):
        if threading.current_thread() is not threading.main_thread():
            print(name)

sys.meta_path.insert(0, Recorder())
with RunComfySession(os.environ["URL"]) as session:
    session.run(workflow(1))
"""
    assert run_code(code, emulator, tmp_path) == []


def test_a_fork_waits_for_an_import(emulator: Emulator, tmp_path: Path) -> None:
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(0.5)\n")
    code = """
sys.path.insert(0, os.getcwd())
from comfyloom._core.forks import importing

def load():
    with importing():
        begun.set()
        import slow_to_import

begun = threading.Event()
thread = threading.Thread(target=load)
thread.start()
begun.wait()

def work():
    with importing():
        import slow_to_import
    return "imported"

print(collected(*forked(work)))
thread.join()
"""
    assert run_code(code, emulator, tmp_path) == ["imported"]


@pytest.mark.parametrize("how", ["raise SystemExit(3)", "raise ValueError", "break"])
def test_a_child_that_leaves_a_loop_cancels_no_run_of_its_parent(
    how: str, emulator: Emulator, tmp_path: Path
) -> None:
    code = f"""
with RunComfySession(os.environ["URL"]) as session:
    children = []
    for result in session.map(map(workflow, range(3)), concurrency=3):
        if not children:
            children.append(os.fork())
            if not children[0]:
                sys.stderr = open(os.devnull, "w")
                {how}
        print(digest(result))
    if not children[0]:
        os._exit(0)
    os.waitpid(children[0], 0)
"""
    assert len(run_code(code, emulator, tmp_path)) == 3
    assert [each["status"] for each in emulator.state()["prompts"]] == ["success"] * 3


def test_a_child_that_exits_in_a_callback_exits(emulator: Emulator, tmp_path: Path) -> None:
    code = """
children = []

def report(progress):
    if not children:
        children.append(os.fork())
        if not children[0]:
            raise SystemExit(3)

with RunComfySession(os.environ["URL"]) as session:
    result = session.run(workflow(1), on_progress=report)
    print(digest(result), os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]))
"""
    assert run_code(code, emulator, tmp_path)[1:] == ["3"]


def test_a_session_made_before_the_fork_and_used_after_it_only(
    emulator: Emulator, tmp_path: Path
) -> None:
    """As a web server does that loads its program before it forks its workers."""
    code = """
session = RunComfySession()

def work():
    with session:
        return digest(session.run(workflow(5)))

print(collected(*forked(work)), collected(*forked(work)))
"""
    first, second = run_code(code, emulator, tmp_path)
    assert first == second
    assert running(emulator) == []  # each child has stopped its own


def test_the_machine_of_a_parent_is_refused(emulator: Emulator, tmp_path: Path) -> None:
    code = """
def work():
    said = []
    for use in (
        lambda: session.run(workflow(1)), lambda: session.submit(workflow(1)), session.server,
        session.start, run.wait, run.cancel, lambda: list(run.events()),
    ):
        try:
            use()
        except ConfigError as error:
            said.append("forked" in str(error))
    session.close()
    return str(len(said) if all(said) else said)

with RunComfySession() as session:
    run = session.submit(workflow(1))
    print(collected(*forked(work)))
    print(digest(run.wait()), digest(session.run(workflow(1))))
"""
    refused, first, second = run_code(code, emulator, tmp_path)
    assert refused == "7"
    assert first == second
    assert_nothing_runs(emulator)


def test_an_emulator_stays_with_its_process(tmp_path: Path) -> None:
    code = """
from comfyloom.emulator import Emulator
with Emulator() as emulator:
    url = emulator.comfyui_url
    with RunComfySession(url) as session:
        before = digest(session.run(workflow(1)))

        def work():
            try:
                emulator.state()
            except RuntimeError as error:
                emulator.close()
                return digest(session.run(workflow(1)))

        print(before, collected(*forked(work)), flush=True)
        child = os.fork()
        if not child:
            sys.exit()
        os.waitpid(child, 0)
        print(digest(session.run(workflow(2))) != before)
"""
    with Emulator() as other:
        first, second, last = run_code(code, other, tmp_path)
    assert first == second
    assert last == "True"
