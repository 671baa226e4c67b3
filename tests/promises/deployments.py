"""R17: two deployments of triage, each with a database of its own, race for the same runs."""

from __future__ import annotations

import copy
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.promises import lane as lanes
from tests.promises import played
from tests.promises.lane import Tally
from triage import db

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.promises.lane import Lane

_WORKERS = 4  # of each deployment
_LAGS = (0.0, 0.3, 1.0)  # seconds that the search index is behind; nobody waits for it


def check(lane: Lane, trials: int, offset: int) -> Tally:
    """Let all hear of the same runs at the same moment; then each deployment looks for doubles."""
    tally = Tally(trials=trials)
    with _another(lane) as other:
        everything: list[played.Sent] = []
        for number in range(offset, offset + trials):
            lane.played.ask(played.lag, _LAGS[number % len(_LAGS)])
            sent = lane.fail(1, 1)
            everything.append(sent)
            racing = [
                each.fork(lanes.attempt, sent.bodies, (), lane.worker())
                for _ in range(_WORKERS)
                for each in (lane, other)
            ]
            for child in racing:
                child.end()
        time.sleep(max(_LAGS))
        filed = sum(len(lane.seen(sent).items) for sent in everything)
        tally.count("filed twice, then closed", filed - trials)
        for each in (lane, other, lane):
            each.fork(lanes.attempt, [], (), lane.worker(), True).end()
        for sent in everything:
            tally.violations += played.wrong(sent, lane.seen(sent))
        tally.violations += lanes.unfinished(lane) + lanes.unfinished(other)
    return tally


@contextmanager
def _another(lane: Lane) -> Iterator[Lane]:
    """Deploy triage once more, on SQLite, for the same organisation."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'other.db'}"
        other = copy.copy(lane)
        other.engine = db.open_engine(url)
        db.migrate(other.engine)
        other.settings = lane.settings.model_copy(
            update={"database": lane.settings.database.model_copy(update={"url": url})}
        )
        other.engine.dispose()
        yield other
        other.engine.dispose()
