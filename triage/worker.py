"""The story: one failed run, from its logs to the person who can renew the credential."""

from __future__ import annotations

import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from triage import (
    applications,
    azdo,
    ending,
    history,
    impact,
    jobs,
    link,
    logs,
    match,
    mend,
    owner,
    plan,
    publish,
    record,
    renewal,
    sweep,
    tell,
    throttle,
    watch,
)
from triage.domain import Confidence, Evidence, Finding, RunRef, Verdict
from triage.errors import AccessRefused, Cancel, JobError, RetryLater, Snooze, TriageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy.engine import Engine

    from triage.config import Settings
    from triage.db import Job
    from triage.domain import Attribution, Run, TimelineRecord

log = structlog.get_logger()

_IDLE_SECONDS = 0.5
_AWAY_SECONDS = 5.0
_HEARTBEAT_SECONDS = 30.0
_DRAIN_SECONDS = 20.0
_ROUNDS_SECONDS = 10.0
_FORGET_SECONDS = 86_400.0
_AHEAD_SECONDS = 30.0
_AHEAD_MAX = 99  # runs that wait beside one


@dataclass(frozen=True)
class Knowledge:
    """What every run is judged by; read once, shared by all workers."""

    pack: match.Pack
    recipes: renewal.RecipeBook
    owners: owner.OwnersFile | None
    fallback: owner.Fallback
    policy: plan.Policy
    pages_url: str
    own_secrets: tuple[str, ...] = field(default=(), repr=False)  # never shown, wherever they turn up
    memory: azdo.Memory = field(default_factory=azdo.Memory, repr=False, compare=False)
    applications: applications.Applications | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Conclusion:
    """What triage thinks of a run before it does anything."""

    run: Run
    logs_read: int
    findings: tuple[Finding, ...]
    sentence: str


def knowledge(settings: Settings) -> Knowledge:
    """Read the rule pack, the recipes and the owners file.

    Raises RulePackError or UsageError with every problem found.
    """
    return Knowledge(
        pack=match.load_pack(settings.rules.path),
        recipes=renewal.load(settings.rules.path),
        owners=owner.load_owners(settings.owners.file) if settings.owners.file else None,
        fallback=owner.Fallback(
            team=settings.owners.default_team,
            area=settings.owners.default_area,
            assignee=settings.owners.default_assignee,
        ),
        policy=plan.Policy.from_settings(
            settings.policy, settings.after_renewal, default_assignee=settings.owners.default_assignee
        ),
        pages_url=settings.pages_url,
        own_secrets=tuple(
            secret.get_secret_value()
            for secret in (
                *settings.azure_devops.secrets(),
                *settings.azure_devops.writer.secrets(),
                *settings.service_bus.credential.secrets(),
                settings.hook.password,
                settings.hook.header_value,
                settings.service_bus.connection_string,
            )
            if secret and secret.get_secret_value()
        ),
        applications=applications.from_settings(settings),
    )


def conclude(door: azdo.Door, known: Knowledge, ref: RunRef) -> Conclusion:
    """Read a run, find what broke it, whose it is and how it is renewed. Writes nothing."""
    run = door.run(ref)
    return _conclude(door, known, run, logs.fetch(door, run))


def _conclude(door: azdo.Door, known: Knowledge, run: Run, step_logs: Sequence[logs.StepLog]) -> Conclusion:
    searched = [(step, _search(known, step)) for step in step_logs]
    evidences = [found for step, result in searched if (found := _evidence(step, result))]
    cut = [sentence for _, result in searched for sentence in result.cut]
    findings = tuple(
        _finding(door, known, run, evidence, attribution)
        for evidence, attribution in link.attribute(door, run, evidences)
    )
    sentence = " ".join([_sentence(run, len(step_logs), findings), *dict.fromkeys(cut)])
    return Conclusion(run, len(step_logs), findings, sentence)


def _finding(
    door: azdo.Door, known: Knowledge, run: Run, evidence: Evidence, attribution: Attribution
) -> Finding:
    whose = owner.find(door, run, attribution, known.owners, known.fallback)
    connection, match_ = attribution.connection, evidence.match
    breaks = match_.verdict is not Verdict.LOOK_ALIKE and match_.confidence is not Confidence.HINT
    registered = known.applications.of(connection) if known.applications and connection and breaks else None
    recipe = renewal.choose(
        known.recipes, connection, match_, run, evidence.record, door.organization_url, whose, registered
    )
    return Finding(
        run=run,
        evidence=evidence,
        attribution=attribution,
        owner=whose,
        recipe=recipe,
        impact=impact.find(door, run, connection if breaks else None),
    )


