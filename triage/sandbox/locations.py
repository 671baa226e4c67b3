"""Where each API is: what OPTIONS /_apis answers, which the SDK builds its URLs from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

NEWEST, RELEASED = "7.2", "7.1"
# name of ours | id | area | resource | route template | resource version. What triage, or a test of it,
# may ask for; the ids are the SDK's (7.1.0b4).
_TABLE = """
areas | e81700f7-3be2-46de-8624-2eb35882fcaa | Location | ResourceAreas | _apis/{resource}/{areaId} | 1
caller | 00d9565f-ed9c-4a06-9a50-00e7896ccab4 | Location | ConnectionData | _apis/{resource} | 1
projects | 603fe2ac-9723-48b9-88ad-09305aa6c6e1 | core | projects | _apis/{resource}/{*projectId} | 4
builds | 0cd358e1-9217-4d94-8269-1c1ee6f93dcf | build | Builds | {project}/_apis/{area}/{resource}/{buildId} | 7
stages | b8aac6c9-744b-46e1-88fc-3550969f9313 | build | stages | {project}/_apis/{area}/builds/{buildId}/{resource}/{stageRefName} | 1
timelines | 8baac422-4c6e-4de5-8532-db96d92acffa | build | Timeline | {project}/_apis/{area}/builds/{buildId}/{resource}/{timelineId} | 3
logs | 35a80daf-7f30-45fc-86e8-6b813d9c90df | build | logs | {project}/_apis/{area}/builds/{buildId}/{resource}/{logId} | 2
definitions | dbeaf647-6167-421a-bda9-c9327b25e2e6 | build | Definitions | {project}/_apis/{area}/{resource}/{definitionId} | 7
tags | 6e6114b2-8161-44c8-8f6c-c5505782427f | build | tags | {project}/_apis/{area}/builds/{buildId}/{resource}/{*tag} | 3
properties | 0a6312e9-0627-49b7-8083-7d74a64849c9 | build | properties | {project}/_apis/{area}/builds/{buildId}/{resource} | 1
endpoints | e85f1c62-adfc-4b74-b618-11a150fb195e | serviceendpoint | endpoints | {project}/_apis/{area}/{resource}/{endpointId} | 4
endpoint updates | 14e48fdc-2c8b-41ce-a0c3-e26f6cc55bd0 | serviceendpoint | endpoints | _apis/{area}/{resource}/{endpointId} | 4
history | 10a16738-9299-4cd1-9a81-fd23ad6200d0 | serviceendpoint | executionhistory | {project}/_apis/{area}/{endpointId}/{resource} | 1
endpoint proxy | cc63bb57-2a5f-4a7a-b79c-c142d308657e | serviceendpoint | endpointproxy | {project}/_apis/{area}/{resource} | 1
new work item | 62d3d110-0047-428c-ad3c-4fe872c91c74 | wit | workItems | {project}/_apis/{area}/{resource}/${type} | 3
work items | 72c7ddf8-2cdc-4f60-90cd-ab71c14a399b | wit | workItems | {project}/_apis/{area}/{resource}/{id} | 3
comments | 608aac0a-32e1-4493-a863-b9cf4566d257 | wit | comments | {project}/_apis/{area}/workItems/{workItemId}/{resource}/{commentId} | 4
batch | 908509b6-4248-4475-a1cd-829139ba419f | wit | workItemsBatch | {project}/_apis/{area}/{resource} | 1
wiql | 1a9c53f7-f243-4447-b110-35ef023636e4 | wit | wiql | {project}/{team}/_apis/{area}/{resource} | 2
artifacts | a9a9aa7a-8c09-44d3-ad1b-46e855c1e3d3 | wit | artifactUriQuery | {project}/_apis/{area}/{resource} | 1
types | 7c8d7a76-4a09-43e8-b5df-bd792f4ac6aa | wit | workItemTypes | {project}/_apis/{area}/{resource}/{type} | 2
states | 7c9d7a76-4a09-43e8-b5df-bd792f4ac6aa | wit | states | {project}/_apis/{area}/workItemTypes/{type}/{resource} | 1
fields | bd293ce5-3d25-4192-8e67-e8092e879efb | wit | fields | {project}/_apis/{area}/workItemTypes/{type}/{resource}/{field} | 3
categories | 9b9f5734-36c8-415e-ba67-f83b45c31408 | wit | workItemTypeCategories | {project}/_apis/{area}/{resource}/{category} | 2
pull requests | 9946fd70-0d40-406e-b686-b4744cbbcc37 | git | pullRequests | {project}/_apis/{area}/repositories/{repositoryId}/{resource}/{pullRequestId} | 2
threads | ab6e2e5d-a0b7-4153-b64a-a4efe0d49449 | git | pullRequestThreads | {project}/_apis/{area}/repositories/{repositoryId}/pullRequests/{pullRequestId}/threads/{threadId} | 1
thread comments | 965a3ec7-5ed8-455a-bdcb-835a5ea7fe7b | git | pullRequestThreadComments | {project}/_apis/{area}/repositories/{repositoryId}/pullRequests/{pullRequestId}/threads/{threadId}/comments/{commentId} | 1
pull request statuses | b5f6bb4f-8d1e-4d79-8d11-4c9172c99c35 | git | pullRequestStatuses | {project}/_apis/{area}/repositories/{repositoryId}/pullRequests/{pullRequestId}/statuses/{statusId} | 1
commit statuses | 428dd4fb-fda5-4722-af02-9313b80305da | git | statuses | {project}/_apis/{area}/repositories/{repositoryId}/commits/{commitId}/{resource} | 1
releases | a166fde7-27ad-408e-ba75-703c2cc9d500 | Release | releases | {project}/_apis/{area}/{resource}/{releaseId} | 8
release logs | 17c91af7-09fd-4256-bff1-c24ee4f73bc0 | Release | logs | {project}/_apis/{area}/releases/{releaseId}/environments/{environmentId}/deployPhases/{releaseDeployPhaseId}/tasks/{taskId}/{resource} | 2
namespaces | ce7b9f95-fde9-4be8-a86d-83b366f0b87a | Security | SecurityNamespaces | _apis/{resource}/{securityNamespaceId} | 1
evaluations | cf1faa59-1b63-4448-bf04-13d981a46f5d | Security | PermissionEvaluationBatch | _apis/{area}/{resource} | 1
classification nodes | 5a172953-1b41-49d3-840a-33f79c3ce89f | wit | classificationNodes | {project}/_apis/{area}/{resource}/{structureGroup}/{*path} | 2
repositories | 225f7195-f9c7-4d14-ab28-a83f7ff77e1f | git | repositories | {project}/_apis/{area}/{resource}/{repositoryId} | 1
pools | a8c47e17-4d56-4a56-92bb-de7ea7dc65be | distributedtask | pools | _apis/{area}/{resource}/{poolId} | 1
environments | 8572b1fc-2482-47fa-8f74-7e3ed53ee54b | distributedtask | environments | {project}/_apis/{area}/{resource}/{environmentId} | 1
kubernetes resources | 73fba52f-15ab-42b3-a538-ce67a9223a04 | distributedtask | kubernetes | {project}/_apis/{area}/environments/{environmentId}/providers/{resource}/{resourceId} | 1
usable | ea623316-1967-45eb-89ab-e9e6110cf2d6 | build | resources | {project}/_apis/{area}/definitions/{definitionId}/{resource} | 1
usable by all | 398c85bc-81aa-4822-947c-a194a05f0fef | build | authorizedresources | {project}/_apis/{area}/{resource} | 1
preview | 53df2d18-29ea-46a9-bee0-933540f80abf | pipelines | preview | {project}/_apis/{area}/{pipelineId}/{resource} | 1
variable groups | f5b09dd5-9d54-45a1-8b5a-1c8287d634cc | distributedtask | variablegroups | {project}/_apis/{area}/{resource}/{groupId} | 2
task groups | 6c08ffbf-dbf1-4f9a-94e5-a1cbd47005e7 | distributedtask | taskgroups | {project}/_apis/{area}/{resource}/{taskGroupId} | 1
identities | 28010c54-d0c0-4c89-a5b0-1c9e188b9fb7 | IMS | Identities | _apis/{resource}/{identityId} | 1
subscriptions | fc50d02a-849f-41fb-8af1-0a5216103269 | hooks | subscriptions | _apis/{area}/{resource}/{subscriptionId} | 1
event types | db4777cd-8e08-4a84-8ba3-c974ea033718 | hooks | eventtypes | _apis/{area}/publishers/{publisherId}/{resource}/{eventTypeId} | 1
notifications | 0c62d343-21b0-4732-997b-017fde84dc28 | hooks | notifications | _apis/{area}/subscriptions/{subscriptionId}/{resource}/{notificationId} | 1
"""
_PREVIEW_ONLY = {"comments", "caller"}  # no released version: the api-version must say -preview
_WITHOUT_PROJECT = {"wit", "git"}  # areas whose ids are unique in the organisation


@dataclass(frozen=True)
class Location:
    """One API's place."""

    name: str
    id: str
    area: str
    resource: str
    template: str
    resource_version: int

    @property
    def preview_only(self) -> bool:
        """True when no version of it was ever released."""
        return self.name in _PREVIEW_ONLY

    def wire(self) -> dict[str, Any]:
        """Return it as OPTIONS lists it."""
        return {
            "id": self.id,
            "area": self.area,
            "resourceName": self.resource,
            "routeTemplate": self.template,
            "resourceVersion": self.resource_version,
            "minVersion": "1.0",
            "maxVersion": NEWEST,
            "releasedVersion": "0.0" if self.preview_only else RELEASED,
        }

    def match(self, steps: list[str]) -> dict[str, str] | None:
        """Return the route's values in the steps of a path, None when the path is another API's."""
        before, after = _split(self.template.split("/"))
        given, rest = _split(steps)
        needed = 0 if self.area in _WITHOUT_PROJECT or not before else 1
        if not needed <= len(given) <= len(before):
            return None
        values = {key.strip("{}"): unquote(value) for key, value in zip(before, given, strict=False)}
        known = {"{area}": self.area, "{resource}": self.resource}
        after = [known.get(step, step) for step in after]
        if len(rest) < len(after) and after[-1].startswith("{"):
            after.pop()  # only the last parameter may be missing
        if after and after[-1].startswith("{*"):
            rest = [*rest[: len(after) - 1], "/".join(rest[len(after) - 1 :])]
        if len(rest) != len(after):
            return None
        for step, said in zip(after, rest, strict=True):
            name = step.strip("${*}")
            if step.startswith("{"):
                values[name] = unquote(said)
            elif step.startswith("${") and unquote(said).startswith("$"):
                values[name] = unquote(said)[1:]
            elif step.lower() != said.lower():
                return None
        return values


def _split(steps: list[str]) -> tuple[list[str], list[str]]:
    at = next((index for index, step in enumerate(steps) if step.lower() == "_apis"), len(steps))
    return steps[:at], steps[at + 1 :]


def _read(row: str) -> Location:
    name, identity, area, resource, template, version = row.split(" | ")
    return Location(name, identity, area, resource, template, int(version))


LOCATIONS = [_read(row) for row in _TABLE.strip().splitlines()]


def listing() -> dict[str, Any]:
    """Return the answer to OPTIONS /_apis."""
    return {"count": len(LOCATIONS), "value": [each.wire() for each in LOCATIONS]}


def find(path: str) -> tuple[Location, dict[str, str]] | None:
    """Return the API at a still quoted path below the organisation, and the route's values."""
    steps = path.rstrip("/").split("/")
    for each in LOCATIONS:
        if (values := each.match(steps)) is not None:
            return each, values
    return None
