"""A changed connection's credential is tried, where that is wanted: what passes ends it, what fails is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import requests
from pydantic import SecretStr
from sqlmodel import Session, select, update

from tests import findings
from tests.publish.conftest import Stage, process, stage
from tests.publish.test_mend import PROMPT, broke, look, said, the_incident, the_item
from tests.test_connection_changes import change, changed, connected, killed_at, receive, told, work
from triage import azdo, config, db, doctor, jobs, mend, trying
from triage.sandbox import security
from triage.sandbox.organisation import Fault
from triage.sandbox.tokens import Token

if TYPE_CHECKING:
    import queue

    from sqlalchemy.engine import Engine

    from triage.doctor import Check

__all__ = ["connected", "process", "stage", "told"]

NOW = datetime.now(UTC)
FAILED, CHANGED = NOW - timedelta(hours=1), NOW - timedelta(minutes=30)
TESTS = replace(PROMPT, test_credential=True)
SECRET = "Abc8Q~" + "aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3x"


@pytest.fixture
def allowed(connected: Stage, engine: Engine) -> Stage:
    """A stage with an incident, whose connection was changed since, and with the right to try it."""
    connected.organisation.rights = security.ENOUGH | {"ServiceEndpoints/Use"}
    broke(engine, connected, connected.finding(findings.run(finished_at=FAILED)))
    changed(connected, CHANGED)
    return connected


def expired(stage: Stage) -> None:
    """Let what the connection holds have ended."""
    stage.project.ends[findings.CONNECTION] = FAILED


def tries(stage: Stage) -> int:
    return stage.organisation.calls["endpoint proxy"]


def test_a_credential_that_signs_in_ends_the_incident(allowed: Stage, engine: Engine) -> None:
    assert look(engine, allowed, TESTS) == "Looked at 1 open incident; 1 are over."
    incident, item = the_incident(engine), the_item(allowed)
    assert incident.closed_reason.startswith("Azure DevOps signed in with **prod-arm** on ")
    assert "after Jo changed it on" in incident.closed_reason
    assert (incident.state, incident.renewed_by) == ("closed", "Jo")
    assert item["fields"]["System.State"] == "Closed"
    (comment,) = said(allowed, item["id"])
    assert "It works again" in comment
    assert tries(allowed) == 1


def test_one_that_does_not_is_told_once_with_what_entra_said(allowed: Stage, engine: Engine) -> None:
    expired(allowed)
    for _ in range(3):
        assert look(engine, allowed, TESTS) == "Looked at 1 open incident; 0 are over."
    (comment,) = said(allowed, the_item(allowed)["id"])
    assert "The connection was changed, but its test still fails." in comment
    assert "told: “AADSTS7000222: The provided client secret keys for app '***' are expired.”" in comment
    assert tries(allowed) == 1, "a change is tried once"
    assert the_item(allowed)["fields"]["System.State"] == "New"


def test_nothing_is_tried_unless_that_is_set(allowed: Stage, engine: Engine) -> None:
    look(engine, allowed)
    assert tries(allowed) == 0
    assert "That alone does not show that it works" in said(allowed, the_item(allowed)["id"])[0]


def test_what_is_said_just_after_a_change_is_not_told_yet(
    allowed: Stage, engine: Engine, told: queue.Queue[bytes]
) -> None:
    expired(allowed)
    change(allowed)  # without a new secret
    receive(allowed, engine, told.get(timeout=10))
    look(engine, allowed, TESTS)
    job = work(allowed, engine, TESTS)
    assert (job.state, job.error) == ("retryable", "The connection was changed just now.")
    assert said(allowed, the_item(allowed)["id"]) == []
    parameters = allowed.project.endpoints[findings.CONNECTION]["authorization"]["parameters"]
    renewed = {"scheme": "ServicePrincipal", "parameters": {**parameters, "serviceprincipalkey": SECRET}}
    change(allowed, authorization=renewed)
    receive(allowed, engine, told.get(timeout=10))
    assert work(allowed, engine, TESTS).outcome == "Looked at 1 open incident; 1 are over."
    assert SECRET not in str(said(allowed, the_item(allowed)["id"]))


@pytest.mark.parametrize("how", ["role", "scope"])
def test_a_refusal_is_remembered_for_a_day_and_told_by_the_doctor(
    allowed: Stage, engine: Engine, how: str
) -> None:
    if how == "role":
        allowed.organisation.rights = security.ENOUGH
    else:
        allowed.organisation.tokens["played"] = Token(
            scopes=frozenset({"vso.serviceendpoint", "vso.work_write"})
        )
    look(engine, allowed, TESTS)
    assert "That alone does not show that it works" in said(allowed, the_item(allowed)["id"])[0]
    changed(allowed, CHANGED + timedelta(minutes=1))
    before = tries(allowed)
    look(engine, allowed, TESTS)
    assert (tries(allowed), len(said(allowed, the_item(allowed)["id"]))) == (before, 2)
    (told,) = checks(engine)
    assert (told.level, "does not try the credentials" in told.told) == ("warning", True)
    assert "User of the connections" in told.fix

    allowed.organisation.rights = security.ENOUGH | {"ServiceEndpoints/Use"}
    allowed.organisation.tokens["played"] = Token()
    with Session(engine) as session, session.begin():
        yesterday = db.now() - timedelta(hours=25)
        session.exec(update(db.Health).values(checked_at=yesterday))
    changed(allowed, CHANGED + timedelta(minutes=2))
    assert look(engine, allowed, TESTS) == "Looked at 1 open incident; 1 are over."
    assert [each.level for each in checks(engine)] == ["ok"]


def checks(engine: Engine) -> list[Check]:
    """Return what the doctor says of the tests of credentials."""
    settings = config.load(
        database={"url": engine.url.render_as_string(hide_password=False).replace("+psycopg", "")},
        after_renewal={"test_credential": True},
    )
    return list(doctor.here._credential_test(settings))


def test_a_refusal_is_forgotten_when_it_is_not_wanted_any_more(allowed: Stage, engine: Engine) -> None:
    allowed.organisation.rights = security.ENOUGH
    look(engine, allowed, TESTS)
    assert trying.refusal(engine)
    look(engine, allowed)
    with Session(engine) as session:
        assert session.exec(select(db.Health)).first() is None


@pytest.mark.parametrize(
    ("connection", "match"),
    [
        ({"type": "kubernetes"}, {}),
        ({"authorization": {"scheme": "ManagedServiceIdentity", "parameters": {}}}, {}),
        ({}, {"credential": "kubernetes"}),
    ],
    ids=["another type", "no secret", "another credential"],
)
def test_what_would_prove_nothing_is_not_tried(
    connected: Stage, engine: Engine, connection: dict[str, Any], match: dict[str, Any]
) -> None:
    finding = connected.finding(findings.run(finished_at=FAILED), of_match=findings.match(**match))
    broke(engine, connected, finding)
    connected.project.endpoints[findings.CONNECTION].update(connection)
    changed(connected, CHANGED)
    look(engine, connected, TESTS)
    assert tries(connected) == 0
    assert len(said(connected, the_item(connected)["id"])) == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (f'{{"statusCode": "badRequest", "errorMessage": "client_secret={SECRET} is wrong"}}', "***"),
        (
            '{"statusCode": "unauthorized", "errorMessage": "[x](https://evil.example) ##vso[a]b"}',
            "## vso[a]b”",
        ),
        ('{"statusCode": 401, "errorMessage": null}', "“no reason”"),
    ],
    ids=["secret", "hostile", "number"],
)
def test_what_the_service_says_is_told_harmless(
    allowed: Stage, engine: Engine, answer: str, words: str
) -> None:
    allowed.organisation.faults.append(Fault("POST", "/endpointproxy", replaced=answer.encode()))
    look(engine, allowed, TESTS)
    (comment,) = said(allowed, the_item(allowed)["id"])
    assert words in comment
    assert SECRET not in comment
    assert "<a href" not in comment
    assert "##vso" not in comment


def test_a_number_that_means_ok_is_one(allowed: Stage, engine: Engine) -> None:
    allowed.organisation.faults.append(Fault("POST", "/endpointproxy", replaced=b'{"statusCode": 200}'))
    assert look(engine, allowed, TESTS) == "Looked at 1 open incident; 1 are over."


@pytest.mark.parametrize("fault", [{"status": 500}, {"replaced": b"{}"}], ids=["fails", "says nothing"])
def test_a_test_that_does_not_end_is_made_again(
    allowed: Stage, engine: Engine, fault: dict[str, Any]
) -> None:
    allowed.organisation.faults.append(Fault("POST", "/endpointproxy", **fault))
    assert look(engine, allowed, TESTS) == "Looked at 1 open incident; 0 are over."
    assert said(allowed, the_item(allowed)["id"]) == []
    assert look(engine, allowed, TESTS) == "Looked at 1 open incident; 1 are over."


def test_a_connection_without_a_test_is_told_of_as_before(allowed: Stage, engine: Engine) -> None:
    allowed.organisation.faults.append(Fault("POST", "/endpointproxy", status=400, body=b"{}"))
    look(engine, allowed, TESTS)
    look(engine, allowed, TESTS)
    assert len(said(allowed, the_item(allowed)["id"])) == 1
    assert trying.refusal(engine) == "", "that is no refusal"


def test_the_ending_whose_answer_is_lost_is_not_said_twice(allowed: Stage, engine: Engine) -> None:
    allowed.organisation.faults.append(Fault("PATCH", "/wit/workitems/", lose_reply=True))
    for _ in range(3):
        look(engine, allowed, TESTS)
    assert the_incident(engine).state == "closed"
    assert len(said(allowed, the_item(allowed)["id"])) == 1


def test_a_worker_killed_anywhere_ends_it_once(connected: Stage, engine: Engine) -> None:
    """Killed at some of the points of a look that ends an incident, which comes back each time."""
    connected.organisation.rights = security.ENOUGH | {"ServiceEndpoints/Use"}
    for times, point in enumerate(range(1, 300, 8), 1):
        failed = NOW - timedelta(hours=6) + timedelta(minutes=times)  # after it worked
        broke(engine, connected, connected.finding(findings.run(finished_at=failed)))
        changed(connected, failed + timedelta(seconds=1))
        killed = killed_at(point, connected, engine, TESTS)
        look(engine, connected, TESTS)
        incident, item = the_incident(engine), the_item(connected)
        assert (incident.state, item["fields"]["System.State"]) == ("closed", "Closed"), f"point {point}"
        ended = [each for each in said(connected, item["id"]) if "It works again" in each]
        assert len(ended) == times, f"killed at point {point}"
        if not killed:
            break
    assert times > 3


def test_it_is_the_writer_who_may_use_connections(allowed: Stage, engine: Engine) -> None:
    allowed.organisation.tokens |= {
        "read": Token(rights=security.ENOUGH),
        "write": Token(rights=security.ENOUGH | {"ServiceEndpoints/Use"}),
    }
    section = config.AzureDevOps(
        url=allowed.organisation.url,
        token=SecretStr("read"),
        writer=config.Credential(token=SecretStr("write")),
    )
    job = db.Job(key="mend@1", kind=jobs.Kind.MEND, lease="one/1")
    outcome = mend.round_of(azdo.account(section).door(), engine, TESTS, job)
    assert outcome == "Looked at 1 open incident; 1 are over."


def test_the_played_test_says_whether_the_credential_has_ended(allowed: Stage) -> None:
    address = f"{allowed.organisation.url}/Shop/_apis/serviceendpoint/endpointproxy"
    query = {"endpointId": findings.CONNECTION, "api-version": "7.1-preview.1"}

    def ask(source: str = "TestConnection") -> Any:
        asked = {"dataSourceDetails": {"dataSourceName": source}}
        return requests.post(address, params=query, auth=("", "played"), json=asked, timeout=10)

    assert ask().json()["statusCode"] == "ok"
    expired(allowed)
    assert (ask().status_code, ask().json()["statusCode"]) == (200, "badRequest")
    allowed.project.ends[findings.CONNECTION] = NOW + timedelta(days=1)
    assert ask().json()["statusCode"] == "ok"
    assert ask("Jobs").status_code == 400
    allowed.organisation.rights = security.ENOUGH
    assert ask().status_code == 403
