"""Worker processes and who looks after them: one that crashes, hangs or eats memory harms no other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from triage import db, diagnosis, jobs, own_log, worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import SpawnProcess

    from sqlalchemy.engine import Engine

    from triage.config import Settings

said = structlog.get_logger()

_LOOK_SECONDS = 0.5
_DRAIN_SECONDS = 20.0
_RESTART_SECONDS, _RESTART_MAX_SECONDS = 0.5, 30.0  # wait before a place is filled again
_STEADY_SECONDS = 60.0  # who lived so long, or was at a job, has not died of starting
_MEGABYTE = 1024 * 1024


class _Place:
    """One worker's place: the process that fills it now, and since when its job runs."""

    def __init__(self, crew: _Crew, number: int) -> None:
        self.crew = crew
        self.number = number
        self.begun: Any = crew.context.RawValue("d", 0.0)  # time.monotonic of its job; 0.0 between
        self.failures = 0
        self.next_start = 0.0
        self.process: SpawnProcess | None = None
        self.name = ""
        self.started = 0.0

    def look(self) -> None:
        """Fill the place when it is empty; end who should not go on."""
        if self.process is None:
            if time.monotonic() >= self.next_start:
                self.start()
            return
        if not self.process.is_alive():
            self.died(f"ended with exit code {self.process.exitcode}")
        elif (begun := self.begun.value) and time.monotonic() - begun > self.crew.settings.job_seconds_max:
            self.end("its job took too long")
        elif _resident_megabytes(self.process.pid) > self.crew.settings.worker_memory_mb:
            self.end("it used too much memory")

    def start(self) -> None:
        """Start a process in this place."""
        # Replicas that start together have the same process ids, each in a container of its own.
        self.name = f"worker-{os.getpid()}-{self.number}-{uuid.uuid4().hex[:12]}"
        self.begun.value = 0.0
        arguments = (self.crew.settings, self.name, self.begun)
        self.process = self.crew.context.Process(target=_work, args=arguments, name=self.name, daemon=True)
        self.process.start()
        self.started = time.monotonic()

    def end(self, why: str) -> None:
        """Kill the process."""
        if self.process is not None:
            self.process.kill()
            self.process.join(_DRAIN_SECONDS)
            self.died(f"was ended: {why}")

    def died(self, how: str) -> None:
        """Let others take its job at once, and plan who comes next.

        Who dies of a job harms nobody but the job; only who dies of starting is waited for, longer each time.
        """
        worked = self.begun.value or time.monotonic() - self.started > _STEADY_SECONDS
        self.failures = 1 if worked else self.failures + 1
        wait = min(_RESTART_SECONDS * 2 ** (self.failures - 1), _RESTART_MAX_SECONDS)
        self.next_start = time.monotonic() + wait
        self.process = None
        said.error("a worker is gone; another takes its place", worker=self.name, how=how, seconds=wait)
        with suppress(SQLAlchemyError):  # its lease runs out by itself
            jobs.abandon(self.crew.engine, self.name)


class _Crew(threading.Thread):
    """Looks after the places until told to stop."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        super().__init__(name="triage-crew", daemon=True)
        self.settings = settings
        self.engine = engine
        self.context = multiprocessing.get_context("spawn")  # forking beside threads is not safe
        self.leaving = threading.Event()
        self.places = [_Place(self, number) for number in range(settings.workers)]

    def run(self) -> None:
        """Look at every place, twice a second."""
        while not self.leaving.wait(_LOOK_SECONDS):
            for place in self.places:
                try:
                    place.look()
                except Exception:  # noqa: BLE001 - whatever it is: who looks after the others must not end
                    said.exception("a worker's place could not be looked at; trying again")

    def leave(self) -> None:
        """Let every worker finish what it has begun, for a while; then end it."""
        self.leaving.set()
        self.join()
        filled = [place for place in self.places if place.process is not None]
        for place in filled:
            if place.process is not None:
                place.process.terminate()  # a signal: an event that a killed process waited for would hang
        until = time.monotonic() + _DRAIN_SECONDS
        for place in filled:
            if place.process is not None:
                place.process.join(max(0.0, until - time.monotonic()))
                if place.process.is_alive():
                    place.end("it did not stop in time")


@contextmanager
def running(settings: Settings, engine: Engine) -> Iterator[None]:
    """Run the configured number of worker processes beside the caller; on leaving, let them finish."""
    crew = _Crew(settings, engine)
    for place in crew.places:
        place.start()
    crew.start()
    try:
        yield
    finally:
        crew.leave()


def _work(settings: Settings, name: str, begun: Any) -> None:
    """Be a worker, in a process of its own, until told to stop or left alone."""
    own_log.to_stderr()
    done = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    parent = os.getppid()

    def watch() -> None:
        while not done.wait(_LOOK_SECONDS):
            if os.getppid() != parent:
                done.set()

    threading.Thread(target=watch, name="triage-parent", daemon=True).start()
    engine = db.open_engine(settings.database.url)
    mate = worker.Worker(settings, engine, diagnosis.knowledge(settings), done, name=name)

    def on_job(running: bool) -> None:  # noqa: FBT001 - tells the beginning from the end
        begun.value = time.monotonic() if running else 0.0

    mate.on_job = on_job
    mate.run()
    engine.dispose()


def _resident_megabytes(pid: int | None) -> float:
    """Return the memory a process holds, 0.0 where the system does not tell (other than Linux)."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / _MEGABYTE
