"""A played organisation and triage in processes of their own, and someone who tells one of the other's runs."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlmodel import Session, col, func, select

from tests import hook
from tests.promises import forked
from triage import db, jobs, service
from triage.bootstrap import ROOT
from triage.db import Incident, Job
from triage.sandbox import events, stories, wire
from triage.sandbox.organisation import Fault, Organisation
from triage.sandbox.scenario import PullRequestTable, RunTable
from triage.sandbox.server import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from multiprocessing.connection import Connection

    from sqlalchemy.engine import Engine

TOKEN = "played"
CONNECTIONS = 50
_STORY = "acr-automatic-connection"
_MEGABYTE = 1024 * 1024
_AGAIN_SECONDS = (1, 2, 4, 8)  # as Azure DevOps sends again what is answered 503
_STARTED = 12  # samples, after which every process has started


class Played:
    """A served organisation; `ask` has a function of a module called with it over there."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._line, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there,), daemon=True)
        self._process.start()
        there.close()
        self.url = str(self._line.recv())

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a function says of the organisation."""
        return forked.ask(self._line, function, *arguments)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.join()
        self._line.close()


def _serve(line: Connection) -> None:
    forked.answer(line, _served)


@contextmanager
def _served() -> Iterator[tuple[str, Callable[..., Any]]]:
    organisation = Organisation("contoso")

    def call(function: Callable[..., Any], *arguments: Any) -> Any:
        with organisation.lock:
            return function(organisation, *arguments)

    with serve(organisation, token=TOKEN):
        yield organisation.url, call


def fail(organisation: Organisation, name: str, runs: int, pipelines: int, pull_requests: int) -> list[bytes]:
    """Let pipelines of a new project fail of one secret, in turn. Returns the events that tell of it."""
    told = next(story.scenario for story in stories.load() if story.name == _STORY)
    table = told.runs[0]
    tables = [table.model_copy(update={"pipeline": f"{name}-{number}"}) for number in range(pipelines)]
    tables += [_of_pull_request(tables[number % pipelines], number) for number in range(pull_requests)]
    project_table = told.project.model_copy(update={"name": name})
    story = stories.Story(told.model_copy(update={"project": project_table, "runs": tables[:runs]}))
    story.set_up(organisation)
    numbers = story.play(organisation, lambda _: None)
    project = organisation.projects[story.project_id]
    while len(numbers) < runs:
        same = numbers[len(numbers) % len(tables)]
        number = organisation.next_id()
        text = json.dumps(project.builds[same]).replace(f"/{same}/", f"/{number}/")
        project.builds[number] = {**json.loads(text.replace(f'={same}"', f'={number}"')), "id": number}
        project.timelines[number] = project.timelines[same]
        project.current_timeline[number] = project.current_timeline[same]
        project.logs[number] = project.logs[same]
        numbers.append(number)
    return [
        json.dumps(
            events.render("build.complete", project.builds[number], organisation.url, project)
        ).encode()
        for number in numbers
    ]


def run_of(event: bytes) -> int:
    """Return the run that an event tells of."""
    return int(json.loads(event)["resource"]["id"])


def _of_pull_request(table: RunTable, number: int) -> RunTable:
    return table.model_copy(update={"pull_request": PullRequestTable(id=1000 + number)})


@dataclass(frozen=True)
class Seen:
    """What triage did in a project."""

    work_items: int
    revisions: int  # of the work item with the most
    threads: int  # on the pull request with the most
    comments: int  # on the pull request with the most


def seen(organisation: Organisation, name: str) -> Seen:
    """Return what triage did in a project."""
    project = organisation.projects[wire.guid("project", name)]
    threads = [each for each in project.threads.values() if each]
    return Seen(
        len(project.work_items),
        max((int(item.get("rev", 1)) for item in project.work_items.values()), default=0),
        max((len(each) for each in threads), default=0),
        max((sum(len(thread["comments"]) for thread in each) for each in threads), default=0),
    )


def calls(organisation: Organisation) -> dict[str, int]:
    """Return how many requests came, by method and what they were about."""
    return dict(Counter(f"{method} {_resource(path)}" for method, path in organisation.asked))


def _resource(path: str) -> str:
    """Return a path without organisation, project and ids."""
    steps = path.split("/_apis/", 1)[-1].split("/")
    named = [step for step in steps if not any(sign.isdigit() for sign in step)]
    return "/".join(["timeline"] if "timeline" in map(str.lower, named) else named).lower()


def be_slow(organisation: Organisation, seconds: float) -> None:
    """Take so long for each answer, as a service far away does."""
    organisation.faults[:] = [
        Fault(method, "", times=sys.maxsize, delay_seconds=seconds)
        for method in ("GET", "POST", "PUT", "PATCH")
    ]


@dataclass
class Sent:
    """What became of events that were told."""

    statuses: list[int]
    latencies: list[float]  # seconds from when it was to be sent to the answer
    seconds: float
    again: int = 0  # sent again after a 503

    def percentile(self, part: float) -> float:
        """Return the latency within which this part of the events was answered."""
        return sorted(self.latencies)[min(int(len(self.latencies) * part), len(self.latencies) - 1)]


def send(port: int, bodies: Sequence[bytes], *, seconds: float = 0.0, host: str = "127.0.0.1") -> Sent:
    """Tell of events over many connections, spread evenly over a time, or as fast as they are taken."""
    sent = Sent([0] * len(bodies), [0.0] * len(bodies), 0.0)
    left = iter(enumerate(bodies))
    begun = time.perf_counter()

    async def sender() -> None:
        line = await asyncio.open_connection(host, port)
        for number, body in left:
            due = begun + seconds * number / len(bodies)
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            at = due if seconds else time.perf_counter()
            sent.statuses[number] = await hook.post(*line, body)
            for wait in _AGAIN_SECONDS:
                if sent.statuses[number] != HTTPStatus.SERVICE_UNAVAILABLE:
                    break
                sent.again += 1
                await asyncio.sleep(wait)
                sent.statuses[number] = await hook.post(*line, body)
            sent.latencies[number] = time.perf_counter() - at
        line[1].close()
        await line[1].wait_closed()

    async def everybody() -> None:
        await asyncio.gather(*(sender() for _ in range(min(CONNECTIONS, len(bodies)))))

    asyncio.run(everybody())
    sent.seconds = time.perf_counter() - begun
    return sent


@dataclass
class Memory:
    """What processes held, sampled while they worked."""

    samples: list[float] = field(default_factory=list)  # megabytes, of all of them
    largest: float = 0.0  # of one

    @property
    def growth(self) -> float:
        """How much more they held in the last fifth than in the second."""
        fifth = len(self.samples) // 5
        if fifth < _STARTED:
            return 0.0
        return max(self.samples[-fifth:]) - max(self.samples[fifth : 2 * fifth])


class Triage:
    """`triage serve` or `triage work` as processes, their memory watched."""

    def __init__(self, organisation: str, database: str, folder: Path, **more: str) -> None:
        self.port = _free_port()
        self.memory = Memory()
        self._environment = _environment(organisation, database, self.port, more)
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._sample, daemon=True)
        self._watch.start()

    def serve(self, *, workers: int = 2) -> None:
        """Start `triage serve` and wait until it answers."""
        self._start("serve", workers)
        self._wait()

    def receive(self) -> None:
        """Start what takes events and works on none."""
        self._start("receive", 1)
        self._wait()

    def work(self, *, workers: int = 1, within: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Start `triage work`, behind a command that runs it elsewhere."""
        return self._start("work", workers, within)

    def _wait(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                if asyncio.run(_answers(self.port)):
                    return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("triage does not start: " + self.log())

    def _start(self, command: str, workers: int, within: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        with (self._folder / "triage.log").open("ab") as log:
            process = subprocess.Popen(
                [*within, sys.executable, "-m", "tests.storms.entry", command],
                env={**self._environment, "TRIAGE_WORKERS": str(workers)},
                cwd=self._folder,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        self._running.append(process)
        return process

    def poison(self, how: Mapping[int, str]) -> None:
        """Let runs take down who reads their timeline: `crash`, `exit`, `hang` or `grow`."""
        self._environment["STORM_POISON"] = ",".join(f"{kind}={number}" for number, kind in how.items())

    def log(self) -> str:
        """Return the end of what triage said."""
        return (self._folder / "triage.log").read_text()[-2000:]

    def stop(self) -> None:
        """Tell all to stop, and wait until they have."""
        for process in self._running:
            process.send_signal(signal.SIGTERM)
        for process in self._running:
            process.wait(60)
        self._running.clear()

    def close(self) -> None:
        """Stop, and stop watching."""
        self.stop()
        self._over.set()
        self._watch.join()

    def pids(self) -> list[int]:
        """Return every process of triage, workers too."""
        parents = [process.pid for process in self._running if process.poll() is None]
        return [*parents, *(child for parent in parents for child in _children(parent))]

    def _sample(self) -> None:
        while not self._over.wait(0.5):
            held = [_resident(pid) for pid in self.pids()]
            self.memory.samples.append(sum(held))
            self.memory.largest = max([self.memory.largest, *held])


async def _answers(port: int) -> bool:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    await writer.wait_closed()
    return True


def _environment(organisation: str, database: str, port: int, more: Mapping[str, str]) -> dict[str, str]:
    told = {
        "AZURE_DEVOPS__URL": organisation,
        "AZURE_DEVOPS__TOKEN": TOKEN,
        "DATABASE__URL": database,
        "HOOK__PASSWORD": hook.PASSWORD,
        "SERVER__PORT": str(port),
        "POLICY__SETTLE_SECONDS": "0",
        "POLICY__GROUP_WAIT_SECONDS": "1",
        "POLICY__GROUP_INTERVAL_SECONDS": "5",
        "SWEEP__EVERY_SECONDS": "0",
        "WATCH__EVERY_SECONDS": "0",
        "AFTER_RENEWAL__EVERY_SECONDS": "0",
        **more,
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRIAGE_")}
    own = {name if name.startswith("STORM_") else f"TRIAGE_{name}": value for name, value in told.items()}
    return {**kept, "TRIAGE_CONFIG": os.devnull, "PYTHONPATH": str(ROOT), **own}


def _free_port() -> int:
    listener = service.listen("127.0.0.1", 0)
    port = int(listener.getsockname()[1])
    listener.close()
    return port


def _children(pid: int) -> list[int]:
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


def _resident(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / _MEGABYTE


@contextmanager
def database(url: str) -> Iterator[Engine]:
    """Open a database, its schema up to date."""
    engine = db.open_engine(url)
    db.migrate(engine)
    yield engine
    engine.dispose()


def runs_left(engine: Engine) -> int:
    """Return how many runs wait or are being worked on."""
    with Session(engine) as session:
        query = select(func.count()).where(col(Job.finished_at).is_(None), Job.kind == jobs.Kind.BUILD)
        return session.exec(query).one()


def drain(engine: Engine, *, patience: float, left: Callable[[Engine], int] = runs_left) -> float:
    """Wait until nothing is left. Returns the seconds it took; raises AssertionError when it takes too long."""
    begun = time.monotonic()
    while waiting := left(engine):
        assert time.monotonic() - begun < patience, f"{waiting} are left after {patience:g} s"
        time.sleep(0.5)
    return time.monotonic() - begun


def soon(engine: Engine) -> int:
    """Return how many jobs run or are to run within seconds."""
    return jobs.unfinished(engine, within_seconds=10)


def counted(engine: Engine) -> list[int]:
    """Return how many runs each incident broke."""
    with Session(engine) as session:
        return list(session.exec(select(Incident.run_count).order_by(col(Incident.id))))
