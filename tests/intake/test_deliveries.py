"""Events that come at the same time are kept in one transaction, each with its own answer."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event
from sqlmodel import Session, func, select

from triage.db import Delivery, Job
from triage.intake.deliveries import Keeper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Engine

URL = "https://dev.azure.com/contoso"
PROJECT = "11111111-2222-3333-4444-555555555555"


def failed(run: int) -> bytes:
    """Return the event of a failed run."""
    return json.dumps(
        {
            "eventType": "build.complete",
            "resource": {
                "id": run,
                "result": "failed",
                "finishTime": "2026-11-20T08:11:12Z",
                "url": f"{URL}/{PROJECT}/_apis/build/Builds/{run}",
            },
            "resourceContainers": {
                "project": {"id": PROJECT, "baseUrl": f"{URL}/"},
                "account": {"baseUrl": f"{URL}/"},
            },
        }
    ).encode()


def at_once(keeper: Keeper, bodies: Sequence[bytes | None]) -> list[str]:
    """Store events that all wait for the same moment. Returns each one's outcome, or its error's name."""

    def store(body: bytes | None) -> str:
        try:
            return keeper.store(body, URL)["outcome"]
        except RuntimeError as error:
            return type(error).__name__

    with ThreadPoolExecutor(len(bodies)) as pool:
        with keeper._writing:
            storing = [pool.submit(store, body) for body in bodies]
            end = time.monotonic() + 30
            while len(keeper._waiting) < len(bodies):
                assert time.monotonic() < end
                time.sleep(0.001)
        return [each.result() for each in storing]


def commits(engine: Engine) -> list[int]:
    """Return a list that grows with each commit."""
    seen: list[int] = []
    event.listen(engine, "commit", lambda _: seen.append(threading.get_ident()))
    return seen


def count(engine: Engine, table: type[Job | Delivery]) -> int:
    with Session(engine) as session:
        return session.exec(select(func.count()).select_from(table)).one()


def test_events_that_come_together_are_kept_in_one_transaction(engine: Engine) -> None:
    keeper, seen = Keeper(engine), commits(engine)
    outcomes = at_once(keeper, [*(failed(run) for run in range(1, 21)), failed(1), b"no event", None])
    assert len(seen) == 1
    assert sorted(outcomes) == ["duplicate", *["queued"] * 20, *["refused"] * 2]
    assert (count(engine, Job), count(engine, Delivery)) == (20, 23)


def test_each_sender_hears_that_the_database_is_away(engine: Engine) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("the disk is full")

    keeper = Keeper(engine)
    event.listen(engine, "commit", refuse)
    assert at_once(keeper, [failed(1), failed(2)]) == ["RuntimeError"] * 2
    event.remove(engine, "commit", refuse)
    assert (count(engine, Job), count(engine, Delivery)) == (0, 0)
    assert at_once(keeper, [failed(1), failed(2)]) == ["queued"] * 2


@pytest.mark.parametrize("receivers", [2])
def test_receivers_that_are_told_the_same_at_once_keep_it_once(engine: Engine, receivers: int) -> None:
    keepers = [Keeper(engine) for _ in range(receivers)]
    bodies = [failed(run) for run in range(1, 31)]
    with ThreadPoolExecutor(8) as pool:
        told = [(keeper, body) for body in bodies for keeper in keepers]
        outcomes = list(pool.map(lambda each: each[0].store(each[1], URL)["outcome"], told))
    assert sorted(outcomes) == ["duplicate"] * 30 + ["queued"] * 30
    assert count(engine, Job) == 30
