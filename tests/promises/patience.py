"""R6: three worker processes, and a service that refuses what is too much.

Counts the requests that were sent although Azure DevOps had just refused one: those on their way when
it did, at most one for each other worker, and none later.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlmodel import Session, col, select

from tests.promises.lane import Tally
from triage import db, jobs
from triage.bootstrap import ROOT
from triage.domain import RunRef
from triage.sandbox import server, stories
from triage.sandbox.budget import Budget
from triage.sandbox.organisation import Organisation

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from tests.promises.lane import Lane

WORKERS = 3  # each a process of its own
_PATIENCE_SECONDS = 300.0
_PER_SECOND, _HASTY_PER_SECOND = 5, 12  # requests that the service takes
_FEW = 2  # stories, played in haste
_RETRY_AFTER = 1  # seconds that it refuses all after one more


def check(lane: Lane, trials: int, offset: int) -> Tally:
    """R6: the runs of so many stories, handed to the processes while the service asks for patience."""
    told = play(
        lane.settings.database.url,
        per_second=_PER_SECOND if trials > _FEW else _HASTY_PER_SECOND,
        retry_after=_RETRY_AFTER,
        stories_max=trials,
    )
    budget, tally = told.budget, Tally(trials=told.budget.refusals)
    tally.hold(budget.refusals > 0, "the service never asked for patience")
    most = budget.most_in_one()
    tally.hold(most < WORKERS, f"{most} requests while the service asked for patience")
    tally.hold(not told.unfinished, f"{told.unfinished} runs were not triaged in time")
    tally.hold(not told.given_up, f"{told.given_up} jobs were given up")
    tally.hold(not told.attempts, f"it cost the jobs {told.attempts} attempts")
    tally.figures = {
        "runs": told.runs,
        "requests served": budget.served,
        "on their way when refused (most)": most,
        "ms later at the latest (most)": round(max(budget.forbidden, default=0.0) * 1000),
    }
    return tally


@dataclass(frozen=True)
class Told:
    """What the service saw."""

    budget: Budget
    runs: int
    unfinished: int
    given_up: int
    attempts: int  # of all jobs together
    work_items: int
    seconds: float


def play(url: str, *, per_second: int, retry_after: int, stories_max: int | None = None) -> Told:
    """Let the processes triage stories' runs while the service takes so many requests a second."""
    organisation = Organisation("contoso")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="triage-patience-")))
        played = stack.enter_context(server.serve(organisation, token="played-token"))
        engine = db.open_engine(url)
        db.migrate(engine)
        runs = 0
        for story in stories.load()[:stories_max]:
            story.set_up(organisation)
            for number in story.play(organisation, lambda _: None):
                runs += jobs.put(engine, RunRef(story.project_id, number), marker="1")
        organisation.budget = Budget(per_second, retry_after)
        started = time.monotonic()
        log = folder / "workers.log"
        process = stack.enter_context(_workers(played.url, url, log))
        while _waiting(engine) and time.monotonic() - started < _PATIENCE_SECONDS:
            if process.poll() is not None:
                raise RuntimeError("the workers ended: " + log.read_text()[-2000:])
            time.sleep(0.2)
        took = time.monotonic() - started
        process.terminate()
        process.wait(60)
        with Session(engine) as session:
            done = session.exec(select(db.Job).where(db.Job.kind != jobs.Kind.MERGE)).all()
        engine.dispose()
        return Told(
            budget=organisation.budget,
            runs=runs,
            unfinished=sum(each.state not in jobs.FINISHED for each in done),
            given_up=sum(each.state in {jobs.State.DISCARDED, jobs.State.QUARANTINED} for each in done),
            attempts=sum(each.attempts for each in done),
            work_items=sum(len(project.work_items) for project in organisation.projects.values()),
            seconds=took,
        )


def _waiting(engine: Engine) -> int:
    """Return how many jobs are to be done; whether an item was filed twice is asked minutes later."""
    with Session(engine) as session:
        left = session.exec(
            select(db.Job.id).where(col(db.Job.state).not_in(jobs.FINISHED), db.Job.kind != jobs.Kind.MERGE)
        )
        return len(left.all())


def _workers(organization: str, database: str, log: Path) -> subprocess.Popen[bytes]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TRIAGE_")},
        "TRIAGE_CONFIG": os.devnull,
        "TRIAGE_AZURE_DEVOPS__URL": organization,
        "TRIAGE_AZURE_DEVOPS__TOKEN": "played-token",
        "TRIAGE_DATABASE__URL": database,
        "TRIAGE_WORKERS": str(WORKERS),
        "TRIAGE_POLICY__SETTLE_SECONDS": "0",
        "TRIAGE_POLICY__GROUP_WAIT_SECONDS": "0",
        "TRIAGE_SWEEP__EVERY_SECONDS": "0",
        "TRIAGE_WATCH__EVERY_SECONDS": "0",
    }
    with log.open("wb") as told:
        return subprocess.Popen(
            [sys.executable, "-m", "triage", "work"], cwd=ROOT, env=environment, stdout=told, stderr=told
        )
