"""What a run's project and pipeline say; each question is asked once, and not more than a few in all."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Any

from triage.azdo import shapes
from triage.errors import Cancel
from triage.link import definition, resources, variables

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from triage.azdo import Door
    from triage.azdo.door import VariableGroup
    from triage.domain import Connection, Run, TimelineRecord
    from triage.link.definition import Step
    from triage.link.environments import Handed
    from triage.link.resources import Resource

_CALLS_MAX = 7  # for one run's connection; one more finds its owner
_HISTORIES_MAX = 3  # connections whose history is asked, one call each
_ENVIRONMENT_CALLS = 3
_DEBUG_MAX = 2 * 1024 * 1024
_GUID = r"([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})"
# What the task library prints of each connection that the agent gave to the step, when it is to tell all.
_DEBUG = re.compile(
    rf"##\[debug\](?:loading ENDPOINT_AUTH_(?:SCHEME_|PARAMETER_)?{_GUID}|{_GUID} auth (?:scheme|param)\b)"
)


class Sources:
    """Reads what is needed, when it is needed, and counts."""

    def __init__(self, door: Door, run: Run) -> None:
        self.door = door
        self.run = run
        self.calls = 0  # questions put, the remembered ones included
        self.handed: dict[str, Handed | None] = {}  # by environments, by lower-case name
        self._used: dict[str, bool] = {}
        self._counted: set[tuple[str | int, ...]] = set()
        self._groups: dict[tuple[str, str], dict[str, Any]] = {}

    @cached_property
    def _of_today(self) -> tuple[Connection, ...]:
        self.calls += 1
        return self.door.connections(self.run.project_id)

    @cached_property
    def connections(self) -> tuple[Connection, ...]:
        """The project's connections, but for those made after the run: it cannot have used them."""
        return tuple(
            each for each in self._of_today if not self._is_newer(each.created_at, self.run.finished_at)
        )

    def is_newer_name(self, name: str) -> bool:
        """Return True when a connection of this name was made after the run, perhaps in place of another."""
        return any(
            each.name.lower() == name.lower() for each in self._of_today if each not in self.connections
        )

    def _is_newer(self, moment: datetime | None, than: datetime | None) -> bool:
        return moment is not None and than is not None and moment > than

    @cached_property
    def definition(self) -> dict[str, Any]:
        """The pipeline's definition at the run's revision; {} of a release, which carries its own."""
        if self.run.ref.kind == "release":
            return {}
        self.calls += 1
        return self.door.definition(self.run.project_id, self.run.pipeline_id, self.run.pipeline_revision)

    @cached_property
    def _expanded(self) -> tuple[dict[str, Any], bool]:
        """The expanded pipeline, and whether it is only what the pipeline would be today."""
        if self.run.ref.kind == "release":
            return {}, False
        self.calls += 1
        told = definition.read(self.door.expanded_yaml(self.run.ref) or "")
        process = self.definition.get("process") if not told else None
        if told or not isinstance(process, dict) or process.get("type") != 2:  # noqa: PLR2004 - 2 is YAML
            return told, False
        self.calls += 1
        run = self.run
        return definition.read(
            self.door.preview_yaml(run.project_id, run.pipeline_id, run.source_branch)
        ), True

    @property
    def pipeline(self) -> dict[str, Any]:
        """The expanded YAML; {} for designer pipelines and releases."""
        return self._expanded[0]

    @property
    def is_of_today(self) -> bool:
        """Return True when the YAML of the run itself is gone."""
        return self._expanded[1]

    @cached_property
    def steps(self) -> list[Step]:
        """The steps of the pipeline."""
        if self.run.ref.kind == "release":
            return definition.from_release(self.door.release_environment(self.run.ref), self._task_group)
        return definition.from_pipeline(self.pipeline) or definition.from_designer(
            self.definition, self._task_group
        )

    @cached_property
    def resources(self) -> list[Resource]:
        """The resources of the pipeline that name connections."""
        return resources.listed(self.pipeline)

    @cached_property
    def own_repository(self) -> Resource | None:
        """The pipeline's own repository, when it lies outside and so needs a connection."""
        if self.run.repository_type == "TfsGit" and self.pipeline:
            return None
        told = self.definition.get("repository")
        properties = told.get("properties") if isinstance(told, dict) else None
        connection = properties.get("connectedServiceId") if isinstance(properties, dict) else None
        if not isinstance(told, dict) or not isinstance(connection, str) or not connection:
            return None
        return resources.Resource(
            "repositories",
            resources.SELF,
            connection,
            self.run.repository_name or str(told.get("name") or ""),
        )

    @cached_property
    def usable(self) -> frozenset[str]:
        """The connections that a YAML pipeline may use; empty when nothing is known of that."""
        if not self.pipeline or self.calls + 2 > _CALLS_MAX:
            return frozenset()
        self.calls += 2
        return self.door.usable_connections(self.run.project_id, self.run.pipeline_id)

    @cached_property
    def tells_all(self) -> bool:
        """Whether the run wrote its debug lines."""
        given = self.run.variables.get("system.debug") or self._defined.get("system.debug", "")
        written = [step.variables.get("system.debug", "") for step in self.steps[:1]]
        return "true" in {given.lower(), *(each.lower() for each in written)}

    def value(self, step: Step, name: str) -> str:
        """Return an input's value with its variables put in, as far as they are known; "" when absent.

        The nearest wins, as the service has it: job, stage, pipeline, queued, definition, groups of it.
        """
        return self.expanded(step, step.inputs.get(name, ""))

    def expanded(self, step: Step, text: str) -> str:
        """Return what stands at a step, with its variables put in as far as they are known."""
        return variables.expand(text.strip(), lambda variable: self._variable(step, variable)).strip()

    def is_changed(self, step: Step, name: str) -> bool:
        """Return True when an input's value is from a variable group or task group that was changed since.

        Today's value may not be the run's. Definitions and YAML are read as they were.
        """
        seen: list[str] = []

        def lookup(variable: str) -> str | None:
            seen.append(variable)
            return self._variable(step, variable)

        variables.expand(step.inputs.get(name, ""), lookup)
        return step.is_changed or any(self._told_of(step, each)[1] for each in seen)

    def environments(self, name: str) -> dict[str, int]:
        """Return the environments whose names hold this one, those that may be seen."""
        self._count("environments", name.lower())
        return self.door.environments(self.run.project_id, name)

    def environment_resources(self, environment: int) -> dict[str, tuple[int, str]]:
        """Return the resources of an environment by lower-case name: number and type."""
        self._count("environment", environment)
        return self.door.environment_resources(self.run.project_id, environment)

    def kubernetes_connection(self, environment: int, resource: int) -> str:
        """Return the id of the connection behind a Kubernetes resource, "" when it may not be seen."""
        self._count("kubernetes", environment, resource)
        return self.door.kubernetes_connection(self.run.project_id, environment, resource)

    def may_ask_of_environment(self, name: str) -> bool:
        """Return True when the questions about an environment can be put at a bearable price."""
        more = 2 if ("environments", name.lower()) in self._counted else _ENVIRONMENT_CALLS
        return self.calls + more <= _CALLS_MAX

    def _count(self, *question: str | int) -> None:
        """Count a question, when it was not put before."""
        self.calls += question not in self._counted
        self._counted.add(question)

    def used(self, connection: Connection) -> bool:
        """Return True when the connection's execution history has this run."""
        if connection.id not in self._used:
            self.calls += 1
            history = self.door.execution_history(
                self.run.project_id, connection.id, since=self.run.finished_at
            )
            plan = "Release" if self.run.ref.kind == "release" else "Build"
            self._used[connection.id] = any(
                use.owner_id == self.run.ref.id and use.plan_type == plan for use in history
            )
        return self._used[connection.id]

    def may_ask_of(self, connections: Sequence[Connection]) -> bool:
        """Return True when the histories of all of them can be read at a bearable price."""
        asked = [each for each in connections if each.id not in self._used]
        return len(connections) <= _HISTORIES_MAX and self.calls + len(asked) <= _CALLS_MAX

    def debug_ids(self, record: TimelineRecord | None) -> set[str]:
        """Return the connections that the step's debug lines tell of; none unless the run wrote them."""
        if record is None or record.log_id is None or self.calls >= _CALLS_MAX or not self.tells_all:
            return set()
        self.calls += 1
        read = bytearray()
        try:
            for chunk in self.door.log_chunks(self.run.ref, record.log_id, record.phase_id):
                read += chunk
                if len(read) > _DEBUG_MAX:
                    break
        except Cancel:
            return set()
        found = _DEBUG.finditer(read.decode("utf-8", "replace"))
        return {str(each[1] or each[2]).lower() for each in found}

    def _variable(self, step: Step, name: str) -> str | None:
        return self._told_of(step, name)[0]

    def _told_of(self, step: Step, name: str) -> tuple[str | None, bool]:
        """Return a variable's value, and whether it is from a group that was changed since the run began."""
        for written, groups in reversed(step.places or ((step.variables, step.groups),)):
            from_group = self._of_groups(groups, name)
            if name in written and step.places and from_group and from_group[0] != written[name]:
                return None, False  # which of the two wins in one place is not documented
            if name in written:
                return written[name], False
            if from_group is not None:
                return from_group
        for known in (self.run.variables, self._defined, variables.predefined(self.run)):
            if name in known:
                return known[name], False
        return self._of_groups(self._defined_groups, name) or (None, False)

    def _of_groups(self, groups: Sequence[str], name: str) -> tuple[str, bool] | None:
        """Return the value of the group that is taken in last: it wins."""
        found = (
            [self._library[each.lower()] for each in groups if each.lower() in self._library]
            if groups
            else []
        )
        having = [group for group in found if name in group.variables]
        return (having[-1].variables[name], self._since(having[-1].modified_at)) if having else None

    def _since(self, moment: datetime | None) -> bool:
        return self._is_newer(moment, self.run.started_at or self.run.finished_at)

    @cached_property
    def _library(self) -> dict[str, VariableGroup]:
        self.calls += 1
        return self.door.variable_groups(self.run.project_id)

    @cached_property
    def _defined(self) -> dict[str, str]:
        return definition.variables_of(self.definition.get("variables"))

    @cached_property
    def _defined_groups(self) -> list[str]:
        listed = self.definition.get("variableGroups")
        return [str(each.get("id")) for each in listed or [] if isinstance(each, dict)]

    def _task_group(self, group_id: str, major: str) -> tuple[dict[str, Any], bool]:
        key = group_id.lower(), major
        if key not in self._groups:
            if self.calls >= _CALLS_MAX:
                return {}, False
            self.calls += 1
            self._groups[key] = self.door.task_group(self.run.project_id, group_id, major)
        group = self._groups[key]
        return group, self._since(shapes.moment(shapes.text(group, "modifiedOn")))
