"""The story: one failed run, from its logs to the person who can renew the credential."""

from __future__ import annotations

import threading
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from triage import azdo, jobs, link, logs, match, owner, plan, publish, record, renewal
from triage.domain import Evidence, Finding, RunRef
from triage.errors import AccessRefused, Cancel, JobError, RetryLater, Snooze

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.engine import Engine

    from triage.config import Settings
    from triage.db import Job
    from triage.domain import Run

log = structlog.get_logger()

_IDLE_SECONDS = 0.5
_AWAY_SECONDS = 5.0
_HEARTBEAT_SECONDS = 30.0
_DRAIN_SECONDS = 20.0


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
        policy=plan.Policy.from_settings(settings.policy, default_assignee=settings.owners.default_assignee),
        pages_url=settings.pages_url,
        own_secrets=tuple(
            secret.get_secret_value()
            for secret in (settings.azure_devops.token, settings.hook.password, settings.hook.header_value)
            if secret and secret.get_secret_value()
        ),
    )


def conclude(door: azdo.Door, known: Knowledge, ref: RunRef) -> Conclusion:
    """Read a run, find what broke it, whose it is and how it is renewed. Writes nothing."""
    run = door.run(ref)
    step_logs = logs.fetch(door, run)
    searched = [(step, _search(known, step)) for step in step_logs]
    evidences = [found for step, result in searched if (found := _evidence(step, result))]
    cut = [sentence for _, result in searched for sentence in result.cut]
    findings = tuple(
        Finding(
            run=run,
            evidence=evidence,
            attribution=attribution,
            owner=owner.find(door, run, attribution, known.owners, known.fallback),
            recipe=renewal.choose(
                known.recipes,
                attribution.connection,
                evidence.match,
                run,
                evidence.record,
                door.organization_url,
            ),
        )
        for evidence, attribution in link.attribute(door, run, evidences)
    )
    sentence = " ".join([_sentence(run, len(step_logs), findings), *dict.fromkeys(cut)])
    return Conclusion(run, len(step_logs), findings, sentence)


def triage(door: azdo.Door, engine: Engine, known: Knowledge, job: Job) -> str:
    """Triage one run and act on it. Returns what came of it, in one sentence."""
    concluded = conclude(door, known, _ref(job))
    record.run(engine, concluded.run, logs_read=concluded.logs_read, conclusion=concluded.sentence)
    for finding in concluded.findings:
        if plan.actionable(finding, known.policy) is not None:
            record.note(engine, finding)
            continue
        key = plan.incident_key(finding)
        incident = record.finding(
            engine,
            finding,
            key=key,
            tag=plan.incident_tag(door.organization_url, key),
            title=publish.title(finding),
        )
        _act(door, engine, known, finding, incident, worker=job.lease or "")
    return concluded.sentence


def _act(
    door: azdo.Door,
    engine: Engine,
    known: Knowledge,
    finding: Finding,
    incident: record.Recorded,
    *,
    worker: str,
) -> None:
    work_item = incident.work_item
    for action in plan.decide(
        finding,
        incident_id=incident.incident_id,
        incident_tag=incident.incident_tag,
        work_item=work_item,
        first_of_pipeline=incident.first_of_pipeline,
        policy=known.policy,
        pages_url=known.pages_url,
    ):
        with record.intent(
            engine,
            key=plan.key(action, incident.incident_id),
            kind=plan.kind(action),
            worker=worker,
            run_key=str(finding.run.ref),
            incident_id=incident.incident_id,
            repeated=plan.is_repeated(action),
        ) as effect:
            filed_by_another = effect.done and isinstance(action, plan.FileWorkItem)
            if not effect.done:
                told = replace(action, work_item=work_item) if isinstance(action, plan.PostThread) else action
                outcome = publish.carry_out(door, told, attempts=effect.attempts, policy=known.policy)
                effect.remote_id, effect.url, effect.detail = outcome.remote_id, outcome.url, outcome.detail
        if isinstance(action, plan.FileWorkItem) and effect.remote_id and effect.url:
            work_item = int(effect.remote_id)
            record.work_item(engine, incident.incident_id, number=work_item, url=effect.url)
            if filed_by_another:  # while we were on our way: the item must hear of this run, too
                known_now = replace(incident, work_item=work_item)
                _act(door, engine, known, finding, known_now, worker=worker)
                return


def _search(known: Knowledge, step: logs.StepLog) -> match.Search:
    return match.search(known.pack, step.open(), line_numbers=step.line_numbers, own=known.own_secrets)


def _evidence(step: logs.StepLog, result: match.Search) -> Evidence | None:
    """Return the one match that says most about why the step failed."""
    if not result.matches:
        return None
    best = max(result.matches, key=lambda each: each.strength)
    return Evidence(match=best, record=step.record, source=step.source)


def _ref(job: Job) -> RunRef:
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
        self, settings: Settings, engine: Engine, known: Knowledge, stopping: threading.Event
    ) -> None:
        super().__init__(name="triage-worker", daemon=True)
        self.settings = settings
        self.engine = engine
        self.known = known
        self.stopping = stopping
        self.id = f"worker-{uuid.uuid4().hex[:12]}"

    def run(self) -> None:
        """Work until `stopping` is set; a job that has been begun is finished."""
        token = self.settings.azure_devops.token
        door = azdo.connect(
            self.settings.azure_devops.url,
            token.get_secret_value() if token else "",
            extra_hosts=self.settings.azure_devops.extra_hosts,
            memory=self.known.memory,
        )
        while not self.stopping.is_set():
            try:
                job = jobs.claim(self.engine, self.id)
                if job is not None:
                    self.handle(door, job)
            except Exception:  # a database that is away must not end the worker
                log.exception("the database may be away; trying again", worker=self.id)
                self.stopping.wait(_AWAY_SECONDS)
                continue
            if job is None:
                self.stopping.wait(_IDLE_SECONDS)

    def handle(self, door: azdo.Door, job: Job) -> None:
        """Triage one job and write down how it ended."""
        said = log.bind(run=job.run_key, worker=self.id)
        with _Heartbeat(self.engine, job):
            try:
                outcome = triage(door, self.engine, self.known, job)
                jobs.complete(self.engine, job, outcome)
                said.info("triaged", outcome=outcome)
            except Snooze as later:
                jobs.snooze(self.engine, job, later.seconds, str(later))
                said.info("not yet", reason=str(later), seconds=later.seconds)
            except Cancel as reason:
                jobs.cancel(self.engine, job, str(reason))
                said.info("nothing to do", reason=str(reason))
            except AccessRefused as refusal:
                jobs.retry(self.engine, job, str(refusal))
                said.error("Azure DevOps refuses triage", reason=str(refusal))
            except (RetryLater, JobError) as fault:
                jobs.retry(self.engine, job, str(fault))
                said.warning("failed; will be tried again", reason=str(fault))
            except Exception as error:  # noqa: BLE001 - one run must not end the worker
                jobs.retry(self.engine, job, f"{type(error).__name__}: see triage's log")
                said.exception("failed unexpectedly; will be tried again")


class _Heartbeat:
    """Keeps a job's lease alive while it is worked on."""

    def __init__(self, engine: Engine, job: Job) -> None:
        self.engine = engine
        self.job = job
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()

    def _beat(self) -> None:
        while not self.done.wait(_HEARTBEAT_SECONDS):
            try:
                jobs.extend(self.engine, self.job)
            except SQLAlchemyError:
                log.warning("a lease could not be extended; the database may be away", run=self.job.run_key)


@contextmanager
def running(settings: Settings, engine: Engine, known: Knowledge) -> Iterator[None]:
    """Run the configured number of workers beside the caller; on leaving, let them finish and stop."""
    stopping = threading.Event()
    workers = [Worker(settings, engine, known, stopping) for _ in range(settings.workers)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        stopping.set()
        for worker in workers:
            worker.join(_DRAIN_SECONDS)
