"""R3: each event fifty times at the same moment, by hook and by Service Bus, while the sweep finds its run.

Of the fifty, twenty are posted to the hook, over a connection each, and thirty are sent to the queue that
the receivers read: fifteen as Azure DevOps writes them by default, fifteen as plain JSON. The run itself
comes into being just before, now and then a moment earlier, so that each of the three ways is first at times.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

from azure.servicebus import ServiceBusClient, ServiceBusMessage
from sqlmodel import Session, col, func, select

from tests import hook
from tests.promises import forked, played, queued, servers
from tests.promises import lane as lanes
from tests.promises.lane import Tally
from triage import azdo, jobs, sweep
from triage.db import Delivery, Job
from triage.sandbox.service_bus import serialized

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from azure.servicebus import ServiceBusSender

    from tests.promises.lane import Lane

BY_HOOK, WRAPPED, PLAIN = 20, 15, 15


def check(lane: Lane, trials: int, offset: int) -> Tally:
    """Send to 4 receivers of hook and queue while 2 sweeps look and 2 workers work; then compare."""
    tally = Tally(trials=trials)
    listener = servers.listener()
    bus = forked.Beside(queued.serving)
    settings = queued.settings(lane, bus.address)
    receivers = [lane.fork(servers.receive, listener, settings) for _ in range(4)]
    workers = [lane.fork(_work_on, lane.worker()) for _ in range(2)]
    sweepers = [lane.fork(_sweep_on) for _ in range(2)]
    sender = lane.fork(_storm, listener.getsockname()[1], bus.address, trials)
    everything, statuses = sender.end().said[0]
    if not bus.ask(queued.drained):
        tally.violations.append(f"the queue is never empty: {bus.ask(queued.look)}")
    for child in [*sweepers, *workers, *receivers]:
        child.signal(signal.SIGTERM)
    for child in [*sweepers, *workers, *receivers]:
        child.end()
    listener.close()
    lane.fork(lanes.attempt, [], (), lane.worker(), True).end()
    if refused := [status for status in statuses if status != 202]:
        tally.violations.append(f"{len(refused)} copies were answered {sorted(set(refused))}")
    if dead := bus.ask(queued.look).dead:
        tally.violations.append(f"{len(dead)} dead letters: {dead[0].reason} {dead[0].description}")
    bus.close()
    _compare(lane, tally, everything)
    return tally


def _compare(lane: Lane, tally: Tally, everything: Sequence[played.Sent]) -> None:
    events = sum(len(sent.bodies) for sent in everything)
    with Session(lane.engine) as session:
        rows = select(Job.run_id, func.count()).where(Job.kind == jobs.Kind.BUILD).group_by(col(Job.run_id))
        of_run = dict(session.exec(rows).all())
        keys = {f"{sent.project}/build/{run}" for sent in everything for run in sent.runs}
        told = session.exec(select(Delivery.source, Delivery.outcome).where(col(Delivery.run_key).in_(keys)))
        kept = Counter(told.all())
    lane.engine.dispose()
    for way, number in (("hook", BY_HOOK), ("queue in XML", WRAPPED), ("queue in JSON", PLAIN)):
        tally.count(f"copies by {way}", events * number)
    for source, number in (("hook", BY_HOOK), ("service-bus", WRAPPED + PLAIN)):
        came = sum(count for (by, _), count in kept.items() if by == source)
        if came < events * number:
            tally.violations.append(f"of {events * number} copies by {source} {came} are kept")
    for source in ("hook", "service-bus", "sweep"):
        tally.count(f"first by {source}", kept[source, "queued"])
    for sent in everything:
        seen = lane.seen(sent)
        tally.violations += played.wrong(sent, seen)
        tally.violations += [
            f"run {run}: {of_run.get(run)} jobs" for run in sent.runs if of_run.get(run) != 1
        ]
        if seen.created != 1:
            tally.violations.append(f"{sent.project}: filed {seen.created} times")
    tally.violations += lanes.unfinished(lane)


def _storm(
    say: Callable[[Any], None], lane: Lane, port: int, address: str, trials: int
) -> tuple[list[played.Sent], list[int]]:
    """Let runs fail; send each event by every way at the same moment. Returns what the hook answered."""
    queued.hurry()
    chance = random.Random(port)
    with (
        ServiceBusClient.from_connection_string(address) as connection,
        connection.get_queue_sender(queued.QUEUE) as wrapped,
        connection.get_queue_sender(queued.QUEUE) as plain,
    ):

        async def each_at_once() -> tuple[list[played.Sent], list[int]]:
            lines = [await asyncio.open_connection("127.0.0.1", port) for _ in range(BY_HOOK)]
            everything, statuses = [], []
            for number in range(trials):
                everything.append(lane.fail(1, number % 2))
                if number % 3 == 1:  # the sweep may be first
                    await asyncio.sleep(chance.uniform(0, 0.6))
                for body in everything[-1].bodies:
                    to_queue = asyncio.gather(
                        asyncio.to_thread(_send, wrapped, serialized(body.decode()), WRAPPED),
                        asyncio.to_thread(_send, plain, body, PLAIN),
                    )
                    if number % 3 == 2:  # what goes over the queue takes a little longer
                        await asyncio.sleep(chance.uniform(0, 0.1))
                    statuses += await asyncio.gather(*(hook.post(*line, body) for line in lines))
                    await to_queue
            return everything, statuses

        return asyncio.run(each_at_once())


def _send(sender: ServiceBusSender, body: bytes, copies: int) -> None:
    sender.send_messages([ServiceBusMessage(body) for _ in range(copies)])


def _work_on(say: Callable[[Any], None], lane: Lane, name: str) -> None:
    forked.until_told(lambda: lanes.work(lane, name))


def _sweep_on(say: Callable[[Any], None], lane: Lane) -> None:
    door = azdo.connect(lane.settings.azure_devops.url, played.TOKEN)
    forked.until_told(lambda: sweep.round_of(door, lane.engine, lane.settings.sweep))
