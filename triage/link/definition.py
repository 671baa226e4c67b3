"""Find a failed step in what the run was made of: expanded YAML, a designer definition or a release."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import yaml

from triage.azdo import shapes
from triage.link import task_inputs, variables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from triage.domain import TimelineRecord

    # Id and major version to its definition, and whether that was changed since the run.
    TaskGroups = Callable[[str, str], tuple[dict[str, Any], bool]]

_MAX_DEPTH = 30
_DEEPEST, _DIGITS = 100, 10
_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML may have been built without libyaml
_LEGS_MAX = 256  # of a matrix, as the service has it
_GROUP_DEPTH = 3  # task groups in task groups
_HOOKS = {"predeploy", "deploy", "routetraffic", "postroutetraffic", "failure", "success"}


@dataclass(frozen=True)
class Step:
    """A task step as its author wrote it."""

    task: str  # AzureCLI or a GUID
    major: str
    inputs: dict[str, str]  # names in lower case
    name: str = ""  # reference name
    display_name: str = ""
    job: str = ""
    stage: str = ""
    hook: str = ""  # of a deployment job: preDeploy, deploy, …; of a matrix: the leg
    variables: dict[str, str] = field(default_factory=dict)  # names in lower case
    groups: tuple[str, ...] = ()  # variable groups in reach, the nearest last
    # What YAML sets in each place that reaches the step, the nearest last: variables, then groups.
    places: tuple[tuple[dict[str, str], tuple[str, ...]], ...] = ()
    environment: str = ""  # of a deployment job: prod, or prod.web with the resource of it
    is_changed: bool = False  # since the run: it is of a task group of which only today's text is kept
    spelling: dict[str, str] = field(default_factory=dict)  # an input's name as its author wrote it

    @property
    def task_id(self) -> str:
        """Return the task's GUID, "" when only its name is known and the table does not have it."""
        return task_inputs.id_of(self.task)

    @property
    def title(self) -> str:
        """Return what a reason calls it."""
        return self.display_name or self.name or self.task


def read(text: str) -> dict[str, Any]:
    """Return an expanded pipeline, {} when the text is none."""
    try:
        pipeline = _composed(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}
    return pipeline if isinstance(pipeline, dict) else {}


def _composed(text: str) -> Any:
    """Return a YAML document, put together without recursion and without aliases.

    Expanded pipelines have no aliases, and bombs are made of them. A deep document would overflow the
    stack of a parser in C, which is twenty times as fast. Numbers, dates and truths stay as written.
    """
    top: list[Any] = []
    open_: list[list[Any]] = [top]  # of a mapping: its keys and values in turn
    for event in yaml.parse(text, Loader=_PARSER):
        if isinstance(event, yaml.events.AliasEvent) or len(open_) > _DEEPEST:
            raise yaml.YAMLError("aliases and deep nesting are not allowed")
        if isinstance(event, yaml.events.ScalarEvent):
            open_[-1].append(_scalar(event))
        elif isinstance(event, yaml.events.CollectionStartEvent):
            open_.append([])
        elif isinstance(event, yaml.events.SequenceEndEvent):
            items = open_.pop()
            open_[-1].append(items)
        elif isinstance(event, yaml.events.MappingEndEvent):
            items = open_.pop()
            open_[-1].append({str(k): v for k, v in zip(items[::2], items[1::2], strict=True)})
    return top[0] if top else None


def _scalar(event: Any) -> str | int | None:
    plain = event.implicit[0]
    if plain and event.value in {"", "~", "null", "Null", "NULL"}:
        return None
    return (
        int(event.value) if plain and event.value.isdecimal() and len(event.value) < _DIGITS else event.value
    )


def from_yaml(text: str) -> list[Step]:
    """Return the task steps of an expanded pipeline; none when the text is no pipeline."""
    return from_pipeline(read(text))


def from_pipeline(pipeline: dict[str, Any]) -> list[Step]:
    """Return the task steps of an expanded pipeline."""
    return list(_walk(pipeline, Step("", "", {}), 0))


