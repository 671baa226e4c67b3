"""Several machines, one database, one queue, one organisation: each run counts once, whoever is cut off."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import requests
from cryptography.hazmat.primitives.serialization import Encoding
from sqlmodel import Session, col, func, or_, select, update

from tests import namespaces, postgres
from tests.promises import played
from triage import db, jobs, match
from triage.bootstrap import ROOT
from triage.db import Effect, Job
from triage.sandbox import entra, hooks, server
from triage.sandbox.bus import Broker, Queue
from triage.sandbox.organisation import Fault, Organisation

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Engine

    from tests.databases import Databases
    from tests.promises.played import Sent

PASSWORD, TOKEN, PORT = "the hook's own", "played", 8080
QUICKER = 10  # so many times quicker than Azure DevOps sends again
HOSTS = ("one", "two")
_PATIENCE_SECONDS = 60.0


@dataclass
class Machines:
    """Two hosts, each with a `triage serve` and a `triage work`, and what they share."""

    network: namespaces.Network
    organisation: Organisation
    engine: Engine
    courier: hooks.Courier
    running: dict[str, list[subprocess.Popen[bytes]]]
    projects: int = 0

    def fail(self, projects: int) -> list[Sent]:
        """Let two runs of each of some new projects fail, and tell of them in every way there is."""
        everything = []
        for _ in range(projects):
            self.projects += 1
            everything.append(played.fail(self.organisation, f"project-{self.projects}", 1, 1))
        with self.network.inside(namespaces.SERVICES):
            for event in (event for sent in everything for event in played.events(sent)):
                self.courier.take(event)
        return everything

    def be_slow(self, *, times: int, seconds: float) -> None:
        """Let the organisation take its time, so that workers are seen at their jobs."""
        self.organisation.faults[:] = [Fault("GET", "/timeline", times=times, delay_seconds=seconds)]

    def wrong(self, everything: list[Sent]) -> list[str]:
        """Return what is not as if one machine had been told once."""
        told = []
        for sent in everything:
            with self.organisation.lock:
                seen = played.history(self.organisation, sent.project)
            told += played.wrong(sent, seen)
            told += [] if seen.created == 1 else [f"{sent.project}: {seen.created} work items were created"]
            told += [f"run {run}: {n} jobs" for run in sent.runs if (n := self.jobs_of(run)) != 1]
        return told

    def settled(self, everything: list[Sent]) -> list[str]:
        """Return what is not right, once all is or a while has passed."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while (told := self.wrong(everything)) and time.monotonic() < end:
            time.sleep(0.1)
        return told

    def jobs_of(self, run: int) -> int:
        with Session(self.engine) as session:
            return session.exec(select(func.count()).select_from(Job).where(Job.run_id == run)).one()

    def at(self, host: str) -> list[str]:
        """Return the kinds of the jobs that a host's workers are at."""
        with Session(self.engine) as session:
            held = select(Job.kind).where(Job.state == jobs.State.RUNNING, self._lease(Job.lease, host))
            return list(session.exec(held))

    def let_leases_end(self, host: str) -> None:
        """Let the time pass after which nobody waits for a host's workers any more."""
        with Session(self.engine) as session, session.begin():
            for table in (Job, Effect):
                own = self._lease(table.lease, host)
                session.exec(update(table).where(own).values(lease_until=db.present(-1)))

    def _lease(self, lease: Any, host: str) -> ColumnElement[bool]:
        return or_(*(col(lease).startswith(f"worker-{each.pid}-") for each in self.running[host]))

    def url(self, host: str) -> str:
        return f"http://{self.network.addresses[host]}:{PORT}"

    def told(self) -> list[str]:
        """Return how each subscription's deliveries ended; "succeeded" only when all did."""
        with self.organisation.lock:
            kept = list(self.organisation.notifications.values())
        return [min(note["result"] for note in notes) for notes in kept]

    def answers(self, host: str) -> bool:
        """Return True when a host's web server takes events."""
        with self.network.inside(namespaces.SERVICES):
            try:
                return requests.get(f"{self.url(host)}/healthz", timeout=2).ok
            except (requests.ConnectionError, requests.Timeout):
                return False


