"""What a scenario says, as the JSON that Azure DevOps keeps and sends."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triage.sandbox.scenario import ConnectionTable, RunTable

_IDS = uuid.UUID("7f0f1c5e-4f0a-5d1c-9b7e-0d6a1b6f2a11")  # the played organisation's own namespace
SERVICE = {  # Azure DevOps itself; it rotates secrets and queues builds
    "id": "00000002-0000-8888-8000-000000000000",
    "displayName": "Microsoft.VisualStudio.Services.TFS",
    "uniqueName": "00000002-0000-8888-8000-000000000000@2c895908-04e0-4952-89fd-54b0046d6288",
    "descriptor": "s2s.MDAwMDAwMDItMDAwMC04ODg4LTgwMDAtMDAwMDAwMDAwMDAwQDJjODk1OTA4",
}
# Roles, not persons: nobody real is asked for anything. False: cannot be given a work item.
PEOPLE = {
    "Build Requester": True,
    "Cloud Administrator": True,
    "Former Colleague": False,
    "Platform Engineer": True,
    "Pull Request Author": True,
    "Release Manager": True,
}


def guid(*parts: str) -> str:
    """Return the same GUID for the same words, in every run of the demo."""
    return str(uuid.uuid5(_IDS, "/".join(parts)))


def stamp(at: datetime) -> str:
    """Return a time as Azure DevOps writes it, to a ten-millionth of a second."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{at.microsecond:06d}7Z"


def mail(name: str) -> str:
    """Return the address of one of PEOPLE."""
    return f"{name.lower().replace(' ', '.')}@contoso.example"


def person(name: str, base_url: str) -> dict[str, Any]:
    """Return an identity reference to one of PEOPLE, to a group, or to Azure DevOps itself."""
    if name == SERVICE["displayName"]:
        return dict(SERVICE)
    identifier = guid("identity", name)
    is_group = name not in PEOPLE
    descriptor = ("vssgp." if is_group else "aad.") + identifier.replace("-", "")
    return {
        "displayName": name,
        "url": f"{base_url}/_apis/Identities/{identifier}",
        "_links": {"avatar": {"href": f"{base_url}/_apis/GraphProfile/MemberAvatars/{descriptor}"}},
        "id": identifier,
        "uniqueName": f"vstfs:///Classification/TeamProject/{guid('scope', name)}\\{name}"
        if is_group
        else mail(name),
        "imageUrl": f"{base_url}/_apis/GraphProfile/MemberAvatars/{descriptor}",
        "descriptor": descriptor,
        **({"isContainer": True} if is_group else {}),
    }


def endpoint(project: str, table: ConnectionTable, base_url: str, *, at: datetime) -> dict[str, Any]:
    """Return a service endpoint as a GET answers it, without its secret; `at` is when it was last changed."""
    identifier = guid(project, "connection", table.name)
    made = person(table.created_by, base_url)
    changed = person(table.modified_by, base_url) if table.modified_by else made
    return {
        "administratorsGroup": person(table.administrators, base_url) if table.administrators else None,
        "authorization": {"parameters": _parameters(identifier, table), "scheme": table.scheme},
        "createdBy": made,
        "creationDate": stamp(at - timedelta(days=1)),
        "data": _data(identifier, table),
        "description": table.description,
        "groupScopeId": None,
        "id": identifier,
        "isDisabled": False,
        "isOutdated": False,
        "isReady": table.ready,
        "isShared": False,
        "modificationDate": stamp(at),
        "modifiedBy": changed,
        "name": table.name,
        "operationStatus": {
            "errorCode": None,
            "severity": "",
            "state": "Ready" if table.ready else "Failed",
            "statusMessage": "" if table.ready else "The last refresh of this connection failed.",
        },
        "owner": "library",
        "readersGroup": None,
        "serviceEndpointProjectReferences": [
            {
                "description": table.description,
                "name": table.name,
                "projectReference": {"id": guid("project", project), "name": project},
            }
        ],
        "serviceManagementReference": table.service_management_reference,
        "type": table.type,
        "url": table.url,
    }


def _parameters(identifier: str, table: ConnectionTable) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if table.scheme in {"ServicePrincipal", "WorkloadIdentityFederation"}:
        # dockerregistry writes tenantId, azurerm writes tenantid.
        made["tenantid" if table.type == "azurerm" else "tenantId"] = guid("tenant")
        made["serviceprincipalid"] = guid(identifier, "application")
    if table.scheme == "ServicePrincipal":
        kind = table.authentication or "spnKey"
        made["authenticationType"] = kind
        made["serviceprincipalkey" if kind == "spnKey" else "servicePrincipalCertificate"] = None
    if table.scheme == "WorkloadIdentityFederation":
        made["workloadIdentityFederationIssuer"] = f"https://login.microsoftonline.com/{guid('tenant')}/v2.0"
        made["workloadIdentityFederationSubject"] = f"/eid1/c/pub/t/played/a/played/sc/{identifier}"
    if table.scheme == "Token":
        made["apitoken"] = None
    return made | table.parameters


def _data(identifier: str, table: ConnectionTable) -> dict[str, str]:
    made: dict[str, str] = {}
    if table.type in {"azurerm", "dockerregistry"} and table.scheme != "UsernamePassword":
        made |= {
            "subscriptionId": guid(identifier, "subscription"),
            "subscriptionName": f"{table.name} subscription",
        }
    if table.type == "azurerm":
        made |= {"environment": "AzureCloud", "scopeLevel": "Subscription"}
    if table.creation and table.type == "azurerm":
        made["creationMode"] = table.creation
    if table.creation == "Automatic":
        made |= {
            "appObjectId": guid(identifier, "application object"),
            "spnObjectId": guid(identifier, "principal object"),
            "azureSpnRoleAssignmentId": guid(identifier, "role assignment"),
        }
    return made | table.data


