"""Measure failed runs through the whole pipeline: `python -m tests.bench.pipeline [--runs 400]`.

The played organisation runs in a process of its own. In this process one worker triages runs whose cause is
known already, then runs that are read whole; the same requests are made again bare, in a loop over one
connection. Then 1, 2 and 4 `triage work` share a database. Ratios compare what was measured in one run.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import logging
import tempfile
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import structlog
from sqlmodel import Session, func, select

from tests import hook, postgres
from tests.bench import report
from tests.bench.report import Row, tell
from tests.storms import checks, stage
from triage import azdo, config, db, diagnosis, jobs, match, worker
from triage.azdo import transport, wire
from triage.db import Job
from triage.intake.deliveries import Keeper
from triage.sandbox.wire import guid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import Engine

    from triage.sandbox.organisation import Organisation

_LATENCY = 0.1  # seconds that a call to Azure DevOps takes from an office or a cloud near it
_NOT_TOLD = {"POLICY__GROUP_WAIT_SECONDS": "3600", "POLICY__GROUP_INTERVAL_SECONDS": "3600"}
_PIPELINES_MAX = 20  # of a project
OWN_SHARE_MAX = 0.2


@dataclass
class Clock:
    """Seconds by what they were spent on; what is within something else counts once, as itself."""

    spent: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    _within: list[float] = field(default_factory=lambda: [0.0])

    def timed(self, what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that takes its time down."""

        def measured(*arguments: Any, **keywords: Any) -> Any:
            begun = time.perf_counter()
            self._within.append(0.0)
            try:
                return function(*arguments, **keywords)
            finally:
                took = time.perf_counter() - begun
                self.spent[what] += took - self._within.pop()
                self._within[-1] += took

        return measured


