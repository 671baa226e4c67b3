"""8 act: tell an incident's people its news. One job does it at a time, however many runs fail."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sqlmodel import Session, col, func, select

from triage import acts, effects, jobs, plan, publish, record
from triage.db import CLOSED, ENDING, Effect, Incident, clock, now, present
from triage.errors import Cancel, RetryLater, Snooze
from triage.publish import messages, work_item

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from triage.azdo import Door
    from triage.db import Job

_ENDING_SECONDS = 15.0


def incident(door: Door, engine: Engine, policy: plan.Policy, pages_url: str, job: Job) -> str:
    """Tell of an incident what is new. Returns what was done, in one sentence."""
    assert job.incident_id is not None  # noqa: S101 - a telling's job names its incident
    record.begin_telling(engine, job.incident_id, int(job.key.rpartition("@")[2]))
    found = record.news(engine, job.incident_id)
    if found is None:
        return "The incident has no finding that could be told."
    row, news = found
    if row.state == ENDING:
        raise Snooze("The incident is just being ended.", _ENDING_SECONDS)
    if row.state == CLOSED:
        return "The incident is over."
    if _leaves_digest(engine, policy, row, news):
        row, news = record.news(engine, job.incident_id, digest=row.work_item) or found
    try:
        did, wrote = _tell(door, engine, policy, pages_url, job, row, news)
    except Cancel as unseen:  # there is something to tell: what is not to be seen now may be seen later
        raise RetryLater(str(unseen)) from unseen
    record.told(engine, job.incident_id, news, work_item=wrote)
    # A digest is never due: it does not hear of each credential that it speaks for.
    later = None if wrote or record.stands_in_digest(engine, row) else plan.item_due(news, policy)
    if later is not None:
        record.tell_later(engine, job.incident_id, later)
    runs = "1 run" if news.count == 1 else f"{news.count} runs"
    return f"Told of {runs}: {'; '.join(did) or 'nothing new'}."


def _tell(
    door: Door,
    engine: Engine,
    policy: plan.Policy,
    pages_url: str,
    job: Job,
    row: Incident,
    news: plan.News,
) -> tuple[list[str], bool]:
    """Do what there is to do. Returns what was done, and whether the work item was written to."""
    assert job.incident_id is not None  # noqa: S101
    did, number, wrote = [], None if news.digest else row.work_item, False
    for action in _decided(engine, policy, pages_url, row, news):
        told: acts.Act = action
        if isinstance(action, acts.PostThread):
            told = replace(action, work_item=number)
        elif isinstance(action, acts.FileWorkItem) and _is_too_much(engine, row, policy):
            told = _digest(door, row, policy, pages_url)
        try:
            outcome = carry_out(door, engine, policy, job.incident_id, told, worker=job.lease or "")
        except effects.Lost:
            with Session(engine) as session, session.begin():  # both may have filed
                jobs.put_merge(session, job.incident_id, row.project_id, after=job.lease or "")
            raise
        did.append(outcome.detail)
        if isinstance(action, acts.FileWorkItem) and outcome.url:
            number = int(outcome.remote_id)
            is_own = told is action  # what else has an incident's tag is no double of a digest
            record.work_item(engine, row, news, number=number, url=outcome.url, is_own=is_own)
        wrote = wrote or isinstance(action, acts.FileWorkItem | acts.UpdateWorkItem | acts.ReopenWorkItem)
    return did, wrote


def _decided(
    engine: Engine, policy: plan.Policy, pages_url: str, row: Incident, news: plan.News
) -> tuple[acts.Act, ...]:
    decided = plan.decide(
        news,
        incident_id=row.id or 0,
        incident_tag=row.tag,
        work_item=None if news.digest else row.work_item,
        now=clock(engine),
        policy=policy,
        pages_url=pages_url,
    )
    if not news.digest and record.stands_in_digest(
        engine, row
    ):  # it speaks for others as well, and lists none of them
        return tuple(each for each in decided if isinstance(each, acts.TagRun | acts.PostThread))
    return decided


def merge(door: Door, engine: Engine, job: Job) -> str:
    """Close what was filed a second time for an incident. Returns what was done, in one sentence.

    Also for one that is over by now: nobody else would close it.
    """
    with Session(engine) as session:
        row = session.get(Incident, job.incident_id)
        if row is None or row.work_item is None:
            return "The incident has no work item."
        later = select(Incident.id).where(Incident.tag == row.tag, col(Incident.id) > row.id).limit(1)
        if session.exec(later).first() is not None:
            return "The credential has another incident by now, whose work item has the same tag."
    twins = work_item.twins(door, row.project_id, row.tag, row.work_item)
    if not twins:
        return "Filed once, as it should be."
    is_own = row.state != CLOSED and not record.stands_in_digest(engine, row)
    doubles, kept = [each.id for each in twins], row.work_item
    if is_own and kept > doubles[0]:
        doubles, kept = sorted([*doubles[1:], kept]), doubles[0]
        record.move(engine, row, number=kept, url=door.work_item_url(row.project_name, kept))
    for number in doubles:
        if is_own:
            work_item.hand_over(door, row.project_id, number, kept)
        work_item.close(door, row.project_id, number, messages.duplicate(kept))
    return f"Closed, as filed twice: {', '.join(map(str, doubles))}; {kept} stays."


def take_over(door: Door, engine: Engine, row: Incident, elder: int) -> None:
    """Let an incident have the oldest work item of its credential in place of one that is closed.

    Which is the oldest all agree upon, also two deployments of triage, each with a database of its own; if
    each kept the one that it knows, each would close the other's.
    """
    assert row.work_item is not None  # noqa: S101 - only then one is older
    work_item.hand_over(door, row.project_id, row.work_item, elder)
    record.move(engine, row, number=elder, url=door.work_item_url(row.project_name, elder))


def _is_too_much(engine: Engine, row: Incident, policy: plan.Policy) -> bool:
    """Return whether a project got as many work items within the hour as its people can take."""
    with Session(engine) as session:
        own = session.exec(select(Effect.id).where(Effect.key == f"item:{row.id}")).first()
        filed = session.exec(
            select(func.count())
            .select_from(Effect)
            .join(Incident, col(Incident.id) == col(Effect.incident_id))
            .where(
                Incident.project_id == row.project_id,
                col(Effect.key).startswith("item:"),
                col(Effect.intended_at) > present(-3600),
            )
        ).one()
    # One that was begun is finished: it may be there already.
    return own is None and filed >= policy.items_per_project_hour


def _leaves_digest(engine: Engine, policy: plan.Policy, row: Incident, news: plan.News) -> bool:
    """Return whether an incident gets a work item of its own: it goes on, and its project can take one.

    Not on the day of the digest, which says that no further items come for now.
    """
    goes_on = bool(news.runs) and row.item_at is not None and row.item_at.date() < now().date()
    return goes_on and record.stands_in_digest(engine, row) and not _is_too_much(engine, row, policy)


def _digest(door: Door, row: Incident, policy: plan.Policy, pages_url: str) -> acts.FileNotice:
    title, text = messages.digest(policy.items_per_project_hour, f"{pages_url}/")
    tag = plan.incident_tag(door.organization_url, f"digest:{row.project_id}:{now():%Y-%m-%d}")
    return acts.FileNotice(row.project_id, title, text, tag)


def carry_out(
    door: Door, engine: Engine, policy: plan.Policy, incident_id: int | None, action: acts.Act, *, worker: str
) -> publish.Outcome:
    """Do it, once, whatever crashes meanwhile. Raises Snooze while another worker is at it."""
    with effects.intent(
        engine,
        key=action.key(incident_id or 0),
        kind=action.name,
        worker=worker,
        run_key=action.run_key,
        incident_id=incident_id,
        repeated=action.is_repeated,
    ) as effect:
        if not effect.done:
            outcome = publish.carry_out(door, action, attempts=effect.attempts, policy=policy)
            effect.remote_id, effect.url, effect.detail = outcome.remote_id, outcome.url, outcome.detail
        elif isinstance(action, acts.FileWorkItem) and action.pipelines and effect.remote_id:
            # Filed just before a crash: it does not know what has failed since then.
            number, project = int(effect.remote_id), action.finding.run.project_id
            since = acts.UpdateWorkItem(
                action.pipelines, 0, action.count, project, number, action.incident_page
            )
            work_item.update(door, since)
        return publish.Outcome(effect.remote_id or "", effect.url or "", effect.detail)
