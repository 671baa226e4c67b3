"""Before it breaks: one work item for each credential that ends soon, closed once it was renewed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlmodel import Session, select

from triage import acts, expiry, inventory, owner, plan, register, renewal, tell
from triage.db import Warned, now
from triage.expiry import End, Source
from triage.publish import endings, work_item
from triage.safe import visible

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Engine

    from triage.azdo import Account, Door
    from triage.config import Settings
    from triage.db import Job
    from triage.diagnosis import Knowledge
    from triage.inventory import Held, Own, Seen


_ASKED_AT_ONCE = 200  # connections of which a round asks who uses them, beside those that end soon


@dataclass(frozen=True)
class _Credential:
    """A connection's credential, or one of triage's own."""

    key: str  # as Warned.key
    name: str
    project_id: str  # where its work item goes; "" when nowhere
    end: End
    of: Held | Own
    changed_at: datetime | None = None


def round_of(
    door: Door, engine: Engine, settings: Settings, known: Knowledge, account: Account, job: Job
) -> str:
    """Look at every credential. Returns what was found and done, in one sentence."""
    graph = inventory.asked(settings, account)
    there = inventory.seen(door, settings.expiry.projects)
    days = sorted(settings.expiry.warn_days)
    held = [inventory.look(places, graph) for places in there.places.values()]
    # Who uses it is one request each: asked only where something may be said of it.
    near = [inventory.with_uses(door, each) if _may_be_near(each, days) else each for each in held]
    own = inventory.own(settings, graph)
    watched = settings.watch.project
    found = [_of_connection(each) for each in near if not each.connection.is_disabled]
    found += [_Credential(f"own:{each.setting}", "triage itself", watched, each.end, each) for each in own]
    round_ = _Round(door, engine, known, days, job.lease or "")
    for each in sorted(found, key=lambda each: (each.end.at is None, each.end.at or now())):
        round_.handle(each)
    round_.forget({each.key for each in found}, there)
    problems = [each for each in (*there.refused, graph.problem if graph else "") if each]
    # Last, so that it holds up no warning.
    register.keep(engine, door, there, _with_more_uses(door, engine, near), own, problems)
    count = "1 connection" if len(held) == 1 else f"{len(held)} connections"
    return " ".join([f"Looked at {count}: {round_}", *problems])


def _with_more_uses(door: Door, engine: Engine, held: list[Held]) -> list[Held]:
    """Ask who uses some of those that were not asked about, other ones in the next round."""
    unasked = [each.connection.id for each in held if each.uses is None]
    chosen = register.longest_not_asked(engine, unasked, _ASKED_AT_ONCE)
    return [inventory.with_uses(door, each) if each.connection.id in chosen else each for each in held]


def _may_be_near(held: Held, days: list[int]) -> bool:
    """Return True when its end is near, or would be if the connection turned out to work still."""
    if expiry.due(held.end.days_left(now()), days) is not None:
        return True
    if held.end.source is not Source.AUTOMATIC:
        return False
    works = expiry.of(held.connection, None, now())
    return expiry.due(works.days_left(now()), days) is not None


def _of_connection(held: Held) -> _Credential:
    connection = held.connection
    changed = expiry.changed_at(connection)
    key = f"connection:{connection.id}"
    return _Credential(key, connection.name, connection.project_id, held.end, held, changed)


class _Round:
    """What is common to all credentials of a round, and how many of them were told of."""

    def __init__(self, door: Door, engine: Engine, known: Knowledge, days: list[int], worker: str) -> None:
        self.door = door
        self.engine = engine
        self.known = known
        self.days = days
        self.worker = worker
        self.done: Counter[str] = Counter()
        self.filed: Counter[str] = Counter()  # by project
        with Session(engine, expire_on_commit=False) as session:
            self.warned = {row.key: row for row in session.exec(select(Warned))}

    def __str__(self) -> str:
        """Return what was done."""
        told = [f"{self.done[what]} {what}" for what in ("filed", "reminded of", "closed", "put off")]
        return f"{self.done['ending']} end within {self.days[-1]} days; work items: {', '.join(told)}."

    def handle(self, credential: _Credential) -> None:
        """Tell of one credential what is to be told."""
        row = self.warned.get(credential.key)
        if row is not None and _was_renewed(row, credential):
            self._close(row, endings.renewed(credential.name, credential.end))
            row = None
        left = credential.end.days_left(now())
        due = expiry.due(left, self.days)
        if due is None or left is None:
            return
        self.done["ending"] += 1
        if not credential.project_id:
            return
        if row is None:
            self._file(credential, left, due)
        elif due < row.days:
            self._remind(row, credential, left, due)

    def forget(self, found: set[str], there: Seen) -> None:
        """Close what was said of connections that are not there any more."""
        for key, row in self.warned.items():
            if key in found:
                continue
            kind, _, number = key.partition(":")
            if kind == "connection":
                hidden = row.project_id not in there.projects
                if hidden or self.door.connection(row.project_id, number) is not None:
                    continue
            is_own = kind == "own"
            self._close(row, endings.no_longer_own(number) if is_own else endings.gone(row.name))

    def _file(self, credential: _Credential, left: int, due: int) -> None:
        project = credential.project_id
        if self.filed[project] >= self.known.policy.items_per_project_hour:
            self.done["put off"] += 1  # the next round has those that end soonest behind it
            return
        notice = self._notice(credential, left, due)
        outcome = tell.carry_out(self.door, self.engine, self.known.policy, None, notice, worker=self.worker)
        self.filed[project] += 1
        self.done["filed"] += 1
        assert credential.end.at is not None  # noqa: S101 - it is due
        row = Warned(
            key=credential.key,
            project_id=project,
            name=credential.name,
            ends_at=credential.end.at,
            source=credential.end.source,
            days=due,
            work_item=int(outcome.remote_id),
        )
        with Session(self.engine) as session, session.begin():
            session.merge(row)

    def _notice(self, credential: _Credential, left: int, due: int) -> acts.FileNotice:
        end, organization = credential.end, self.door.organization_url
        mark = plan.incident_tag(organization, f"{credential.key}:{end.at:%Y-%m-%d}")
        reminders = [days for days in self.days if days < due]
        page = f"{self.known.pages_url}/connections/{credential.key.removeprefix('connection:')}"
        held = credential.of
        if isinstance(held, inventory.Own):
            title, text = endings.own(held, left, reminders, page=page)
            return acts.FileNotice(credential.project_id, title, text, mark, more_tags=(_tag(due),))
        connection, project = held.connection, held.places[0].project
        whose = owner.ahead(self.door, connection, project, self.known.owners, self.known.fallback)
        recipe = renewal.ahead(self.known.recipes, connection, project, organization)
        return acts.FileNotice(
            credential.project_id,
            endings.title(credential.name, end),
            endings.text(held, whose, recipe, left, reminders, page=page),
            mark,
            assignees=(whose.assignee,) if whose.assignee else (),
            area=whose.area,
            more_tags=(_tag(due),),
            link=(connection.url, f"Service connection {visible(credential.name)}"),
        )

    def _remind(self, row: Warned, credential: _Credential, left: int, due: int) -> None:
        reminder = acts.RemindNotice(
            row.project_id,
            row.work_item,
            endings.reminder(credential.name, credential.end, left),
            _tag(due),
            tuple(_tag(days) for days in self.days if days != due),
        )
        tell.carry_out(self.door, self.engine, self.known.policy, None, reminder, worker=self.worker)
        self.done["reminded of"] += 1
        with Session(self.engine) as session, session.begin():
            row.days, row.told_at = due, now()
            session.merge(row)

    def _close(self, row: Warned, said: str) -> None:
        work_item.close(self.door, row.project_id, row.work_item, said)
        self.done["closed"] += 1
        with Session(self.engine) as session, session.begin():
            kept = session.get(Warned, row.key)
            if kept is not None:
                session.delete(kept)


def _was_renewed(row: Warned, credential: _Credential) -> bool:
    before, after = End(row.ends_at, Source(row.source), ""), credential.end
    if expiry.has_moved(before, after):
        return True
    # Known less well than before, but the connection itself was changed since.
    changed = credential.changed_at is not None and credential.changed_at > row.told_at
    return changed and after.at is not None and after.at.date() > row.ends_at.date()


def _tag(days: int) -> str:
    return f"expires-in-{days}-days"
