"""The time left, estimated from earlier runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from comfyloom._session.eta import KEPT, MARKS, EtaEstimator, Timings


def run(seconds: float, until_half: float) -> EtaEstimator:
    """Return the estimator of a run whose first half took `until_half` of its `seconds`."""
    watch = EtaEstimator(Timings.of("work", "here"))
    for mark in range(1, MARKS):
        part = mark / MARKS
        after = until_half * 2 * part
        if part > 0.5:
            after = until_half + (seconds - until_half) * (2 * part - 1)
        watch.note(part, after)
    watch.stop(seconds)
    return watch


def test_an_unknown_time_is_not_guessed() -> None:
    assert EtaEstimator(Timings.of("work", "here")).note(0.5, 10.0) is None


def test_half_of_the_work_is_not_half_of_the_time() -> None:
    run(100.0, 10.0)
    watch = EtaEstimator(Timings.of("work", "here"))
    assert watch.note(0.0, 0.0) == pytest.approx(100.0)
    assert watch.note(0.5, 12.0) == pytest.approx(90.0)
    assert watch.note(0.5, 32.0) == pytest.approx(70.0)  # nothing moved, but time passed
    assert watch.note(0.5, 300.0) == 0.0
    assert watch.note(0.75, 301.0) == pytest.approx(45.0)


def test_a_run_that_found_half_in_the_cache_is_estimated_but_not_kept() -> None:
    run(100.0, 50.0)
    watch = EtaEstimator(Timings.of("work", "here"))
    assert watch.note(0.6, 0.0) == pytest.approx(40.0)
    watch.note_cached(0.6)
    watch.stop(40.0)
    assert len(Timings.of("work", "here").runs) == 1


def test_the_median_of_several_runs_is_used() -> None:
    for seconds in (90.0, 100.0, 400.0):
        run(seconds, seconds / 2)
    assert Timings.of("work", "here").left_s(0.5) == pytest.approx(50.0)
    assert Timings.of("work", "elsewhere").left_s(0.5) is None
    assert Timings.of("other", "here").left_s(0.5) is None


def test_only_the_latest_runs_are_kept() -> None:
    for number in range(KEPT + 5):
        run(100.0 + number, 50.0)
    kept = Timings.of("work", "here").runs
    assert len(kept) == KEPT
    assert kept[-1][-1] == 100.0 + KEPT + 4


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", '{"runs": 5}', '{"runs": [5, [], [1, 2], ["x"]]}', "[" * 10**5),
        '{"runs": [[' + ", ".join(["NaN"] * (MARKS + 1)) + "]]}",
    ],
)
def test_a_damaged_file_is_ignored(content: str) -> None:
    path = Timings.of("work", "here").path
    path.parent.mkdir(parents=True)
    path.write_text(content, "utf-8")
    assert Timings.of("work", "here").runs == ()
    run(10.0, 5.0)
    assert len(Timings.of("work", "here").runs) == 1


def test_a_folder_that_cannot_be_written_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    monkeypatch.setenv("COMFYLOOM_CACHE_DIR", str(tmp_path / "file"))
    run(10.0, 5.0)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
