"""R7: the database is away while events come, for 30 seconds or for 30 minutes.

The played organisation sends, sends again and drops events as Azure DevOps does, by a clock of its own
that goes many times as fast. Half a minute is over before it gives an event up: nothing but the hook is
needed. In half an hour it gives up, puts the subscriptions on probation and drops what happens then: that
is for the sweep to find, and for the watch to say.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from sqlmodel import Session, func, select

from tests.promises import lane as lanes
from tests.promises import outages, played, servers, telling
from tests.promises.lane import Tally
from triage import azdo, config, hooks, jobs, service
from triage.azdo import administration
from triage.db import Delivery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.promises.lane import Lane
    from tests.promises.outages import Way
    from tests.promises.played import Sent

_ROOT = Path(__file__).parents[2]
_SHORT_SECONDS, _LONG_SECONDS = 30.0, 1800.0  # by the organisation's clock
# An event is sent again for 183 s: what a busy machine drew out longer than this proves nothing.
_TRUSTED_SECONDS = 120.0
_ALONE_SPEED = 90.0  # as fast as leaves the watch the time to look
_PROJECTS = 2
_PATIENCE_SECONDS = 240.0
# Tried in turn: how long the database is away, in which way, and whether a person repairs the hooks.
_TURNS = (
    (_SHORT_SECONDS, 0, False),
    (_LONG_SECONDS, 0, False),
    (_SHORT_SECONDS, 0, False),
    (_LONG_SECONDS, 0, True),
    (_SHORT_SECONDS, 1, False),
    (_LONG_SECONDS, 0, False),
    (_SHORT_SECONDS, 0, False),
    (_LONG_SECONDS, 1, True),
)


def check(lane: Lane, trials: int, offset: int) -> Tally:
    """Let the database be away so often while `triage serve` receives; in every other lane it is alone."""
    tally = Tally()
    is_alone = offset % 2 == 1
    with _serving(lane, is_alone=is_alone) as at:
        for number in range(trials):
            seconds, kind, is_repaired = _TURNS[number % len(_TURNS)]
            way = outages.WAYS["postgresql" if lane.server else "sqlite"][kind]
            if is_alone:
                seconds, told = _LONG_SECONDS, _alone(at, tally, way)
            elif seconds == _SHORT_SECONDS:
                told = _short(at, tally, way)
            else:
                told = _long(at, tally, way, is_repaired=is_repaired)
            tally.trials += 1
            tally.violations += [f"{way.name} for {seconds:g} s: {each}" for each in told]
            lane.played.ask(telling.forget)
        if not is_alone:
            tally.violations += lanes.unfinished(lane)
    return tally


def _short(at: _Stage, tally: Tally, way: Way) -> list[str]:
    """Half a minute: the organisation's own tries outlast it, and nobody sweeps."""
    while True:
        everything = at.fail(runs=4, speed=way.short_speed)
        at.happen(everything, range(1))  # which triage is at as the database goes away
        with outages.away(at.lane, at.serving.pid, way):
            begun = time.monotonic()
            at.happen(everything, range(1, 4), seconds=_SHORT_SECONDS / way.short_speed)
            at.until(lambda: at.told().refused > 0, "an event is refused")
        took = (time.monotonic() - begun) * way.short_speed
        at.until(lambda: at.told().is_idle, "every event has been sent")
        if took <= _TRUSTED_SECONDS:
            break
        tally.count("outages that a busy machine drew out, not counted")
        at.lane.played.ask(telling.forget)
    at.go_on()
    told = at.told()
    wrong = [f"the event of run {run} was given up" for run in _lost(everything, told)]
    if told.tries <= len(told.delivered):
        wrong.append("no event had to be sent again: this proves nothing")
    _count(at, tally, everything)
    return wrong + at.wrong(everything)


