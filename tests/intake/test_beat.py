"""In a storm the runs of a project fall due together; otherwise each at once."""

from __future__ import annotations

import pytest

from triage.intake.beat import BEAT_SECONDS, STORM, Beats

START = 1000 * BEAT_SECONDS


class Clock:
    """Shows what it was set to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def due(beats: Beats, clock: Clock, project: str, runs: int) -> list[float]:
    """Return when runs that come now are due."""
    return [clock.now + beats.wait(project) for _ in range(runs)]


def test_a_few_runs_are_due_at_once(clock: Clock) -> None:
    beats = Beats(clock)
    assert due(beats, clock, "shop", STORM) == [START] * STORM


def test_the_runs_of_a_storm_are_due_at_the_next_beat(clock: Clock) -> None:
    beats = Beats(clock)
    due(beats, clock, "shop", STORM)
    clock.now += 0.3 * BEAT_SECONDS
    assert due(beats, clock, "shop", 5) == pytest.approx([START + BEAT_SECONDS] * 5)


def test_a_storm_that_goes_on_is_known_by_the_beat_before(clock: Clock) -> None:
    beats = Beats(clock)
    due(beats, clock, "shop", STORM + 1)
    clock.now = START + BEAT_SECONDS
    assert due(beats, clock, "shop", 1) == pytest.approx([START + 2 * BEAT_SECONDS])


def test_a_storm_that_is_over_holds_nobody_up(clock: Clock) -> None:
    beats = Beats(clock)
    due(beats, clock, "shop", 100)
    clock.now = START + 2 * BEAT_SECONDS
    assert due(beats, clock, "shop", 1) == [clock.now]


def test_a_storm_holds_up_no_other_project(clock: Clock) -> None:
    beats = Beats(clock)
    due(beats, clock, "noisy", 1000)
    assert due(beats, clock, "quiet", 1) == [START]


def test_what_receivers_take_is_due_at_the_same_moment(clock: Clock) -> None:
    one, other = Beats(clock), Beats(clock)
    due(one, clock, "shop", 100)
    due(other, clock, "shop", 100)
    at = due(one, clock, "shop", 1)
    clock.now += 0.5
    assert due(other, clock, "shop", 1) == pytest.approx(at)


def test_projects_that_fall_silent_are_forgotten(clock: Clock) -> None:
    beats = Beats(clock)
    for number in range(25_000):
        beats.wait(f"project {number}")
        clock.now += BEAT_SECONDS / 10
    assert len(beats._counts) < 10_001
