"""Best evidence first; each connection is verified to exist in the project, never believed of a text."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from triage.domain import Attribution, Candidate, LinkMethod
from triage.link import definition, task_inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triage.azdo import Door
    from triage.domain import Connection, Evidence, Match, Run, Task, TimelineRecord

_GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_LINK = re.compile(r"_settings/adminservices\?resourceId=(" + _GUID.pattern + ")", re.IGNORECASE)
_HISTORY_CANDIDATES = 5  # connections whose history is asked, one call each


def attribute(door: Door, run: Run, evidences: Sequence[Evidence]) -> list[tuple[Evidence, Attribution]]:
    """Return each piece of evidence with its connection, or with the candidates for it."""
    lookup = Lookup(door, run)
    return [(evidence, lookup.attribute(evidence)) for evidence in evidences]


class Lookup:
    """What a run's project and definition say; each question is asked once."""

    def __init__(self, door: Door, run: Run) -> None:
        self.door = door
        self.run = run
        self._used: dict[str, bool] = {}

    @cached_property
    def connections(self) -> tuple[Connection, ...]:
        """The project's connections."""
        return self.door.connections(self.run.project_id)

    @cached_property
    def yaml(self) -> str:
        """The expanded YAML; "" for designer pipelines."""
        return self.door.expanded_yaml(self.run.ref) or ""

    @cached_property
    def designer(self) -> dict[str, object]:
        """The pipeline's definition at the run's revision."""
        return self.door.definition(self.run.project_id, self.run.pipeline_id, self.run.pipeline_revision)

    @cached_property
    def steps(self) -> list[definition.Step]:
        """The steps of the pipeline."""
        found = definition.from_yaml(self.yaml) if self.yaml else []
        return found or definition.from_designer(self.designer)

    def attribute(self, evidence: Evidence) -> Attribution:
        """Return which connection the evidence is about."""
        match, record = evidence.match, evidence.record
        if evidence.source == "validation":
            return Attribution(
                None, LinkMethod.UNDECIDED, "The pipeline did not start, so it used no connection."
            )
        by_input = self._by_task_input(match, record)
        by_message = self._by_message(match, record, by_input)
        for found in (by_message, by_input):
            if found is not None:
                return found
        fitting = [c for c in self.connections if _fits(c, match)]
        return (
            self._by_history(fitting, match, record)
            or self._by_identifiers(fitting, match)
            or self._by_elimination(fitting, match, record)
        )

    def _by_message(
        self, match: Match, record: TimelineRecord | None, by_input: Attribution | None
    ) -> Attribution | None:
        """A GUID in the message counts only when the run is known to have used that connection."""
        named = _LINK.search(match.excerpt)
        text = match.captures.get("connection_id") or (named[1] if named else "")
        connection = self._by_id(text) if _GUID.fullmatch(text) else None
        if connection is None:
            return None
        if by_input and by_input.connection:
            return _agreed(by_input, by_input.connection, connection)
        if self._run_used(connection):
            reason = "The message names its id, and its execution history has this run."
            return Attribution(connection, LinkMethod.MESSAGE, reason, proven_use=True)
        task = record.task if record else None
        if task is None or not task_inputs.inputs(task):
            # Anybody's script or test can print anybody's id; it is no proof of another one either.
            reason = f"The log shows the id of '{connection.name}', but nothing shows that this run used it."
            return Attribution(None, LinkMethod.UNDECIDED, reason)
        reason = "The message names its id; nothing else shows that this run used it."
        return Attribution(connection, LinkMethod.MESSAGE, reason)

    def _by_task_input(self, match: Match, record: TimelineRecord | None) -> Attribution | None:
        if record is None or record.task is None:
            return None
        if record.task.id.lower() == task_inputs.CHECKOUT or record.name.startswith("Initialize containers"):
            return self._by_resource(match, record)
        named, missing = self._inputs(record, record.task)
        fitting = {key: value for key, value in named.items() if _fits(value[0], match)}
        if len(fitting) == 1:
            connection, name = next(iter(fitting.values()))
            reason = f"Step '{record.name}' ({record.task}) names it in its input {name}."
            return Attribution(connection, LinkMethod.TASK_INPUT, reason, proven_use=True)
        if not named and not missing:
            return None
        candidates = tuple(
            Candidate(c, f"step '{record.name}' names it in its input {name}")
            for c, name in (fitting or named).values()
        )
        if not named:
            reason = f"Step '{record.name}' names '{missing[0]}', which this project does not have."
        elif not fitting:
            reason = f"Step '{record.name}' names no {_kinds(match)} connection, which the message is about."
        else:
            reason = f"Step '{record.name}' ({record.task}) uses {len(candidates)} connections that fit."
        return Attribution(None, LinkMethod.UNDECIDED, reason, candidates)

    def _inputs(
        self, record: TimelineRecord, task: Task
    ) -> tuple[dict[str, tuple[Connection, str]], list[str]]:
        """Return the connections that the step's inputs name, with the input, and names that nobody has."""
        named: dict[str, tuple[Connection, str]] = {}
        missing: list[str] = []
        for step in definition.matching(self.steps, record):
            for each in task_inputs.inputs(task):
                for name in each.names:
                    value = step.value(name)
                    found = self._named(value, multi=each.multi)
                    if value and not found and not value.startswith("$"):
                        missing.append(value)
                    for connection in found:
                        named.setdefault(connection.id, (connection, step.spelling.get(name, name)))
        return named, missing

    def _by_resource(self, match: Match, record: TimelineRecord) -> Attribution | None:
        """Checkout and container steps use what the pipeline's resources or its repository name."""
        repository = (
            self.designer.get("repository") if not self.yaml or self.run.repository_type != "TfsGit" else None
        )
        properties = repository.get("properties") if isinstance(repository, dict) else None
        own = properties.get("connectedServiceId") if isinstance(properties, dict) else None
        names = [*definition.containers(self.yaml), *([own] if isinstance(own, str) else [])]
        found = {c.id: c for name in names for c in self._named(name, multi=False) if _fits(c, match)}
        if len(found) != 1:
            return None
        reason = f"Step '{record.name}' uses it: the pipeline's resources name it."
        return Attribution(next(iter(found.values())), LinkMethod.TASK_INPUT, reason, proven_use=True)

    def _by_history(
        self, fitting: list[Connection], match: Match, record: TimelineRecord | None
    ) -> Attribution | None:
        if not match.connection_types or len(fitting) > _HISTORY_CANDIDATES:
            return None
        used = [connection for connection in fitting if self._run_used(connection)]
        if len(used) == 1:
            reason = f"Of the {_kinds(match)} connections only its execution history has this run."
            script = task_inputs.is_script(record.task if record else None)
            if script:
                reason += " The step is a script, which may use a secret of its own."
            return Attribution(used[0], LinkMethod.EXECUTION_HISTORY, reason, proven_use=not script)
        if len(used) > 1:
            named = [c for c in used if _identifiers(c) & _said(match)]
            if len(named) == 1:
                reason = "This run used it, and the message shows its tenant, subscription or server."
                return Attribution(named[0], LinkMethod.IDENTIFIER, reason, proven_use=True)
            candidates = tuple(Candidate(c, "this run used it") for c in used)
            step = f"step '{record.name}'" if record else "the run"
            reason = f"The run used {len(used)} connections that fit, and {step} does not tell which."
            return Attribution(None, LinkMethod.UNDECIDED, reason, candidates)
        return None

    def _by_identifiers(self, fitting: list[Connection], match: Match) -> Attribution | None:
        said = _said(match)
        named = [(c, _identifiers(c) & said) for c in fitting]
        named = [(c, shared) for c, shared in named if shared]
        if len(named) != 1 or not match.connection_types:
            return None
        connection, shared = named[0]
        reason = f"The message shows {', '.join(sorted(shared))}, which only this connection has."
        return Attribution(connection, LinkMethod.IDENTIFIER, reason)

    def _by_elimination(
        self, fitting: list[Connection], match: Match, record: TimelineRecord | None
    ) -> Attribution:
        script = record is not None and task_inputs.is_script(record.task)
        only = len(fitting) == 1 and bool(match.connection_types)
        if only and not script:
            reason = f"It is the project's only {_kinds(match)} connection."
            return Attribution(fitting[0], LinkMethod.ONLY_CANDIDATE, reason)
        where = f"Step '{record.name}'" if record else "The step"
        because = "is a script: it may use a secret of its own" if script else "names no connection that fits"
        shown = fitting if match.connection_types else []
        candidates = tuple(Candidate(c, f"a {c.type} connection of this project") for c in shown)
        return Attribution(None, LinkMethod.UNDECIDED, f"{where} {because}.", candidates)

    def _named(self, value: str, *, multi: bool) -> list[Connection]:
        """Return the project's connections that a value names, by name in any case or by GUID."""
        wanted = {part.strip().lower() for part in (value.split(",") if multi else [value]) if part.strip()}
        return [c for c in self.connections if c.id in wanted or c.name.lower() in wanted]

    def _by_id(self, connection_id: str) -> Connection | None:
        return next((c for c in self.connections if c.id == connection_id.lower()), None)

    def _run_used(self, connection: Connection) -> bool:
        if connection.id not in self._used:
            history = self.door.execution_history(self.run.project_id, connection.id)
            self._used[connection.id] = any(
                use.owner_id == self.run.ref.id and use.plan_type == "Build" for use in history
            )
        return self._used[connection.id]


