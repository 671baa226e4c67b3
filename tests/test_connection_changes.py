"""A connection that is changed: what Azure DevOps tells of it, and what triage makes of that."""

from __future__ import annotations

import json
import queue
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import requests
from fastapi.testclient import TestClient
from sqlmodel import Session, select

from tests import findings
from tests.publish.conftest import Stage, process, stage
from tests.publish.test_mend import broke, the_incident, used
from triage import config, db, jobs, plan, worker
from triage.sandbox import security
from triage.sandbox.tokens import Token
from triage.web.app import create_app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Engine

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
    known = worker.knowledge(settings)
    known = worker.Knowledge(**{**vars(known), "policy": policy or known.policy})
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
    used(connected, db.now())
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
    assert work(connected, engine).outcome == "No open incident is about this connection."
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
