"""R2 and R13: receivers that are killed under load, and `triage serve` told to stop."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
import uvicorn
from sqlmodel import Session, select

from tests import hook
from tests.promises import lane as lanes
from tests.promises import played, queued
from tests.promises.lane import Tally
from triage import jobs, service, web
from triage.db import Job
from triage.intake.bus import Bus
from triage.sandbox.organisation import Fault

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from tests.promises.lane import Lane
    from triage.config import Settings
    from triage.sandbox.organisation import Organisation

CONNECTIONS = 50
_EVENTS = 500  # for each kill, so that there is always one to send
_EXIT_SECONDS_MAX = 25.0
_ROOT = Path(__file__).parents[2]


def no_202_lost(lane: Lane, trials: int, offset: int) -> Tally:
    """R2: the receiver is killed again and again under load; what it has answered 202 is all there."""
    tally = Tally()
    chance = random.Random(offset)
    listening = listener()
    bodies = lane.played.ask(played.add_builds, f"{lane.name}-load", _EVENTS * trials)
    load = lane.fork(_load, listening.getsockname()[1], bodies)
    for number in range(trials):
        # Every other one at a fault point, the others at any time.
        at = chance.randint(1, 120) if number % 2 else 0
        receiver = lane.fork(receive, listening, at=at)
        receiver.end(kill_after=3.0 if at else chance.uniform(0.05, 0.4))
        tally.trials += 1
        tally.kills += receiver.was_killed
    last = lane.fork(receive, listening)
    load.signal(signal.SIGTERM)
    (acked,) = load.end().said
    last.signal(signal.SIGTERM)
    last.end()
    listening.close()
    with Session(lane.engine) as session:
        stored = set(session.exec(select(Job.run_id).where(Job.kind == jobs.Kind.BUILD)))
    lane.engine.dispose()
    lost = set(acked) - stored
    tally.count("events answered 202", len(set(acked)))
    tally.violations += [f"run {number} was answered 202 and is not there" for number in sorted(lost)]
    return tally


def listener() -> socket.socket:
    """Return a socket that takes connections while nobody answers, as a proxy in front does."""
    made = service.listen("127.0.0.1", 0)
    made.listen(1024)
    return made


def receive(
    say: Callable[[Any], None], lane: Lane, listening: socket.socket, settings: Settings | None = None
) -> None:
    """Do as `triage serve` does, without its workers: the hook, and the queue where the settings name one."""
    queued.hurry()
    server: uvicorn.Server | None = None
    is_told = False

    def stop(*_: object) -> None:
        nonlocal is_told
        is_told = True
        if server is not None:
            server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)  # before uvicorn listens to them; it raises them again afterwards
    with Bus(settings or lane.settings, lane.engine) as bus:
        app = web.create_app(bus.settings, lane.engine, forward=service._forward(bus))
        server = uvicorn.Server(service._uvicorn(app))
        if is_told:
            server.should_exit = True
        server.run([listening])


def _load(say: Callable[[Any], None], lane: Lane, port: int, bodies: list[tuple[int, bytes]]) -> list[int]:
    """Send event after event over many connections, again when no answer comes. Returns what was taken."""
    lane.engine.dispose()
    taken: list[int] = []
    over = False

    def stop(*_: object) -> None:
        nonlocal over
        over = True

    signal.signal(signal.SIGTERM, stop)
    left = iter(bodies)

    async def sender() -> None:
        line: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        for number, body in left:
            while True:
                try:
                    line = line or await asyncio.open_connection("127.0.0.1", port)
                    status = await asyncio.wait_for(hook.post(*line, body), 5)
                except (OSError, EOFError, ValueError, TimeoutError):
                    line, status = None, 0
                if status == 202:
                    taken.append(number)
                    break
                if over:
                    return
                await asyncio.sleep(0.005)
            if over:
                return

    async def all_of_them() -> None:
        await asyncio.gather(*(sender() for _ in range(CONNECTIONS)))

    asyncio.run(all_of_them())
    return taken


def drained(lane: Lane, trials: int, offset: int) -> Tally:
    """R13: `triage serve` is told to stop under load; the next one goes on."""
    tally = Tally()
    everything: list[played.Sent] = []
    for _ in range(trials):
        listener = service.listen("127.0.0.1", 0)
        port = listener.getsockname()[1]
        listener.close()
        serving = serve(lane, port)
        new = [lane.fail(1, 1) for _ in range(6)]
        everything += new
        _send(port, new)
        lane.played.ask(_slow, 4)
        _until_busy(lane)
        serving.terminate()
        begun = time.monotonic()
        try:
            code: int | str = serving.wait(60)
        except subprocess.TimeoutExpired:
            serving.kill()
            code = "never"
        took = time.monotonic() - begun
        tally.trials += 1
        name = "seconds to exit (most)"
        tally.figures[name] = max(tally.figures.get(name, 0), round(took, 1))
        if code != 0 or took > _EXIT_SECONDS_MAX:
            tally.violations.append(f"ended with {code} after {took:.1f} s")
        held = running(lane)
        tally.violations += [f"{key} was left half-done" for key in held]
        tally.count("jobs waiting at the end", len(lanes.unfinished(lane)))
    lane.played.ask(played.forget_faults)
    lane.fork(lanes.attempt, [], (), lane.worker(), True).end()
    for sent in everything:
        seen = lane.seen(sent)
        tally.violations += played.wrong(sent, seen)
        if seen.created != 1:
            tally.violations.append(f"{sent.project}: filed {seen.created} times")
    tally.violations += lanes.unfinished(lane)
    return tally


def serve(lane: Lane, port: int, **more: str) -> subprocess.Popen[bytes]:
    """Start `triage serve` with settings under which nothing waits, and with `more` of them."""
    command = [sys.executable, "-m", "triage", "serve"]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        command, env=environment(lane, port, **more), cwd=_ROOT, stdout=quiet, stderr=quiet
    )


def environment(lane: Lane, port: int, **more: str) -> dict[str, str]:
    """Return what `triage serve` finds its settings in."""
    told = {
        "AZURE_DEVOPS__URL": lane.settings.azure_devops.url,
        "AZURE_DEVOPS__TOKEN": played.TOKEN,
        "DATABASE__URL": lane.settings.database.url,
        "HOOK__PASSWORD": hook.PASSWORD,
        "SERVER__PORT": str(port),
        "POLICY__SETTLE_SECONDS": "0",
        "POLICY__GROUP_WAIT_SECONDS": "0",
        "POLICY__GROUP_INTERVAL_SECONDS": "0",
        "POLICY__ITEMS_PER_PROJECT_HOUR": "1000",
        "SWEEP__EVERY_SECONDS": "0",
        "WATCH__EVERY_SECONDS": "0",
        "AFTER_RENEWAL__EVERY_SECONDS": "0",
        **more,
    }
    kept = {**os.environ, "TRIAGE_CONFIG": os.devnull, "PYTHONPATH": str(_ROOT)}
    return kept | {f"TRIAGE_{name}": value for name, value in told.items()}


def _send(port: int, everything: Sequence[played.Sent]) -> None:
    """Tell of runs, as Azure DevOps does until it is answered."""
    address = f"http://127.0.0.1:{port}/hooks/azure-devops"
    end = time.monotonic() + 60
    for sent in everything:
        for body in sent.bodies:
            while True:
                try:
                    if (
                        requests.post(address, body, auth=("triage", hook.PASSWORD), timeout=10).status_code
                        == 202
                    ):
                        break
                except requests.ConnectionError:
                    if time.monotonic() > end:
                        raise
                time.sleep(0.05)


def _slow(organisation: Organisation, times: int) -> None:
    """Be slow to answer, so that work is under way when the end comes."""
    organisation.faults.append(Fault("GET", "/timeline", times=times, delay_seconds=0.7))


def running(lane: Lane) -> list[str]:
    """Return the jobs that somebody is at."""
    with Session(lane.engine) as session:
        held = list(session.exec(select(Job.key).where(Job.state == jobs.State.RUNNING)))
    lane.engine.dispose()
    return held


def _until_busy(lane: Lane) -> None:
    end = time.monotonic() + 30
    while not running(lane) and time.monotonic() < end:
        time.sleep(0.02)
