"""A connection that is changed: what Azure DevOps tells of it, and what triage makes of that."""

from __future__ import annotations

import json
import multiprocessing
import queue
import signal
import threading
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any, cast

import pytest
import requests
from fastapi.testclient import TestClient
from sqlmodel import Session, select

from tests import findings
from tests.publish.conftest import Stage, process, stage
from tests.publish.test_mend import FAILED, LATER, PROMPT, broke, look, said, the_incident, the_item, used
from triage import azdo, config, db, diagnosis, faultpoint, jobs, mend, owner, plan, renewal, worker
from triage.sandbox import security
from triage.sandbox.organisation import Fault, wire_time
from triage.sandbox.tokens import Token
from triage.web.app import create_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from sqlalchemy.engine import Engine

    from triage import match

__all__ = ["process", "stage"]

PASSWORD = "a long and random password 1234567890"
SECRET = "must never be seen"


@pytest.fixture
def connected(stage: Stage) -> Stage:
    """A stage with the connection of `tests.findings`, and a person who may change it."""
    stage.project.endpoints[findings.CONNECTION] = {
        "id": findings.CONNECTION,
        "name": "prod-arm",
        "type": "azurerm",
        "url": "https://management.azure.com/",
        "authorization": {
            "scheme": "ServicePrincipal",
            "parameters": {"serviceprincipalid": findings.REPOSITORY, "serviceprincipalkey": SECRET},
        },
        "data": {"creationMode": "Manual"},
        "isReady": True,
        "modificationDate": "2026-01-01T00:00:00Z",
    }
    jo = {"id": findings.REPOSITORY, "displayName": "Jo", "uniqueName": "jo@contoso.example"}
    may = security.ENOUGH | {"ServiceEndpoints/Administer"}
    stage.organisation.tokens["jo"] = Token(caller=jo, rights=may)
    return stage


def change(stage: Stage, token: str = "jo", **given: Any) -> requests.Response:
    """Change the connection as a person does: read it, and put it back."""
    there = f"{stage.organisation.url}/Shop/_apis/serviceendpoint/endpoints/{findings.CONNECTION}"
    shown = requests.get(there, auth=("", token), timeout=10).json()
    address = f"{stage.organisation.url}/_apis/serviceendpoint/endpoints/{findings.CONNECTION}"
    query = {"api-version": "7.1"}
    return requests.put(address, params=query, auth=("", token), json={**shown, **given}, timeout=10)


