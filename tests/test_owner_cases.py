"""Forty cases of whose connection it is, from what the wire says to whom the work item is given."""

from __future__ import annotations

import tomllib
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import findings
from triage import azdo, owner, plan, publish
from triage.acts import FileWorkItem
from triage.domain import Attribution, LinkMethod, OwnerMethod, RunRef
from triage.sandbox.organisation import Fault, Organisation, Project
from triage.sandbox.server import serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triage.domain import Owner, Run

TOLD = tomllib.loads(Path(__file__).with_name("owner_cases.toml").read_text(encoding="utf-8"))
CASES: list[dict[str, Any]] = TOLD["case"]
PEOPLE: dict[str, dict[str, Any]] = TOLD["people"]
REPRO = "Microsoft.VSTS.TCM.ReproSteps"
REFUSAL = b'{"message": "TF401320: Rule Error for field Assigned To. Error code: LimitedToValues."}'


@dataclass
class Stage:
    door: azdo.Door
    organisation: Organisation
    project: Project


@pytest.fixture
def stage() -> Iterator[Stage]:
    organisation = Organisation("contoso")
    project = Project(findings.PROJECT, "Shop")
    organisation.projects[project.id] = project
    for key, person in PEOPLE.items():
        _add(organisation, key, person)
    with serve(organisation, token="t") as played:
        yield Stage(azdo.connect(played.url, "t"), organisation, project)


def _id(key: str) -> str:
    return str(PEOPLE[key].get("id") or uuid.uuid5(uuid.NAMESPACE_DNS, key))


def _add(organisation: Organisation, key: str, person: dict[str, Any]) -> None:
    """Put a person into the directory, as it knows them today."""
    if person.get("known") is False:
        return
    robot = person.get("descriptor", "aad.").split(".")[0] != "aad" or person.get("container")
    active = person.get("active", True)
    organisation.users[_id(key)] = {
        "id": _id(key),
        "displayName": person["name"],
        "uniqueName": person["unique"],
        "mail": person.get("mail"),
        "descriptor": person.get("descriptor", f"aad.{key}"),
        "isContainer": person.get("container", False),
        "isActive": active,
        "assignable": person.get("assignable", active and not robot),
    }
    if name := person.get("assignable_as"):
        organisation.add_user(name, person["name"])


def _reference(key: str) -> dict[str, Any] | None:
    """Return a person as a connection or run refers to them, perhaps by an older name."""
    if not key:
        return None
    person = PEOPLE[key]
    shown = {
        "displayName": person["name"],
        "id": _id(key),
        "uniqueName": person.get("once", person["unique"]),
    }
    if person.get("hidden"):
        return shown
    container = {"isContainer": True} if person.get("container") else {}
    return {**shown, "descriptor": person.get("descriptor", f"aad.{key}"), **container}


def _set_up(stage: Stage, case: dict[str, Any]) -> Run:
    stage.project.endpoints[findings.CONNECTION] = {
        "id": findings.CONNECTION,
        "name": "prod-arm",
        "type": "azurerm",
        "authorization": {"scheme": "ServicePrincipal", "parameters": {}},
        "data": {},
        "createdBy": _reference(case.get("created", "")),
        "modifiedBy": _reference(case.get("modified", "")),
        "modificationDate": "2026-08-19T09:49:04.997Z",
        "administratorsGroup": _reference(case.get("administrators", "")),
        "serviceManagementReference": case.get("service"),
    }
    stage.project.builds[41] = {
        "id": 41,
        "buildNumber": "20261121.41",
        "status": "completed",
        "result": "failed",
        "reason": "pullRequest" if case.get("fork") else "manual",
        "triggerInfo": {"pr.number": "7", "pr.isFork": "True"} if case.get("fork") else {},
        "definition": {"id": 7, "name": "shop-deploy", "revision": 1},
        "project": stage.project.reference(),
        "requestedFor": _reference(case.get("requester", "")),
        "requestedBy": _reference("system"),
    }
    return stage.door.run(RunRef(stage.project.id, 41))


def _own(stage: Stage, case: dict[str, Any], run: Run, folder: Path) -> tuple[Owner, Attribution]:
    connection = stage.door.connection(stage.project.id, findings.CONNECTION)
    known = case.get("connection", True)
    attribution = Attribution(connection if known else None, LinkMethod.TASK_INPUT, "because")
    entries = None
    if "file" in case:
        path = folder / "owners.toml"
        path.write_text(f"[[owner]]\n{case['file']}\n", encoding="utf-8")
        entries = owner.load_owners(path)
    return owner.find(
        stage.door, run, attribution, entries, owner.Fallback(assignee=_fallback(case))
    ), attribution


def _fallback(case: dict[str, Any]) -> str | None:
    return PEOPLE[case["fallback"]]["unique"] if "fallback" in case else None


def test_there_are_forty_cases_of_different_names() -> None:
    assert len({case["name"] for case in CASES}) == len(CASES) >= 40


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_owner_of(stage: Stage, tmp_path: Path, case: dict[str, Any]) -> None:
    run = _set_up(stage, case)
    before = stage.organisation.calls["identities"]
    found, attribution = _own(stage, case, run, tmp_path)
    assignee, method, filed, says = case["expect"]
    assert (found.assignee or "", found.method) == (assignee, OwnerMethod[method])
    assert says in found.reason
    assert stage.organisation.calls["identities"] - before <= 1, "everybody is looked up in one call"

    if case.get("nobody_allowed"):
        refused = {"Content-Type": "application/json"}
        fault = Fault("POST", r"/wit/workitems/\$", times=2, status=400, body=REFUSAL, headers=refused)
        stage.organisation.faults.append(fault)
    finding = findings.finding(of_run=run, attribution=attribution, owner=found)
    page = "http://127.0.0.1:8080/incidents/5"
    action = FileWorkItem(finding, publish.title(finding), "triage-0123456789ab", page)
    policy = plan.Policy(settle_seconds=0.0, default_assignee=_fallback(case))
    outcome = publish.carry_out(stage.door, action, attempts=1, policy=policy)
    fields = stage.project.work_items[int(outcome.remote_id)]["fields"]
    given = fields.get("System.AssignedTo") or {"uniqueName": ""}
    assert given["uniqueName"] == filed
    assert case.get("item", "") in fields[REPRO]
    assert ("How it was filed" in fields[REPRO]) is ("item" in case)
