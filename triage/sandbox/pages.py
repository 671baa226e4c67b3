"""The played organisation as a person sees it, at Azure DevOps' own addresses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.templating import Jinja2Templates
from markdown_it import MarkdownIt
from markupsafe import Markup

if TYPE_CHECKING:
    from triage.sandbox.organisation import Organisation, Project

_TEMPLATES = Path(__file__).parent / "templates"
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
# Nothing but our own style sheet: a work item's HTML is shown as somebody wrote it.
_POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_STAMP = re.compile(r"^\ufeff?\d{4}-\d\d-\d\dT(\d\d:\d\d:\d\d)\.\d+Z ?")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_COMMAND = re.compile(r"^##\[(error|warning|section|command|debug|group|endgroup)\]")
_LONG_TEXTS = ("Microsoft.VSTS.TCM.ReproSteps", "System.Description")
_BUILD = "vstfs:///Build/Build/"
_SHOWN_FIELDS = {
    "System.State": "State",
    "System.AreaPath": "Area",
    "System.IterationPath": "Iteration",
    "Microsoft.VSTS.Common.Priority": "Priority",
    "Microsoft.VSTS.Common.Severity": "Severity",
    "Microsoft.VSTS.Build.FoundIn": "Found in build",
}


def router(organisation: Organisation) -> APIRouter:  # noqa: C901 - one small route after another
    """Return the routes of an organisation's pages."""
    routes = APIRouter()
    templates = Jinja2Templates(directory=_TEMPLATES)
    templates.env.filters["markdown"] = _markdown
    templates.env.filters["day"] = _day
    home = f"/{quote(organisation.name)}"

    def page(request: Request, template: str, **values: Any) -> Response:
        context = {"organisation": organisation.name, "home": home, **values}
        return templates.TemplateResponse(request, template, context, headers=_HEADERS)

    @routes.get("/")
    def entrance() -> Response:
        return RedirectResponse(home)

    @routes.get("/_played/style.css")
    def style() -> Response:
        return Response((_TEMPLATES / "style.css").read_text(encoding="utf-8"), media_type="text/css")

    @routes.get(home)
    def start(request: Request) -> Response:
        with organisation.lock:
            projects = [_overview(project) for project in organisation.projects.values()]
            return page(request, "start.html", projects=projects, writes=len(organisation.ledger))

    @routes.get(home + "/{name}/_build/results")
    def run(request: Request, name: str, buildId: int, t: str = "", l: int = 0) -> Response:  # noqa: E741, N803 - Azure DevOps' own names
        with organisation.lock:
            project = _project(organisation, name)
            told = _run(project, buildId)
            chosen = next((r for r in told["records"] if r["id"] == t), None) or told["failed"]
            log = _log(project, buildId, chosen)
            return page(request, "run.html", project=project, chosen=chosen, log=log, line=l, **told)

    @routes.get(home + "/{name}/_releaseProgress")
    def release(request: Request, name: str, releaseId: int, environmentId: int = 0, t: str = "") -> Response:  # noqa: N803 - Azure DevOps' own names
        with organisation.lock:
            project = _project(organisation, name)
            return page(
                request, "release.html", project=project, **_release(project, releaseId, environmentId, t)
            )

    @routes.get(home + "/{name}/_workitems/edit/{number}")
    def work_item(request: Request, name: str, number: int) -> Response:
        with organisation.lock:
            project = _project(organisation, name)
            if number not in project.work_items:
                raise HTTPException(404, f"{project.name} has no work item {number}.")
            return page(request, "work_item.html", project=project, **_work_item(project, number))

    @routes.get(home + "/{name}/_git/{repository}/pullrequest/{number}")
    def pull_request(request: Request, name: str, repository: str, number: int) -> Response:  # noqa: ARG001 - one per project
        with organisation.lock:
            project = _project(organisation, name)
            key = next((key for key in project.pull_requests if key[1] == number), None)
            if key is None:
                raise HTTPException(404, f"{project.name} has no pull request {number}.")
            pull = project.pull_requests[key]
            runs = [b for b in project.builds.values() if b["triggerInfo"].get("pr.number") == str(number)]
            threads, statuses = project.threads.get(key, []), project.statuses.get(key, [])
            return page(
                request,
                "pull_request.html",
                project=project,
                pull=pull,
                runs=runs,
                threads=threads,
                statuses=statuses,
            )

    @routes.get(home + "/{name}/_settings/adminservices")
    def connection(request: Request, name: str, resourceId: str = "") -> Response:  # noqa: N803 - Azure DevOps' own name
        with organisation.lock:
            project = _project(organisation, name)
            found = project.endpoints.get(resourceId.lower())
            if resourceId and found is None:
                raise HTTPException(404, f"{project.name} has no service connection {resourceId}.")
            uses = project.uses.get(resourceId.lower(), [])
            return page(request, "connection.html", project=project, connection=found, uses=uses)

    return routes


def _project(organisation: Organisation, name: str) -> Project:
    found = organisation.find_project(name)
    if found is None:
        raise HTTPException(404, f"There is no project {name!r} in {organisation.name}.")
    return found


