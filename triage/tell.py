"""8 act: tell an incident's people its news. One job does it at a time, however many runs fail."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from triage import effects, plan, publish, record
from triage.db import now

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from triage.azdo import Door
    from triage.db import Incident, Job


def incident(door: Door, engine: Engine, policy: plan.Policy, pages_url: str, job: Job) -> str:
    """Tell of an incident what is new. Returns what was done, in one sentence."""
    assert job.incident_id is not None  # noqa: S101 - a telling's job names its incident
    record.begin_telling(engine, job.incident_id, int(job.key.rpartition("@")[2]))
    found = record.news(engine, job.incident_id)
    if found is None:
        return "The incident has no finding that could be told."
    row, news = found
    actions = plan.decide(
        news,
        incident_id=job.incident_id,
        incident_tag=row.tag,
        work_item=row.work_item,
        now=now(),
        policy=policy,
        pages_url=pages_url,
    )
    did, work_item, wrote = [], row.work_item, False
    for action in actions:
        told = replace(action, work_item=work_item) if isinstance(action, plan.PostThread) else action
        outcome = _carry_out(door, engine, policy, row, told, worker=job.lease or "")
        did.append(outcome.detail)
        if isinstance(action, plan.FileWorkItem) and outcome.url:
            work_item = int(outcome.remote_id)
            record.work_item(engine, job.incident_id, number=work_item, url=outcome.url)
        wrote = wrote or isinstance(action, plan.FileWorkItem | plan.UpdateWorkItem)
    record.told(engine, job.incident_id, news, work_item=wrote)
    later = None if wrote else plan.item_due(news, policy)
    if later is not None:
        record.tell_later(engine, job.incident_id, later)
    return f"Told of {news.count} runs: {'; '.join(did) or 'nothing new'}."


def _carry_out(
    door: Door, engine: Engine, policy: plan.Policy, row: Incident, action: plan.Action, *, worker: str
) -> publish.Outcome:
    run = action.finding.run if isinstance(action, plan.FileWorkItem | plan.PostThread) else None
    with effects.intent(
        engine,
        key=plan.key(action, row.id or 0),
        kind=plan.kind(action),
        worker=worker,
        run_key=str(run.ref) if run else "",
        incident_id=row.id,
        repeated=plan.is_repeated(action),
    ) as effect:
        if not effect.done:
            outcome = publish.carry_out(door, action, attempts=effect.attempts, policy=policy)
            effect.remote_id, effect.url, effect.detail = outcome.remote_id, outcome.url, outcome.detail
        return publish.Outcome(effect.remote_id or "", effect.url or "", effect.detail)
