"""The played organisation, what happens in it, and what it says came of that."""

from __future__ import annotations

import copy
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from triage.sandbox import processes, scenario, stories
from triage.sandbox.organisation import Fault, Organisation, wire_time
from triage.sandbox.server import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOKEN = "played"
_DONE = {"Completed", "Removed"}


@contextmanager
def serving() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Serve the organisation for forked.Beside."""
    organisation = Organisation("contoso")

    def call(function: Callable[..., Any], *arguments: Any) -> Any:
        with organisation.lock:
            return function(organisation, *arguments)

    with serve(organisation, token=TOKEN):
        yield organisation.url, call


@dataclass(frozen=True)
class Sent:
    """Runs that failed of one credential, and the events that tell of them."""

    project: str
    runs: tuple[int, ...]
    pull_requests: int
    bodies: tuple[bytes, ...]
    connection: str


@dataclass
class Seen:
    """What the history of a project says came of its runs."""

    items: dict[int, dict[str, Any]] = field(default_factory=dict)
    open: list[int] = field(default_factory=list)
    linked: dict[int, set[int]] = field(default_factory=dict)  # runs that an item links to
    comments: dict[int, list[str]] = field(default_factory=dict)
    tags: dict[int, list[str]] = field(default_factory=dict)
    threads: int = 0
    created: int = 0  # requests that created a work item, answered 200, by the ledger


def fail(
    organisation: Organisation, name: str, runs: int, pull_requests: int, minutes_ago: float = 5.0
) -> Sent:
    """Let pipelines of a new project fail of one credential."""
    story = _story(name, runs, pull_requests)
    story.set_up(organisation)
    fired: list[dict[str, Any]] = []
    numbers = story.play(organisation, fired.append)
    project = organisation.projects[story.project_id]
    ended = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    for number in numbers:
        project.builds[number]["finishTime"] = wire_time(ended)
    for event in fired:
        event["resource"]["finishTime"] = wire_time(ended)
    (connection,) = project.endpoints
    told = [{"subscriptionId": name, "notificationId": 1, **event} for event in fired]
    bodies = tuple(json.dumps(each).encode() for each in told)
    return Sent(story.project_id, tuple(numbers), pull_requests, bodies, connection)


def _story(name: str, runs: int, pull_requests: int) -> stories.Story:
    connection = f"{name}-prod"
    step = scenario.StepTable(
        task="AzureCLI@2",
        name="Publish",
        inputs={"azureSubscription": connection, "scriptType": "bash"},
        noise=("agent", 8),
        errors=["AADSTS7000222: The provided client secret keys for app '***' are expired."],
    )
    tables = [scenario.RunTable(pipeline=f"{name}-{number}", steps=[step]) for number in range(runs)]
    tables += [
        scenario.RunTable(
            pipeline=f"{name}-check",
            steps=[step],
            requested_for="Pull Request Author",
            pull_request=scenario.PullRequestTable(id=300 + number),
        )
        for number in range(pull_requests)
    ]
    return stories.Story(
        scenario.Scenario(
            name=name,
            title=name,
            story="",
            project=scenario.ProjectTable(name=name),
            connections=[
                scenario.ConnectionTable(name=connection, creation="Automatic", authentication="spnKey")
            ],
            runs=tables,
            expected=scenario.Expected(),
        )
    )


def events(sent: Sent) -> list[dict[str, Any]]:
    """Return the events that tell of runs, before they are addressed to a subscription."""
    told = [json.loads(body) for body in sent.bodies]
    return [{k: v for k, v in each.items() if k not in {"subscriptionId", "notificationId"}} for each in told]


def fail_again(organisation: Organisation, sent: Sent) -> bytes:
    """Let the first pipeline's next run fail as the first did; return the event that tells of it."""
    project = organisation.projects[sent.project]
    first, number = sent.runs[0], organisation.next_id()
    ended = {"id": number, "finishTime": wire_time(datetime.now(UTC) - timedelta(minutes=3))}
    project.builds[number] = {**copy.deepcopy(project.builds[first]), **ended, "tags": []}
    for kept in (project.timelines, project.current_timeline, project.logs):
        kept[number] = kept[first]  # type: ignore[assignment]
    event = json.loads(sent.bodies[0])
    event["resource"] |= ended
    return json.dumps(event).encode()


