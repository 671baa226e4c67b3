"""A receiver killed between the commit and the settlement loses nothing and doubles nothing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tests.intake.bus.conftest import deliveries, failed, put, receiving, runs, settings_for, until
from triage import db
from triage.intake.bus import client
from triage.intake.bus.receive import Receiver
from triage.sandbox.bus import Queue

if TYPE_CHECKING:
    import pytest
    from sqlalchemy.engine import Engine

    from triage import config
    from triage.sandbox.bus import Broker
    from triage.sandbox.bus.queues import Outcome

TRIALS, LANES = 50, 10
ROOT = Path(__file__).parent.parent.parent.parent


def receive_for_ever(settings: config.Settings, database: str) -> None:
    client.WAIT_SECONDS = 0.3
    Receiver(settings, db.open_engine(database), threading.Event(), client.access(settings)).run()


def test_a_receiver_killed_between_commit_and_settlement_loses_and_doubles_nothing(
    broker: Broker, tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = f"sqlite:///{tmp_path}/triage.db"
    # Each receiver is a process of its own, forked from one that has imported everything.
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    spawn = multiprocessing.get_context("forkserver")
    spawn.set_forkserver_preload([__name__])
    victims: dict[str, int] = {}
    killed: Counter[str] = Counter()

    def kill(queue: str, _: Outcome) -> bool:
        if queue not in victims:
            return True
        os.kill(victims.pop(queue), signal.SIGKILL)
        killed[queue] += 1
        return False  # the word came too late

    def lane(number: int) -> Queue:
        queue = broker.add(Queue(f"lane-{number}", max_deliveries=1000))
        settings = settings_for(broker, queue)
        for trial in range(TRIALS // LANES):
            receiver = spawn.Process(target=receive_for_ever, args=(settings, database), daemon=True)
            receiver.start()
            victims[queue.name] = receiver.pid or 0
            put(broker, queue, failed(1 + number * TRIALS + trial))
            receiver.join(30)
            assert receiver.exitcode == -signal.SIGKILL
            assert len(queue.locks) == trial + 1, "the dead keep theirs locked until the locks run out"
        broker.lose_locks(queue.name)
        with receiving(settings, engine):
            until(lambda: queue.counted["complete"] == TRIALS // LANES)
        return queue

    broker.before_settle = kill
    with ThreadPoolExecutor(LANES) as pool:
        queues = list(pool.map(lane, range(LANES)))
    assert killed.total() == TRIALS
    sent = [1 + number * TRIALS + trial for number in range(LANES) for trial in range(TRIALS // LANES)]
    assert runs(engine) == sent, "each run is one job"
    assert not any(queue.ready or queue.locks or queue.counted["buried"] for queue in queues)
    told = Counter(row.outcome for row in deliveries(engine))
    assert told == {"queued": TRIALS, "duplicate": TRIALS}, "each was stored, and came again"