def _overview(project: Project) -> dict[str, Any]:
    return {
        "name": project.name,
        "process": project.process,
        "runs": sorted(project.builds.values(), key=lambda build: -build["id"]),
        "work_items": sorted(project.work_items.values(), key=lambda item: item["id"]),
        "pull_requests": [
            {**pull, "threads": len(project.threads.get(key, []))}
            for key, pull in project.pull_requests.items()
        ],
        "connections": list(project.endpoints.values()),
        "tags": project.build_tags,
    }


def _run(project: Project, number: int) -> dict[str, Any]:
    build = project.builds.get(number)
    if build is None:
        raise HTTPException(404, f"{project.name} has no run {number}.")
    timeline = project.timelines.get(number, {}).get(project.current_timeline.get(number, ""), {})
    records = timeline.get("records", [])
    link = f"{_BUILD}{number}"
    failed = [r for r in records if r["type"] == "Task" and r["result"] in {"failed", "succeededWithIssues"}]
    return {
        "build": build,
        "records": records,
        "tree": _tree(records),
        "failed": failed[0] if failed else None,
        "errors": [(r, i) for r in records for i in r["issues"] if i["type"] == "error"],
        "tags": project.build_tags.get(number, []),
        "related": [
            item
            for item in project.work_items.values()
            if any(relation["url"] == link for relation in item["relations"])
        ],
    }


def _release(project: Project, number: int, environment_id: int, record: str) -> dict[str, Any]:
    made = project.releases.get(number)
    if made is None:
        raise HTTPException(404, f"{project.name} has no release {number}.")
    environments = made["environments"]
    environment = next((each for each in environments if each["id"] == environment_id), environments[0])
    tasks = [
        (phase, task)
        for phase in environment["deploySteps"][-1]["releaseDeployPhases"]
        for job in phase["deploymentJobs"]
        for task in job["tasks"]
    ]
    chosen = next((task for _, task in tasks if task["timelineRecordId"] == record), None) or next(
        (task for _, task in tasks if task["status"] == "failed"), None
    )
    place = re.search(r"/deployPhases/(\d+)/tasks/(\d+)/", (chosen or {}).get("logUrl") or "")
    key = (number, environment["id"], int(place[1]), int(place[2])) if place else None
    return {
        "release": made,
        "environment": environment,
        "tasks": tasks,
        "chosen": chosen,
        "log": _lines(project.release_logs[key]) if key else [],
    }


def _tree(records: list[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    """Return stages, jobs and tasks with how deep each stands; phases and checkpoints go unseen."""
    depths = {"Stage": 0, "Job": 1, "Task": 2}
    return [(depths[record["type"]], record) for record in records if record["type"] in depths]


def _log(project: Project, number: int, record: dict[str, Any] | None) -> list[tuple[str, str, str]]:
    """Return a record's lines: what kind of line, at what time, which text."""
    if not record or not record["log"]:
        return []
    return _lines(project.logs[number].get(record["log"]["id"], b""))


def _lines(log: bytes) -> list[tuple[str, str, str]]:
    raw = log.decode("utf-8", "replace")
    return [_line(line) for line in raw.removesuffix("\n").split("\n")]


def _line(raw: str) -> tuple[str, str, str]:
    stamp = _STAMP.match(raw)
    text = _ANSI.sub("", raw[stamp.end() :] if stamp else raw).rstrip("\r").split("\r")[-1]
    kind = _COMMAND.match(text)
    return kind[1] if kind else "", stamp[1] if stamp else "", text[kind.end() :] if kind else text


def _work_item(project: Project, number: int) -> dict[str, Any]:
    item = project.work_items[number]
    fields = item["fields"]
    field = next((name for name in _LONG_TEXTS if fields.get(name)), _LONG_TEXTS[1])
    text = str(fields.get(field, ""))
    is_markdown = item["multilineFieldsFormat"].get(field) == "markdown"
    return {
        "item": item,
        "fields": fields,
        "assignee": fields.get("System.AssignedTo") or {},
        "tags": [tag.strip() for tag in str(fields.get("System.Tags", "")).split(";") if tag.strip()],
        "shown": [
            (title, fields[name]) for name, title in _SHOWN_FIELDS.items() if fields.get(name) is not None
        ],
        "heading": "Repro steps" if field == _LONG_TEXTS[0] else "Description",
        "text": _markdown(text) if is_markdown else _html(text),
        "runs": [project.builds[n] for r in item["relations"] if (n := _linked(r["url"])) in project.builds],
        "links": [r for r in item["relations"] if r["rel"] == "Hyperlink"],
        "comments": [
            (c, _markdown(c["text"]) if c["format"] == "markdown" else _html(c["text"]))
            for c in project.comments.get(number, [])
        ],
    }


def _linked(url: str) -> int:
    number = url.removeprefix(_BUILD)
    return int(number) if url.startswith(_BUILD) and number.isdigit() else 0


def _markdown(text: str) -> Markup:
    return Markup(_MARKDOWN.render(text))  # noqa: S704 - raw HTML is off


def _html(text: str) -> Markup:
    return Markup(text)  # noqa: S704 - as Azure DevOps shows it; the page's policy lets nothing run


def _day(moment: str) -> str:
    return str(moment)[:16].replace("T", " ")
