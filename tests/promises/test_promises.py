"""What triage promises holds in as many trials as there is time for; `python -m tests.promises` makes more.

The trials run in a process of their own, as they fork: nothing there may run threads.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import postgres
from tests.databases import KINDS
from tests.promises import service_bus
from tests.promises.__main__ import PROMISES, Promise
from triage import faultpoint

ROOT = Path(__file__).parents[2]
# About answers, processes and memory more than about the database; `--database both` tries them on each.
ON_SQLITE_ALONE = {"R5", "R6", "R12", "R21"}
CASES = [
    pytest.param(kind, each, id=f"{each.id}-{kind}")
    for each in PROMISES
    for kind in KINDS
    if kind == "sqlite" or each.id not in ON_SQLITE_ALONE
]
# What must have happened in the trials for them to mean anything.
SEEN = {
    "R3": ("copies by hook", "copies by queue in JSON", "copies by queue in XML"),
    "R20": (*service_bus.HARMS, "dead letters", "replayed", "forwarded while the database was away"),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("database", "promise"), CASES)
def test_the_promise_is_kept(database: str, promise: Promise) -> None:
    if database == "postgresql" and postgres.programs() is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(postgres.MISSING)
    command = [sys.executable, "-m", "tests.promises", "--few", "--json", "--database", database]
    command += ["--only", promise.id]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    (row,) = json.loads(done.stdout)
    assert (row["promise"], row["told"]) == (promise.id, [])
    assert row["trials"] >= promise.few
    for figure in SEEN.get(promise.id, ()):
        assert f"{figure}: " in row["figures"]
    if promise.id == "R16":
        assert "edits:" in row["figures"]
    if promise.id == "R1":  # a trial whose point lies beyond the end is not killed; there are few
        assert row["kills"] > row["trials"]


def test_an_unarmed_point_lets_pass() -> None:
    faultpoint.reach("before commit")
    assert faultpoint.disarm() == 0


def test_an_armed_point_ends_the_process_that_reaches_it_for_the_nth_time() -> None:
    program = "from triage import faultpoint\nfor n in range(5):\n print(n, flush=True)\n faultpoint.reach('before')"
    armed = {**os.environ, "TRIAGE_FAULTPOINT": "3"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=armed, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == ["0", "1", "2"]
