"""Played: classic releases and the logs of their tasks (area Release, on the same host here)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from fastapi.responses import JSONResponse

from triage.sandbox.answers import Refusal
from triage.sandbox.builds import text_of

if TYPE_CHECKING:
    from fastapi.responses import Response

    from triage.sandbox.answers import Call, Routes


def _release(call: Call) -> Response:
    if "releaseId" not in call.values:
        raise Refusal(405, "Lists of releases are not played.", "NotSupported")
    number = call.number("releaseId")
    if number not in call.project.releases:
        raise Refusal(404, f"VS402881: Release with ID {number} does not exist.", "ReleaseNotFoundException")
    shown = copy.deepcopy(call.project.releases[number])
    if call.query.get("$expand", "").lower() != "tasks":
        for environment in shown.get("environments") or []:
            for attempt in environment.get("deploySteps") or []:
                for phase in attempt.get("releaseDeployPhases") or []:
                    phase["deploymentJobs"] = []
    return JSONResponse(shown)


def _log(call: Call) -> Response:
    names = ("releaseId", "environmentId", "releaseDeployPhaseId", "taskId")
    key = (call.number(names[0]), call.number(names[1]), call.number(names[2]), call.number(names[3]))
    text = call.project.release_logs.get(key)
    if text is None:
        raise Refusal(404, "The log of this task does not exist.", "ReleaseTaskLogNotFoundException")
    return text_of(call, text)


ROUTES: Routes = {"releases": {"GET": _release}, "release logs": {"GET": _log}}
