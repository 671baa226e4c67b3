"""Played: what triage has no business with, agent pools and variable groups (area distributedtask)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triage.sandbox.answers import listing

if TYPE_CHECKING:
    from fastapi.responses import Response

    from triage.sandbox.answers import Call, Routes


def _pools(call: Call) -> Response:  # noqa: ARG001 - every organisation has this one
    return listing([{"id": 9, "name": "Azure Pipelines", "isHosted": True, "poolType": "automation"}])


def _variable_groups(call: Call) -> Response:
    return listing([{"id": 1, "name": f"{call.project.name} secrets", "type": "Vsts", "variables": {}}])


ROUTES: Routes = {"pools": {"GET": _pools}, "variable groups": {"GET": _variable_groups}}
