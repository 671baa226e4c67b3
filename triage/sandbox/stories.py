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

if TYPE_CHECKING:
    from collections.abc import Callable

    from triage.sandbox.organisation import Organisation
    from triage.sandbox.scenario import RunTable, Scenario

__all__ = ["SCENARIOS", "Story", "check", "happened", "load"]

SCENARIOS = Path(__file__).parent / "scenarios"
_SLOT = re.compile(r"<<(id|link|application|tenant|subscription|url)(?: ([^>]+))?>>")


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
                made = wire.endpoint(project.name, table, organisation.url)
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
        ended = datetime.now(UTC) - timedelta(minutes=5)  # long enough for the agent to have sent its logs
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
        """Put a connection's id, page, application or subscription, the tenant or our address into a text."""
        project = self.scenario.project.name

        def value(slot: re.Match[str]) -> str:
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


def _definition_id(project: str, pipeline: str) -> int:
    return 100 + zlib.crc32(f"{project}/{pipeline}".encode()) % 9000


def _people(organisation: Organisation) -> None:
    for name, assignable in wire.PEOPLE.items():
        reference = wire.person(name, organisation.url)
        organisation.users[reference["id"]] = {**reference, "assignable": assignable, "isActive": assignable}


def _add_group(organisation: Organisation, group: dict[str, Any] | None) -> None:
    if group:
        organisation.users[group["id"]] = {**group, "assignable": False}