@pytest.fixture
def told(connected: Stage) -> Iterator[queue.Queue[bytes]]:
    """What Azure DevOps posts to a subscriber of the connection's changes."""
    bodies: queue.Queue[bytes] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.put(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    connected.organisation.subscribe(
        f"http://127.0.0.1:{server.server_address[1]}/hook",
        event_type="ms.vss-endpoint.endpoint-updated",
        username="triage",
        password=PASSWORD,
    )
    yield bodies
    server.shutdown()
    thread.join()
    server.server_close()


def settings_of(stage: Stage) -> config.Settings:
    return config.load(
        azure_devops={"url": stage.organisation.url, "token": "played"}, hook={"password": PASSWORD}
    )


def receive(stage: Stage, engine: Engine, body: bytes) -> dict[str, str]:
    with TestClient(create_app(settings_of(stage), engine)) as client:
        answer = client.post("/hooks/azure-devops", content=body, auth=("triage", PASSWORD))
    assert answer.status_code == 202
    kept: dict[str, str] = answer.json()
    return kept


def work(stage: Stage, engine: Engine, policy: plan.Policy | None = None) -> db.Job:
    """Let a worker do the one job that waits, and return it."""
    settings = settings_of(stage)
    known = diagnosis.Knowledge(
        pack=cast("match.Pack", None),  # no log is read
        recipes=renewal.load(),
        owners=None,
        fallback=owner.Fallback(),
        policy=policy or PROMPT,
        pages_url=settings.pages_url,
    )
    one = worker.Worker(settings, engine, known, threading.Event(), name="one")
    job = jobs.claim(engine, one.id)
    assert job is not None
    one.handle(stage.door, job)
    with Session(engine) as session:
        return session.exec(select(db.Job).where(db.Job.id == job.id)).one()


def test_a_change_is_told_and_hastens_the_proof(
    connected: Stage, told: queue.Queue[bytes], engine: Engine
) -> None:
    broke(engine, connected, connected.finding())
    assert change(connected).status_code == 200
    body = told.get(timeout=10)
    assert SECRET.encode() not in body
    assert receive(connected, engine, body)["outcome"] == "queued"
    done = work(connected, engine)
    assert (done.kind, done.outcome) == ("connection", "Looked at 1 open incident; 0 are over.")
    assert the_incident(engine).state == "open", "that it was changed proves nothing"
    used(connected, LATER)
    change(connected)
    receive(connected, engine, told.get(timeout=10))
    assert work(connected, engine).outcome == "Looked at 1 open incident; 1 are over."
    assert the_incident(engine).state == "closed"


def test_a_change_told_twice_is_looked_at_once(
    connected: Stage, told: queue.Queue[bytes], engine: Engine
) -> None:
    change(connected)
    body = told.get(timeout=10)
    assert receive(connected, engine, body)["outcome"] == "queued"
    assert receive(connected, engine, body)["outcome"] == "duplicate"
    change(connected)
    another = told.get(timeout=10)
    assert receive(connected, engine, another)["outcome"] == "duplicate", "the look planned will see it"
    assert work(connected, engine).outcome.startswith("No open incident is about this connection")
    assert receive(connected, engine, body)["outcome"] == "duplicate"
    change(connected)
    assert receive(connected, engine, told.get(timeout=10))["outcome"] == "queued"


def test_what_cannot_be_read_is_answered_and_kept(connected: Stage, engine: Engine) -> None:
    event = {"eventType": "ms.vss-endpoint.endpoint-updated", "id": "e", "resource": {"id": 7}}
    assert receive(connected, engine, json.dumps(event).encode())["outcome"] == "ignored"
    with Session(engine) as session:
        assert session.exec(select(db.Delivery.event_type)).one() == event["eventType"]
        assert session.exec(select(db.Job)).first() is None


def test_the_played_organisation_keeps_secrets_and_asks_for_the_right(connected: Stage) -> None:
    refused = change(connected, token="played")
    assert (refused.status_code, "needs Administer permissions" in refused.text) == (403, True)
    done = change(connected, description="renewed").json()
    assert (done["description"], done["modifiedBy"]["displayName"]) == ("renewed", "Jo")
    assert done["authorization"]["parameters"]["serviceprincipalkey"] is None
    kept = connected.project.endpoints[findings.CONNECTION]
    assert kept["authorization"]["parameters"]["serviceprincipalkey"] == SECRET


def changed(stage: Stage, at: datetime, by: str = "Jo") -> None:
    """Let somebody have changed the connection at a moment."""
    stage.project.endpoints[findings.CONNECTION] |= {
        "modifiedBy": {"id": findings.REPOSITORY, "displayName": by},
        "modificationDate": wire_time(at),
    }


def test_a_change_after_the_failure_is_told_once(connected: Stage, engine: Engine) -> None:
    broke(engine, connected, connected.finding())
    look(engine, connected)
    changed(connected, FAILED - timedelta(minutes=1))
    look(engine, connected)
    number = the_item(connected)["id"]
    assert said(connected, number) == [], "a change before the failure helped nobody"
    changed(connected, LATER, by="J[o](https://evil.example)")
    for _ in range(3):
        assert look(engine, connected) == "Looked at 1 open incident; 0 are over."
    (comment,) = said(connected, number)
    assert (
        "<strong>The connection was changed</strong> by J[o](https://evil.example) on 2026-11-21 at"
        in comment
    )
    assert "triage closes this item once a run that uses it has passed." in comment
    assert the_item(connected)["fields"]["System.State"] == "New"
    changed(connected, LATER + timedelta(minutes=5))
    look(engine, connected)
    assert len(said(connected, number)) == 2, "another change, another word"


@pytest.mark.parametrize(
    ("after", "told"), [("resolve", "sets this item to resolved once"), ("comment", "says so here once")]
)
def test_what_a_change_leads_to_is_policy(connected: Stage, engine: Engine, after: str, told: str) -> None:
    broke(engine, connected, connected.finding())
    changed(connected, LATER)
    look(engine, connected, replace(PROMPT, work_item_after=after))
    assert told in said(connected, the_item(connected)["id"])[0]


def test_a_closed_item_hears_of_no_change(connected: Stage, engine: Engine) -> None:
    broke(engine, connected, connected.finding())
    the_item(connected)["fields"] |= {
        "System.State": "Closed",
        "System.ChangedDate": wire_time(FAILED - timedelta(hours=1)),
    }
    changed(connected, LATER)
    look(engine, connected)
    assert said(connected, the_item(connected)["id"]) == []


def test_a_digest_hears_of_no_change(connected: Stage, engine: Engine) -> None:
    thrifty = replace(PROMPT, items_per_project_hour=1)
    other = findings.connection(id="b460b0f8-0000-4000-8000-000000000009", name="arm-9")
    attribution = replace(findings.finding().attribution, connection=other)
    broke(engine, connected, connected.finding(findings.run(42), attribution=attribution), thrifty)
    broke(engine, connected, connected.finding(), thrifty)
    changed(connected, LATER)
    look(engine, connected, thrifty)
    assert [said(connected, number) for number in connected.project.work_items] == [[], []]


def test_the_connections_of_a_project_cost_one_request(connected: Stage, engine: Engine) -> None:
    for number in range(1, 5):
        other = findings.connection(id=f"b460b0f8-0000-4000-8000-{number:012}", name=f"arm-{number}")
        attribution = replace(findings.finding().attribution, connection=other)
        broke(engine, connected, connected.finding(attribution=attribution))
    connected.organisation.asked.clear()
    look(engine, connected)
    paths = [path for _, path in connected.organisation.asked if path.endswith("serviceendpoint/endpoints")]
    assert len(paths) == 1


@pytest.mark.parametrize("lose_reply", [True, False], ids=["reply lost", "refused"])
def test_a_comment_whose_answer_is_lost_is_not_said_twice(
    connected: Stage,
    engine: Engine,
    lose_reply: bool,  # noqa: FBT001
) -> None:
    broke(engine, connected, connected.finding())
    changed(connected, LATER)
    fault = Fault("PATCH", "/wit/workitems/", status=None if lose_reply else 500, lose_reply=lose_reply)
    connected.organisation.faults.append(fault)
    for _ in range(3):
        look(engine, connected)
    assert len(said(connected, the_item(connected)["id"])) == 1


def look_and_die(database: str, organisation: str, point: int, lease: str, policy: plan.Policy) -> None:
    """Look once whether open incidents are over, in a process that is killed at a point of it."""
    engine, door = db.open_engine(database), azdo.connect(organisation, "played")
    faultpoint.arm(point)
    mend.round_of(door, engine, policy, db.Job(key="mend@1", lease=lease))


def killed_at(point: int, stage: Stage, engine: Engine, policy: plan.Policy = PROMPT) -> bool:
    """Look in a process that is killed at a point, and end its leases. False when it got to its end."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    url = engine.url.render_as_string(hide_password=False)
    arguments = (url, stage.organisation.url, point, f"worker-{point}/1", policy)
    mate = processes.Process(target=look_and_die, args=arguments)
    mate.start()
    mate.join(60)
    if mate.exitcode == 0:
        return False
    assert mate.exitcode == -signal.SIGKILL
    jobs.abandon(engine, f"worker-{point}")
    return True


def test_a_worker_killed_anywhere_says_it_once(connected: Stage, engine: Engine) -> None:
    """Killed at every other point of a look, of those before and after each commit and each request."""
    broke(engine, connected, connected.finding())
    number = the_item(connected)["id"]
    for times, point in enumerate(range(1, 100, 2), 1):
        changed(connected, LATER + timedelta(minutes=point))
        killed = killed_at(point, connected, engine)
        look(engine, connected)
        assert len(said(connected, number)) == times, f"killed at point {point}"
        if not killed:
            break
    assert times > 5
