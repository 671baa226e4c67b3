"""The hook: 202 when kept, 401 when unproven, 503 when it cannot be kept, and nothing else."""

from __future__ import annotations

import base64
import gzip
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlmodel import Session, select

from triage import config, db, web
from triage.db import Delivery, Job
from triage.errors import UsageError

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

HOOK = "/hooks/azure-devops"
SAMPLE = Path(__file__).parent.parent / "samples" / "build-complete-2.0.json"


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


KNOWN = basic("triage", "open sesame")


def failed(**changes: Any) -> bytes:
    event = json.loads(SAMPLE.read_text())
    event["resource"]["result"] = "failed"
    return json.dumps(event | changes).encode()


def deliveries(engine: Engine) -> list[Delivery]:
    with Session(engine, expire_on_commit=False) as session:
        return list(session.exec(select(Delivery)).all())


def jobs_kept(engine: Engine) -> list[Job]:
    with Session(engine, expire_on_commit=False) as session:
        return list(session.exec(select(Job)).all())


def test_a_failed_run_is_kept_before_the_answer(client: TestClient, engine: Engine) -> None:
    answer = client.post(HOOK, content=failed(), headers=KNOWN)
    assert (answer.status_code, answer.json()["outcome"]) == (202, "queued")
    assert [job.run_id for job in jobs_kept(engine)] == [2727068]
    delivery = deliveries(engine)[0]
    assert (delivery.outcome, delivery.event_type) == ("queued", "build.complete")
    assert delivery.event_id == "33433986-7f56-4969-bfd4-3e59774c75ad"


def test_fifty_deliveries_at_once_are_one_job(client: TestClient, engine: Engine) -> None:
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: client.post(HOOK, content=failed(), headers=KNOWN), range(50)))
    assert {answer.status_code for answer in answers} == {202}
    assert len(jobs_kept(engine)) == 1
    assert Counter(row.outcome for row in deliveries(engine)) == {"queued": 1, "duplicate": 49}


def test_the_runs_of_a_storm_wait_for_each_other(client: TestClient, engine: Engine) -> None:
    """So that a worker that keeps pace with the storm can read many of them in one request."""
    for number in range(1, 61):
        about = json.loads(failed())["resource"] | {"id": number}
        assert client.post(HOOK, content=failed(resource=about), headers=KNOWN).status_code == 202
    waits = [(job.available_at - job.created_at).total_seconds() for job in jobs_kept(engine)]
    assert min(waits) < 0.1 < max(waits)


def test_a_finish_told_by_two_kinds_of_event_is_one_job(client: TestClient, engine: Engine) -> None:
    client.post(HOOK, content=failed(), headers=KNOWN)
    told = json.loads((SAMPLE.parent / "run-state-changed.json").read_text())
    told["resource"]["projectId"] = "16dcfeeb-d8fd-495c-917b-fec46cb44fbb"
    told["resource"]["run"] |= {"id": 2727068, "result": "failed", "finishedDate": "2022-12-02T12:21:09.003Z"}
    assert client.post(HOOK, json=told, headers=KNOWN).json()["outcome"] == "duplicate"
    assert len(jobs_kept(engine)) == 1


