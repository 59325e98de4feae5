"""When a machine counts as gone."""

from __future__ import annotations

import attrs
import pytest

from comfyloom._core.timeouts import Timeouts
from comfyloom._machines.life import Life, Verdict, Word
from support import FakeClock


@attrs.define
class World:
    """What the platform says, and whether a prompt runs."""

    clock: FakeClock
    says: Word = Word.RUNS
    is_busy: bool = False
    asked: list[float] = attrs.field(factory=list)
    life: Life = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.life = Life(self.clock, Timeouts(), self.ask, lambda: self.is_busy)

    def ask(self) -> Word:
        self.asked.append(self.clock.now)
        return self.says

    def fail(self, path: str = "/prompt", status: int = 0, lasting_s: float = 0.0) -> bool:
        since = self.clock.monotonic()
        self.clock.now += lasting_s
        return self.life.is_gone(path, status, since)


@pytest.fixture
def world(clock: FakeClock) -> World:
    return World(clock)


def test_the_platform_is_asked_at_the_first_sign_of_trouble(world: World) -> None:
    world.says = Word.ENDED
    assert world.life.is_fresh
    assert world.fail()
    assert world.life.verdict is Verdict.ENDED
    assert not world.life.is_fresh
    assert world.fail()
    assert len(world.asked) == 1  # it stays gone


def test_it_is_not_asked_at_every_failure(world: World) -> None:
    for _ in range(8):
        assert not world.fail(lasting_s=1.0)
    assert len(world.asked) == 2


@pytest.mark.parametrize("status", [0, 502])
def test_silence_is_the_end_after_a_while(world: World, status: int) -> None:
    assert [world.fail(status=status, lasting_s=4.0) for _ in range(4)] == [False] * 3 + [True]
    assert world.life.verdict is Verdict.SILENT


def test_only_one_that_the_platform_calls_running_can_be_silent(world: World) -> None:
    world.says = Word.NOTHING
    assert not world.fail(lasting_s=100.0)
    world.says = Word.RUNS
    assert world.fail(lasting_s=6.0)


def test_what_the_platform_said_counts_until_the_next_sign_of_life(world: World) -> None:
    world.fail()
    world.says = Word.NOTHING
    world.life.heard()
    assert not world.fail(lasting_s=100.0)
    world.says = Word.RUNS
    world.fail(lasting_s=10.0)
    world.says = Word.NOTHING
    assert world.life.verdict is Verdict.SILENT


def test_patience_is_short_unless_a_prompt_runs(world: World) -> None:
    assert world.life.patience_s("/upload/image") == 15.0
    assert world.life.patience_s("/object_info") == float("inf")
    world.is_busy = True
    assert world.life.patience_s("/upload/image") == float("inf")


def test_one_long_silence_is_enough(world: World) -> None:
    assert world.fail(lasting_s=16.0)


def test_an_answer_ends_the_silence(world: World) -> None:
    for _ in range(10):
        assert not world.fail(lasting_s=10.0)
        world.life.heard()
    assert world.life.verdict is Verdict.ALIVE


def test_a_busy_machine_is_never_given_up_for_its_silence(world: World) -> None:
    world.is_busy = True
    assert not world.fail(lasting_s=100.0)
    world.says = Word.ENDED
    world.clock.now += 10.0
    assert world.fail()


def test_a_404_of_a_route_that_some_servers_lack_is_an_answer(world: World) -> None:
    world.says = Word.ENDED
    assert not world.fail("/features", 404)
    assert not world.fail("/api/jobs/x", 404)
    assert not world.asked
    assert world.fail("/upload/image", 404)


def test_such_an_answer_ends_a_silence(world: World) -> None:
    for _ in range(4):
        assert not world.fail(lasting_s=10.0)
        assert not world.fail("/features", 404)
    assert world.life.verdict is Verdict.ALIVE


def test_a_sign_of_life_grows_old(world: World) -> None:
    world.clock.now += 29.0
    assert world.life.is_fresh
    world.clock.now += 2.0
    assert not world.life.is_fresh


def test_an_answer_while_the_platform_is_asked_ends_the_silence(world: World) -> None:
    ask = world.ask

    def answered_meanwhile() -> Word:
        world.life.heard()
        return ask()

    world.life.ask = answered_meanwhile
    assert not world.fail(lasting_s=20.0)
    assert world.life.verdict is Verdict.ALIVE
    assert world.life.is_fresh
