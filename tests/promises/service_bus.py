"""R20: what the Service Bus does to a receiver, and what becomes of the messages.

In a trial a queue gets events in both forms, some of them several times, some that the database refuses
until it is repaired, and bodies that are no events. Meanwhile receivers are killed or stand still between
receiving, committing and settling, locks run out, and connections break. What is left is received in
peace; then `triage bus dead-letters list` and `replay` are run as a person runs them. In every sixth trial
`service_bus.forward` is on instead and the database is away.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
import sqlalchemy as sa
from click.testing import CliRunner
from sqlalchemy.engine import make_url
from sqlmodel import Session, select

from tests import hook
from tests.promises import played, queued, servers
from tests.promises.forked import Beside, until_told
from tests.promises.lane import Tally
from triage import db
from triage.cli import cli
from triage.db import Delivery, Job
from triage.intake.bus import Bus
from triage.intake.bus.body import unwrap
from triage.sandbox.service_bus import serialized

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.promises.forked import Child
    from tests.promises.lane import Lane

_AT_ONCE = 5  # trials, each with its own queue; they share the database
_FORWARD_EACH = 6
_EVENTS, _POISON, _FORWARDED = 12, 2, 20
HARMS = ("killed", "lock lost", "cut, unsettled", "stood still", "cut, settled", "cut while handing out")
_HARMS_IN_TRIAL = 3
_POINTS = 12  # about two messages
_HARM_SECONDS_MAX = 20.0
_NO_EVENTS = (
    b"\x00\xff\xfe binary",
    b"<html>502 Bad Gateway</html>",
    b"[1, 2]",
    b"{}",
    serialized("no event"),
)
_POISONED, _REFUSED = "MaxDeliveryCountExceeded", "Not an event of Azure DevOps"
_IS_POISON = "EXISTS (SELECT 1 FROM poison WHERE event_id = NEW.event_id)"
_REFUSE = {
    "sqlite": (
        "CREATE TABLE poison (event_id TEXT)",
        f"""CREATE TRIGGER refuse BEFORE INSERT ON delivery WHEN {_IS_POISON}
            BEGIN SELECT RAISE(ABORT, 'not this one'); END""",
    ),
    "postgresql": (
        "CREATE TABLE poison (event_id TEXT)",
        f"""CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN IF {_IS_POISON} THEN RAISE EXCEPTION 'not this one' USING ERRCODE = 'check_violation';
            END IF; RETURN NEW; END $$""",
        "CREATE TRIGGER refuse BEFORE INSERT ON delivery FOR EACH ROW EXECUTE FUNCTION refuse()",
    ),
}


@dataclass(frozen=True)
class _Event:
    """An event of a run that failed."""

    run: int
    key: str  # of the run
    id: str
    body: bytes


def check(lane: Lane, trials: int, offset: int) -> Tally:
    """Let some trials run side by side, and those that take the database away one by one."""
    tally = Tally()
    with lane.engine.begin() as connection:
        for statement in _REFUSE[lane.engine.dialect.name]:
            connection.execute(sa.text(statement))
    lane.engine.dispose()
    numbers = [offset * 1000 + each for each in range(trials)]
    mixed = [each for each in numbers if each % _FORWARD_EACH != 1]
    for first in range(0, len(mixed), _AT_ONCE):
        drivers = [lane.fork(_mixed, each, _events(lane, each)) for each in mixed[first : first + _AT_ONCE]]
        for driver in drivers:
            tally.add(driver.end().said[-1])
    for each in (each for each in numbers if each % _FORWARD_EACH == 1):
        tally.add(lane.fork(_forwarded, each, _events(lane, each)).end().said[-1])
    return tally


def _events(lane: Lane, number: int) -> list[_Event]:
    made = []
    numbered = lane.played.ask(played.add_builds, f"{lane.name}-bus-{number}", _EVENTS + _FORWARDED)
    for run, body in numbered:
        event = json.loads(body)
        project = event["resourceContainers"]["project"]["id"]
        event["id"] = f"event-{number}-{run}"
        made.append(_Event(run, f"{project}/build/{run}", event["id"], json.dumps(event).encode()))
    return made


def _mixed(say: Callable[[Any], None], lane: Lane, number: int, events: Sequence[_Event]) -> Tally:
    trial = _Trial(lane, number, events[:_EVENTS])
    try:
        trial.poison()
        for _ in range(_HARMS_IN_TRIAL):
            trial.harm()
        trial.recover()
    finally:
        trial.bus.close()
    trial.tally.violations = [f"trial {number}: {each}" for each in trial.tally.violations]
    return trial.tally


class _Trial:
    """One queue, what was put on it, and what is done to its receivers."""

    def __init__(self, lane: Lane, number: int, events: Sequence[_Event]) -> None:
        self.lane = lane
        self.number = number
        self.chance = random.Random(number)
        self.tally = Tally(trials=1)
        self.bus = Beside(queued.serving)
        self.poisonous, self.good = list(events[:_POISON]), list(events[_POISON:])
        self.put: list[bytes] = []  # every message, unwrapped
        first = number * _HARMS_IN_TRIAL + number // 2
        self.harms = [HARMS[(first + each) % len(HARMS)] for each in range(_HARMS_IN_TRIAL)]
        self.left = list(self.good)

    def poison(self) -> None:
        """Have the database refuse some events, until `recover` has it repaired."""
        self._change("INSERT INTO poison VALUES (:id)")
        self._put([each.body for each in self.poisonous])

    def _change(self, statement: str) -> None:
        with self.lane.engine.begin() as connection:
            for each in self.poisonous:
                connection.execute(sa.text(statement), {"id": each.id})
        self.lane.engine.dispose()

    def harm(self) -> None:
        """Put a share of the messages, some of which were there before, and do something bad meanwhile."""
        kind = self.harms.pop()
        share = [self.left.pop() for _ in range(len(self.good) // _HARMS_IN_TRIAL)]
        told_again = self.chance.choices(share + self.good[len(self.left) :], k=3)
        no_event = self.chance.choice(_NO_EVENTS)
        bodies = [*(each.body for each in (*share, *told_again)), no_event]
        self.chance.shuffle(bodies)
        self.tally.count("duplicates sent", len(told_again))
        if kind not in {"killed", "stood still"}:
            self.bus.ask(queued.harm, kind)
        self._put(bodies)
        if kind == "killed":
            self._kill()
        elif kind == "stood still":
            self._stand_still()
        else:
            self._break()
        self.tally.count(kind)

    def _kill(self) -> None:
        victim = self._receiver(at=self.chance.randint(1, _POINTS))
        victim.end(kill_after=_HARM_SECONDS_MAX)
        self.tally.kills += victim.was_killed
        self.bus.ask(queued.lose_locks)

    def _stand_still(self) -> None:
        # One slot: another's open transaction would stand still, too.
        at = self.chance.randint(1, _POINTS)
        still = self.lane.fork_to_stop(_receive, self.bus.address, 1, at=at)
        if still.stopped():
            self.bus.ask(queued.lose_locks)
            other = self._receiver()
            self._drain()
            still.signal(signal.SIGCONT)
            _leave(other)
        _leave(still)

    def _break(self) -> None:
        receiver = self._receiver()
        end = time.monotonic() + _HARM_SECONDS_MAX
        while not self.bus.ask(queued.is_harmed):
            if time.monotonic() > end:
                self.tally.violations.append("nothing was handed out or settled")
                break
            time.sleep(0.01)
        _leave(receiver)

    def recover(self) -> None:
        """Receive the rest in peace, look at the dead letters, replay them, and compare."""
        self._put([each.body for each in self.left])
        receiver = self._receiver()
        self._drain()
        dead = self.bus.ask(queued.look).dead
        self._compare(dead, repaired=False)
        self._change("DELETE FROM poison WHERE event_id = :id")
        everything = self.number % 2 == 1
        wanted = [each.sequence for each in dead if everything or each.reason == _POISONED]
        by_hand = self.lane.fork(_by_hand, self.bus.address, ["--all"] if everything else wanted).end()
        shown, replayed = by_hand.said[-1]
        if shown != [(each.sequence, each.reason, each.description) for each in dead]:
            self.tally.violations.append(f"shown are {shown}; there are {dead}")
        if sorted(replayed) != wanted:
            self.tally.violations.append(f"of {wanted} were replayed {replayed}")
        self._drain()
        _leave(receiver)
        lying = self.bus.ask(queued.look)
        self._compare(lying.dead, repaired=True)
        self.tally.count("dead letters", len(dead))
        self.tally.count("replayed", len(wanted))
        self.tally.count("locks lost", lying.counted.get("lock lost", 0))
        self.tally.count("messages", len(self.put))

    def _compare(self, dead: Sequence[queued.Dead], *, repaired: bool) -> None:
        """Note each message that is neither stored nor a dead letter with its reason, or both."""
        expected = dict.fromkeys(_unwrapped(_NO_EVENTS), _REFUSED)
        if not repaired:
            expected |= {each.body: _POISONED for each in self.poisonous}
        right = Counter((body, expected[body]) for body in self.put if body in expected)
        lying = Counter((each.body, each.reason) for each in dead)
        for told, difference in (("missing", right - lying), ("wrong", lying - right)):
            named = [f"{self._name(body)} ({reason})" for body, reason in difference.elements()]
            if named:
                self.tally.violations.append(f"dead letters {told}: {', '.join(named)}")
        self.tally.violations += [
            f"dead letter {each.sequence} has no description" for each in dead if not each.description
        ]
        put = set(self.put)
        once = [each for each in (*self.good, *self.poisonous) if each.body in put - expected.keys()]
        self.tally.violations += _not_stored_once(self.lane, once)
        if not repaired:
            self.tally.violations += [
                f"run {each.run} is stored and a dead letter" for each in _stored(self.lane, self.poisonous)
            ]

    def _name(self, body: bytes) -> str:
        return next((f"run {e.run}" for e in (*self.good, *self.poisonous) if e.body == body), str(body))

    def _put(self, bodies: Sequence[bytes]) -> None:
        forms = [serialized(each.decode()) if self._is_wrapped(each) else each for each in bodies]
        self.bus.ask(queued.put, forms)
        self.put += _unwrapped(bodies)

    def _is_wrapped(self, body: bytes) -> bool:
        return body not in _NO_EVENTS and self.chance.random() < 0.5

    def _drain(self) -> None:
        if not self.bus.ask(queued.drained):
            self.tally.violations.append(f"the queue is never empty: {self.bus.ask(queued.look)}")

    def _receiver(self, at: int = 0) -> Child:
        return self.lane.fork(_receive, self.bus.address, 2, at=at)


def _receive(say: Callable[[Any], None], lane: Lane, address: str, slots: int) -> None:
    """Receive with so many slots until told to stop."""
    queued.hurry()
    with Bus(queued.settings(lane, address, receivers=slots), lane.engine):
        until_told()


def _leave(receiver: Child) -> None:
    receiver.signal(signal.SIGTERM)
    receiver.end()


def _by_hand(
    say: Callable[[Any], None], lane: Lane, address: str, which: Sequence[object]
) -> tuple[list[tuple[int, str, str]], list[int]]:
    """Run `triage bus dead-letters list`, then `replay` of some or all. Returns what they show."""
    queued.hurry()
    os.environ |= {
        "TRIAGE_AZURE_DEVOPS__URL": lane.settings.azure_devops.url,
        "TRIAGE_SERVICE_BUS__CONNECTION_STRING": address,
        "TRIAGE_SERVICE_BUS__QUEUE": queued.QUEUE,
    }

    def run(*arguments: str) -> list[str]:
        done = CliRunner().invoke(cli, ["bus", "dead-letters", *arguments])
        assert done.exit_code == 0, done.output
        return done.stdout.splitlines()

    rows = [json.loads(line) for line in run("list", "--format", "json")]
    shown = [(int(row["id"]), str(row["reason"]), str(row["description"])) for row in rows]
    replayed = run("replay", *map(str, which)) if which else []
    return shown, [int(line.split()[2]) for line in replayed]


def _not_stored_once(lane: Lane, events: Sequence[_Event]) -> list[str]:
    """Return how the events differ from one job and one delivery that brought it, each."""
    with Session(lane.engine) as session:
        brought = select(Delivery.run_key).where(Delivery.outcome == "queued")
        by_delivery, by_job = Counter(session.exec(brought)), Counter(session.exec(select(Job.run_id)))
    lane.engine.dispose()
    return [
        f"run {each.run} is stored by {by_delivery[each.key]} deliveries as {by_job[each.run]} jobs"
        for each in events
        if (by_delivery[each.key], by_job[each.run]) != (1, 1)
    ]


def _stored(lane: Lane, events: Sequence[_Event]) -> list[_Event]:
    with Session(lane.engine) as session:
        known = set(session.exec(select(Job.run_id)))
    lane.engine.dispose()
    return [each for each in events if each.run in known]


def _unwrapped(bodies: Sequence[bytes]) -> list[bytes]:
    return [unwrap(each) for each in bodies]


def _forwarded(say: Callable[[Any], None], lane: Lane, number: int, events: Sequence[_Event]) -> Tally:
    """Post events while the database is away; every other time the receiver is killed meanwhile as well."""
    tally = Tally(trials=1)
    bus, listening = Beside(queued.serving), servers.listener()
    settings = queued.settings(lane, bus.address, forward=True)
    away = _Away(lane.settings.database.url)
    away.begin()
    try:
        serving = lane.fork(servers.receive, listening, settings)
        half = len(events) // 2
        for position, each in enumerate(events):
            if position == half and number % 4 == 1:
                serving.signal(signal.SIGKILL)
                tally.kills += serving.end().was_killed
                bus.ask(queued.lose_locks)
                serving = lane.fork(servers.receive, listening, settings)
            took = _post(listening.getsockname()[1], each.body, refused_at_first=position in {0, half})
            tally.figures["seconds to 202 (most)"] = max(tally.figures.get("seconds to 202 (most)", 0), took)
        lying = bus.ask(queued.look)
    finally:
        away.end()
    if lying.waiting + lying.held != len(events) or lying.dead:
        tally.violations.append(f"of {len(events)} events the queue holds {lying}")
    if not bus.ask(queued.drained):
        tally.violations.append(f"the queue is never empty: {bus.ask(queued.look)}")
    _leave(serving)
    tally.violations += [f"forwarded: {each}" for each in _not_stored_once(lane, events)]
    tally.violations += [f"forwarded, and dead: {each}" for each in bus.ask(queued.look).dead]
    tally.count("forwarded while the database was away", len(events))
    bus.close()
    listening.close()
    return tally


def _post(port: int, body: bytes, *, refused_at_first: bool) -> float:
    """Tell the hook of an event. Returns how long 202 took; raises when there is another answer.

    Until it has reached the queue, triage answers 503, as nothing is there to keep the event.
    """
    address, begun = f"http://127.0.0.1:{port}/hooks/azure-devops", time.monotonic()
    while True:
        asked = time.monotonic()
        answer = requests.post(address, body, auth=("triage", hook.PASSWORD), timeout=30)
        if answer.status_code == requests.codes.accepted:
            return round(time.monotonic() - asked, 2)
        assert refused_at_first, answer.status_code
        assert time.monotonic() - begun < _HARM_SECONDS_MAX, answer.status_code
        time.sleep(0.05)


class _Away:
    """A database that is away for a while."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)

    def begin(self) -> None:
        """Take it away; nobody may be connected to a file."""
        if self.url.drivername == "sqlite":
            folder = Path(str(self.url.database)).parent
            folder.rename(folder.with_name(f"{folder.name}-away"))
        else:
            self._allow("false")
            self._execute(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.url.database}'"
            )

    def end(self) -> None:
        """Bring it back."""
        if self.url.drivername == "sqlite":
            folder = Path(str(self.url.database)).parent
            folder.with_name(f"{folder.name}-away").rename(folder)
        else:
            self._allow("true")

    def _allow(self, connections: str) -> None:
        self._execute(f"ALTER DATABASE {self.url.database} ALLOW_CONNECTIONS {connections}")

    def _execute(self, statement: str) -> None:
        beside = db.open_engine(self.url.set(database="postgres").render_as_string(hide_password=False))
        with beside.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text(statement))
        beside.dispose()
