"""Who works: claims jobs, one after the other, and has done what each is about."""

from __future__ import annotations

import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from triage import azdo, diagnosis, ending, history, jobs, mend, sweep, tell, throttle, watch
from triage.domain import RunRef
from triage.errors import AccessRefused, Cancel, JobError, RetryLater, Snooze, TriageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import Engine

    from triage.config import Settings
    from triage.db import Job
    from triage.diagnosis import Knowledge
    from triage.domain import Run

log = structlog.get_logger()

_IDLE_SECONDS = 0.5
_AWAY_SECONDS = 5.0
_HEARTBEAT_SECONDS = 30.0
_DRAIN_SECONDS = 20.0
_ROUNDS_SECONDS = 10.0
_FORGET_SECONDS = 86_400.0
_AHEAD_SECONDS = 30.0
_AHEAD_MAX = 99  # runs that wait beside one


class Worker(threading.Thread):
    """Claims jobs and triages them until told to stop."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        known: Knowledge,
        stopping: threading.Event,
        *,
        name: str = "",
        account: azdo.Account | None = None,
    ) -> None:
        super().__init__(name="triage-worker", daemon=True)
        self.settings = settings
        self.account = account or azdo.account(settings.azure_devops)
        self.engine = engine
        self.known = known
        self.stopping = stopping
        self.id = name or f"worker-{uuid.uuid4().hex[:12]}"
        self.on_job: Callable[[bool], None] = lambda _: None  # told when a job begins and when it ends
        self.next_rounds = 0.0
        self.ahead = _Ahead(engine)
        self.heartbeat = _Heartbeat(engine)

    def run(self) -> None:
        """Work until `stopping` is set; a job that has been begun is finished."""
        gate = throttle.SharedGate(self.engine, self.account.url, self.stopping)
        door = self.account.door(gate=gate, memory=self.known.memory)
        while not self.stopping.is_set():
            try:
                self.put_rounds()
                closed, _ = door.gate.closed_for()
                job = jobs.claim(self.engine, self.id) if closed <= 0 else None
                if job is not None:
                    self.on_job(True)
                    try:
                        self.handle(door, job)
                    finally:
                        self.on_job(False)
            except Exception:  # a database that is away must not end the worker
                log.exception("the database may be away; trying again", worker=self.id)
                self.stopping.wait(_AWAY_SECONDS)
                continue
            if job is None:
                self.stopping.wait(_IDLE_SECONDS)

    def handle(self, door: azdo.Door, job: Job) -> None:
        """Triage one job and write down how it ended."""
        said = log.bind(job=job.key, worker=self.id)
        with self.heartbeat.of(job):
            try:
                outcome = self.carry_out(door, job)
                jobs.complete(self.engine, job, outcome)
                said.info("done", outcome=outcome)
            except Snooze as later:
                jobs.snooze(self.engine, job, later.seconds, str(later))
                said.info("not yet", reason=str(later), seconds=later.seconds)
            except Cancel as reason:
                jobs.cancel(self.engine, job, str(reason))
                said.info("nothing to do", reason=str(reason))
            except AccessRefused as refusal:
                self._try_again(door, job, str(refusal))
                said.error("Azure DevOps refuses triage", reason=str(refusal))
            except (RetryLater, JobError) as fault:
                self._try_again(door, job, str(fault))
                said.warning("failed; will be tried again", reason=str(fault))
            except TriageError as mistake:  # a setting is wrong; waiting does not mend it
                jobs.cancel(self.engine, job, str(mistake))
                said.error("cannot be done", reason=str(mistake))
            except Exception as error:  # noqa: BLE001 - one run must not end the worker
                jobs.retry(self.engine, job, f"{type(error).__name__}: see triage's log")
                said.exception("failed unexpectedly; will be tried again")

    def _try_again(self, door: azdo.Door, job: Job, reason: str) -> None:
        """Put a job off. It costs no attempt while Azure DevOps itself is away, however long that lasts."""
        closed, _ = door.gate.closed_for()
        if closed > 0:
            jobs.snooze(self.engine, job, closed, reason)
        else:
            jobs.retry(self.engine, job, reason)

    def put_rounds(self) -> None:
        """Keep the periodic work of this slot of time, unless another worker has done so."""
        if time.monotonic() < self.next_rounds:
            return
        self.next_rounds = time.monotonic() + _ROUNDS_SECONDS
        rounds = {
            jobs.Kind.SWEEP: self.settings.sweep.every_seconds,
            jobs.Kind.WATCH: self.settings.watch.every_seconds,
            jobs.Kind.MEND: self.settings.after_renewal.every_seconds,
            jobs.Kind.EXPIRY: self.settings.expiry.every_seconds,
            jobs.Kind.FORGET: _FORGET_SECONDS if self.settings.history.keep_days else 0,
        }
        for kind, period in rounds.items():
            if period:
                jobs.put_round(self.engine, kind, period)

    def carry_out(self, door: azdo.Door, job: Job) -> str:  # noqa: PLR0911 - one for each kind
        """Do what a job is about. Returns what came of it, in one sentence."""
        match job.kind:
            case jobs.Kind.BUILD | jobs.Kind.RELEASE:
                return diagnosis.triage(door, self.engine, self.known, self.ahead.run(door, job))
            case jobs.Kind.INCIDENT:
                return tell.incident(door, self.engine, self.known.policy, self.known.pages_url, job)
            case jobs.Kind.MERGE:
                return tell.merge(door, self.engine, job)
            case jobs.Kind.WATCH:
                return watch.round_of(door, self.engine, self.settings, self.known.policy, job)
            case jobs.Kind.EXPIRY:
                return ending.round_of(door, self.engine, self.settings, self.known, self.account, job)
            case jobs.Kind.MEND:
                return mend.round_of(door, self.engine, self.known.policy, job)
            case jobs.Kind.CONNECTION:
                return mend.look_at(door, self.engine, self.known.policy, job)
            case jobs.Kind.FORGET:
                return str(history.forget(self.engine, timedelta(days=self.settings.history.keep_days)))
            case jobs.Kind.SWEEP:
                kept = timedelta(days=self.settings.history.keep_days)
                return str(sweep.round_of(door, self.engine, self.settings.sweep, kept))
            case _:
                raise Cancel(f"This version of triage knows no job of the kind {job.kind!r}.")


def _ref(job: Job) -> RunRef:
    assert job.run_id is not None  # noqa: S101 - a run's job names it
    kind = "release" if job.kind == "release" else "build"
    return RunRef(job.project, job.run_id, kind, job.environment_id)  # type: ignore[arg-type]


class _Ahead:
    """Reads the runs of a project that wait next in one request with the one that is due.

    In a storm a run would otherwise cost two requests, not one; each worker throws away what others do.
    That some wait is seen to where they come in (`intake.beat`).
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.read: dict[str, _Batch] = {}  # of each project

    def run(self, door: azdo.Door, job: Job) -> Run:
        """Return the run that a job is about, at most `_AHEAD_SECONDS` old."""
        ref = _ref(job)
        oldest = time.monotonic() - _AHEAD_SECONDS
        self.read = {project: batch for project, batch in self.read.items() if batch.read_at > oldest}
        assert job.id is not None  # noqa: S101 - claimed
        if (batch := self.read.get(ref.project)) and (found := batch.runs.pop(job.id, None)):
            return found
        beside = jobs.beside(self.engine, job, _AHEAD_MAX) if ref.kind == "build" else {}
        if not beside:
            return door.run(ref)
        runs = door.runs(ref.project, list(dict.fromkeys([ref.id, *beside.values()])))
        ended = {run.ref.id: run for run in runs if run.status == "completed"}
        ahead = {number: ended[run] for number, run in beside.items() if run in ended}
        self.read[ref.project] = _Batch(ahead, time.monotonic())
        return ended.get(ref.id) or door.run(ref)


