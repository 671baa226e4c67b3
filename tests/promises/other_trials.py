"""R14, R16 and R22: workers that lost their lease, people's edits, and restored backups."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from sqlmodel import Session, SQLModel, select

from tests.promises import lane as lanes
from tests.promises import played
from tests.promises.lane import Tally
from triage import azdo, db, jobs, sweep
from triage.db import Incident, Job

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.promises.lane import Lane


def zombie(lane: Lane, trials: int, offset: int) -> Tally:
    """R14: a worker stands still past its lease, another does its work, then it goes on."""
    tally = Tally()
    point = 1 + offset * 13 % 50
    for _ in range(trials):
        sent = lane.fail(1, 1)
        still = lane.fork_to_stop(lanes.attempt, sent.bodies, (), lane.worker(), at=point)
        tally.trials += 1
        if not still.stopped():
            point = 1
            continue
        point += 1
        tally.count("stood still")
        lanes.let_leases_run_out(lane)
        # Another takes over, and is told of what was not answered.
        lane.fork(lanes.attempt, sent.bodies, (), lane.worker(), True).end()
        before = _told(lane, sent)
        open_before = lane.seen(sent)
        still.signal(signal.SIGCONT)
        still.end()
        filed = len(lane.seen(sent).items) - len(open_before.items)
        tally.count("filed twice, then closed", filed)
        if changed := [str(each) for each in _told(lane, sent) if each not in before]:
            tally.violations.append(f"{sent.project}: wrote {'; '.join(changed)} at point {point - 1}")
        lane.fork(lanes.attempt, [], (), lane.worker(), True).end()
        tally.violations += [f"at point {point - 1}: {each}" for each in played.wrong(sent, lane.seen(sent))]
    tally.violations += lanes.unfinished(lane)
    return tally


def _told(lane: Lane, sent: played.Sent) -> list[tuple[Any, ...]]:
    """Return what triage knows of a project's incidents, and how its jobs ended."""
    with Session(lane.engine) as session:
        incidents = session.exec(select(Incident).where(Incident.project_id == sent.project)).all()
        ended = session.exec(
            select(Job).where(Job.project == sent.project, Job.kind != jobs.Kind.MERGE)
        ).all()
        known: list[tuple[Any, ...]] = [
            (each.work_item, each.run_count, each.told_finding, each.item_finding) for each in incidents
        ]
        known += [(each.key, each.state, each.lease, each.finished_at) for each in ended]
    lane.engine.dispose()
    return known


def human(lane: Lane, trials: int, offset: int) -> Tally:
    """R16: a person changes, closes, deletes or moves the work item between any two steps."""
    tally = Tally()
    deeds = [*played.EDITS, "delete", "move"]
    point = 40 + offset * 11 % 30
    for number in range(trials):
        deed = deeds[number % len(deeds)]
        sent = lane.fail(2, 0)
        child = lane.fork_to_stop(lanes.attempt, sent.bodies, (), lane.worker(), at=point)
        tally.trials += 1
        if not child.stopped():
            point = 40
            continue
        point += 1
        touched = lane.played.ask(played.as_human, sent.project, deed)
        child.signal(signal.SIGCONT)
        child.end()
        # The run fails once more: what triage says then must leave the person's word alone, too.
        again = lane.played.ask(played.fail_again, sent)
        lane.fork(lanes.attempt, [again], (), lane.worker(), True).end()
        if touched is None:
            continue
        tally.count("edits")
        tally.violations += [
            f"{deed} at point {point - 1}: {each}" for each in _overwritten(lane, sent, deed, touched)
        ]
    tally.violations += lanes.unfinished(lane)
    return tally


def _overwritten(lane: Lane, sent: played.Sent, deed: str, number: int) -> list[str]:
    fields = lane.played.ask(played.item_anywhere, number)
    seen = lane.seen(sent)
    if deed == "delete":
        return [f"filed {len(seen.items)} new ones"] if len(seen.items) > 1 else []
    if fields is None:
        return ["the work item is gone"]
    wrong = [
        f"{name} is {fields.get(name)!r}"
        for name, said in played.EDITS.get(deed, {}).items()
        if fields[name] != said
    ]
    if len(seen.open) > 1:
        wrong.append(f"{len(seen.open)} open work items")
    if deed not in {"close", "move"} and len(seen.items) != 1:
        wrong.append(f"{len(seen.items)} work items")
    return wrong


def backup(lane: Lane, trials: int, offset: int) -> Tally:
    """R22: an older copy of the database is put back, and the sweep finds the runs again."""
    tally = Tally()
    point = 1 + offset * 17 % 60
    url = lane.settings.database.url
    for _ in range(trials):
        sent = lane.fail(1, 1)
        child = lane.fork_to_stop(lanes.attempt, sent.bodies, (), lane.worker(), at=point)
        stopped = child.stopped()
        point = point + 1 if stopped else 1
        tally.trials += 1
        tally.count("restored")
        copies = _Copies(url)
        copies.keep()
        if stopped:
            child.signal(signal.SIGCONT)
            child.end()
        copies.put_back(lane)
        lanes.let_leases_run_out(lane)
        lane.fork(_sweep, lane.worker()).end()
        tally.violations += [f"at point {point - 1}: {each}" for each in played.wrong(sent, lane.seen(sent))]
        if (filed := lane.seen(sent).created) != 1:
            tally.violations.append(f"{sent.project}: filed {filed} times, restored at point {point - 1}")
    tally.violations += lanes.unfinished(lane)
    return tally


def _sweep(say: Callable[[Any], None], lane: Lane, name: str) -> None:
    door = azdo.connect(lane.settings.azure_devops.url, played.TOKEN)
    sweep.round_of(door, lane.engine, lane.settings.sweep)
    lanes.work(lane, name, merge=True)


class _Copies:
    """An older state of a database."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.kept: Any = None

    def keep(self) -> None:
        """Copy every row, in one transaction, as a backup of a running database does."""
        engine = db.open_engine(self.url)
        with engine.connect() as connection:
            self.kept = {
                table: [dict(row._mapping) for row in connection.execute(table.select())]
                for table in SQLModel.metadata.sorted_tables
            }
        engine.dispose()

    def put_back(self, lane: Lane) -> None:
        """Leave nothing but what was kept."""
        with lane.engine.begin() as connection:
            for table in reversed(SQLModel.metadata.sorted_tables):
                connection.execute(table.delete())
            for table, rows in self.kept.items():
                if rows:
                    connection.execute(table.insert(), rows)
        lane.engine.dispose()