def triage(door: azdo.Door, engine: Engine, known: Knowledge, run: Run) -> str:
    """Triage one run and plan what to do about it. Returns what came of it, in one sentence."""
    step_logs = logs.fetch(door, run)
    if said := _known_cause(engine, known, run, step_logs):
        return said
    concluded = _conclude(door, known, run, step_logs)
    record.run(engine, run, logs_read=concluded.logs_read, conclusion=concluded.sentence)
    for finding in concluded.findings:
        if plan.actionable(finding, known.policy) is not None:
            record.note(engine, finding)
            continue
        seen = _in_timeline(known, finding.evidence.record)
        record.finding(
            engine,
            finding,
            tag=plan.incident_tag(door.organization_url, plan.incident_key(finding)),
            title=publish.title(finding),
            fingerprint=plan.fingerprint(run, seen) if seen and seen.match.rule == finding.match.rule else "",
            policy=known.policy,
        )
    return concluded.sentence


def _known_cause(engine: Engine, known: Knowledge, run: Run, step_logs: Sequence[logs.StepLog]) -> str:
    """Return what broke a run when its timeline alone shows it; "" when its logs have to be read.

    During a storm this is what keeps triage from downloading the same message five thousand times.
    """
    seen = [_in_timeline(known, step.record) for step in step_logs]
    if not seen or None in seen:
        return ""
    earlier = record.same_cause(engine, [plan.fingerprint(run, each) for each in seen if each])
    said = f"Failed as other runs of its pipeline do, by what its timeline says: {seen[0].match.title}."  # type: ignore[union-attr]
    if earlier is None or not record.again(engine, run, earlier, conclusion=said, policy=known.policy):
        return ""
    return said


def _in_timeline(known: Knowledge, record: TimelineRecord | None) -> Evidence | None:
    """Return what the errors that the timeline keeps of a step prove."""
    step = logs.from_issues(record) if record else None
    return _evidence(step, _search(known, step)) if step else None


def _search(known: Knowledge, step: logs.StepLog) -> match.Search:
    return match.search(known.pack, step.open(), line_numbers=step.line_numbers, own=known.own_secrets)


def _evidence(step: logs.StepLog, result: match.Search) -> Evidence | None:
    """Return the one match that says most about why the step failed."""
    if not result.matches:
        return None
    best = max(result.matches, key=lambda each: each.strength)
    return Evidence(match=best, record=step.record, source=step.source)


def _ref(job: Job) -> RunRef:
    assert job.run_id is not None  # noqa: S101 - a run's job names it
    kind = "release" if job.kind == "release" else "build"
    return RunRef(job.project, job.run_id, kind, job.environment_id)  # type: ignore[arg-type]


def _sentence(run: Run, logs_read: int, findings: Sequence[Finding]) -> str:
    if not run.failed:
        return f"The run is {run.result} by now: nothing to do."
    read = "1 log of a failed step" if logs_read == 1 else f"{logs_read} logs of failed steps"
    if not findings:
        return f"Read {read}: no sign of an expired credential."
    told = "; ".join(
        f"{f.match.title} ({f.connection.name if f.connection else 'connection undecided'})" for f in findings
    )
    return f"Read {read}: {told}."


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
                    self.handle(door, job)
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
                return triage(door, self.engine, self.known, self.ahead.run(door, job))
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
                return str(sweep.round_of(door, self.engine, self.settings.sweep))
            case _:
                raise Cancel(f"This version of triage knows no job of the kind {job.kind!r}.")


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
        if (batch := self.read.get(ref.project)) and (found := batch.runs.pop(str(ref), None)):
            return found
        numbers = jobs.beside(self.engine, job, _AHEAD_MAX) if ref.kind == "build" else []
        if not numbers:
            return door.run(ref)
        runs = door.runs(ref.project, [ref.id, *numbers])
        ended = {str(run.ref): run for run in runs if run.status == "completed"}
        self.read[ref.project] = _Batch(ended, time.monotonic())
        return ended.pop(str(ref), None) or door.run(ref)


@dataclass(frozen=True)
class _Batch:
    """Runs that were read in one request and are still to be triaged, by their references."""

    runs: dict[str, Run]
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
