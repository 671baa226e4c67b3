"""A played organisation with the project, run and people of `tests.findings`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from tests import findings
from triage import acts, azdo, plan, publish
from triage.domain import RunRef
from triage.sandbox import server
from triage.sandbox.organisation import Organisation, Project

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triage.acts import Act
    from triage.domain import Finding, Run
    from triage.plan import Policy
    from triage.publish import Outcome

TAG = "triage-0123456789ab"
POLICY = plan.Policy(settle_seconds=0.0, default_assignee="team@contoso.example")


@dataclass
class Stage:
    """Where acts are carried out, and where their effects are seen."""

    door: azdo.Door
    organisation: Organisation
    project: Project

    def do(self, action: Act, *, attempts: int = 1, policy: Policy = POLICY) -> Outcome:
        return publish.carry_out(self.door, action, attempts=attempts, policy=policy)

    def file(
        self, finding: Finding | None = None, *, attempts: int = 1, policy: Policy = POLICY
    ) -> dict[str, Any]:
        action = acts.FileWorkItem(
            finding or self.finding(),
            publish.title(finding or self.finding()),
            TAG,
            "http://127.0.0.1:8080/incidents/5",
        )
        return self.project.work_items[int(self.do(action, attempts=attempts, policy=policy).remote_id)]

    def finding(self, of_run: Run | None = None, **changes: Any) -> Finding:
        told = findings.finding(of_run=of_run, **changes)
        page = f"{self.organisation.url}/{self.project.name}"
        at = replace(told.run, url=f"{page}/_build/results?buildId={told.run.ref.id}")
        return replace(told, run=at)

    def writes(self, path: str) -> list[dict[str, Any]]:
        return [entry for entry in self.organisation.ledger if path in entry["path"].lower()]

    @property
    def threads(self) -> list[dict[str, Any]]:
        return [thread for kept in self.project.threads.values() for thread in kept]


@pytest.fixture(params=["Agile"])
def process(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stage(process: str) -> Iterator[Stage]:
    organisation = Organisation("contoso")
    project = Project(findings.PROJECT, "Shop", process)
    organisation.projects[project.id] = project
    for number in (41, 42, 43):
        project.builds[number] = {"id": number, "result": "failed", "status": "completed"}
    project.pull_requests[findings.REPOSITORY, 359] = {"pullRequestId": 359, "status": "active"}
    for name in ("jo", "team"):
        organisation.add_user(f"{name}@contoso.example", name.title())
    organisation.add_user("gone@contoso.example", "Gone", assignable=False)
    with server.serve(organisation, token="played") as played:
        yield Stage(azdo.connect(played.url, "played"), organisation, project)


def ref(number: int) -> RunRef:
    return RunRef(findings.PROJECT, number)