def test_a_secret_header_is_as_good_as_a_password(client: TestClient) -> None:
    answer = client.post(HOOK, content=failed(), headers={"X-Triage-Secret": "knock knock"})
    assert answer.status_code == 202


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic("triage", "wrong"),
        basic("wrong", "open sesame"),
        basic("", ""),
        basic("triage", ""),
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic bm8tY29sb24="},
        {"Authorization": "Bearer open sesame"},
        {"Authorization": b"Basic \xff\xfe"},
        {"X-Triage-Secret": ""},
        {"X-Triage-Secret": b"\xff"},
        {"X-Triage-Secret": "open sesame"},
    ],
)
def test_who_does_not_prove_itself_is_refused(
    client: TestClient, engine: Engine, headers: dict[str, str]
) -> None:
    answer = client.post(HOOK, content=failed(), headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    assert not deliveries(engine)
    assert not jobs_kept(engine)


def test_the_body_of_a_stranger_is_not_read(client: TestClient) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        pytest.fail("the body was read")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": HOOK, "headers": [], "query_string": b""}
    anyio.run(client.app, scope, receive, send)
    assert sent[0]["status"] == 401


def test_a_password_may_hold_any_letters(settings: config.Settings, engine: Engine) -> None:
    hook = config.Hook(password=SecretStr("pässwörd:with:colons"))
    client = TestClient(web.create_app(settings.model_copy(update={"hook": hook}), engine))
    assert client.post(HOOK, content=failed(), headers=basic("triage", "pässwörd:with:colons")).is_success


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (config.Hook(), "unprotected.*TRIAGE_HOOK__PASSWORD"),
        (config.Hook(password=SecretStr("")), r"hook\.password is empty"),
        (
            config.Hook(password=SecretStr("good"), header_value=SecretStr(" ")),
            r"hook\.header_value is empty",
        ),
    ],
)
def test_an_unprotected_hook_is_not_served(
    settings: config.Settings, engine: Engine, hook: config.Hook, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        web.create_app(settings.model_copy(update={"hook": hook}), engine)


@pytest.mark.parametrize(
    ("body", "outcome", "reason"),
    [
        (b"", "refused", "not JSON"),
        (b"\xff\x00{", "refused", "not JSON"),
        (b"[" * 200_000, "refused", "nested too deeply"),
        (b"{}", "refused", "no eventType"),
        (b'{"eventType": "git.push"}', "ignored", "git.push"),
        (SAMPLE.read_bytes(), "ignored", "succeeded"),
        (failed(resource={"id": "9", "result": "failed"}), "refused", "no project or run"),
        (
            failed(resourceContainers={"collection": {"baseUrl": "https://dev.azure.com/other/"}}),
            "ignored",
            "another organisation",
        ),
        (b" " * (1024 * 1024 + 1), "refused", "too large"),
        (b" " * (12 * 1024 * 1024), "refused", "too large"),
    ],
)
def test_what_cannot_be_used_is_kept_with_its_reason(
    client: TestClient, engine: Engine, body: bytes, outcome: str, reason: str
) -> None:
    answer = client.post(HOOK, content=body, headers=KNOWN)
    assert answer.status_code == 202
    (row,) = deliveries(engine)
    assert row.outcome == outcome
    assert reason in row.reason
    assert not jobs_kept(engine)


def test_a_compressed_body_is_refused_unread(client: TestClient, engine: Engine) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    answer = client.post(HOOK, content=bomb, headers=KNOWN | {"Content-Encoding": "gzip"})
    assert answer.status_code == 202
    assert deliveries(engine)[0].outcome == "refused"


def test_a_body_without_a_length_is_capped_too(client: TestClient, engine: Engine) -> None:
    answer = client.post(HOOK, content=(b" " * 65536 for _ in range(40)), headers=KNOWN)
    assert answer.status_code == 202
    assert "too large" in deliveries(engine)[0].reason


@pytest.mark.parametrize("length", ["²", "9" * 5000, "-1", "many"])
def test_a_strange_length_is_no_accident(client: TestClient, length: str) -> None:
    headers = [(b"Authorization", KNOWN["Authorization"].encode()), (b"Content-Length", length.encode())]
    answer = client.post(HOOK, content=failed(), headers=headers)
    assert answer.status_code == 202


def test_a_slash_at_the_end_is_no_redirect(client: TestClient) -> None:
    assert client.post(HOOK + "/", content=failed(), headers=KNOWN, follow_redirects=False).status_code == 202


def test_a_database_that_is_away_asks_to_come_again(settings: config.Settings, tmp_path: Path) -> None:
    engine = db.open_engine(f"sqlite:///{tmp_path}/gone/triage.db")
    client = TestClient(web.create_app(settings, engine))
    answer = client.post(HOOK, content=failed(), headers=KNOWN)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


def test_a_damaged_database_asks_to_come_again(settings: config.Settings, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("no database " * 100)
    client = TestClient(web.create_app(settings, db.open_engine(f"sqlite:///{tmp_path}/notes")))
    assert client.post(HOOK, content=failed(), headers=KNOWN).status_code == 503


def test_a_delivery_that_was_answered_503_is_kept_when_it_comes_again(
    settings: config.Settings, tmp_path: Path
) -> None:
    engine = db.open_engine(f"sqlite:///{tmp_path}/late.db")
    client = TestClient(web.create_app(settings, engine))
    assert client.post(HOOK, content=failed(), headers=KNOWN).status_code == 503
    db.migrate(engine)
    assert client.post(HOOK, content=failed(), headers=KNOWN).json()["outcome"] == "queued"
    engine.dispose()
