"""`python -m tests.promises`: try what triage promises, and print promise / trials / kills / violations."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests import postgres
from tests.databases import Databases
from tests.promises import (
    any_order,
    away,
    deployments,
    faults,
    one_item,
    other_trials,
    patience,
    same_event,
    servers,
    service_bus,
)
from tests.promises import lane as lanes
from tests.promises.forked import fork
from tests.promises.lane import Lane, Tally
from tests.storms import checks
from triage import db

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from triage.diagnosis import Knowledge


_TRIALS_IN_LANE = 8  # at least, as setting one up takes a second


@dataclass(frozen=True)
class Promise:
    """Something that triage promises, and how it is tried."""

    id: str
    text: str
    check: Callable[[Lane, int, int], Tally]  # lane, trials, the lane's number
    trials: int  # unless told otherwise; all promises together take some 25 minutes
    few: int  # as many as fit into every run of the tests
    lanes: int  # trials go on side by side in so many
    stops_server: bool = False  # so that each lane needs a PostgreSQL server of its own
    on_postgresql: int = 0  # trials there; 0: as many
    under_load: bool = False  # on a database that is on disk and holds nothing yet


PROMISES = (
    Promise(
        "R1",
        "A failed run ends in one open work item, whenever triage is killed",
        one_item.check,
        1000,
        40,
        10,
        on_postgresql=200,
    ),
    Promise("R2", "No event answered 202 is lost when the receiver is killed", servers.no_202_lost, 60, 8, 1),
    Promise(
        "R3",
        "One event 50 times at once by hook, Service Bus and sweep: one run, one set of effects",
        same_event.check,
        60,
        6,
        1,
    ),
    Promise("R4", "Events in any order end in the same state", any_order.check, 100, 16, 4),
    Promise(
        "R5",
        "Any answer of Azure DevOps, at any call, once or always, is survived",
        faults.check,
        len(faults.CELLS),
        12,
        faults.LANES,
        on_postgresql=120,
    ),
    Promise(
        "R6",
        "While the service asks for patience, nothing is sent",
        patience.check,
        10,
        2,
        1,
        under_load=True,
    ),
    Promise(
        "R7",
        "The database away for 30 s: nothing lost; for 30 min: nothing lost after the sweep",
        away.check,
        16,
        2,
        2,
        stops_server=True,
    ),
    Promise("R8", "A storm of one secret is one work item", checks.storm, 5000, 200, 1, under_load=True),
    Promise(
        "R9", "Many secrets at once: none waits for a noisy one", checks.fair, 200, 6, 1, under_load=True
    ),
    Promise(
        "R11",
        "A job that crashes or eats memory is quarantined after 5 tries and delays nobody",
        checks.poison,
        9,
        2,
        1,
        under_load=True,
    ),
    Promise(
        "R12",
        "A job that hangs is cut off, quarantined after 5 tries and delays nobody",
        checks.hung,
        4,
        1,
        1,
        under_load=True,
    ),
    Promise(
        "R13",
        "Told to stop under load, triage stops in 25 s, loses and doubles nothing",
        servers.drained,
        6,
        1,
        1,
    ),
    Promise("R14", "A worker that lost its lease writes nothing down", other_trials.zombie, 100, 24, 4),
    Promise("R16", "People's edits of the work item win", other_trials.human, 100, 14, 4),
    Promise(
        "R17", "Two deployments that race for the same runs do everything once", deployments.check, 120, 6, 3
    ),
    Promise(
        "R20",
        "Service Bus: killed, locks lost, told twice, cut off: each event is stored once or a dead letter",
        service_bus.check,
        60,
        4,
        2,
    ),
    Promise(
        "R21",
        "Events that come while no worker works are kept, then worked off",
        checks.pressure,
        10_000,
        200,
        1,
        on_postgresql=5000,
        under_load=True,
    ),
    Promise("R22", "Restored from a backup, nothing is filed again", other_trials.backup, 60, 10, 4),
)


@dataclass(frozen=True)
class Row:
    """What came of a promise on one database."""

    promise: str
    text: str
    database: str
    trials: int
    kills: int
    violations: int
    seconds: float
    figures: str
    told: tuple[str, ...]  # the first violations


def try_promise(promise: Promise, database: str, databases: Databases, known: Knowledge, trials: int) -> Row:
    """Share the trials among the lanes, each a process with its own organisation and database."""
    begun = time.monotonic()
    tally = Tally()
    width = max(1, min(promise.lanes, trials // _TRIALS_IN_LANE))
    shares = [trials // width + (number < trials % width) for number in range(width)]
    with contextlib.ExitStack() as stack:
        children = []
        for number, share in enumerate(shares):
            where = None if promise.under_load else _in_memory()
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=where)))
            own = promise.stops_server and database == "postgresql"
            url = "" if own else stack.enter_context(databases.new(database, folder))
            children.append(fork(_in_lane, promise, url, known, share, number))
        for child in children:
            tally.add(child.end().said[-1])
    figures = "; ".join(f"{name}: {value:g}" for name, value in sorted(tally.figures.items()))
    took = round(time.monotonic() - begun, 1)
    return Row(
        promise.id,
        promise.text,
        database,
        tally.trials,
        tally.kills,
        len(tally.violations),
        took,
        figures,
        tuple(tally.violations[:20]),
    )


def _in_lane(
    say: Callable[[object], None], promise: Promise, url: str, known: Knowledge, trials: int, number: int
) -> Tally:
    settle = one_item.INDEX[number % len(one_item.INDEX)][1] if promise.id == "R1" else 0.0
    with contextlib.ExitStack() as stack:
        server = None
        if not url:
            server = _server_of_its_own()
            stack.callback(server.close)
            url = server.url(server.create())
            engine = db.open_engine(url)
            db.migrate(engine)
            engine.dispose()
        lane = Lane(f"{promise.id}-{number}", url, known, settle_seconds=settle, server=server)
        stack.callback(lane.close)
        if not promise.under_load:
            lane.warm()
        try:
            return promise.check(lane, trials, number)
        except AssertionError:  # it broke off; the other promises are tried all the same
            return Tally(trials=trials, violations=[traceback.format_exc(limit=-2)])


def _server_of_its_own() -> postgres.Server:
    """Start a server that keeps what it said it kept."""
    programs = postgres.programs()
    if programs is None:
        raise RuntimeError(postgres.MISSING)
    return postgres.Server(programs, durable=True)


def _in_memory() -> str | None:
    """Return a folder in memory: a killed process needs no disk that keeps its word, a lost power would."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def table(rows: Sequence[Row], *, markdown: bool) -> str:
    """Return the rows as a table."""
    head = ("", "promise", "database", "trials", "kills", "violations", "s", "seen besides")
    body = [
        (
            row.promise,
            row.text,
            row.database,
            f"{row.trials:,}",
            f"{row.kills:,}",
            str(row.violations),
            f"{row.seconds:.0f}",
            row.figures,
        )
        for row in rows
    ]
    if markdown:
        lines = [head, tuple("---" for _ in head), *body]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (head, *body)
    )


