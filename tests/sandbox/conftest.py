from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

# The SDK chooses its cache when it is imported.
os.environ.setdefault("AZURE_DEVOPS_CACHE_DIR", tempfile.mkdtemp(prefix="triage-tests-"))

from azure.devops.connection import Connection
from msrest.authentication import BasicAuthentication

from triage.sandbox.organisation import Organisation
from triage.sandbox.server import Played, serve
from triage.sandbox.wire import stamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triage.sandbox.organisation import Project

TOKEN = "played-token"
RUN, PIPELINE, PULL_REQUEST = 42, 7, 359
ENDPOINT, BROKEN = "b460b0f8-0000-4000-8000-000000000001", "b460b0f8-0000-4000-8000-000000000002"
REPOSITORY = "e5994ecb-0000-4000-8000-000000000003"
TIMELINE, OLD_TIMELINE = "cd96240e-0000-4000-8000-000000000004", "cd96240e-0000-4000-8000-000000000005"
LOG = b"one\r\ntwo\nthree\nfour\n"


def _endpoint(identity: str, name: str, *, ready: bool) -> dict[str, Any]:
    return {
        "id": identity,
        "name": name,
        "type": "azurerm",
        "url": "https://management.azure.com/",
        "authorization": {
            "scheme": "ServicePrincipal",
            "parameters": {"tenantid": "t", "serviceprincipalkey": "must never be seen"},
        },
        "data": {"creationMode": "Automatic", "PrivateKey": "must never be seen"},
        "isReady": ready,
        "isDisabled": False,
    }


def _timeline(identity: str, attempt: int) -> dict[str, Any]:
    issues = [
        {"type": "error", "category": "General", "message": f"error {n}", "data": {}} for n in range(14)
    ]
    record = {
        "id": "00000000-0000-4000-8000-00000000000a",
        "type": "Task",
        "name": "Deploy",
        "state": "completed",
        "result": "failed",
        "attempt": attempt,
        "previousAttempts": [{"attempt": 1, "timelineId": OLD_TIMELINE, "recordId": "x"}]
        if attempt > 1
        else [],
        "task": {"id": "46e4be58-730b-4389-8a2f-ea10b3e5e815", "name": "AzureCLI", "version": "2.250.1"},
        "issues": issues,
        "log": {"id": 2, "type": "Container", "url": "x"},
    }
    return {"id": identity, "changeId": 1, "records": [record]}


def fill(project: Project) -> None:
    """Give a project one of everything."""
    project.builds[RUN] = {
        "id": RUN,
        "buildNumber": "20261121.1",
        "status": "completed",
        "result": "failed",
        "finishTime": stamp_now(),
        "definition": {"id": PIPELINE, "name": "deploy", "revision": 2},
        "project": project.reference(),
        "sourceBranch": "refs/heads/main",
    }
    project.timelines[RUN] = {TIMELINE: _timeline(TIMELINE, 2), OLD_TIMELINE: _timeline(OLD_TIMELINE, 1)}
    project.current_timeline[RUN] = TIMELINE
    project.logs[RUN] = {1: b"\xef\xbb\xbfstages:\r\n- stage: Deploy\r\n", 2: LOG}
    project.definitions[PIPELINE] = {
        revision: {"id": PIPELINE, "name": "deploy", "revision": revision, "process": {"type": 2}}
        for revision in (1, 2)
    }
    project.endpoints = {
        ENDPOINT: _endpoint(ENDPOINT, "prod-arm", ready=True),
        BROKEN: _endpoint(BROKEN, "broken", ready=False),
    }
    project.uses[ENDPOINT] = [
        {"id": n, "planType": "Build", "owner": {"id": n, "name": str(n)}, "result": "failed"}
        for n in range(5)
    ]
    project.repositories[REPOSITORY] = {"id": REPOSITORY, "name": "shop"}
    project.pull_requests[REPOSITORY, PULL_REQUEST] = {"pullRequestId": PULL_REQUEST, "status": "active"}


def stamp_now() -> str:
    return stamp(datetime.now(UTC))


@pytest.fixture
def organisation() -> Organisation:
    made = Organisation("contoso")
    made.add_user("jack@contoso.example", "Jack")
    made.add_user("left@contoso.example", "Left Long Ago", assignable=False)
    fill(made.add_project("Shop"))
    made.add_project("Small", process="Basic")
    return made


@pytest.fixture
def shop(organisation: Organisation) -> Project:
    found = organisation.find_project("Shop")
    assert found is not None
    return found


@pytest.fixture
def played(organisation: Organisation) -> Iterator[Played]:
    with serve(organisation, token=TOKEN) as served:
        yield served


@pytest.fixture
def sdk(played: Played) -> Any:
    """Return the clients of the unmodified SDK."""
    return Connection(base_url=played.url, creds=BasicAuthentication("", TOKEN)).clients_v7_1
