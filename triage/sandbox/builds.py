"""Played: runs, timelines, logs, definitions, tags, properties (area build)."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any, AnyStr

from fastapi.responses import JSONResponse, PlainTextResponse, Response

from triage.sandbox.answers import Refusal, as_guid, bad_patch, invalid, listing
from triage.sandbox.organisation import wire_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from triage.sandbox.answers import Call, Routes

_TAG_MAX = 256
_FILTERS: dict[str, Callable[[dict[str, Any], str], bool]] = {
    "definitions": lambda run, said: str(run["definition"]["id"]) in said.split(","),
    "buildids": lambda run, said: str(run["id"]) in said.split(","),
    "statusfilter": lambda run, said: said.lower() in {"all", str(run.get("status")).lower()},
    "resultfilter": lambda run, said: str(run.get("result")).lower() == said.lower(),
    "branchname": lambda run, said: run.get("sourceBranch") == said,
    "tagfilters": lambda run, said: set(said.split(",")) <= set(run.get("tags") or []),
    "mintime": lambda run, said: str(run.get("finishTime", "")) >= said,
    "maxtime": lambda run, said: str(run.get("finishTime", "")) <= said,
}


def _run(call: Call) -> int:
    number = call.number("buildId")
    if number not in call.project.builds:
        raise Refusal(404, f"The requested build {number} could not be found.", "BuildNotFoundException")
    return number


def _builds(call: Call) -> Response:
    if "buildId" in call.values:
        return JSONResponse(call.project.builds[_run(call)])
    unknown = [
        name
        for name in call.query
        if name not in {*_FILTERS, "$top", "continuationtoken", "queryorder", "api-version"}
    ]
    if unknown:
        raise invalid(f"The played organisation cannot filter builds by {', '.join(unknown)}.")
    found = list(call.project.builds.values())
    for name, fits in _FILTERS.items():
        if said := call.query.get(name):
            found = [run for run in found if fits(run, said)]
    newest_first = not call.query.get("queryorder", "").lower().endswith("ascending")
    found.sort(key=lambda run: (str(run.get("finishTime", "")), int(run["id"])), reverse=newest_first)
    start, top = call.asked("continuationToken", 0), call.asked("$top", 1000)
    more = {"X-MS-ContinuationToken": str(start + top)} if start + top < len(found) else None
    return listing(found[start : start + top], more)


def _definitions(call: Call) -> Response:
    known = call.project.definitions
    if "definitionId" not in call.values:
        return listing([revisions[max(revisions)] for revisions in known.values() if revisions])
    number = call.number("definitionId")
    revisions = known.get(number) or {}
    revision = call.asked("revision", max(revisions, default=1))
    if revision not in revisions:
        raise Refusal(
            404,
            f"The definition {number} of revision {revision} does not exist or you have no permission to view it.",
            "DefinitionNotFoundException",
        )
    return JSONResponse(revisions[revision])


def _timeline(call: Call) -> Response:
    number = _run(call)
    wanted = call.values.get("timelineId")
    known = call.project.timelines.get(number, {})
    found = known.get(
        as_guid(wanted, "timelineId") if wanted else call.project.current_timeline.get(number, "")
    )
    if found is None:
        return Response(status_code=204)
    for record in found.get("records") or []:
        call.organisation.keep_issues(record)
    return JSONResponse(found)


def _logs(call: Call) -> Response:
    number = _run(call)
    logs = call.project.logs.get(number, {})
    zipped = call.headers.get("accept", "").startswith("application/zip")
    if "logId" not in call.values:
        if zipped:
            return _zip({f"{each}.txt": text for each, text in logs.items()})
        home = f"{call.organisation.url}/{call.project.id}/_apis/build/builds/{number}/logs"
        return listing(
            [
                {
                    "id": each,
                    "type": "Container",
                    "url": f"{home}/{each}",
                    "createdOn": call.project.builds[number].get("startTime"),
                    "lastChangedOn": call.project.builds[number].get("finishTime"),
                    "lineCount": len(_lines(text)),
                }
                for each, text in sorted(logs.items())
            ]
        )
    wanted = call.number("logId")
    if wanted not in logs:
        raise Refusal(
            404, f"The log with ID {wanted} of build {number} could not be found.", "LogNotFoundException"
        )
    return _zip({f"{wanted}.txt": logs[wanted]}) if zipped else text_of(call, logs[wanted])


def text_of(call: Call, text: bytes) -> Response:
    """Return a log, or the lines asked for (1-based, both ends included), as text or JSON."""
    if {"startline", "endline"} & set(call.query):
        lines = text.split(b"\n")
        text = b"\n".join(lines[max(1, call.asked("startLine", 1)) - 1 : call.asked("endLine", len(lines))])
    if call.headers.get("accept", "").startswith("application/json"):
        return listing([line.removesuffix("\r") for line in _lines(text.decode("utf-8", "replace"))])
    return PlainTextResponse(text)


def _lines(text: AnyStr) -> list[AnyStr]:
    end: Any = "\n" if isinstance(text, str) else b"\n"
    lines = text.split(end)
    return lines if lines[-1] else lines[:-1]


def _zip(files: dict[str, bytes]) -> Response:
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return Response(kept.getvalue(), media_type="application/zip")


def _tags(call: Call) -> Response:
    number = _run(call)
    tags = call.project.build_tags.setdefault(number, list(call.project.builds[number].get("tags") or []))
    adding: list[Any] = []
    removing: list[Any] = []
    named = "tag" in call.values
    if call.method in {"PUT", "DELETE"} and named:
        (adding if call.method == "PUT" else removing).append(call.values["tag"])
    elif call.method == "POST" and not named:
        adding = call.json()
    elif call.method == "PATCH" and not named:
        change = call.table()
        adding, removing = change.get("tagsToAdd") or [], change.get("tagsToRemove") or []
    elif call.method != "GET" or named:
        raise Refusal(
            405, f"The requested resource does not support http method '{call.method}'.", "NotSupported"
        )
    said = adding + removing if isinstance(adding, list) and isinstance(removing, list) else [None]
    if not all(isinstance(tag, str) and 0 < len(tag) <= _TAG_MAX for tag in said):
        raise invalid("Build tags must be a list of texts of 1 to 256 characters.")
    tags[:] = [tag for tag in tags if tag not in removing]
    tags += [tag for tag in dict.fromkeys(adding) if tag not in tags]
    call.project.builds[number]["tags"] = list(tags)
    return listing(list(tags))


def _properties(call: Call) -> Response:
    kept = call.project.build_properties.setdefault(_run(call), {})
    if call.method == "PATCH":
        changed = dict(kept)
        for change in call.patch():
            name = str(change["path"]).removeprefix("/")
            if change["op"] in {"add", "replace"} and "value" in change:
                changed[name] = {"$type": "System.String", "$value": str(change["value"])}
            elif change["op"] == "remove" and name in changed:
                del changed[name]
            else:
                raise bad_patch(change["path"])
        kept.clear()
        kept.update(changed)
        call.project.builds[_run(call)]["lastChangedDate"] = wire_time()
    return JSONResponse({"count": len(kept), "value": kept})


def _stage(call: Call) -> Response:
    """Run a stage again: the run goes on from here; whoever plays it says how it ends."""
    number = _run(call)
    records = call.project.timelines.get(number, {}).get(call.project.current_timeline.get(number, ""), {})
    wanted = call.values["stageRefName"]
    names = [
        each
        for each in records.get("records") or []
        if each["type"] == "Stage"
        and wanted in {each.get("identifier"), each.get("refName"), each.get("name")}
    ]
    if not names:
        raise Refusal(404, f"The stage {wanted} could not be found.", "StageNotFoundException")
    if call.table().get("state") not in {"retry", 1, "cancel", 0}:
        raise invalid("The state of a stage is changed to retry or cancel.")
    call.project.builds[number] |= {"status": "inProgress", "result": None}
    return Response(status_code=204)


ROUTES: Routes = {
    "stages": {"PATCH": _stage},
    "builds": {"GET": _builds},
    "definitions": {"GET": _definitions},
    "timelines": {"GET": _timeline},
    "logs": {"GET": _logs},
    "tags": dict.fromkeys(("GET", "PUT", "POST", "PATCH", "DELETE"), _tags),
    "properties": {"GET": _properties, "PATCH": _properties},
}
