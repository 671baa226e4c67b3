"""The stories that the demo and the tests play: one scenario file each."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triage.sandbox import deployments, events, pipeline, scenario, timeline, wire
from triage.sandbox.organisation import Project
from triage.sandbox.outcome import check, happened
from triage.sandbox.processes import STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from triage.sandbox.organisation import Organisation
    from triage.sandbox.scenario import AfterwardsTable, RunTable, Scenario

__all__ = ["SCENARIOS", "Story", "check", "happened", "load", "play_all"]

SCENARIOS = Path(__file__).parent / "scenarios"
_SLOT = re.compile(r"<<(id|link|application|tenant|subscription|url|day|run)(?: ([^>]+))?>>")
_SETTLED = timedelta(minutes=5)  # since the last thing: long enough for the agent to have sent its logs
_CONNECTION_AGE = timedelta(days=95)  # a secret that Azure DevOps made for three months is over
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True)
class Story:
    """A scenario that can be set up and played in an organisation."""

    scenario: Scenario

    @property
    def name(self) -> str:
        """Return the scenario's name, which is its file's."""
        return self.scenario.name

    @property
    def title(self) -> str:
        """Return what happens, in one sentence."""
        return self.scenario.title

    @property
    def expected(self) -> dict[str, Any]:
        """Return what triage must make of it; only what the scenario names."""
        told = self.scenario.expected
        return {key: value for key, value in told.model_dump().items() if value is not None and value != []}

    @property
    def afterwards(self) -> list[str]:
        """Return what happens later, a sentence each."""
        return [_sentence(self.scenario, table) for table in self.scenario.afterwards]

    @property
    def project_id(self) -> str:
        """Return the id of the story's own project."""
        return wire.guid("project", self.scenario.project.name)

    def set_up(self, organisation: Organisation) -> None:
        """Add the people, the project, its connections, pipelines and pull requests."""
        told = self.scenario
        with organisation.lock:
            _people(organisation)
            project = Project(self.project_id, told.project.name, told.project.process)
            organisation.projects[project.id] = project
            for table in told.connections:
                filled = table.model_copy(update={"description": self.fill(table.description, organisation)})
                at = self._time(0) - _CONNECTION_AGE
                made = wire.endpoint(project.name, filled, organisation.url, at=at)
                project.endpoints[made["id"]] = made
                _add_group(organisation, made["administratorsGroup"])
            repository = wire.guid(project.name, "repository")
            project.repositories[repository] = {"id": repository, "name": project.name}
            for number, run in enumerate(told.runs, 1):
                self._add_definition(organisation, project, run, number)
                if run.pull_request:
                    pull = wire.pull_request(project.name, run, organisation.url)
                    project.pull_requests[repository, run.pull_request.id] = pull

    def play(self, organisation: Organisation, fire: Callable[[dict[str, Any]], object]) -> list[int]:
        """Let the pipelines run, then send the events. Returns the runs' ids.

        Every run is there before the first event is sent, so that the order in which a receiver
        works makes no difference.
        """
        ended = self._time(0)
        project = organisation.projects[self.project_id]
        said: list[dict[str, Any]] = []
        numbers = []
        for index, table in enumerate(self.scenario.runs):
            if table.environment:
                with organisation.lock:
                    made = self._deploy(organisation, project, table, index, ended)
                numbers.append(made["id"])
                said.append(deployments.event(made, organisation.url, project))
                continue
            with organisation.lock:
                build = self._run(organisation, project, table, index, ended + timedelta(seconds=30 * index))
            numbers.append(build["id"])
            said += [events.render(kind, build, organisation.url, project) for kind in table.events]
        for event in said:
            fire(event)
        return numbers

    def go_on(
        self, organisation: Organisation, number: int, fire: Callable[[dict[str, Any]], object]
    ) -> None:
        """Let happen what the scenario tells as the `number`th thing afterwards, counted from 1."""
        table, at = self.scenario.afterwards[number - 1], self._time(number)
        project = organisation.projects[self.project_id]
        with organisation.lock:
            self._change(organisation, project, table, at)
            if table.closed_by:
                _close_items(project, wire.person(table.closed_by, organisation.url), at)
        if table.run:
            runs = self.scenario.runs
            again = next(run for run in runs if table.pipeline in {"", run.pipeline})
            again = again if table.run == "fails" else _passing(again)
            with organisation.lock:
                build = self._run(organisation, project, again, len(runs) + number, at)
            for kind in again.events:
                fire(events.render(kind, build, organisation.url, project))

    def _time(self, number: int) -> datetime:
        """Return when the `number`th thing afterwards happens; 0: what the story begins with."""
        left = sum(each.days for each in self.scenario.afterwards[number:])
        return datetime.now(UTC) - _SETTLED - timedelta(days=left)

    def _change(
        self, organisation: Organisation, project: Project, table: AfterwardsTable, at: datetime
    ) -> None:
        if not table.renewed_by and table.ends_in_days is None:
            return
        name = table.connection or self.scenario.connections[0].name
        connection = project.endpoints[wire.guid(project.name, "connection", name)]
        if table.renewed_by:
            # Before the run that ends now has begun.
            connection["modificationDate"] = wire.stamp(at - timedelta(minutes=10))
            connection["modifiedBy"] = wire.person(table.renewed_by, organisation.url)
        if table.ends_in_days is not None:
            ends = _day(table.ends_in_days)
            for told in (connection, *connection["serviceEndpointProjectReferences"]):
                told["description"] = _DAY.sub(ends, told["description"])

    def _run(
        self, organisation: Organisation, project: Project, table: RunTable, index: int, at: datetime
    ) -> dict[str, Any]:
        number = organisation.next_id()
        seed = f"{self.name}/{index}"
        played = timeline.play(table, seed=seed, at=at, fill=lambda text: self.fill(text, organisation))
        build = wire.build(
            project.name,
            table,
            number=number,
            definition_id=_definition_id(project.name, table.pipeline),
            result=played.result,
            base_url=organisation.url,
            at=at,
        )
        project.builds[number] = build
        project.timelines[number] = played.timelines
        project.current_timeline[number] = played.current
        project.logs[number] = played.logs
        used = table.uses if table.uses is not None else self._used(table, played, organisation)
        for name in used:
            identifier = wire.guid(project.name, "connection", name)
            kept = project.uses.setdefault(identifier, [])
            kept.insert(
                0, wire.use(build, number=100 + len(kept), result=played.result, base_url=organisation.url)
            )
        return build

    def _deploy(
        self, organisation: Organisation, project: Project, table: RunTable, index: int, at: datetime
    ) -> dict[str, Any]:
        def fill(text: str) -> str:
            return self.fill(text, organisation)

        designed = table.model_copy(update={"designer": True})
        played = timeline.play(designed, seed=f"{self.name}/{index}", at=at, fill=fill)
        made = deployments.release(
            project,
            table,
            played,
            number=organisation.next_id(),
            definition_id=_definition_id(project.name, table.pipeline),
            base_url=organisation.url,
            at=at,
            fill=fill,
        )
        for name in table.uses if table.uses is not None else self._used(table, played, organisation):
            kept = project.uses.setdefault(wire.guid(project.name, "connection", name), [])
            kept.insert(0, deployments.use(made, number=100 + len(kept), result=played.result))
        return made

    def _used(self, table: RunTable, played: timeline.Played, organisation: Organisation) -> list[str]:
        """Return the connections that the inputs of the steps that ran name, directly or by variable."""
        values: list[str] = []
        for step in played.ran:
            for raw in step.inputs.values():
                value = re.sub(r"\$\(([^)]+)\)", lambda m: table.variables.get(m[1], m[0]), raw)
                values.append(self.fill(value, organisation))
        project = self.scenario.project.name
        return [
            connection.name
            for connection in self.scenario.connections
            if connection.name in values or wire.guid(project, "connection", connection.name) in values
        ]

    def _add_definition(
        self, organisation: Organisation, project: Project, table: RunTable, number: int
    ) -> None:
        identifier = _definition_id(project.name, table.pipeline)
        process: dict[str, Any] = {"type": 2, "yamlFilename": "azure-pipelines.yml"}
        if table.designer:
            process = pipeline.designer_process(table, lambda text: self.fill(text, organisation))
        project.definitions[identifier] = {
            1: {
                "id": identifier,
                "name": table.pipeline,
                "revision": 1,
                "path": "\\",
                "type": "build",
                "queueStatus": "enabled",
                "process": process,
                "variables": {key: {"value": value} for key, value in table.variables.items()},
                "repository": {
                    "id": wire.guid(project.name, "repository"),
                    "type": "TfsGit",
                    "name": project.name,
                },
                "project": wire.project_reference(project.name, organisation.url),
                "authoredBy": wire.person("Release Manager", organisation.url),
                "createdDate": wire.stamp(datetime(2026, 4, number, tzinfo=UTC)),
            }
        }

    def fill(self, text: str, organisation: Organisation) -> str:
        """Put what `<<…>>` stands for into a text: see scenarios/README.md."""
        project = self.scenario.project.name

        def value(slot: re.Match[str]) -> str:
            if slot[1] == "day":
                return _day(int(slot[2]))
            if slot[1] == "run":
                return str(sorted(organisation.projects[self.project_id].builds)[int(slot[2]) - 1])
            identifier = wire.guid(project, "connection", slot[2] or "")
            return {
                "id": identifier,
                "link": f"{organisation.url}/{project}/_settings/adminservices?resourceId={identifier}",
                "application": wire.guid(identifier, "application"),
                "subscription": wire.guid(identifier, "subscription"),
                "tenant": wire.guid("tenant"),
                "url": organisation.url,
            }[slot[1]]

        return _SLOT.sub(value, text)


