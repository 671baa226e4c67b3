"""Whether Azure DevOps still tells triage: a hook that has died says nothing, so somebody has to look."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlmodel import Session, col, func, select

from triage import acts, health, hooks, plan, subscribing, tell
from triage.azdo import administration
from triage.db import EVENT_SOURCES, Delivery, Health, now
from triage.errors import AccessRefused, Cancel, UsageError
from triage.publish import messages, work_item

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from triage.azdo import Door
    from triage.config import Settings
    from triage.db import Job

_HOOKS = "hooks"
_SILENCE = timedelta(hours=1)
_SILENT_RUNS = 3  # so many failed runs that no event told of, and no event at all: nobody tells us any more
_LISTED = 10


def round_of(door: Door, engine: Engine, settings: Settings, policy: plan.Policy, job: Job) -> str:
    """Look at the subscriptions and at the silence. Returns what was found, in one sentence."""
    problems = [*_subscriptions(door, settings), *_silence(engine)]
    row = health.keep(engine, _HOOKS, "failing" if problems else "ok", "; ".join(problems))
    if settings.watch.project:
        _say(door, engine, settings, policy, row, problems, worker=job.lease or "")
    return f"Events do not arrive: {row.detail}" if problems else "Events arrive as they should."


def _subscriptions(door: Door, settings: Settings) -> list[str]:
    """Return what is wrong with those subscriptions that send to us; none at all is no fault."""
    problems: list[str] = []
    for choice in _choices(settings):
        try:
            target = subscribing.target(settings, choice)
            projects = hooks.subscribed(door, target, administration.projects(door))
            told = hooks.status(door, hooks.wanted(projects, target), notifications=1)
        except UsageError:
            continue  # where events shall go is not set: then nobody can look
        except (AccessRefused, Cancel) as refusal:
            return [f"triage may not look at the subscriptions ({refusal})"]
        problems += [f"{each.project}, {each.event}: {each.problem}" for each in told if each.problem]
    return problems


def _choices(settings: Settings) -> list[subscribing.Choice]:
    chosen = [subscribing.Choice()] if settings.server.public_url else []
    if subscribing.bus_queue(settings):
        chosen.append(subscribing.Choice(service_bus=True))
    return chosen


def _silence(engine: Engine) -> list[str]:
    """Return that the sweep finds what no event tells of, where no event comes any more."""
    since = now() - _SILENCE
    by_event = sa.and_(
        col(Delivery.source).in_(EVENT_SOURCES),
        col(Delivery.event_type) != hooks.CONNECTIONS.type,  # tells of no run
    )
    with Session(engine) as session:
        counted = select(func.count()).where(col(Delivery.received_at) > since, Delivery.outcome == "queued")
        missed = session.exec(counted.where(Delivery.source == "sweep")).one()
        told = session.exec(counted.where(by_event)).one()
        ever = session.exec(select(Delivery.id).where(by_event).limit(1)).first()
    if ever is None or told or missed < _SILENT_RUNS:
        return []
    return [f"no event has come for an hour, in which {missed} runs failed (found by the sweep)"]


def _say(
    door: Door,
    engine: Engine,
    settings: Settings,
    policy: plan.Policy,
    row: Health,
    problems: list[str],
    *,
    worker: str,
) -> None:
    """File one work item while events do not arrive, and close it once they do."""
    project = settings.watch.project
    number = row.work_item
    if problems and number is None:
        tag = plan.incident_tag(door.organization_url, f"hooks:{row.since.isoformat()}")
        title, text = messages.hooks_failing(problems[:_LISTED], settings.pages_url)
        act = acts.FileNotice(project, title, text, tag)
        outcome = tell.carry_out(door, engine, policy, None, act, worker=worker)
        number = int(outcome.remote_id)
    elif not problems and number is not None:
        work_item.close(door, project, number, messages.hooks_work_again())
        number = None
    with Session(engine) as session, session.begin():
        kept = session.get(Health, _HOOKS)
        if kept is not None:
            kept.work_item = number
