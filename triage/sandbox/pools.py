"""Played: what triage has no business with, agent pools (area distributedtask)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triage.sandbox.answers import listing

if TYPE_CHECKING:
    from fastapi.responses import Response

    from triage.sandbox.answers import Call, Routes


def _pools(call: Call) -> Response:  # noqa: ARG001 - every organisation has this one
    return listing([{"id": 9, "name": "Azure Pipelines", "isHosted": True, "poolType": "automation"}])


ROUTES: Routes = {"pools": {"GET": _pools}}