def load(folder: Path = SCENARIOS) -> list[Story]:
    """Return the stories of a folder in the order of their names.

    Raises ScenarioError with every mistake in every file.
    """
    found, mistakes = [], []
    for path in sorted(folder.glob("*.toml")):
        try:
            found.append(Story(scenario.read(path)))
        except scenario.ScenarioError as error:
            mistakes.append(str(error))
    if mistakes:
        raise scenario.ScenarioError("\n".join(mistakes))
    return found


def play_all(
    told: Sequence[Story],
    organisation: Organisation,
    fire: Callable[[dict[str, Any]], object],
    look: Callable[[], object],
    *,
    begin: Callable[[Story], object] = lambda _: None,
) -> None:
    """Play stories side by side, each to its end; `look` lets triage finish and look at everything."""
    for story in told:
        begin(story)
        story.set_up(organisation)
        story.play(organisation, fire)
    look()
    for number in range(1, 1 + max((len(story.scenario.afterwards) for story in told), default=0)):
        for story in told:
            if number <= len(story.scenario.afterwards):
                story.go_on(organisation, number, fire)
        look()


def _sentence(told: Scenario, table: AfterwardsTable) -> str:
    connection = table.connection or (told.connections[0].name if told.connections else "")
    pipeline = table.pipeline or told.runs[0].pipeline
    left = "tomorrow" if table.ends_in_days == 1 else f"in {table.ends_in_days} days"
    parts = [
        f"{table.days:.0f} days later" if table.days > 1 else "",
        f"{table.renewed_by} renews {connection}" if table.renewed_by else "",
        f"{connection} ends {left}" if table.ends_in_days is not None else "",
        f"{table.closed_by} closes the work item" if table.closed_by else "",
        f"{pipeline} {'passes' if table.run == 'passes' else 'fails again'}" if table.run else "",
    ]
    return ", ".join(part for part in parts if part) + "."


