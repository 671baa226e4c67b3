"""`triage jobs`: what a person sees of the queue, and can do about it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from sqlmodel import Session, update

from triage import db, jobs
from triage.cli import cli
from triage.db import Job
from triage.domain import RunRef
from triage.jobs import State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result
    from sqlalchemy.engine import Engine


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path}/triage.db"
    monkeypatch.setenv("TRIAGE_DATABASE__URL", url)
    monkeypatch.setenv("COLUMNS", "200")
    engine = db.open_engine(url)
    db.migrate(engine)
    yield engine
    engine.dispose()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["jobs", *arguments])


def poison(engine: Engine) -> None:
    assert jobs.put(engine, RunRef("shop", 42))
    with Session(engine) as session, session.begin():
        crashed = {"crashes": 6, "error": "Took its worker down 6 times."}
        session.exec(update(Job).values(state=State.QUARANTINED, **crashed))


def test_a_queue_without_trouble_says_so(engine: Engine) -> None:
    assert jobs.put(engine, RunRef("shop", 42))
    assert run("list").output == "No job is in trouble.\n"
    assert "build 42 of shop" in run("list", "--state", "available").output


def test_a_quarantined_job_is_listed_shown_and_tried_again(engine: Engine) -> None:
    poison(engine)
    listed = run("list").output
    assert "quarantined" in listed
    assert "Took its worker down 6 times." in listed
    assert "triage jobs replay" in listed
    assert json.loads(run("list", "--format", "json").output)[0]["run_id"] == 42
    assert "Took its worker down 6 times." in run("show", "1").output
    assert run("replay", "1").output == "1 job is tried again.\n"
    assert jobs.claim(engine, "a") is not None


def test_all_of_a_state_are_tried_again(engine: Engine) -> None:
    poison(engine)
    assert run("replay", "--state", "quarantined").output == "1 job is tried again.\n"
    assert run("replay", "--state", "quarantined").output == "0 jobs are tried again.\n"


@pytest.mark.usefixtures("engine")
def test_what_cannot_be_tried_again_is_named() -> None:
    for arguments, says in (
        (("replay", "7"), "do not exist or have not ended: 7"),
        (("replay",), "by number, or all of a state"),
        (("show", "7"), "There is no job 7"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert says in result.output
