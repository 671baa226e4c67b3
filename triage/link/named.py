"""Which connections a step's own inputs name."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from triage.domain import LinkMethod
from triage.link import definition, environments, identifiers, task_inputs
from triage.link.variables import is_open
from triage.link.visible import is_hidden

if TYPE_CHECKING:
    from triage.domain import Connection, Match, Task, TimelineRecord
    from triage.link.definition import Step
    from triage.link.sources import Sources
    from triage.link.task_inputs import Input

_NAMES_ONE = re.compile(r"connection|endpoint|subscription|credential|service", re.IGNORECASE)
# Types that rules speak of by name: a rule that speaks of none is not about these, but about some secret
# that a step of theirs happens to use, such as a script of Azure CLI.
_SPOKEN_OF = {"azure", "azurerm", "dockerregistry", "github", "kubernetes"}


@dataclass(frozen=True)
class Way:
    """How a step comes to a connection, as a reason puts it after the step's name."""

    phrase: str
    method: LinkMethod
    is_changed: bool = False  # what it is taken from, since the run

    @classmethod
    def of_input(cls, sources: Sources, step: Step, name: str) -> Way:
        """Return that of an input, by the name that its author wrote."""
        phrase = f"names it in its input {step.spelling.get(name, name)}"
        return cls(phrase, LinkMethod.TASK_INPUT, sources.is_changed(step, name))


@dataclass
class Named:
    """What the inputs of a step name."""

    connections: dict[str, tuple[Connection, Way]] = field(default_factory=dict)  # by id
    missing: list[str] = field(default_factory=list)  # names that the project does not have
    unknown: list[str] = field(default_factory=list)  # values with a variable that nobody tells
    unseen: list[str] = field(default_factory=list)  # why it may use another one, as a reason puts it
    found: bool = False  # the step itself was found

    @property
    def is_open(self) -> bool:
        """Return True when the step may use a connection that triage cannot see."""
        return bool(self.unknown or self.unseen)


def of_step(sources: Sources, record: TimelineRecord, task: Task, match: Match) -> Named:
    """Return what the inputs of the steps say that the record can be."""
    told = Named()
    inputs = task_inputs.inputs(task)
    for step in definition.matching(sources.steps, record):
        told.found = True
        given = {**task_inputs.defaults(task), **step.inputs}
        looked_at = [each for each in inputs if not is_hidden(each.visible, given)]
        for each in looked_at:
            _take(told, sources, step, each, match)
        for each in looked_at:
            if "kubernetes" in match.connection_types:
                _take_handed(told, sources, step, each, inputs)
        if not inputs:
            _guess(told, sources, step, match)
    return told


def connections(sources: Sources, value: str, *, multi: bool = False) -> list[Connection]:
    """Return the project's connections that a value names, by name in any case or by GUID."""
    wanted = {part.strip().lower() for part in (value.split(",") if multi else [value]) if part.strip()}
    return [c for c in sources.connections if c.id in wanted or c.name.lower() in wanted]


def all_of(sources: Sources, step: Step) -> set[str]:
    """Return the ids of all connections that a step of the pipeline names in whatever input."""
    values = [sources.value(step, name) for name in step.inputs]
    return {c.id for value in values if value for c in connections(sources, value, multi=True)}


def fits(connection: Connection, match: Match) -> bool:
    """Return True when a message can be about a connection: its type, and nothing that speaks against it."""
    kinds = match.connection_types
    right = connection.type in kinds if kinds else connection.type not in _SPOKEN_OF
    return right and not identifiers.contradicts(connection, match)


def _take(told: Named, sources: Sources, step: Step, given: Input, match: Match) -> None:
    for name in given.names:
        value = sources.value(step, name)
        if not value:
            continue
        if is_open(value):
            if not (given.type and match.connection_types) or given.type in match.connection_types:
                told.unknown.append(value)
            continue
        found = connections(sources, value, multi=given.multi)
        if not found:
            told.missing.append(value)
        for connection in found:
            told.connections.setdefault(connection.id, (connection, Way.of_input(sources, step, name)))


def _take_handed(told: Named, sources: Sources, step: Step, given: Input, inputs: tuple[Input, ...]) -> None:
    """Take in what a deployment job's environment hands to an input that is left open."""
    handed = environments.of_step(sources, step) if environments.takes(step, given, inputs) else None
    if handed is None:
        return
    found = connections(sources, handed.connection)
    if handed.connection and not found:
        handed = replace(handed, why_not="whose connection this project does not have (any more)")
    if handed.why_not:
        by = f"is given its connection by the environment {handed.name}"
        told.unseen.append(f"{by}, {handed.why_not}")
    way = Way(f"is given it by its job's environment {handed.name}", LinkMethod.ENVIRONMENT)
    for connection in found:
        told.connections.setdefault(connection.id, (connection, way))


def _guess(told: Named, sources: Sources, step: Step, match: Match) -> None:
    """Of a task that nobody has described, an input counts when it holds a connection's id or name."""
    for name in step.inputs:
        value = sources.value(step, name)
        by_id = bool(identifiers.GUID.fullmatch(value))
        if not by_id and not (_NAMES_ONE.search(name) and match.connection_types):
            continue
        for connection in connections(sources, value):
            if by_id or fits(connection, match):
                told.connections.setdefault(connection.id, (connection, Way.of_input(sources, step, name)))