def _long(at: _Stage, tally: Tally, way: Way, *, is_repaired: bool) -> list[str]:
    """Half an hour: the watch says that the organisation drops events, and the sweep finds what they told of."""
    everything = at.fail(runs=8, speed=way.long_speed)
    _half_an_hour(at, everything, way, way.long_speed)
    wrong = []
    at.go_on(jobs.Kind.WATCH)
    if at.is_on_probation:  # and so has it been while triage looked
        tally.count("seen on probation by the watch")
        wrong += [] if at.notices() == ["New"] else [f"on probation, and the notices are {at.notices()}"]
    at.happen(everything, range(6, 7))
    if is_repaired:
        tally.count("hooks repaired")
        wrong += at.repair()
    at.until(lambda: at.told().states == {"enabled"}, "every subscription is in force again")
    at.until(lambda: at.told().is_idle, "every event has been sent")
    at.go_on()
    known, told = at.known(everything), at.told()
    lost = _lost(everything, told) & {run for sent in everything for run in sent.runs[:7]}
    if not lost - known:
        wrong.append("the organisation dropped no event: this proves nothing")
    # One that was sent, and not taken, may have been kept after all, once the database spoke again.
    wrong += [f"run {run} is known although nobody told of it" for run in lost & known - told.sent]
    at.go_on(jobs.Kind.SWEEP, jobs.Kind.WATCH)
    wrong += [] if at.notices() in ([], ["Closed"]) else [f"let back, and the notices are {at.notices()}"]
    at.happen(everything, range(7, 8))
    at.until(lambda: at.told().is_idle, "every event has been sent")
    at.go_on()
    gone = _lost(everything, at.told()) - lost
    wrong += [f"the event of run {run} was lost although all was well" for run in gone]
    _count(at, tally, everything)
    return wrong + at.wrong(everything)


def _alone(at: _Stage, tally: Tally, way: Way) -> list[str]:
    """Half an hour: nobody but `triage serve`, by its own clock, looks after the hooks and sweeps."""
    everything = at.fail(runs=8, speed=_ALONE_SPEED)
    _half_an_hour(at, everything, way, _ALONE_SPEED)
    lanes.let_leases_run_out(at.lane)  # of a round that was begun
    at.until(lambda: at.notices() != [] or not at.is_on_probation, "the watch says so")
    tally.count("seen on probation by the watch", at.notices() == ["New"])
    at.happen(everything, range(6, 7))
    at.until(lambda: at.told().states == {"enabled"}, "every subscription is in force again")
    at.happen(everything, range(7, 8))
    at.until(lambda: at.told().is_idle, "every event has been sent")
    at.until(lambda: at.notices() in ([], ["Closed"]), "the watch says that events arrive again")
    with suppress(AssertionError):
        at.until(lambda: at.wrong(everything) == [], "all is known")
    wrong = [] if _lost(everything, at.told()) else ["the organisation dropped no event: this proves nothing"]
    _count(at, tally, everything)
    return wrong + at.wrong(everything)


def _half_an_hour(at: _Stage, everything: list[Sent], way: Way, speed: float) -> None:
    """Take the database away while runs fail, longer than the organisation sends an event again."""
    at.happen(everything, range(1))
    with outages.away(at.lane, at.serving.pid, way):
        back = time.monotonic() + _LONG_SECONDS / speed
        at.happen(everything, range(1, 3))
        at.until(lambda: at.is_on_probation, "every subscription is on probation")
        at.happen(everything, range(3, 6), seconds=max(0.0, back - time.monotonic()))


def _lost(everything: list[Sent], told: telling.Told) -> set[int]:
    """Return the runs that no delivered event tells of."""
    return {run for sent in everything for run in sent.runs} - told.delivered


def _count(at: _Stage, tally: Tally, everything: list[Sent]) -> None:
    told, swept = at.told(), at.swept()
    tally.count("outages")
    tally.count("events", sum(len(sent.runs) for sent in everything))
    tally.count("deliveries tried", told.tries)
    tally.count("events lost by the organisation", len(_lost(everything, told)))
    tally.count("runs found by the sweep", swept - at.swept_before)
    at.swept_before = swept