def from_designer(definition: dict[str, Any], task_groups: TaskGroups | None = None) -> list[Step]:
    """Return the task steps of a designer pipeline's definition, those of its task groups in their place."""
    process = definition.get("process") or {}
    known = variables_of(definition.get("variables"))
    groups = tuple(str(each.get("id")) for each in _tables(definition.get("variableGroups")))
    return [
        step
        for phase in _tables(process.get("phases"))
        for each in _tables(phase.get("steps"))
        if each.get("enabled") is not False
        for step in _designed(
            each.get("task") or {},
            each,
            Step("", "", {}, job=str(phase.get("name") or ""), variables=known, groups=groups),
            task_groups,
            0,
        )
    ]


def from_release(environment: dict[str, Any], task_groups: TaskGroups | None = None) -> list[Step]:
    """Return the task steps of a release's environment, from its own snapshot."""
    known = {str(k): str(v) for k, v in (environment.get("known") or {}).items()}
    steps = []
    # A release older than phases keeps its tasks itself.
    for phase in _tables(environment.get("deployPhasesSnapshot")) or [environment]:
        at = Step("", "", {}, job=str(phase.get("name") or ""), variables=known)
        for each in _tables(phase.get("workflowTasks")):
            if each.get("enabled") is not False:
                task = {
                    "id": each.get("taskId"),
                    "versionSpec": each.get("version"),
                    "definitionType": each.get("definitionType"),
                }
                told = {**each, "displayName": each.get("name")}
                steps += _designed(task, told, at, task_groups, 0)
    return steps


def matching(steps: list[Step], record: TimelineRecord) -> list[Step]:
    """Return the steps that a timeline record can be: same task and major, then by their names.

    Never by order: checkout, initialisation and post-job steps shift it. A step with another name is
    another step, such as one that an extension has put into the job.
    """
    task = record.task
    if task is None:
        return []
    path = [part.lower() for part in (record.identifier or "").split(".") if part]
    fitting = [
        step
        for step in steps
        if step.task.lower() in {task.id.lower(), task.name.lower()} and step.major in {task.major, ""}
    ]
    named = [s for s in fitting if s.name and s.name.lower() in {(record.ref_name or "").lower(), *path[-1:]}]
    if not named:
        shown = [step for step in fitting if _shows(step, record)]
        named = shown or [step for step in fitting if not step.display_name.strip()]
    for part in ("job", "stage", "hook"):
        named = [step for step in named if getattr(step, part).lower() in path] or named
    return named


def _shows(step: Step, record: TimelineRecord) -> bool:
    """Return True when a step's display name can be the record's; its variables can be anything."""
    name = step.display_name.strip()
    if not name:
        return False
    pattern = ".*".join(re.escape(part) for part in re.split(r"\$\([^)]*\)|\$\{\{.*?\}\}|\$\[.*?\]", name))
    return re.fullmatch(pattern, record.name.strip(), re.DOTALL) is not None


