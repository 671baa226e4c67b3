"""Played: creating, changing and reading work items, and their comments (area wit)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from fastapi.responses import JSONResponse

from triage.sandbox.answers import Refusal, invalid, listing
from triage.sandbox.fields import Patch
from triage.sandbox.organisation import wire_time
from triage.sandbox.processes import STATES, type_named

if TYPE_CHECKING:
    from fastapi.responses import Response

    from triage.sandbox.answers import Call, Routes
    from triage.sandbox.organisation import Organisation, Project

_BATCH_MAX = 200


def _create(call: Call) -> Response:
    kind = type_named(call.project, call.values["type"])
    now, caller = wire_time(), call.organisation.caller
    item: dict[str, Any] = {
        "id": 0,
        "rev": 1,
        "fields": {
            "System.AreaPath": call.project.name,
            "System.TeamProject": call.project.name,
            "System.IterationPath": call.project.name,
            "System.WorkItemType": kind,
            "System.State": next(iter(STATES[call.project.process][kind])),
            "System.Reason": "New",
            "System.CreatedDate": now,
            "System.CreatedBy": caller,
            "System.ChangedDate": now,
            "System.ChangedBy": caller,
            "System.CommentCount": 0,
            "Microsoft.VSTS.Common.Priority": 2,
        },
        "relations": [],
        "multilineFieldsFormat": {},
    }
    patch = _patched(call, call.project, item)
    if not call.flag("validateOnly"):
        item["id"] = call.organisation.next_id()
        call.project.work_items[item["id"]] = item
        _keep_comments(call.organisation, call.project, item, patch.said)
    return JSONResponse(_shown(call, call.project, item, relations=True))


def _patched(call: Call, project: Project, item: dict[str, Any]) -> Patch:
    """Apply the request's patch to an item that is not kept yet."""
    operations = call.patch()
    if call.flag("bypassRules"):
        raise Refusal(
            403,
            "VS402624: You do not have permission to bypass rules on work item updates.",
            "WorkItemUnauthorizedBypassRulesException",
        )
    patch = Patch(call.organisation, project, item)
    patch.apply(operations)
    return patch


def _item(call: Call, number: int) -> tuple[Project, dict[str, Any]]:
    for project in [call.found] if call.found else call.organisation.projects.values():
        if number in project.work_items:
            return project, project.work_items[number]
    raise _gone(number)


def _gone(number: int) -> Refusal:
    return Refusal(
        404,
        f"TF401232: Work item {number} does not exist, or you do not have permissions to read it.",
        "WorkItemUnauthorizedAccessException",
    )


def _update(call: Call) -> Response:
    if "id" not in call.values:
        raise Refusal(405, "The requested resource does not support http method 'PATCH'.", "NotSupported")
    project, kept = _item(call, call.number("id"))
    changed = copy.deepcopy(kept)
    patch = _patched(call, project, changed)
    if not call.flag("validateOnly"):
        changed["rev"] += 1
        changed["fields"] |= {"System.ChangedDate": wire_time(), "System.ChangedBy": call.organisation.caller}
        project.work_items[changed["id"]] = changed
        _keep_comments(call.organisation, project, changed, patch.said)
    return JSONResponse(_shown(call, project, changed, relations=True))


def _read(call: Call) -> Response:
    if "id" in call.values:
        project, item = _item(call, call.number("id"))
        return JSONResponse(
            _selected(call, project, item, call.query.get("$expand"), call.query.get("fields"))
        )
    ids = [each for each in call.query.get("ids", "").split(",") if each]
    if not ids or not all(each.isdecimal() for each in ids):
        raise invalid("Name the work items with ids.")
    omit = call.query.get("errorpolicy", "fail").lower() == "omit"
    return _several(
        call, [int(each) for each in ids], call.query.get("$expand"), call.query.get("fields"), omit=omit
    )


def _batch(call: Call) -> Response:
    said = call.table()
    ids, fields = said.get("ids"), said.get("fields")
    if not isinstance(ids, list) or not all(isinstance(each, int) for each in ids):
        raise invalid("ids must be a list of numbers.")
    omit = str(said.get("errorPolicy") or "fail").lower() == "omit"
    return _several(call, ids, said.get("$expand"), ",".join(fields) if fields else None, omit=omit)


def _several(call: Call, ids: list[int], expand: str | None, fields: str | None, *, omit: bool) -> Response:
    if len(ids) > _BATCH_MAX:
        raise invalid(f"VS402337: {len(ids)} work items were asked for, {_BATCH_MAX} at most are answered.")
    shown: list[dict[str, Any] | None] = []
    for number in ids:
        try:
            shown.append(_selected(call, *_item(call, number), expand, fields))
        except Refusal:
            if not omit:
                raise
            shown.append(None)
    return listing(shown)