def main() -> int:
    """Return 0 when every promise was kept, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.promises", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="R1", choices=[each.id for each in PROMISES])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--trials", type=int, metavar="N", help="of each; more trials, more points")
    size.add_argument("--few", action="store_true", help="as many trials as the tests have time for")
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="sqlite")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    form.add_argument("--json", action="store_true", help="print rows as JSON")
    chosen = parser.parse_args()
    wanted = [each for each in PROMISES if not chosen.only or each.id in chosen.only]
    kinds = ["sqlite", "postgresql"] if chosen.database == "both" else [chosen.database]
    known, rows = lanes.knowledge(), []
    with tempfile.TemporaryDirectory(dir=_in_memory()) as folder:
        quick, durable = Databases(Path(folder)), Databases(Path(folder), durable=True)
        try:
            for promise in wanted:
                for kind in kinds:
                    usual = promise.trials if kind == "sqlite" else promise.on_postgresql or promise.trials
                    trials = chosen.trials or (promise.few if chosen.few else usual)
                    databases = durable if promise.under_load else quick
                    rows.append(try_promise(promise, kind, databases, known, trials))
                    print(f"{promise.id} {kind}: {rows[-1].violations} violations", file=sys.stderr)  # noqa: T201
        finally:
            quick.close()
            durable.close()
    if chosen.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))  # noqa: T201
    else:
        print(table(rows, markdown=chosen.markdown))  # noqa: T201
        for row in rows:
            for told in row.told:
                print(f"{row.promise} {row.database}: {told}")  # noqa: T201
    return 1 if any(row.violations for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