def _agreed(by_input: Attribution, used: Connection, named: Connection) -> Attribution:
    """Return what the step's input and the message say together; the input wins."""
    if used.id != named.id:
        reason = f"{by_input.reason} The message names '{named.name}' instead; check both."
        return replace(by_input, reason=reason)
    reason = f"The message names its id, and {_lower_first(by_input.reason)}"
    return replace(by_input, method=LinkMethod.MESSAGE, reason=reason)


def _fits(connection: Connection, match: Match) -> bool:
    return not match.connection_types or connection.type in match.connection_types


def _said(match: Match) -> set[str]:
    """Return the identifiers that the message shows, lower case."""
    words = set(_GUID.findall(match.excerpt)) | set(match.captures.values())
    words |= set(re.findall(r"[\w-]+(?:\.[\w-]+){1,}", match.excerpt))
    return {word.lower() for word in words if word and word != "***"}


def _identifiers(connection: Connection) -> set[str]:
    """Return what tells a connection apart: tenant, application, subscription, servers."""
    keys = ("tenantid", "serviceprincipalid", "loginserver", "registry")
    values = [connection.parameters.get(key, "") for key in keys]
    values += [connection.data.get(key, "") for key in ("subscriptionid", "subscriptionname", "registryid")]
    hosts = [re.sub(r"^https?://|/.*$", "", value) for value in (*values, connection.server_url)]
    common = {"management.azure.com", "index.docker.io", "github.com", "dev.azure.com", ""}
    return {value.lower() for value in (*values, *hosts) if value.lower() not in common}


def _kinds(match: Match) -> str:
    return " or ".join(match.connection_types)


def _lower_first(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