def _selected(
    call: Call, project: Project, item: dict[str, Any], expand: str | None, fields: str | None
) -> dict[str, Any]:
    wanted = str(expand or "none").lower()
    if wanted not in {"none", "relations", "fields", "links", "all"}:
        raise invalid(f"{expand!r} is not a valid $expand.")
    if fields and wanted not in {"none", "links"}:
        raise Refusal(
            400,
            "The expand parameter can not be used with the fields parameter.",
            "ConflictingParametersException",
        )
    shown = _shown(call, project, item, relations=wanted in {"relations", "all"})
    if fields:
        names = {each.strip().lower() for each in fields.split(",")}
        shown["fields"] = {key: value for key, value in shown["fields"].items() if key.lower() in names}
    return shown


def _shown(call: Call, project: Project, item: dict[str, Any], *, relations: bool) -> dict[str, Any]:
    home = f"{call.organisation.url}/{project.id}"
    shown = {key: copy.deepcopy(value) for key, value in item.items() if key != "relations"}
    if relations and item["relations"]:
        shown["relations"] = copy.deepcopy(item["relations"])
    if call.organisation.refuse_markdown:
        shown.pop("multilineFieldsFormat", None)
    url = f"{home}/_apis/wit/workItems/{item['id']}"
    links = {"self": {"href": url}, "html": {"href": f"{home}/_workitems/edit/{item['id']}"}}
    return {**shown, "_links": links, "url": url}


def _artifacts(call: Call) -> Response:
    uris = call.table().get("artifactUris")
    if not isinstance(uris, list) or not uris:
        raise invalid("artifactUris must be a list of addresses.")
    found: dict[str, list[dict[str, Any]]] = {str(uri): [] for uri in uris}
    for project in [call.found] if call.found else call.organisation.projects.values():
        for number, item in project.work_items.items():
            linked = {each["url"].lower() for each in item["relations"]}
            for uri, items in found.items():
                if uri.lower() in linked:
                    items.append(
                        {"id": number, "url": f"{call.organisation.url}/_apis/wit/workItems/{number}"}
                    )
    return JSONResponse({"artifactUrisQueryResult": found})


def _keep_comments(
    organisation: Organisation, project: Project, item: dict[str, Any], said: list[tuple[str, str]]
) -> list[dict[str, Any]]:
    kept = project.comments.setdefault(item["id"], [])
    for text, form in said:
        now = wire_time()
        kept.append(
            {
                "workItemId": item["id"],
                "id": organisation.next_id(),
                "version": 1,
                "text": text,
                "renderedText": text,
                "format": form,
                "createdBy": organisation.caller,
                "createdDate": now,
                "modifiedBy": organisation.caller,
                "modifiedDate": now,
                "isDeleted": False,
                "url": f"{organisation.url}/{project.id}/_apis/wit/workItems/{item['id']}/comments",
            }
        )
    item["fields"]["System.CommentCount"] = len(kept)
    return kept


def _comments(call: Call) -> Response:
    project, item = _item(call, call.number("workItemId"))
    kept = project.comments.setdefault(item["id"], [])
    if "commentId" in call.values:
        return _one_comment(call, kept)
    if call.method == "GET":
        newest_first = call.query.get("order", "desc").lower() != "asc"
        shown = kept[::-1] if newest_first else kept
        top = call.asked("$top", 200)
        return JSONResponse({"totalCount": len(kept), "count": len(shown[:top]), "comments": shown[:top]})
    form = call.query.get("format", "html").lower()
    if call.organisation.refuse_markdown:
        form = "html"  # a server that does not know the parameter does not look at it
    if form not in {"markdown", "html"}:
        raise invalid(f"{form!r} is not a valid format of a comment.")
    kept = _keep_comments(call.organisation, project, item, [(_text(call), form)])
    item["rev"] += 1
    return JSONResponse(kept[-1])


def _one_comment(call: Call, kept: list[dict[str, Any]]) -> Response:
    found = next((each for each in kept if each["id"] == call.number("commentId")), None)
    if found is None:
        raise Refusal(404, "VS403694: The comment does not exist.", "CommentNotFoundException")
    if call.method == "PATCH":
        found["text"] = found["renderedText"] = _text(call)
        found["version"] += 1
        found["modifiedDate"] = wire_time()
    return JSONResponse(found)


def _text(call: Call) -> str:
    text = call.table().get("text")
    if not isinstance(text, str) or not text.strip():
        raise invalid("A comment needs a text.")
    return text


ROUTES: Routes = {
    "new work item": {"POST": _create},
    "work items": {"GET": _read, "PATCH": _update},
    "batch": {"POST": _batch},
    "artifacts": {"POST": _artifacts},
    "comments": {"GET": _comments, "POST": _comments, "PATCH": _comments},
}
