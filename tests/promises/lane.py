"""One lane of trials: a played organisation, a database, and forks of triage that work there."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog
from sqlmodel import Session, col, func, select, update

from tests import hook
from tests.promises import played
from tests.promises.forked import Beside, Child, fork
from triage import azdo, config, db, diagnosis, faultpoint, jobs, plan, worker
from triage.db import Effect, Job
from triage.intake.deliveries import Keeper

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests import postgres
    from tests.promises.played import Sent

_SOON = timedelta(hours=1)
_WORK_SECONDS_MAX = 60.0  # more means that it never ends


@dataclass
class Tally:
    """What came of the trials of a promise."""

    trials: int = 0
    kills: int = 0
    violations: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)  # by what they count; "… (most)" is no sum

    def add(self, other: Tally) -> None:
        self.trials += other.trials
        self.kills += other.kills
        self.violations += other.violations
        for name, value in other.figures.items():
            known = self.figures.get(name, 0)
            self.figures[name] = max(known, value) if name.endswith("(most)") else known + value

    def hold(self, true: bool, violation: str) -> None:  # noqa: FBT001 - reads as a sentence
        """Count a violation unless something is true."""
        if not true:
            self.violations.append(violation)

    def most(self, name: str, value: float) -> None:
        self.figures[name] = max(self.figures.get(name, 0), value)

    def count(self, name: str, number: float = 1) -> None:
        self.figures[name] = self.figures.get(name, 0) + number


class Lane:
    """Where one trial follows the other."""

    def __init__(
        self,
        name: str,
        url: str,
        knowledge: diagnosis.Knowledge,
        *,
        settle_seconds: float,
        server: postgres.Server | None = None,
    ) -> None:
        self.name = name
        self.server = server  # its own, which may be stopped
        self.played = Beside(played.serving)
        self.settings = settings(self.played.address, url, settle_seconds=settle_seconds)
        policy = plan.Policy.from_settings(self.settings.policy, self.settings.after_renewal)
        self.knowledge = diagnosis.Knowledge(
            knowledge.pack,
            knowledge.recipes,
            knowledge.owners,
            knowledge.fallback,
            policy,
            self.settings.pages_url,
        )
        self.engine = db.open_engine(url)
        self.projects = 0
        self.workers = 0

    def close(self) -> None:
        self.engine.dispose()
        self.played.close()

    def fail(self, runs: int = 1, pull_requests: int = 0, minutes_ago: float = 5.0) -> Sent:
        """Let runs of a new project fail of one credential."""
        self.projects += 1
        name = f"{self.name}-{self.projects}"
        sent: Sent = self.played.ask(played.fail, name, runs, pull_requests, minutes_ago)
        return sent

    def seen(self, sent: Sent) -> played.Seen:
        seen: played.Seen = self.played.ask(played.history, sent.project)
        return seen

    def warm(self) -> int:
        """Triage one run in this process, so that forks inherit what that caches. Returns the points passed."""
        sent = self.fail(1, 1)
        faultpoint.arm(0)
        attempt(lambda _: None, self, sent.bodies, (), self.worker())
        self.engine.dispose()
        return faultpoint.disarm()

    def worker(self) -> str:
        """Return a name that no worker has had."""
        self.workers += 1
        return f"{self.name}-{self.workers}"

    def fork(self, work: Callable[..., object], *arguments: Any, at: int = 0, **point: Any) -> Child:
        """Fork a process of triage that gets a signal at its n-th fault point."""
        return fork(_armed, self, work, at, point, arguments)

    def fork_to_stop(self, work: Callable[..., object], *arguments: Any, at: int) -> Child:
        """Fork a process of triage that stands still at its n-th point outside a transaction."""
        return self.fork(work, *arguments, at=at, signal_number=signal.SIGSTOP, skipped="before commit")


def _armed(
    say: Callable[[Any], None],
    lane: Lane,
    work: Callable[..., object],
    at: int,
    point: dict[str, Any],
    arguments: Sequence[Any],
) -> object:
    lane.engine.dispose(close=False)
    faultpoint.arm(at, **point)
    done = work(say, lane, *arguments)
    faultpoint.disarm()
    lane.engine.dispose()
    return done


def attempt(
    say: Callable[[Any], None],
    lane: Lane,
    bodies: Sequence[bytes],
    dead: Sequence[str],
    name: str,
    merge: bool = False,  # noqa: FBT001, FBT002 - goes through a fork
) -> str:
    """Take what Azure DevOps tells, then work until nothing waits; after the death of some workers."""
    for each in dead:
        jobs.abandon(lane.engine, each)
    for number, body in enumerate(bodies):
        Keeper(lane.engine).store(body, lane.settings.azure_devops.url)
        say(number)
    work(lane, name, merge=merge)
    return "done"


def work(lane: Lane, name: str, *, merge: bool = False) -> None:
    """Do what waits, and what would wait for a later time. Looks for doubles only when asked to."""
    door = azdo.connect(lane.settings.azure_devops.url, played.TOKEN)
    mate = worker.Worker(lane.settings, lane.engine, lane.knowledge, threading.Event(), name=name)
    end = time.monotonic() + _WORK_SECONDS_MAX
    while time.monotonic() < end:
        job = jobs.claim(lane.engine, name)
        if job is not None:
            mate.handle(door, job)
        elif not hasten(lane, merge=merge):
            return
        else:
            time.sleep(0.005)
    raise AssertionError(f"{lane.name}: the work never ends")


def hasten(lane: Lane, *, merge: bool) -> int:
    """Let the time pass that jobs wait for. Returns how many there are."""
    with Session(lane.engine) as session, session.begin():
        # A work item that hears once a day that it goes on is none of these.
        waits = col(Job.state).in_([jobs.State.AVAILABLE, jobs.State.RETRYABLE]) & (
            col(Job.available_at) < db.now() + _SOON
        )
        if not merge:
            waits &= col(Job.kind) != jobs.Kind.MERGE
        session.exec(update(Job).where(waits).values(available_at=db.present(-1)))
        return session.exec(select(func.count()).select_from(Job).where(waits)).one()


def let_leases_run_out(lane: Lane) -> None:
    """Let the time pass after which nobody waits for a worker any more."""
    with Session(lane.engine) as session, session.begin():
        session.exec(update(Job).where(col(Job.lease_until).is_not(None)).values(lease_until=db.present(-1)))
        session.exec(
            update(Effect).where(col(Effect.lease_until).is_not(None)).values(lease_until=db.present(-1))
        )
    lane.engine.dispose()


def unfinished(lane: Lane) -> list[str]:
    """Return the jobs that did not end well."""
    with Session(lane.engine) as session:
        rows = session.exec(
            select(Job).where(
                col(Job.state).not_in([jobs.State.COMPLETED, jobs.State.CANCELLED]),
                Job.kind != jobs.Kind.MERGE,
                col(Job.available_at) < db.now() + _SOON,
            )
        ).all()
        told = [f"{row.key} is {row.state}: {row.error}" for row in rows]
    lane.engine.dispose()
    return told


def settings(
    organisation: str, database: str, *, settle_seconds: float = 0.0, **more: Any
) -> config.Settings:
    """Return settings under which nothing waits for others of its kind."""
    return config.load(
        azure_devops={"url": organisation, "token": played.TOKEN},
        database={"url": database},
        hook={"password": hook.PASSWORD},
        policy={
            "settle_seconds": settle_seconds,
            "group_wait_seconds": 0,
            "group_interval_seconds": 0,
            "items_per_project_hour": 1000,
        },
        sweep={"every_seconds": 0},
        watch={"every_seconds": 0},
        after_renewal={"every_seconds": 0},
        expiry={"every_seconds": 0},
        workers=2,
        **more,
    )


def knowledge() -> diagnosis.Knowledge:
    """Read what triage knows, once for all forks."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    os.environ["TRIAGE_CONFIG"] = os.devnull
    return diagnosis.knowledge(settings("http://127.0.0.1:1/contoso", "sqlite://"))
