"""Runs that stand ready to fail, and how the played organisation tells of them: asked in its own process."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tests.promises import played
from triage.sandbox.hooks import Courier
from triage.sandbox.organisation import wire_time

if TYPE_CHECKING:
    from tests.promises.played import Sent
    from triage.sandbox.organisation import Organisation

WATCH = "Operations"  # the project where triage says that events do not arrive


@dataclass
class _OverThere:
    """What stands ready to happen there."""

    held: dict[int, tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=dict)  # build and event
    courier: Courier | None = None


_there = _OverThere()


@dataclass(frozen=True)
class Told:
    """What the organisation knows of its deliveries."""

    states: set[str]  # of the subscriptions to failed runs
    tries: int
    refused: int  # events that were sent, and wait to be sent again or were given up
    sent: set[int]  # runs of which an event was sent
    delivered: set[int]  # and taken
    is_idle: bool


def prepare(organisation: Organisation, name: str, runs: int, pull_requests: int) -> Sent:
    """Have runs of a new project ready to fail of one credential."""
    organisation.allow_local_hooks = True
    organisation.add_project(WATCH)
    sent = played.fail(organisation, name, runs, pull_requests)
    builds = organisation.projects[sent.project].builds
    for event in played.events(sent):
        number = event["resource"]["id"]
        _there.held[number] = (builds.pop(number), event)
    return sent


def use_courier(organisation: Organisation, speed: float) -> None:
    _there.courier = Courier(organisation, speed=speed)


def happen(organisation: Organisation, project: str, run: int) -> None:
    """Let a run have failed just now, and be told of."""
    build, event = _there.held.pop(run)
    build["finishTime"] = event["resource"]["finishTime"] = wire_time(datetime.now(UTC))
    organisation.projects[project].builds[run] = build
    assert _there.courier is not None
    _there.courier.take(event)


def tell(organisation: Organisation) -> Told:
    known = organisation.subscriptions.values()
    notes = [note for kept in organisation.notifications.values() for note in kept]
    return Told(
        {each["status"] for each in known if each["publisherInputs"].get("buildStatus") == "Failed"},
        sum(note["details"]["requestAttempts"] for note in notes),
        sum(note["status"] == "queuedForRetry" or note["result"] == "failed" for note in notes),
        {_run(note) for note in notes},
        {_run(note) for note in notes if note["result"] == "succeeded"},
        _there.courier is None or _there.courier.is_idle,
    )


def _run(note: dict[str, Any]) -> int:
    return int(note["details"]["event"]["resource"]["id"])


def notices(organisation: Organisation) -> list[str]:
    project = organisation.add_project(WATCH)
    return [str(item["fields"]["System.State"]) for item in project.work_items.values()]


def forget(organisation: Organisation) -> None:
    """Leave nothing of a trial that the next one would count."""
    organisation.subscriptions.clear()
    organisation.notifications.clear()
    organisation.add_project(WATCH).work_items.clear()
    _there.held.clear()
