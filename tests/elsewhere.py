"""A worker on a machine whose clock is hours off: `python -m tests.elsewhere HOURS DATABASE_URL FILE`.

It puts a job, says `ready`, waits for a line, works until no job is left, and appends what it did to the file.
"""

from __future__ import annotations

import datetime as dt
import sys
import time
from typing import Any


def main(hours: float, url: str, told: str) -> None:
    shift(hours)
    from triage import db, jobs  # noqa: PLC0415 - with the shifted clock
    from triage.domain import RunRef  # noqa: PLC0415

    engine = db.open_engine(url)
    jobs.put(engine, RunRef("put elsewhere", 1000 + int(hours)), marker="1000")
    print("ready", db.now().isoformat(), flush=True)  # noqa: T201
    sys.stdin.readline()
    end = time.monotonic() + 30
    with open(told, "a", buffering=1) as file:  # noqa: PTH123 - a line at a time
        while jobs.unfinished(engine) and time.monotonic() < end:
            job = jobs.claim(engine, f"worker-{hours}")
            if job is None:
                time.sleep(0.02)
                continue
            file.write(f"{job.run_id} after {job.crashes} crashes\n")
            time.sleep(0.02 if hours > 0 else 0.1)  # who is ahead is quick to take what seems abandoned
            if (job.run_id or 0) % 5 == 0 and not job.error:  # the first time
                assert jobs.snooze(engine, job, 0.1, "throttled")
            else:
                assert jobs.extend(engine, job)
                assert jobs.complete(engine, job, "done")


def shift(hours: float) -> None:
    """Let everything in this process that asks Python for the time hear another."""
    right, right_time = dt.datetime, time.time
    off = dt.timedelta(hours=hours)

    class Shifted(right):  # type: ignore[misc, valid-type]
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return right.now(tz) + off

    dt.datetime = Shifted  # type: ignore[misc]
    time.time = lambda: right_time() + hours * 3600


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2], sys.argv[3])
