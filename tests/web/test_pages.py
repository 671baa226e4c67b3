"""The pages and the API show what triage knows, safely."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient
from sqlmodel import Session

from triage import config, db, jobs, web
from triage.db import Effect, FindingRow, Health, Incident, Job, TriagedRun
from triage.domain import RunRef
from triage.jobs import State

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.engine import Engine

PROJECT = "11111111-2222-3333-4444-555555555555"
RUN_URL = f"https://dev.azure.com/FabrikamFiber/{PROJECT}/_build/results?buildId=42"
ATTACK = "<script>alert(1)</script>"


@pytest.fixture
def incident(engine: Engine) -> int:
    with Session(engine) as session, session.begin():
        run = TriagedRun(
            run_key=f"{PROJECT}/build/42",
            project_id=PROJECT,
            project_name="Shop",
            run_id=42,
            number="20261121.3",
            pipeline_id=7,
            pipeline_name="shop-deploy",
            result="failed",
            url=RUN_URL,
            conclusion="Read 1 log of a failed step: The client secret has expired (azure-shop).",
        )
        row = Incident(
            key="connection-1",
            tag="triage-0123456789ab",
            project_id=PROJECT,
            project_name="Shop",
            credential="azure-entra-client-secret",
            verdict="expired",
            confidence="certain",
            title="Renew the client secret of 'azure-shop'",
            connection_name="azure-shop",
            connection_type="azurerm",
            connection_url="https://dev.azure.com/FabrikamFiber/Shop/_settings/adminservices?resourceId=1",
            owner="ada@fabrikam.example",
            owner_reason="Ada is an administrator of the connection.",
            renewal=json.dumps(
                {
                    "title": "Make a new secret " + ATTACK,
                    "steps": ["Open [the connection](https://dev.azure.com/x) and choose **Edit**.", ATTACK],
                    "command_line": ["Make one: `az ad app credential reset --id <application id>`.", ATTACK],
                    "warnings": ["Not in the portal. " + ATTACK],
                    "permissions": ["An administrator. " + ATTACK],
                    "verify": "Run it again. " + ATTACK,
                    "meanwhile": "Every deployment fails. " + ATTACK,
                    "interval": "three months",
                    "alternatives": [{"title": "Never again " + ATTACK, "steps": ["Federate. " + ATTACK]}],
                    "no_alternative": "",
                    "references": ["https://learn.microsoft.com/azure"],
                }
            ),
            work_item=9,
            run_count=1,
            work_item_url="https://dev.azure.com/FabrikamFiber/Shop/_workitems/edit/9",
        )
        session.add_all([run, row])
        session.flush()
        assert run.id is not None
        assert row.id is not None
        session.add(
            FindingRow(
                run_row=run.id,
                incident_id=row.id,
                rule="entra-secret-expired",
                credential=row.credential,
                verdict="expired",
                confidence="certain",
                step="Deploy " + ATTACK,
                task="AzureCLI@2",
                log_id=12,
                line=318,
                log_url=f"{RUN_URL}&view=logs&j=a&t=b&l=318",
                excerpt="AADSTS7000222: the keys are expired " + ATTACK,
                link_method="input of the failed task",
                link_reason="The task's azureSubscription names it.",
                owner="ada@fabrikam.example",
                owner_method="administrator of the connection",
                owner_reason="Ada is an administrator of the connection.",
                recipe="azurerm-automatic-secret",
            )
        )
        session.add(
            Effect(
                key="item:1",
                kind="work item",
                incident_id=row.id,
                state="done",
                url=row.work_item_url,
                detail="filed #9",
            )
        )
        return row.id


def test_an_empty_inbox_says_what_to_do_next(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert "<code>triage hooks install</code>" in page.text
    assert "Service hooks" in page.text
    assert "/hooks/azure-devops" in page.text


def test_the_inbox_shows_who_renews_what(client: TestClient, incident: int) -> None:
    page = client.get("/").text
    for shown in (
        "Renew the client secret of &#39;azure-shop&#39;",
        "ada@<wbr>fabrikam.example",
        "#9",
        f"/incidents/{incident}",
    ):
        assert shown in page


def test_a_closed_incident_leaves_the_inbox(client: TestClient, engine: Engine, incident: int) -> None:
    with Session(engine) as session, session.begin():
        row = session.get(Incident, incident)
        assert row is not None
        row.state = "closed"
    to_renew, over = client.get("/").text.split("Over lately")
    assert "No credentials to renew" in to_renew
    assert "azure-shop&#39;" not in to_renew
    assert "azure-shop&#39;" in over
    assert client.get(f"/incidents/{incident}").status_code == 200


def test_each_trouble_of_triage_is_told_as_what_it_is(client: TestClient, engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        session.add(Health(component="credential test", state="refused", detail="It is denied."))
    page = client.get("/").text
    assert "tries no credentials of changed connections" in page
    assert "Events do not arrive" not in page
    with Session(engine) as session, session.begin():
        session.add(Health(component="hooks", state="failing", detail="one is disabled"))
    assert "Events do not arrive since" in client.get("/").text


def test_a_job_that_another_version_left_is_told_of(client: TestClient, engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        session.add(Job(key="polish@1", kind="polish", state=State.DISCARDED, finished_at=db.now()))
    page = client.get("/")
    assert page.status_code == 200
    assert "another version of triage (polish)" in page.text


@pytest.mark.parametrize("path", ["/runs/a%00b/42", "/api/runs/a%00b/42", "/connections/a%00b"])
def test_what_no_database_can_hold_is_not_there(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_what_ended_last_is_told_first_whenever_it_broke_runs(client: TestClient, engine: Engine) -> None:
    now = db.now()
    with Session(engine) as session, session.begin():
        for days in range(1, 13):  # since it was broken; the longer, the later it was renewed
            row = Incident(
                key=f"closed:{days}",
                tag="triage-0123456789ab",
                state="closed",
                project_id=PROJECT,
                project_name="Shop",
                credential="azure-entra-client-secret",
                verdict="expired",
                confidence="certain",
                title=f"ended {days}",
                last_seen_at=now - timedelta(days=days),
                closed_at=now - timedelta(hours=24 - days),
            )
            session.add(row)
    over = client.get("/").text.split("Over lately")[1]
    assert re.findall(r">ended (\d+)<", over) == [str(days) for days in range(12, 2, -1)]


def test_an_incident_tells_its_evidence_owner_and_steps(client: TestClient, incident: int) -> None:
    page = client.get(f"/incidents/{incident}").text
    for shown in (
        "AADSTS7000222",
        "line 318",
        "&amp;view=logs&amp;j=a&amp;t=b&amp;l=318",
        "input of the failed task",
        '<a href="/rules/entra-secret-expired">',
        "Ada is an administrator",
        "<strong>Edit</strong>",
        "<code>az ad app credential reset --id &lt;application id&gt;</code>",
        "Every deployment fails.",
        "three months",
        "Federate.",
        'href="https://learn.microsoft.com/azure"',
        "filed #9",
    ):
        assert shown in page


def test_an_incident_of_an_older_version_has_steps_alone(
    client: TestClient, engine: Engine, incident: int
) -> None:
    with Session(engine) as session, session.begin():
        row = session.get(Incident, incident)
        assert row is not None
        row.renewal = '{"steps": ["Ask *Ada*."]}'
    page = client.get(f"/incidents/{incident}").text
    assert "Ask <em>Ada</em>." in page
    assert "Or from the command line" not in page


def test_the_recipe_is_in_the_api_of_the_incident_alone(client: TestClient, incident: int) -> None:
    assert client.get(f"/api/incidents/{incident}").json()["renewal"]["meanwhile"].startswith("Every")
    assert "renewal" not in client.get("/api/incidents").json()[0]


@pytest.mark.parametrize("path", ["/", "/incidents/1", f"/runs/{PROJECT}/42"])
def test_nothing_from_a_log_becomes_markup(client: TestClient, incident: int, path: str) -> None:
    assert "<script" not in client.get(path).text


@pytest.mark.parametrize("project", [PROJECT, PROJECT.upper(), "Shop"])
def test_a_run_is_found_by_project_name_or_id(client: TestClient, incident: int, project: str) -> None:
    page = client.get(f"/runs/{project}/42")
    assert page.status_code == 200
    assert "Read 1 log of a failed step" in page.text
    assert '<a href="/rules/entra-secret-expired">' in page.text


def test_a_run_without_findings_has_a_verdict_too(client: TestClient, engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        session.add(
            TriagedRun(
                run_key="x",
                project_id=PROJECT,
                project_name="Shop",
                run_id=43,
                number="1",
                pipeline_id=7,
                pipeline_name="shop",
                result="failed",
                url=RUN_URL,
                logs_read=2,
                conclusion="Read 2 logs of failed steps: no sign of an expired credential.",
            )
        )
    assert "no sign of an expired credential" in client.get("/runs/Shop/43").text
    assert "Nothing to do" in client.get("/").text


def test_a_run_that_waits_says_so(client: TestClient, engine: Engine) -> None:
    jobs.put(engine, RunRef(PROJECT, 99), marker="1")
    page = client.get(f"/runs/{PROJECT}/99")
    assert page.status_code == 200
    assert "Waiting for a worker." in page.text
    assert client.get(f"/api/runs/{PROJECT}/99").json()["findings"] == []


def test_a_run_that_could_not_be_read_says_why(client: TestClient, engine: Engine) -> None:
    jobs.put(engine, RunRef(PROJECT, 99), marker="1")
    job = jobs.claim(engine, "a")
    assert job is not None
    jobs.retry(engine, job, "Azure DevOps refuses our token: make a new one.")
    for path in ("/", f"/runs/{PROJECT}/99"):
        assert "refuses our token: make a new one. triage tries again at" in client.get(path).text


def test_an_event_of_no_use_is_shown_with_its_reason(client: TestClient) -> None:
    assert "Press <em>Test</em>" in client.get("/deliveries").text
    client.post("/hooks/azure-devops", content=b"{}", headers={"X-Triage-Secret": "knock knock"})
    assert "The event names no eventType." in client.get("/deliveries").text
    assert client.get("/api/deliveries").json()[0]["outcome"] == "refused"


def test_the_api_says_what_the_pages_say(client: TestClient, incident: int) -> None:
    (listed,) = client.get("/api/incidents").json()
    assert (listed["runs"], listed["owner"], listed["work_item"]) == (1, "ada@fabrikam.example", 9)
    told = client.get(f"/api/incidents/{incident}").json()
    assert told["findings"][0]["run"]["run_id"] == 42
    assert told["effects"][0]["detail"] == "filed #9"
    assert told["renewal"]["steps"][0].startswith("Open")
    assert client.get("/api/runs").json()[0]["pipeline_name"] == "shop-deploy"
    assert client.get("/api/runs/Shop/42").json()["findings"][0]["line"] == 318


@pytest.mark.parametrize(
    "path",
    ["/incidents/7", "/incidents/x", "/incidents/99999999999999999999", "/runs/Shop/8", "/nowhere", "/docs"],
)
def test_a_page_that_is_not_there_says_so_in_words(client: TestClient, path: str) -> None:
    page = client.get(path)
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
    assert "<h1>" in page.text


@pytest.mark.parametrize("path", ["/api/incidents/7", "/api/incidents/x", "/api/nothing", "/api/runs/Shop/8"])
def test_the_api_refuses_in_json(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]


@pytest.mark.parametrize("path", ["/", "/api/incidents", "/healthz", "/static/triage.css", "/nowhere"])
def test_every_answer_forbids_scripts_and_frames(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


def test_no_page_needs_anything_from_elsewhere(client: TestClient, incident: int) -> None:
    for path in ("/", f"/incidents/{incident}", "/runs/Shop/42"):
        text = client.get(path).text
        assert ' style="' not in text
        assert 'src="' not in text
        assert 'href="/static/triage.css"' in text


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json"])
def test_no_documentation_of_routes_is_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_health_tells_whether_the_database_answers(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"database": "ok"}


def test_pages_without_a_database_say_to_come_again(settings: config.Settings, tmp_path: Path) -> None:
    engine = db.open_engine(f"sqlite:///{tmp_path}/gone/triage.db")
    client = TestClient(web.create_app(settings, engine))
    for path in ("/", "/api/incidents", "/healthz"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
