"""R1: each failed run of a credential ends in exactly one open work item, wherever triage is killed.

The SQLite way: kill at the first fault point, at the second, … until a run passes unkilled, then from the
start. Whoever recovers is killed as well, at another point; every fifth trial is killed at a random
time, in the middle of things. Some trials lose the answer to a write that was done.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from tests.promises import lane as lanes
from tests.promises import played
from tests.promises.lane import Tally

if TYPE_CHECKING:
    from tests.promises.lane import Lane

# How far the search index lags behind, and how long triage waits for it. In the last, triage waits less
# than it should: what is filed twice then is closed by the search for doubles.
INDEX = ((0.0, 0.0), (0.3, 0.6), (1.0, 1.5), (2.0, 2.5), (5.0, 2.0))
_SHAPES = ((1, 0), (0, 1), (1, 1), (2, 0))  # runs, runs of pull requests
_LOST = (
    ("POST", r"/wit/workitems/\$"),
    ("PUT", r"/tags/"),
    ("PATCH", r"/wit/workitems/"),
    ("POST", r"/threads$"),
)
_GENERATIONS = 4  # the last is not killed


def check(lane: Lane, trials: int, offset: int) -> Tally:
    """Kill and recover so many times, then look for doubles, then compare."""
    tally = Tally()
    lag, _ = INDEX[offset % len(INDEX)]
    lane.played.ask(played.lag, lag)
    chance = random.Random(offset)
    everything: list[played.Sent] = []
    # Lanes share the points among them.
    point = 1 + offset * 7 % 40
    for number in range(trials):
        sent = lane.fail(*_SHAPES[number % len(_SHAPES)])
        everything.append(sent)
        if number % 3 == 0:
            lane.played.ask(played.lose_reply, *_LOST[number // 3 % len(_LOST)])
        at_random = number % 5 == 4
        killed = _trial(lane, sent, point, chance, at_random=at_random)
        lane.played.ask(played.forget_faults)
        if not at_random:
            point = point + 1 if killed else 1
        tally.kills += killed
        tally.trials += 1
    time.sleep(lag)
    tally.count(
        "filed twice, then closed",
        sum(len(lane.seen(sent).items) - 1 for sent in everything if lane.seen(sent).items),
    )
    tally.kills += _merge(lane, chance)
    for sent in everything:
        tally.violations += played.wrong(sent, lane.seen(sent))
    tally.violations += lanes.unfinished(lane)
    return tally


def _trial(lane: Lane, sent: played.Sent, point: int, chance: random.Random, *, at_random: bool) -> int:
    """Triage what was sent, killed again and again. Returns how often."""
    left, at = list(sent.bodies), point
    dead: list[str] = []
    for generation in range(_GENERATIONS):
        name = lane.worker()
        last = generation == _GENERATIONS - 1
        child = lane.fork(lanes.attempt, left, dead, name, at=0 if last or at_random else at)
        child.end(kill_after=chance.uniform(0.01, 0.3) if at_random and not last else None)
        # What was not answered is sent again.
        left = left[sum(isinstance(each, int) for each in child.said) :]
        if not child.was_killed:
            break
        dead.append(name)
        at = chance.randint(1, 60)
    return len(dead)


def _merge(lane: Lane, chance: random.Random) -> int:
    """Look for doubles, killed now and then."""
    dead: list[str] = []
    for at in (chance.randint(5, 60), chance.randint(5, 60), 0):
        name = lane.worker()
        child = lane.fork(lanes.attempt, [], dead, name, True, at=at).end()
        if child.was_killed:
            dead.append(name)
    return len(dead)