def _walk(node: Any, at: Step, depth: int) -> Iterator[Step]:
    """Find steps wherever they are: jobs, stages, deployment strategies, nested templates' remains."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(node, list):
        for each in node:
            yield from _walk(each, at, depth + 1)
        return
    if not isinstance(node, dict):
        return
    known, groups = _variables(node.get("variables"))
    at = replace(
        at,
        variables={**at.variables, **known},
        groups=(*at.groups, *groups),
        places=(*at.places, (known, groups)) if known or groups else at.places,
        stage=str(node.get("stage") or at.stage),
        job=str(node.get("job") or node.get("deployment") or at.job),
        environment=_environment(node) if "job" in node or "deployment" in node else at.environment,
    )
    if isinstance(node.get("task"), str):
        if str(node.get("enabled", "")).strip().lower() == "false":
            return
        name, _, major = node["task"].partition("@")
        yield _filled(at, name.rsplit(".", 1)[-1], major, node)
        return
    for leg in _legs(node, at):
        for key, value in node.items():
            if key not in {"variables", "resources", "parameters", "inputs"}:
                inside = replace(leg, hook=str(key)) if str(key).lower() in _HOOKS else leg
                yield from _walk(value, inside, depth + 1)


def _environment(job: dict[str, Any]) -> str:
    """Return what a job deploys to; "" for machines, which are given no connection, and for agent jobs."""
    told = job.get("environment")
    if "deployment" not in job or not isinstance(told, dict):
        return str(told) if "deployment" in job and isinstance(told, str) else ""
    if str(told.get("resourceType") or "kubernetes").lower() != "kubernetes":
        return ""
    parts = (told.get("name"), told.get("resourceName") or told.get("resourceId"))
    return ".".join(str(part) for part in parts if part)


def _legs(node: dict[str, Any], at: Step) -> list[Step]:
    """Return where the steps of a job run: once, or in each leg of its matrix with the leg's variables."""
    strategy = node.get("strategy")
    matrix = strategy.get("matrix") if isinstance(strategy, dict) else None
    if not isinstance(matrix, dict) or not matrix:
        return [at]
    found = []
    for name, told in list(matrix.items())[:_LEGS_MAX]:
        known = _variables(told)[0]
        places = (*at.places, (known, ()))
        found.append(replace(at, hook=str(name), variables={**at.variables, **known}, places=places))
    return found


def _filled(at: Step, task: str, version: str, told: Mapping[str, Any], name_key: str = "name") -> Step:
    given = told.get("inputs")
    inputs = given if isinstance(given, dict) else {}
    return replace(
        at,
        task=task,
        major=version.split(".", maxsplit=1)[0],
        inputs={str(k).lower(): str(v) for k, v in inputs.items() if v is not None},
        spelling={str(k).lower(): str(k) for k in inputs},
        name=str(told.get(name_key) or ""),
        display_name=str(told.get("displayName") or ""),
    )


def _designed(
    task: Mapping[str, Any], told: Mapping[str, Any], at: Step, task_groups: TaskGroups | None, depth: int
) -> list[Step]:
    """Return a step of the designer, or the steps of the task group that it is."""
    identity, version = str(task.get("id") or ""), str(task.get("versionSpec") or "")
    step = _filled(at, identity, version, told, "refName")
    if task.get("definitionType") != "metaTask":
        return [step]
    if task_groups is None or depth >= _GROUP_DEPTH:
        return []
    group, is_changed = task_groups(identity, step.major)
    at = replace(at, is_changed=at.is_changed or is_changed)
    given = {
        str(each.get("name")).lower(): str(each.get("defaultValue") or "")
        for each in _tables(group.get("inputs"))
    } | step.inputs
    found = []
    for each in _tables(group.get("tasks")):
        if each.get("enabled") is False:
            continue
        inputs = {k: variables.expand(str(v), given.get) for k, v in (each.get("inputs") or {}).items()}
        shown = variables.expand(str(each.get("displayName") or ""), given.get)
        inside = {**each, "inputs": inputs, "displayName": shown}
        found += _designed(each.get("task") or {}, inside, at, task_groups, depth + 1)
    return found


def _variables(given: Any) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the variables that a pipeline, stage or job sets, and the groups that it takes in."""
    if isinstance(given, dict):
        return {str(k).lower(): str(v) for k, v in given.items() if not isinstance(v, (dict, list))}, ()
    listed = _tables(given)
    known = {str(each["name"]).lower(): str(each.get("value", "")) for each in listed if "name" in each}
    return known, tuple(str(each["group"]) for each in listed if "group" in each)


def variables_of(given: Any) -> dict[str, str]:
    """Return the variables of a definition, names in lower case; a secret stands for itself, unresolved."""
    return shapes.variables(given)


def _tables(given: Any) -> list[dict[str, Any]]:
    return [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []
