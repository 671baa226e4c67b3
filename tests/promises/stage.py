"""A story played job by job on a stage whose service can be made to fail: shared by all trials."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlmodel import Session, SQLModel, col, select, update

from triage import azdo, config, db, diagnosis, jobs, throttle, worker
from triage.db import Job
from triage.domain import RunRef
from triage.sandbox import server, stories, turnstile
from triage.sandbox.organisation import Organisation, wire_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Engine

    from triage.sandbox.organisation import Project

TOKEN = "played-token"
# The shipped bounds, shorter: a trial takes seconds instead of minutes.
LIMITS = azdo.Limits(
    connect_seconds=0.25,
    silence_seconds=2.0,
    request_seconds=0.8,
    log_seconds=0.8,
    answer_bytes=1024 * 1024,
    patience_seconds=1.5,
    throttled_seconds=0.1,
    delayed_seconds_max=0.1,
    low_seconds=0.05,
    again_seconds=0.01,
    outage_seconds=0.05,
    outage_seconds_max=0.2,
)
_STORY = stories.load(Path(__file__).parent)[0]
RUNS = len(_STORY.scenario.runs)


@dataclass
class Ending:
    """How the handling of one job ended."""

    job: str
    state: str
    error: str
    outcome: str
    attempts: int
    seconds: float


@dataclass
class Trial:
    """One story on a fresh database."""

    organisation: Organisation
    project: Project
    engine: Engine
    door: azdo.Door
    worker: worker.Worker
    runs: list[int]
    endings: list[Ending] = field(default_factory=list)

    def handle(self, index: int) -> None:
        """Let the worker handle a run's job and what follows from it, each once, without waiting."""
        if index == RUNS - 1 and all(each.state in jobs.FINISHED for each in self.last()):
            self._close_the_work_item()
        ref = self.reference(index)
        jobs.put(self.engine, ref, marker="1")
        self._handle(col(Job.run_id) == ref.id)
        self._handle(col(Job.kind) == jobs.Kind.INCIDENT)
        if index == RUNS - 1:
            self._handle(col(Job.kind) == jobs.Kind.MERGE)

    def finish(self, index: int, tries: int) -> list[Ending]:
        """Handle a run until all has ended, at most so often."""
        for _ in range(tries):
            self.handle(index)
            if all(each.state in jobs.FINISHED for each in self.last()):
                break
            time.sleep(min(self.door.gate.closed_for()[0], 2.5))
        return self.last()

    def _handle(self, chosen: ColumnElement[bool]) -> None:
        """Let the worker handle the chosen jobs that wait, once each."""
        waiting = col(Job.finished_at).is_(None)
        with Session(self.engine) as session, session.begin():
            later = datetime.now(UTC) + timedelta(hours=1)
            session.exec(update(Job).where(waiting).values(available_at=later))
            numbers = session.exec(select(Job.id).where(waiting, chosen)).all()
        for number in numbers:
            with Session(self.engine) as session, session.begin():
                past = datetime.now(UTC) - timedelta(seconds=1)
                session.exec(update(Job).where(col(Job.id) == number).values(available_at=past))
            started = time.monotonic()
            job = jobs.claim(self.engine, self.worker.id)
            assert job is not None
            self.worker.handle(self.door, job)
            took = time.monotonic() - started
            with Session(self.engine) as session:
                row = session.exec(select(Job).where(Job.id == number)).one()
                ended = Ending(row.key, row.state, row.error, row.outcome, row.attempts, took)
            self.endings.append(ended)

    def reference(self, index: int) -> RunRef:
        """Return a run of the story."""
        return RunRef(self.project.id, self.runs[index])

    def last(self) -> list[Ending]:
        """Return how each job ended last."""
        return list({each.job: each for each in self.endings}.values())

    def _close_the_work_item(self) -> None:
        """Let a person close the item, before the last run failed."""
        with self.organisation.lock:
            for item in self.project.work_items.values():
                item["fields"] |= {
                    "System.State": "Closed",
                    "Microsoft.VSTS.Common.ClosedDate": wire_time(datetime.now(UTC) - timedelta(hours=3)),
                    "Microsoft.VSTS.Common.StateChangeDate": wire_time(
                        datetime.now(UTC) - timedelta(hours=3)
                    ),
                }

    def happened(self) -> dict[str, Any]:
        """Return what people see in Azure DevOps, without times and long texts."""
        with self.organisation.lock:
            return {
                "work items": [_item(each, self.project) for each in self.project.work_items.values()],
                "threads": [
                    [comment["content"] for comment in thread["comments"]]
                    for kept in self.project.threads.values()
                    for thread in kept
                ],
                "tags": {number: tags for number, tags in self.project.build_tags.items() if tags},
            }


def _item(item: dict[str, Any], project: Project) -> dict[str, Any]:
    fields = item["fields"]
    person = fields.get("System.AssignedTo")
    return {
        "type": fields["System.WorkItemType"],
        "title": fields["System.Title"],
        "tags": sorted(fields["System.Tags"].split("; ")),
        "owner": person.get("uniqueName") if isinstance(person, dict) else person,
        "links": sorted(each["url"] for each in item.get("relations") or []),
        "comments": len(project.comments.get(item["id"], [])),
    }


class Stage:
    """A served organisation, made anew for each trial."""

    def __init__(
        self,
        organisation: Organisation,
        url: str,
        way_in: turnstile.Turnstile,
        folder: Path,
        database: str,
    ) -> None:
        self.organisation = organisation
        self.url = url
        self.way_in = way_in
        self.folder = folder
        self.database = database  # of a server, "" for one that is a file
        self.settings = config.load(
            azure_devops={"url": url, "token": TOKEN},
            owners={"default_team": "Platform team"},
            policy={
                "settle_seconds": 0,
                "group_wait_seconds": 0,
                "group_interval_seconds": 0,
                "repeat_interval_seconds": 0,
            },
            rules={},
        )
        self.known = diagnosis.knowledge(self.settings)
        self.template = folder / "template.db"
        engine = db.open_engine(f"sqlite:///{self.template}")
        db.migrate(engine)
        engine.dispose()

    @contextmanager
    def trial(self, limits: azdo.Limits = LIMITS) -> Iterator[Trial]:
        """Play the story's runs; nothing has been told to triage yet."""
        with self.organisation.lock:
            for kept in (self.organisation.projects, self.organisation.users):
                kept.clear()
            for told in (self.organisation.ledger, self.organisation.faults, self.organisation.asked):
                told.clear()
            self.organisation._next_id = 1
        _STORY.set_up(self.organisation)
        numbers = _STORY.play(self.organisation, lambda _: None)
        engine = self._empty_database()
        stopping = threading.Event()
        gate = throttle.SharedGate(engine, self.url, stopping)
        door = azdo.connect(self.url, TOKEN, limits=limits, gate=gate)
        made = worker.Worker(self.settings, engine, self.known, stopping)
        project = self.organisation.projects[_STORY.project_id]
        try:
            yield Trial(self.organisation, project, engine, door, made, numbers)
        finally:
            self.organisation.faults.clear()
            self.way_in.open()
            engine.dispose()

    def _empty_database(self) -> Engine:
        if self.database:
            engine = db.open_engine(self.database)
            names = ", ".join(f'"{table.name}"' for table in SQLModel.metadata.sorted_tables)
            with engine.begin() as connection:
                connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))
            return engine
        file = self.folder / "trial.db"
        for old in self.folder.glob("trial.db*"):
            old.unlink()
        shutil.copy(self.template, file)
        return db.open_engine(f"sqlite:///{file}")


@contextmanager
def stage(database: str = "") -> Iterator[Stage]:
    """Serve an organisation behind a turnstile; on a database of PostgreSQL, or on files of its own."""
    organisation = Organisation("contoso")
    with ExitStack() as stack:
        # Where it can be in memory: nothing here is about what survives a power loss.
        memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="triage-faults-", dir=memory)))
        played = stack.enter_context(server.serve(organisation, token=TOKEN))
        port = int(played.url.split(":")[2].split("/")[0])
        way_in = stack.enter_context(turnstile.before(port))
        organisation.url = f"http://127.0.0.1:{way_in.port}/contoso"
        organisation.shut = way_in.shut
        on_server = database if database.startswith("postgresql") else ""
        yield Stage(organisation, organisation.url, way_in, folder, on_server)
