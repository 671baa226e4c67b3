"""What Azure DevOps says of a connection's state reaches the renewal, read from the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.link import played
from triage import azdo
from triage.sandbox.organisation import Organisation
from triage.sandbox.server import serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triage import diagnosis
    from triage.domain import Finding
    from triage.sandbox.server import Played

EXPIRED = "AADSTS7000222: The provided client secret keys for app '***' are expired."
DELETED = "AADSTS700016: Application with identifier '***' was not found in the directory '***'."
LATER = "2099-01-02T03:04:05Z"


@dataclass
class Stage:
    service: Played
    known: diagnosis.Knowledge

    def find(
        self,
        name: str,
        *,
        message: str = EXPIRED,
        task: str = "AzureCLI@2",
        creator: Any = None,
        **state: Any,
    ) -> Finding:
        """Return what triage finds when the connection that the step names is in this state."""
        organisation = self.service.organisation
        case = played.Case(
            name=name,
            connections={"prod-arm": "azurerm"},
            step={"task": task, "name": "Deploy"},
            message=message,
            expect="prod-arm",
            designer=[{"task": task, "name": "Deploy", "inputs": {_input(task): "prod-arm"}}],
        )
        project = played.set_up(organisation, case)
        endpoint = project.endpoints[case.identity("prod-arm")]
        endpoint["data"] |= state.pop("data", {})
        if creator:
            endpoint["modifiedBy"], endpoint["createdBy"] = endpoint["createdBy"], creator
        scheme = state.pop("scheme", None)
        endpoint["authorization"]["scheme"] = scheme or "ServicePrincipal"
        endpoint.update(state)
        finding = played.conclude(azdo.connect(self.service.url, self.service.token), self.known, case.ref)
        assert finding.connection is not None
        return finding


def _input(task: str) -> str:
    return "serviceConnectionName" if task.startswith("ServiceFabric") else "azureSubscription"


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with serve(Organisation("contoso"), token="t") as service:
        yield Stage(service, played.knowledge())


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"isDisabled": True}, "The connection is disabled"),
        (
            {"isReady": False, "operationStatus": {"state": "Failed", "statusMessage": "No role"}},
            "It reports: “No role” Mend that first",
        ),
        ({"isShared": True}, "shared with other projects"),
        (
            {"scheme": "WorkloadIdentityFederation", "data": {"revertSchemeDeadline": LATER}},
            "Until 2099-01-02 03:04 UTC that can be undone",
        ),
    ],
    ids=["disabled", "not ready", "shared", "converted"],
)
def test_the_state_of_a_connection_is_told(stage: Stage, state: dict[str, Any], expected: str) -> None:
    told = stage.find(expected, **state).recipe.warnings[0]
    assert expected in told


@pytest.mark.parametrize("active", [True, False])
def test_a_creator_who_has_left_is_known_by_the_directory(stage: Stage, *, active: bool) -> None:
    creator = stage.service.organisation.add_user(f"kim-{active}@left.example", "Kim", isActive=active)
    found = stage.find(f"creator {active}", creator=creator)
    assert found.owner.creator_left is not active
    assert any("Kim, who created the connection, has left" in w for w in found.recipe.warnings) is not active


def test_a_connection_without_its_application_is_created_anew(stage: Stage) -> None:
    told = stage.find("app deleted", message=DELETED).recipe
    assert told.id == "azurerm-app-deleted"
    assert any("Otherwise create the connection anew" in step for step in told.steps)
    assert any("~/Credentials/appId/" in url for _, url in told.links)


@pytest.mark.parametrize(
    ("task", "advised"), [("AzureCLI@2", True), ("ServiceFabricDeploy@1", False)], ids=["can", "never can"]
)
def test_the_failed_task_decides_whether_federation_is_a_way_out(
    stage: Stage, task: str, *, advised: bool
) -> None:
    told = stage.find(f"federation by {task}", task=task).recipe
    assert any("federation" in title for title, _ in told.alternatives) is advised
    assert bool(told.no_alternative) is not advised