@dataclass(frozen=True)
class _Batch:
    """Runs that were read in one request, by the jobs that waited then.

    A run that ends again is another job's: it must not be taken for what it was before.
    """

    runs: dict[int, Run]
    read_at: float  # time.monotonic


class _Heartbeat:
    """Keeps the lease of the job that is worked on alive.

    One thread does so for all jobs of a worker: in a storm a job takes less time than starting a thread.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.guard = threading.Lock()
        self.job: Job | None = None
        self.thread: threading.Thread | None = None

    @contextmanager
    def of(self, job: Job) -> Iterator[None]:
        """Keep a job's lease alive for as long as the context lasts."""
        with self.guard:
            self.job = job
            if self.thread is None:
                self.thread = threading.Thread(target=self._beat, name="triage-heartbeat", daemon=True)
                self.thread.start()
        try:
            yield
        finally:
            with self.guard:
                self.job = None

    def _beat(self) -> None:
        while True:
            time.sleep(_HEARTBEAT_SECONDS)
            with self.guard:
                job = self.job
                if job is None:  # the next one starts another
                    self.thread = None
                    return
            try:
                jobs.extend(self.engine, job)
            except Exception:  # noqa: BLE001 - a heartbeat that ends silently would lose every lease
                log.warning("a lease could not be extended; the database may be away", job=job.key)


@contextmanager
def running(settings: Settings, engine: Engine, known: Knowledge) -> Iterator[None]:
    """Run the configured number of workers beside the caller; on leaving, let them finish and stop."""
    stopping = threading.Event()
    account = azdo.account(settings.azure_devops)  # one credential, however many workers
    workers = [Worker(settings, engine, known, stopping, account=account) for _ in range(settings.workers)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        stopping.set()
        for worker in workers:
            worker.join(_DRAIN_SECONDS)