@dataclass
class _Stage:
    """The organisation, `triage serve` subscribed to it, and another of triage's machines beside it."""

    lane: Lane
    port: int
    serving: subprocess.Popen[bytes]
    more: dict[str, str]
    swept_before: int = 0

    def fail(self, *, runs: int, speed: float) -> list[Sent]:
        """Have pipelines of new projects ready to fail, each project of a credential, and subscribe to them."""
        everything: list[Sent] = []
        for _ in range(_PROJECTS):
            self.lane.projects += 1
            name = f"{self.lane.name}-{self.lane.projects}"
            everything.append(self.lane.played.ask(telling.prepare, name, runs - 1, 1))
        self.lane.played.ask(telling.use_courier, speed)
        door = azdo.connect(self.lane.settings.azure_devops.url, played.TOKEN)
        chosen = {sent.project for sent in everything}
        projects = [each for each in administration.projects(door) if each.id in chosen]
        target = hooks.web_hook(self.lane.settings.hook, self.lane.settings.server.public_url, local=True)
        hooks.install(door, hooks.wanted(projects, target))
        return everything

    def happen(self, everything: list[Sent], which: range, *, seconds: float = 0.0) -> None:
        """Let some runs of each project fail, spread evenly over a time."""
        begun = time.monotonic()
        for number, index in enumerate(which, 1):
            for sent in everything:
                self.lane.played.ask(telling.happen, sent.project, sent.runs[index])
            time.sleep(max(0.0, begun + seconds * number / len(which) - time.monotonic()))

    def told(self) -> telling.Told:
        told: telling.Told = self.lane.played.ask(telling.tell)
        return told

    @property
    def is_on_probation(self) -> bool:
        return self.told().states == {"onProbation"}

    def notices(self) -> list[str]:
        """Return the states of the work items that say that events do not arrive."""
        notices: list[str] = self.lane.played.ask(telling.notices)
        return notices

    def go_on(self, *rounds: jobs.Kind) -> None:
        """Let triage do what there is to do: rounds that are due now, and all that waits or was begun."""
        end = time.monotonic() + _PATIENCE_SECONDS
        lanes.let_leases_run_out(self.lane)  # of who was at something as the database went away
        self.lane.fork(_work, self.lane.worker(), rounds).end()
        # What `triage serve` is at may leave more to do.
        while (servers.running(self.lane) or lanes.unfinished(self.lane)) and time.monotonic() < end:
            time.sleep(0.05)
            self.lane.fork(_work, self.lane.worker(), ()).end()

    def repair(self) -> list[str]:
        command = [sys.executable, "-m", "triage", "hooks", "repair"]
        environment = servers.environment(self.lane, self.port, **self.more)
        done = subprocess.run(
            command, env=environment, cwd=_ROOT, capture_output=True, text=True, check=False
        )
        return [] if done.returncode == 0 else [f"`triage hooks repair`: {done.stderr[-300:]}"]

    def known(self, everything: list[Sent]) -> set[int]:
        """Return the runs that triage has tagged."""
        tags = [self.lane.seen(sent).tags for sent in everything]
        return {run for each in tags for run, said in each.items() if said}

    def wrong(self, everything: list[Sent]) -> list[str]:
        return [each for sent in everything for each in played.wrong(sent, self.lane.seen(sent))]

    def swept(self) -> int:
        """Return how many runs the sweep has found."""
        with Session(self.lane.engine) as session:
            found = select(func.count()).select_from(Delivery).where(Delivery.source == "sweep")
            count = session.exec(found).one()
        self.lane.engine.dispose()
        return count

    def until(self, true: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + _PATIENCE_SECONDS
        while not true():
            assert time.monotonic() < end, f"it never came true that {what}"
            assert self.serving.poll() is None, "`triage serve` has ended"
            time.sleep(0.02)


@contextmanager
def _serving(lane: Lane, *, is_alone: bool) -> Iterator[_Stage]:
    listener = service.listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    listener.close()
    url = f"http://127.0.0.1:{port}"
    # Unless `triage serve` is alone, rounds are put when the trial comes to them, not by the clock.
    lane.settings = lane.settings.model_copy(
        update={
            "server": config.Server(port=port, public_url=url),
            "sweep": config.Sweep(every_seconds=0, grace_seconds=0),
            "watch": config.Watch(every_seconds=0, project=telling.WATCH),
        }
    )
    more = {
        "SERVER__PUBLIC_URL": url,
        "SWEEP__GRACE_SECONDS": "0",
        "WATCH__PROJECT": telling.WATCH,
        "EXPIRY__EVERY_SECONDS": "0",
        "WORKERS": "1",
    }
    if is_alone:
        more |= {"SWEEP__EVERY_SECONDS": "1", "WATCH__EVERY_SECONDS": "1"}
    serving = servers.serve(lane, port, **more)
    stage = _Stage(lane, port, serving, more)
    try:
        stage.until(lambda: _answers(url), "`triage serve` answers")
        yield stage
    finally:
        serving.terminate()
        serving.wait(60)


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/healthz", timeout=30).ok
    except requests.ConnectionError:
        return False


def _work(say: Callable[[Any], None], lane: Lane, name: str, rounds: tuple[jobs.Kind, ...]) -> None:
    for kind in rounds:
        jobs.put_round(lane.engine, kind, 0.001)
    lanes.work(lane, name, merge=True)