def _passing(table: RunTable) -> RunTable:
    """Return a run in which no step fails."""
    steps = [step.model_copy(update={"errors": [], "result": ""}) for step in table.steps]
    return table.model_copy(update={"steps": steps})


def _close_items(project: Project, person: dict[str, Any], at: datetime) -> None:
    for item in project.work_items.values():
        states = STATES[project.process][item["fields"]["System.WorkItemType"]]
        if states[item["fields"]["System.State"]] == "Completed":
            continue
        item["rev"] += 1
        item["fields"] |= {
            "System.State": next(name for name, category in states.items() if category == "Completed"),
            "System.ChangedDate": wire.stamp(at),
            "System.ChangedBy": person,
            "Microsoft.VSTS.Common.ClosedDate": wire.stamp(at),
        }


def _day(ahead: int) -> str:
    return f"{datetime.now(UTC) + timedelta(days=ahead):%Y-%m-%d}"


def _definition_id(project: str, pipeline: str) -> int:
    return 100 + zlib.crc32(f"{project}/{pipeline}".encode()) % 2_000_000_000  # of few, two would be alike


def _people(organisation: Organisation) -> None:
    for name, assignable in wire.PEOPLE.items():
        reference = wire.person(name, organisation.url)
        organisation.users[reference["id"]] = {**reference, "assignable": assignable, "isActive": assignable}


def _add_group(organisation: Organisation, group: dict[str, Any] | None) -> None:
    if group:
        organisation.users[group["id"]] = {**group, "assignable": False}