def main(runs: int, kind: str) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    report.head(f"Failed runs through the whole pipeline, {kind}")
    with tempfile.TemporaryDirectory(prefix="triage-pipeline-") as name:
        for what, pipelines, latency in (
            ("cause known", 1, 0.0),
            ("read whole", runs // 4, 0.0),
            ("cause known", 1, _LATENCY),
            ("read whole", runs // 8, _LATENCY),
        ):
            count = pipelines if pipelines > 1 else runs // (1 if not latency else 4)
            with _place(kind, Path(name)) as url:
                _one(what, count, pipelines, latency, url)
        for latency in (0.0, _LATENCY):
            before = 0.0
            for processes in (1, 2, 4):
                with _place(kind, Path(name)) as url, checks.scene(Path(name), url, **_NOT_TOLD) as at:
                    rate = _many(at, runs * processes // (4 if latency else 1), processes, latency)
                before = before or rate
                what = f"cause known, {1000 * latency:.0f} ms a call: {processes} processes"
                tell(Row(what, f"{rate:.1f} runs/s", f"{rate / before:.1f}×", "grows"))


def _one(what: str, count: int, pipelines: int, latency: float, url: str) -> None:
    """Triage runs in this process and tell where the time went."""
    played = stage.Played()
    try:
        with stage.database(url) as engine:
            mate, door = _ready(played, engine, url, count, pipelines, known=int(pipelines == 1))
            played.ask(stage.be_slow, latency)
            asked = played.ask(_asked_so_far)
            with _clocked(engine) as clock:
                begun, cpu = time.perf_counter(), time.process_time()
                done = _work(mate, door, engine)
                wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
            paths = played.ask(_asked_since, asked)
            bare = _bare(played.url, paths)
        where = f"{what}, {1000 * latency:.0f} ms a call"
        own = (wall - bare) / bare
        wanted = f"≤ {OWN_SHARE_MAX:.0%}" if latency else ""
        tell(Row(f"{where}: one worker", f"{done / wall:.1f} runs/s, {1000 * cpu / done:.1f} ms CPU each"))
        tell(
            Row("  the same calls bare", f"{len(paths) / done:.2f} calls, {1000 * bare / done:.1f} ms a run")
        )
        ok = own <= OWN_SHARE_MAX if latency else None
        tell(
            Row(
                "  our own work beside them",
                f"{1000 * (wall - bare) / done:.1f} ms a run",
                f"{own:.0%}",
                wanted,
                ok,
            )
        )
        rest = wall - sum(clock.spent.values())
        parts = {**clock.spent, "everything else": rest}
        told = ", ".join(f"{name} {1000 * spent / done:.1f}" for name, spent in parts.items())
        tell(Row("  ms a run", told))
    finally:
        played.close()


def _ready(
    played: stage.Played, engine: Engine, url: str, count: int, pipelines: int, *, known: int
) -> tuple[worker.Worker, azdo.Door]:
    bodies: list[bytes] = []
    for first in range(0, pipelines, _PIPELINES_MAX):
        some = min(pipelines - first, _PIPELINES_MAX)
        bodies += played.ask(stage.fail, f"pipeline-{first}", (count + known) * some // pipelines, some, 0)
    warming = played.ask(stage.fail, "warm", 3, 1, 0)
    settings = config.load(
        azure_devops={"url": played.url, "token": stage.TOKEN},
        database={"url": url},
        hook={"password": hook.PASSWORD},
        policy={"settle_seconds": 0, "group_wait_seconds": 3600, "group_interval_seconds": 3600},
    )
    mate = worker.Worker(settings, engine, diagnosis.knowledge(settings), threading.Event(), name="bench")
    door = azdo.connect(played.url, stage.TOKEN)
    keeper = Keeper(engine)
    for part in (warming + bodies[:known], bodies[known:]):
        _work(mate, door, engine)
        for body in part:
            keeper.store(body, played.url)
    return mate, door


def _work(mate: worker.Worker, door: azdo.Door, engine: Engine) -> int:
    done = 0
    while (job := jobs.claim(engine, mate.id)) is not None:
        mate.handle(door, job)
        done += 1
    return done


@contextmanager
def _clocked(engine: Engine) -> Iterator[Clock]:
    """Take down what is spent in SQL, in waiting for answers, in decoding and in searching."""
    clock = Clock()
    undo: list[tuple[Any, str, Any]] = []

    def wrap(owner: Any, name: str, what: str) -> None:
        undo.append((owner, name, getattr(owner, name)))
        setattr(owner, name, clock.timed(what, getattr(owner, name)))

    wrap(transport.BoundedClient, "exchange_once", "SDK and waiting")
    wrap(wire, "read", "reading answers")
    wrap(wire, "decoded", "decoding")
    wrap(match, "search", "searching")
    for name in ("do_execute", "do_commit", "do_rollback"):
        wrap(engine.dialect, name, "SQL")
    try:
        yield clock
    finally:
        for owner, name, function in undo:
            setattr(owner, name, function)


def _asked_so_far(organisation: Organisation) -> int:
    return len(organisation.asked)


def _asked_since(organisation: Organisation, number: int) -> list[tuple[str, str]]:
    return list(islice(organisation.asked, number, None))


def _bare(url: str, asked: list[tuple[str, str]]) -> float:
    """Make the same GETs over one connection. Returns the seconds."""
    there = urlsplit(url)
    login = base64.b64encode(f":{stage.TOKEN}".encode()).decode()
    headers = {"Authorization": f"Basic {login}", "Accept": "application/json;api-version=7.1-preview"}
    connection = http.client.HTTPConnection(there.hostname or "", there.port)
    begun = time.perf_counter()
    for method, path in asked:
        connection.request(method, "/" + quote(path.lstrip("/")), headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        if body.startswith(b"{"):
            json.loads(body)
    seconds = time.perf_counter() - begun
    connection.close()
    return seconds


def _many(at: checks.Scene, runs: int, processes: int, latency: float) -> float:
    """Return how many runs a second so many processes triage, once all have started."""
    warming = at.played.ask(stage.fail, "warm", 4 * processes, 1, 0)
    first, *bodies = at.played.ask(stage.fail, "many", runs + 1, 1, 0)
    keeper = Keeper(at.engine)
    for body in [*warming, first]:
        keeper.store(body, at.played.url)
    for _ in range(processes):
        at.triage.work()
    stage.drain(at.engine, patience=120)
    time.sleep(5)  # the last has started
    at.played.ask(stage.be_slow, latency)
    begun = db.now()
    with ThreadPoolExecutor(100) as pool:  # together, lest the workers wait for the next to be stored
        list(pool.map(lambda body: keeper.store(body, at.played.url), bodies))
    stage.drain(at.engine, patience=600)
    with Session(at.engine) as session:
        mine = (Job.project == guid("project", "many"), Job.kind == jobs.Kind.BUILD)
        ended = session.exec(select(func.max(Job.finished_at)).where(*mine)).one()
    assert ended is not None
    return runs / (ended - begun).total_seconds()


@contextmanager
def _place(kind: str, folder: Path) -> Iterator[str]:
    """Make a new database. Yields its URL."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory(dir=folder) as own:
            yield f"sqlite:///{own}/triage.db"
        return
    programs = postgres.programs()
    if programs is None:
        raise SystemExit(postgres.MISSING)
    server = postgres.Server(programs, durable=True)
    try:
        yield server.url(server.create())
    finally:
        server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    given = parser.parse_args()
    main(given.runs, given.database)
