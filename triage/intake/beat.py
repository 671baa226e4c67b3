"""2 store: in a storm the runs of a project fall due together, so that one request can read many of them.

A worker reads a run together with those of its project that wait beside it. Workers that keep pace with
a storm find none waiting, and would ask for each by itself.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BEAT_SECONDS = 2.0
STORM = 10  # runs of a project within one beat
_PROJECTS_MAX = 10_000


@dataclass
class _Count:
    beat: int
    now: int = 0
    before: int = 0


class Beats:
    """Counts the runs of each project as they come in. Not for two threads at once.

    Beats are those of the clock, the same for every receiver, so that what several of them take falls due
    together; clocks that differ cost a request or two.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._counts: dict[str, _Count] = {}

    def wait(self, project: str) -> float:
        """Count a run. Returns the seconds until it should be due: 0.0, in a storm those to the next beat."""
        present = self._clock()
        beat = int(present // BEAT_SECONDS)
        count = self._counts.get(project)
        if count is None or count.beat != beat:
            if len(self._counts) >= _PROJECTS_MAX:
                self._counts = {each: kept for each, kept in self._counts.items() if kept.beat >= beat - 1}
            before = count.now if count is not None and count.beat == beat - 1 else 0
            count = self._counts[project] = _Count(beat, before=before)
        count.now += 1
        if max(count.now, count.before) <= STORM:
            return 0.0
        return (beat + 1) * BEAT_SECONDS - present