def use(run: dict[str, Any], *, number: int, result: str, base_url: str) -> dict[str, Any]:
    """Return an entry of a connection's execution history."""
    project = run["project"]["id"]
    definition = run["definition"]
    return {
        "id": number,
        "planType": "Build",
        "definition": {
            "_links": {"self": {"href": f"{base_url}/{project}/_apis/build/Definitions/{definition['id']}"}},
            "id": definition["id"],
            "name": definition["name"],
        },
        "owner": {
            "_links": {"self": {"href": f"{base_url}/{project}/_apis/build/Builds/{run['id']}"}},
            "id": run["id"],
            "name": run["buildNumber"],
        },
        "startTime": run["startTime"],
        "finishTime": run["finishTime"],
        "result": result if result != "partiallySucceeded" else "succeededWithIssues",
    }


def build(
    project: str,
    table: RunTable,
    *,
    number: int,
    definition_id: int,
    result: str,
    base_url: str,
    at: datetime,
) -> dict[str, Any]:
    """Return a finished build."""
    project_json = project_reference(project, base_url)
    here = f"{base_url}/{project_json['id']}"
    request, pull = person(table.requested_for, base_url), table.pull_request
    return {
        "_links": {
            "self": {"href": f"{here}/_apis/build/Builds/{number}"},
            "web": {"href": f"{here}/_build/results?buildId={number}"},
            "timeline": {"href": f"{here}/_apis/build/builds/{number}/Timeline"},
            "badge": {"href": f"{here}/_apis/build/status/{definition_id}"},
        },
        "properties": {},
        "tags": [],
        "validationResults": [{"result": "error", "message": text} for text in table.validation_errors],
        "plans": [{"planId": guid(project, "plan", str(number))}],
        "triggerInfo": _trigger(table),
        "id": number,
        "buildNumber": f"{at:%Y%m%d}.{number % 97 + 1}",
        "status": "completed",
        "result": result,
        "queueTime": stamp(at - timedelta(minutes=9)),
        "startTime": stamp(at - timedelta(minutes=8)),
        "finishTime": stamp(at),
        "url": f"{here}/_apis/build/Builds/{number}",
        "definition": {
            "drafts": [],
            "id": definition_id,
            "name": table.pipeline,
            "url": f"{here}/_apis/build/Definitions/{definition_id}?revision=1",
            "uri": f"vstfs:///Build/Definition/{definition_id}",
            "path": "\\",
            "type": "build",
            "queueStatus": "enabled",
            "revision": 1,
            "project": project_json,
        },
        "buildNumberRevision": number % 97 + 1,
        "project": project_json,
        "uri": f"vstfs:///Build/Build/{number}",
        "sourceBranch": f"refs/pull/{pull.id}/merge" if pull else table.branch,
        "sourceVersion": guid(project, "commit", str(number)).replace("-", "") + "0a1b2c3d",
        "queue": {
            "id": 18,
            "name": "Azure Pipelines",
            "pool": {"id": 9, "name": "Azure Pipelines", "isHosted": True},
        },
        "priority": "normal",
        "reason": "pullRequest" if pull else table.reason,
        "requestedFor": request,
        "requestedBy": request if table.reason == "manual" else dict(SERVICE),
        "lastChangedDate": stamp(at),
        "lastChangedBy": dict(SERVICE),
        "orchestrationPlan": {"planId": guid(project, "plan", str(number))},
        "logs": {"id": 0, "type": "Container", "url": f"{here}/_apis/build/builds/{number}/logs"},
        "repository": {
            "id": guid(project, "repository"),
            "type": "TfsGit",
            "name": project,
            "url": f"{base_url}/{project}/_git/{project}",
            "clean": None,
            "checkoutSubmodules": False,
        },
        "retainedByRelease": False,
        "triggeredByBuild": None,
        "appendCommitMessageToRunName": True,
    }


def _trigger(table: RunTable) -> dict[str, str]:
    if table.pull_request is None:
        return {}
    return {
        "pr.number": str(table.pull_request.id),
        "pr.isFork": str(table.pull_request.is_fork),
        "pr.triggerRepository.Type": "TfsGit",
    }


def project_reference(project: str, base_url: str) -> dict[str, Any]:
    """Return a project as other things refer to it."""
    identifier = guid("project", project)
    return {
        "id": identifier,
        "name": project,
        "url": f"{base_url}/_apis/projects/{identifier}",
        "state": "wellFormed",
        "revision": 876,
        "visibility": "private",
        "lastUpdateTime": "2026-04-06T14:51:16.337Z",
    }


def pull_request(project: str, table: RunTable, base_url: str) -> dict[str, Any]:
    """Return the pull request that a run builds."""
    pull = table.pull_request
    assert pull is not None  # noqa: S101 - asked only of runs that have one
    repository = guid(project, "repository")
    return {
        "pullRequestId": pull.id,
        "status": "active",
        "title": pull.title,
        "description": "Small steps; see the commits.",
        "createdBy": person(pull.author, base_url),
        "creationDate": "2026-11-20T08:11:12.345Z",
        "sourceRefName": "refs/heads/topic/new-cluster",
        "targetRefName": "refs/heads/main",
        "mergeStatus": "succeeded",
        "isDraft": False,
        "repository": {
            "id": repository,
            "name": project,
            "url": f"{base_url}/_apis/git/repositories/{repository}",
            "project": project_reference(project, base_url),
        },
        "url": f"{base_url}/_apis/git/repositories/{repository}/pullRequests/{pull.id}",
    }
