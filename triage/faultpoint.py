"""Where a test may end triage: before and after every commit and every request to Azure DevOps.

Also after a message of the Service Bus was received, and before and after it is settled.

Unarmed, as always outside tests, a point costs one comparison. Armed by `arm`, or in a process of its
own by TRIAGE_FAULTPOINT, the process sends itself a signal at the n-th point that it reaches, or at the
n-th that has a certain name. Points are named by what is done and by which function of triage does it,
for example `after commit in effects._take`.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

_PACKAGE = Path(__file__).parent
# Their callers are what tells one point from another.
_PASSED_OVER = {_PACKAGE / "faultpoint.py", _PACKAGE / "db.py", _PACKAGE / "azdo" / "wire.py"}


@dataclass
class _Plan:
    """What is to happen at which point."""

    number: int
    name: str  # "": any point counts
    signal: int
    skipped: str  # what is done at points that do not count
    names: list[str] | None  # of the points that were reached, when they are to be kept
    reached: int = field(default=0)


_plan: _Plan | None = None


def arm(
    number: int,
    *,
    name: str = "",
    signal_number: int = signal.SIGKILL,
    skipped: str = "",
    names: list[str] | None = None,
) -> None:
    """Have this process sent a signal at the n-th point from now, or the n-th of a name; 0: at none.

    Who is to stand still skips "before commit", where it would hold the database's locks. The names of
    the points that are reached are added to `names`.
    """
    global _plan  # noqa: PLW0603 - one process, one plan
    _plan = _Plan(number, name, signal_number, skipped, names)


def disarm() -> int:
    """Let everything pass again. Returns how many points were reached."""
    global _plan
    reached, _plan = (_plan.reached if _plan else 0), None
    return reached


def reach(what: str) -> None:
    """Be at a point."""
    if _plan is not None:
        _reach(_plan, what)


def _reach(plan: _Plan, what: str) -> None:
    if what == plan.skipped:
        return
    if plan.name or plan.names is not None:
        name = f"{what} in {_caller()}"
        if plan.names is not None:
            plan.names.append(name)
        if plan.name and plan.name != name:
            return
    plan.reached += 1
    if plan.reached == plan.number:
        # To this thread: one that is to stand still must not go on until another has taken the signal.
        signal.pthread_kill(threading.get_ident(), plan.signal)


def _caller() -> str:
    """Return the function of triage that is at work."""
    frame = sys._getframe(1)  # noqa: SLF001 - the documented way to one frame, without the cost of all
    while frame.f_back is not None:
        frame = frame.f_back
        path = Path(frame.f_code.co_filename)
        if _PACKAGE in path.parents and path not in _PASSED_OVER:
            return f"{'.'.join(path.relative_to(_PACKAGE).with_suffix('').parts)}.{frame.f_code.co_name}"
    return "nothing of triage's own"


def _from_environment() -> None:
    number, _, name = os.environ.get("TRIAGE_FAULTPOINT", "").partition(":")
    if number.isdecimal():
        arm(int(number), name=name)


_from_environment()
