"""Played: environments of deployment jobs and their Kubernetes resources (area distributedtask)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.responses import JSONResponse

from triage.sandbox.answers import Refusal, listing

if TYPE_CHECKING:
    from fastapi.responses import Response

    from triage.sandbox.answers import Call, Routes

_OF_KUBERNETES = ("clusterName", "namespace", "serviceEndpointId")  # told by the provider alone


def _environments(call: Call) -> Response:
    """Answer as the service does: resources are told of one environment, and only when they are asked for."""
    if "environmentId" in call.values:
        found = _found(call)
        if call.query.get("expands", "none").lower() != "resourcereferences":
            return JSONResponse(_plain(found))
        references = [
            {key: value for key, value in each.items() if key not in _OF_KUBERNETES}
            for each in found["resources"]
        ]
        return JSONResponse({**_plain(found), "resources": references})
    wanted = call.query.get("name", "").lower()
    return listing(
        [_plain(each) for each in call.project.environments.values() if wanted in each["name"].lower()]
    )


def _kubernetes(call: Call) -> Response:
    environment, number = _found(call), call.number("resourceId")
    for each in environment["resources"]:
        if each["id"] == number and each["type"] == "kubernetes":
            reference = {"id": environment["id"], "name": environment["name"]}
            return JSONResponse({**each, "environmentReference": reference})
    raise Refusal(404, f"The resource {number} does not exist.", "EnvironmentResourceNotFoundException")


def _found(call: Call) -> dict[str, Any]:
    number = call.number("environmentId")
    if number not in call.project.environments:
        raise Refusal(404, f"The environment {number} does not exist.", "EnvironmentNotFoundException")
    return call.project.environments[number]


def _plain(environment: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in environment.items() if key != "resources"}


ROUTES: Routes = {"environments": {"GET": _environments}, "kubernetes resources": {"GET": _kubernetes}}