def until(true: Callable[[], object]) -> None:
    """Wait for something that must come true."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.1)


@pytest.fixture
def machines(databases: Databases, tmp_path: Path) -> Iterator[Machines]:
    if reason := namespaces.missing():
        pytest.skip(reason)
    match.load_pack()  # prepared and kept, so that not every process prepares it
    with ExitStack() as stack:
        network = stack.enter_context(namespaces.network(*HOSTS))
        here, organisation = network.addresses[namespaces.SERVICES], Organisation("contoso")
        authority, pem = entra.certificate(here)
        (tmp_path / "authority.pem").write_bytes(authority.public_bytes(Encoding.PEM))
        (tmp_path / "organisation.pem").write_bytes(pem)
        broker = Broker(Queue("triage"), address=here)
        with network.inside(namespaces.SERVICES):
            database = postgres.Server(databases.programs, address=here)
            stack.callback(database.close)
            stack.enter_context(
                server.serve(organisation, token=TOKEN, host=here, certificate=tmp_path / "organisation.pem")
            )
            stack.enter_context(broker)
        name = database.create()
        engine = db.open_engine(database.url(name))
        stack.callback(engine.dispose)
        db.migrate(engine)
        settings = _settings(organisation, broker, f"postgresql://triage@{here}/{name}")
        settings["REQUESTS_CA_BUNDLE"] = str(tmp_path / "authority.pem")
        stack.callback(network.end)
        running = {host: _start(network, host, settings, tmp_path) for host in HOSTS}
        courier = hooks.Courier(organisation, speed=QUICKER)
        made = Machines(network, organisation, engine, courier, running)
        for host in HOSTS:
            url = f"{made.url(host)}/hooks/azure-devops"
            organisation.subscribe(url, event_type="build.complete", username="triage", password=PASSWORD)
        organisation.subscribe_queue(broker.connection_string, "triage", event_type="build.complete")
        until(lambda: all(made.answers(host) for host in HOSTS))
        yield made


def _settings(organisation: Organisation, broker: Broker, database_url: str) -> dict[str, str]:
    told = {
        "AZURE_DEVOPS__URL": organisation.url,
        "AZURE_DEVOPS__TOKEN": TOKEN,
        "DATABASE__URL": database_url,
        "HOOK__PASSWORD": PASSWORD,
        "SERVICE_BUS__CONNECTION_STRING": broker.connection_string,
        "SERVICE_BUS__RECEIVERS": "1",
        "POLICY__SETTLE_SECONDS": "0",
        "POLICY__GROUP_WAIT_SECONDS": "0",
        "POLICY__GROUP_INTERVAL_SECONDS": "0",
        "SWEEP__EVERY_SECONDS": "0",  # what is lost stays lost
        "WATCH__EVERY_SECONDS": "0",
        "EXPIRY__EVERY_SECONDS": "0",
        "AFTER_RENEWAL__EVERY_SECONDS": "0",
        "WORKERS": "1",
    }
    kept = {**os.environ, "TRIAGE_CONFIG": os.devnull, "PYTHONPATH": str(ROOT), "NO_PROXY": "*"}
    return kept | {f"TRIAGE_{name}": value for name, value in told.items()}


def _start(
    network: namespaces.Network, host: str, settings: dict[str, str], folder: Path
) -> list[subprocess.Popen[bytes]]:
    own = {"TRIAGE_SERVER__HOST": network.addresses[host], "TRIAGE_SERVER__PORT": str(PORT)}
    with (folder / f"{host}.log").open("wb") as log:
        return [
            network.start(
                host, sys.executable, "-m", "triage", command, env=settings | own, stdout=log, stderr=log
            )
            for command in ("serve", "work")
        ]


@pytest.mark.timeout(300)
def test_a_host_that_is_cut_off_holds_nothing_up_and_doubles_nothing(machines: Machines) -> None:
    first = machines.fail(3)
    assert machines.settled(first) == []
    until(lambda: machines.courier.is_idle)
    assert machines.told() == ["succeeded"] * 3, "by both hooks and the queue"

    machines.be_slow(times=4, seconds=3.0)
    second = machines.fail(4)
    until(lambda: all(machines.jobs_of(run) for sent in second for run in sent.runs))
    until(lambda: all(machines.at(host) == [jobs.Kind.BUILD] * 2 for host in HOSTS))
    machines.network.unplug("one")
    third = machines.fail(2)  # of which one hook is told later
    machines.let_leases_end("one")
    assert machines.settled([*second, *third]) == []
    assert not machines.answers("one")

    machines.network.plug_in("one")
    machines.be_slow(times=1000, seconds=0.5)
    fourth = machines.fail(2)
    for _ in range(60):
        if is_back := bool(machines.at("one")):  # and has found that others had done its jobs
            break
        time.sleep(0.5)
        fourth += machines.fail(1)
    assert is_back
    assert machines.settled(fourth) == []
    until(lambda: machines.courier.is_idle)
    assert machines.wrong([*first, *second, *third]) == []
    assert machines.told() == ["succeeded"] * 3
    everybody = [process for host in HOSTS for process in machines.running[host]]
    for process in everybody:
        process.terminate()
    assert [process.wait(30) for process in everybody] == [0] * 4
