"""A hook that has died says nothing: triage looks, and says so where people look."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlmodel import Session, select

from triage import azdo, config, db, jobs, plan, subscribing, watch, web
from triage.azdo import administration
from triage.db import Delivery, Health
from triage.sandbox import server
from triage.sandbox.organisation import Organisation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Engine

JOB = db.Job(key="watch@1", kind=jobs.Kind.WATCH, lease="one/1")


@pytest.fixture
def organisation() -> Iterator[Organisation]:
    organisation = Organisation("contoso")
    organisation.allow_local_hooks = True
    organisation.add_project("Shop")
    with server.serve(organisation, token="played"):
        yield organisation


@pytest.fixture
def settings(organisation: Organisation) -> config.Settings:
    return config.load(
        azure_devops={"url": organisation.url, "token": "played"},
        hook={"password": SecretStr("a-long-and-random-password")},
        server={"public_url": "http://127.0.0.1:8080"},
        watch={"project": "Shop"},
        policy={"settle_seconds": 0},
    )


def look(organisation: Organisation, engine: Engine, settings: config.Settings) -> str:
    door = azdo.connect(organisation.url, "played")
    policy = plan.Policy.from_settings(settings.policy, settings.after_renewal)
    return watch.round_of(door, engine, settings, policy, JOB)


def install(organisation: Organisation, settings: config.Settings) -> None:
    from triage import hooks  # noqa: PLC0415

    door = azdo.connect(organisation.url, "played")
    target = subscribing.target(settings, subscribing.Choice())
    hooks.install(door, hooks.wanted(administration.projects(door), target))


def items(organisation: Organisation) -> list[tuple[str, str]]:
    (project,) = organisation.projects.values()
    return [
        (str(item["fields"]["System.Title"]), str(item["fields"]["System.State"]))
        for item in project.work_items.values()
    ]


def test_an_organisation_without_hooks_is_no_fault(
    organisation: Organisation, engine: Engine, settings: config.Settings
) -> None:
    assert look(organisation, engine, settings) == "Events arrive as they should."
    assert items(organisation) == []


def test_a_dead_hook_gets_one_item_that_is_closed_when_it_works_again(
    organisation: Organisation, engine: Engine, settings: config.Settings
) -> None:
    install(organisation, settings)
    assert look(organisation, engine, settings) == "Events arrive as they should."
    (first, *_) = organisation.subscriptions.values()
    first["status"] = "disabledBySystem"
    for _ in range(3):
        assert "Shop, run failed" in look(organisation, engine, settings)
    title = "[triage] Azure DevOps does not tell triage of failed runs any more"
    assert items(organisation) == [(title, "New")]
    first["status"] = "enabled"
    assert look(organisation, engine, settings) == "Events arrive as they should."
    assert items(organisation) == [(title, "Closed")]
    first["status"] = "onProbation"
    look(organisation, engine, settings)
    assert [state for _, state in items(organisation)] == ["Closed", "New"], "another time, another item"


def test_silence_is_told_when_the_sweep_finds_what_no_event_tells_of(
    organisation: Organisation, engine: Engine, settings: config.Settings
) -> None:
    with Session(engine) as session, session.begin():
        long_ago = db.now().replace(year=2025)
        session.add(Delivery(source="hook", outcome="queued", received_at=long_ago))
        session.add_all(Delivery(source="sweep", outcome="queued") for _ in range(3))
        changed = "ms.vss-endpoint.endpoint-updated"
        session.add(Delivery(source="hook", outcome="queued", event_type=changed))
    assert "no event has come for an hour" in look(organisation, engine, settings), "that of a run, that is"
    with Session(engine) as session, session.begin():
        session.add(Delivery(source="service-bus", outcome="queued"))
    assert look(organisation, engine, settings) == "Events arrive as they should."


def test_health_and_measures_tell_of_it(
    organisation: Organisation, engine: Engine, settings: config.Settings
) -> None:
    install(organisation, settings)
    client = TestClient(web.create_app(settings, engine))
    look(organisation, engine, settings)
    assert client.get("/healthz").json() == {"database": "ok", "hooks": "ok"}
    assert 'triage_part_ok{part="hooks"} 1.0' in client.get("/metrics").text
    next(iter(organisation.subscriptions.values()))["status"] = "disabledBySystem"
    look(organisation, engine, settings)
    answer = client.get("/healthz")
    assert answer.status_code == 200, "no reason to restart triage"
    assert answer.json()["hooks"].startswith("failing: Shop, run failed")
    assert 'triage_part_ok{part="hooks"} 0.0' in client.get("/metrics").text
    with Session(engine) as session:
        assert session.exec(select(Health.work_item)).one() is not None


def test_the_measures_count_jobs_and_incidents(engine: Engine, settings: config.Settings) -> None:
    jobs.put_round(engine, jobs.Kind.SWEEP, 60)
    told = TestClient(web.create_app(settings, engine)).get("/metrics").text
    assert 'triage_jobs{state="available"} 1.0' in told
    assert "triage_incidents_open 0.0" in told


def test_the_inbox_says_that_events_do_not_arrive(
    organisation: Organisation, engine: Engine, settings: config.Settings
) -> None:
    install(organisation, settings)
    next(iter(organisation.subscriptions.values()))["status"] = "onProbation"
    look(organisation, engine, settings)
    page = TestClient(web.create_app(settings, engine)).get("/").text
    assert "Events do not arrive since" in page
    assert "triage hooks repair" in page
