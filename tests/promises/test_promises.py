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
from tests.promises.__main__ import PROMISES
from triage import faultpoint

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("database", KINDS)
def test_no_promise_is_broken(database: str) -> None:
    if database == "postgresql" and postgres.programs() is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(postgres.MISSING)
    command = [sys.executable, "-m", "tests.promises", "--few", "--json", "--database", database]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    rows = json.loads(done.stdout)
    assert {row["promise"]: row["told"] for row in rows} == {each.id: [] for each in PROMISES}
    trials = {row["promise"]: row["trials"] for row in rows}
    assert all(trials[each.id] >= each.few for each in PROMISES), trials
    assert "edits:" in next(row["figures"] for row in rows if row["promise"] == "R16")
    kills = {row["promise"]: row["kills"] for row in rows}
    # A trial whose point lies beyond the end is not killed; there are few.
    assert kills["R1"] > trials["R1"]


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
