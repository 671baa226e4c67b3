"""A classic release is read as a run: its environment's last attempt, and only at addresses we build."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.conftest import TOKEN
from triage import azdo, logs
from triage.domain import RunRef
from triage.errors import Cancel, UsageError
from triage.sandbox.organisation import Fault

if TYPE_CHECKING:
    from triage.sandbox.organisation import Organisation, Project
    from triage.sandbox.server import Played

RELEASE, ENVIRONMENT, PHASE = 12, 500, 600
REF = RunRef("Shop", RELEASE, "release", ENVIRONMENT)
CLI = {"id": "46e4be58-730b-4389-8a2f-ea10b3e5e815", "name": "AzureCLI", "version": "2.250.1"}


@pytest.fixture
def door(played: Played) -> azdo.Door:
    return azdo.connect(played.url, TOKEN)


def task(number: int, status: str, log_url: str | None) -> dict[str, Any]:
    issue = {"issueType": "Error", "message": "expired", "data": {"logFileLineNumber": "2"}}
    return {
        "id": number,
        "name": f"Task {number}",
        "status": status,
        "task": CLI,
        "timelineRecordId": f"00000000-0000-4000-8000-{number:012}",
        "logUrl": log_url,
        "issues": [issue] if status == "failed" else [],
    }


def address(environment: int, phase: int, number: int) -> str:
    home = f"https://vsrm.dev.azure.com/contoso/p/_apis/Release/releases/{RELEASE}"
    return f"{home}/environments/{environment}/deployPhases/{phase}/tasks/{number}/logs"


def attempt(number: int, *tasks: dict[str, Any], status: str = "failed") -> dict[str, Any]:
    jobs = [{"job": {"name": "Agent job", "status": status}, "tasks": list(tasks)}]
    phase = {"phaseId": "p", "name": "Run on agent", "rank": 1, "status": status, "deploymentJobs": jobs}
    return {"attempt": number, "releaseDeployPhases": [phase], "lastModifiedOn": "2026-11-21T03:12:00Z"}


@pytest.fixture
def release(shop: Project) -> dict[str, Any]:
    shop.release_logs[RELEASE, ENVIRONMENT, PHASE, 3] = b"one\ntwo\n"
    made = {
        "id": RELEASE,
        "name": "Release-12",
        "reason": "continuousIntegration",
        "releaseDefinition": {"id": 4, "name": "shop release"},
        "projectReference": {"id": shop.id, "name": "Shop"},
        "environments": [
            {"id": 499, "name": "Test", "status": "succeeded", "deploySteps": []},
            {
                "id": ENVIRONMENT,
                "name": "Production",
                "status": "rejected",
                "deploySteps": [
                    attempt(2, task(3, "failed", address(ENVIRONMENT, PHASE, 3))),
                    attempt(1, task(2, "failed", address(ENVIRONMENT, PHASE, 2))),
                ],
            },
        ],
    }
    shop.releases[RELEASE] = made
    return made


def failed(door: azdo.Door, ref: RunRef = REF) -> list[logs.StepLog]:
    return logs.fetch(door, door.run(ref))


@pytest.mark.usefixtures("release")
def test_an_environment_is_a_run_with_its_page(door: azdo.Door, shop: Project) -> None:
    run = door.run(REF)
    assert (run.number, run.pipeline_name, run.result) == (
        "Release-12 in Production",
        "shop release",
        "failed",
    )
    assert run.project_id == shop.id
    assert run.url.endswith(
        "/Shop/_releaseProgress?_a=release-environment-logs&releaseId=12&environmentId=500"
    )
    assert run.finished_at is not None
    assert door.parse_run_url(run.url) == REF


@pytest.mark.usefixtures("release")
def test_only_the_last_attempt_is_read_and_its_log_streams(door: azdo.Door) -> None:
    (step,) = failed(door)
    assert step.record is not None
    assert (step.record.name, str(step.record.task)) == ("Task 3", "AzureCLI@2")
    assert b"".join(step.open()) == b"one\ntwo\n"


@pytest.mark.parametrize(
    "evil",
    [
        "https://evil.example/environments/500/deployPhases/600/tasks/3/logs",
        "http://127.0.0.1:1/environments/500/deployPhases/600/tasks/3/logs?x=@evil.example",
    ],
)
def test_of_a_logs_address_only_its_numbers_are_taken(
    door: azdo.Door, release: dict[str, Any], evil: str
) -> None:
    release["environments"][1]["deploySteps"] = [attempt(1, task(3, "failed", evil))]
    (step,) = failed(door)
    assert b"".join(step.open()) == b"one\ntwo\n"


@pytest.mark.parametrize("bad", [None, "", "nonsense", address(499, PHASE, 3)])
def test_without_the_logs_number_the_errors_speak(
    door: azdo.Door, release: dict[str, Any], bad: str | None
) -> None:
    release["environments"][1]["deploySteps"] = [attempt(1, task(3, "failed", bad))]
    (step,) = failed(door)
    assert (step.source, b"".join(step.open())) == ("issue", b"expired")


@pytest.mark.usefixtures("release")
def test_a_release_named_without_its_environment_is_the_one_that_failed(door: azdo.Door) -> None:
    assert door.run(RunRef("Shop", RELEASE, "release")).ref == REF


@pytest.mark.usefixtures("release")
def test_a_release_or_environment_that_is_gone_is_nothing_to_do(door: azdo.Door) -> None:
    for ref in (RunRef("Shop", 999, "release", 1), RunRef("Shop", RELEASE, "release", 1)):
        with pytest.raises(Cancel):
            door.run(ref)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("rejected", ("completed", "failed")),
        ("partiallySucceeded", ("completed", "partiallySucceeded")),
        ("succeeded", ("completed", "succeeded")),
        ("inProgress", ("inProgress", "none")),
        ("notStarted", ("completed", "none")),
    ],
)
def test_a_stage_has_words_of_its_own_for_how_it_ended(
    door: azdo.Door, release: dict[str, Any], status: str, expected: tuple[str, str]
) -> None:
    release["environments"][1]["status"] = status
    run = door.run(REF)
    assert (run.status, run.result) == expected


def test_a_release_of_a_pull_requests_build_is_not_trusted_more_than_it(
    door: azdo.Door, release: dict[str, Any]
) -> None:
    release["artifacts"] = [{"definitionReference": {"Branch": {"id": "refs/pull/7/merge"}}}]
    assert door.run(REF).reason == "pullRequest"


@pytest.mark.parametrize("rest", ["_releaseProgress?releaseId=x", "_release?releaseId=1&environmentId=y"])
def test_what_is_no_page_of_a_release_is_refused(door: azdo.Door, rest: str) -> None:
    with pytest.raises(UsageError, match="not the page of a release"):
        door.parse_run_url(f"{door.organization_url}/Shop/{rest}")


def test_a_token_without_the_librarys_scopes_only_knows_less(
    door: azdo.Door, organisation: Organisation, shop: Project
) -> None:
    paths = ("variablegroups", "taskgroups", "resources$", "authorizedresources", "preview$")
    organisation.faults += [Fault("GET", path, status=403, times=9) for path in paths]
    organisation.faults.append(Fault("POST", "preview$", status=401, times=9))
    assert door.variable_groups(shop.id) == {}
    assert door.task_group(shop.id, CLI["id"], "1") == {}
    assert door.usable_connections(shop.id, 7) == frozenset()
    assert door.preview_yaml(shop.id, 7, "refs/heads/main") == ""


def test_secret_variables_of_a_group_stay_references(door: azdo.Door, shop: Project) -> None:
    variables = {"Target": {"value": "prod"}, "Key": {"value": "hidden", "isSecret": True}}
    shop.variable_groups[1] = {"id": 1, "name": "Deploy", "variables": variables}
    known = door.variable_groups(shop.id)
    assert known["deploy"] is known["1"]
    assert known["deploy"].variables == {"target": "prod", "key": "$(Key)"}