def add_builds(organisation: Organisation, name: str, runs: int) -> list[tuple[int, bytes]]:
    """Let runs fail that nobody looks at; return their ids and the events that tell of them."""
    sent = fail(organisation, name, 1, 0)
    told = json.loads(sent.bodies[0])
    numbered = []
    for _ in range(runs):
        number = organisation.next_id()
        told["resource"]["id"] = number
        numbered.append((number, json.dumps(told).encode()))
    return numbered


def as_human(organisation: Organisation, project_id: str, deed: str) -> int | None:
    """Do to a project's newest work item what people do. Returns its number, None when there is none yet."""
    project = organisation.projects[project_id]
    if not project.work_items:
        return None
    number = max(project.work_items)
    if deed == "delete":
        del project.work_items[number]
        return number
    item = copy.deepcopy(project.work_items[number])
    if deed == "move":
        other = organisation.add_project("elsewhere")
        del project.work_items[number]
        item["fields"]["System.TeamProject"] = other.name
        other.work_items[number] = item
    else:
        item["fields"] |= EDITS[deed]
        project.work_items[number] = item
    item["rev"] += 1
    item["fields"]["System.ChangedDate"] = wire_time()
    return number


EDITS: dict[str, dict[str, Any]] = {
    "title": {"System.Title": "What a person wrote"},
    "state": {"System.State": "Active"},
    "assignee": {"System.AssignedTo": {"displayName": "A Person", "uniqueName": "person@contoso.example"}},
    "body": {"Microsoft.VSTS.TCM.ReproSteps": "What a person wrote."},
    "close": {"System.State": "Closed"},
}


def item_anywhere(organisation: Organisation, number: int) -> dict[str, Any] | None:
    """Return a work item's fields, whichever project it is in."""
    kept = (project.work_items.get(number) for project in organisation.projects.values())
    return next((dict(item["fields"]) for item in kept if item), None)


def lag(organisation: Organisation, seconds: float) -> None:
    """Let the search index lag behind so far."""
    organisation.search_lag_seconds = seconds


def lose_reply(organisation: Organisation, method: str, path: str) -> None:
    """Do the next such request, and break the connection instead of an answer."""
    organisation.faults.append(Fault(method, path, lose_reply=True))


def forget_faults(organisation: Organisation) -> None:
    organisation.faults.clear()


def history(organisation: Organisation, project_id: str) -> Seen:
    """Return what has happened in a project."""
    project = organisation.projects[project_id]
    seen = Seen(tags={number: list(tags) for number, tags in project.build_tags.items()})
    states = processes.STATES[project.process]
    for number, item in project.work_items.items():
        fields = item["fields"]
        seen.items[number] = {**fields, "rev": item["rev"]}
        if states[fields["System.WorkItemType"]][fields["System.State"]] not in _DONE:
            seen.open.append(number)
        urls = [str(each["url"]) for each in item["relations"]]
        seen.linked[number] = {int(url.rpartition("/")[2]) for url in urls if "Build/Build" in url}
        seen.comments[number] = [each["text"] for each in project.comments.get(number, [])]
    seen.threads = sum(not each["isDeleted"] for kept in project.threads.values() for each in kept)
    seen.created = sum(
        entry["method"] == "POST"
        and entry["status"] == 200
        and f"/{project_id}/_apis/wit/workitems/$" in entry["path"].lower()
        for entry in organisation.ledger
    )
    return seen


def wrong(sent: Sent, seen: Seen) -> list[str]:
    """Return how what happened differs from one open work item that knows every run."""
    told = []
    if len(seen.open) != 1:
        told.append(f"{len(seen.open)} open work items of {len(seen.items)}")
    known = seen.linked[seen.open[0]] if seen.open else set()
    told += [f"the work item does not know run {run}" for run in sent.runs if run not in known]
    tags = {run: seen.tags.get(run) for run in sent.runs}
    told += [f"run {run} is tagged {said}" for run, said in tags.items() if said != ["expired-credential"]]
    if seen.threads != sent.pull_requests:
        told.append(f"{seen.threads} threads on {sent.pull_requests} pull requests")
    for number, comments in seen.comments.items():
        if len(set(comments)) != len(comments):
            told.append(f"work item {number} was told the same twice")
    return [f"{sent.project}: {each}" for each in told]
