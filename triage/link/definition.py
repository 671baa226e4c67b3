"""Find a failed step in what the run was made of: its expanded YAML, or its designer definition."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triage.domain import TimelineRecord

_VARIABLE = re.compile(r"^\$[({]\s*(?:variables\.)?([\w.]+)\s*[)}]$|^\$\{\{\s*variables\.([\w.]+)\s*\}\}$")
_MAX_DEPTH = 30
_RESOURCES = ("repositories", "containers", "packages", "builds", "webhooks")
_NAMING_KEYS = ("endpoint", "connection", "azureSubscription")


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
    variables: dict[str, str] = field(default_factory=dict)  # names in lower case
    spelling: dict[str, str] = field(default_factory=dict)  # an input's name as its author wrote it

    def value(self, name: str) -> str:
        """Return an input's value, its variable looked up; "" when absent or not known."""
        given = self.inputs.get(name, "").strip()
        found = _VARIABLE.match(given)
        if found is None:
            return given
        return self.variables.get((found[1] or found[2]).lower(), "")


class _NoAliases(yaml.SafeLoader):
    """Reads YAML but no aliases: expanded pipelines have none, and bombs are made of them."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)


def from_yaml(text: str) -> list[Step]:
    """Return the task steps of an expanded pipeline; none when the text is no pipeline."""
    try:
        pipeline = yaml.load(text, _NoAliases)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError, ValueError):
        return []
    return list(_walk(pipeline, "", "", {}, 0)) if isinstance(pipeline, dict) else []


def containers(text: str) -> list[str]:
    """Return the connections that resources of an expanded pipeline name (repositories, containers)."""
    try:
        pipeline = yaml.load(text, _NoAliases)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError, ValueError):
        return []
    resources = pipeline.get("resources") if isinstance(pipeline, dict) else None
    if not isinstance(resources, dict):
        return []
    listed = [each for kind in _RESOURCES for each in resources.get(kind) or [] if isinstance(each, dict)]
    return [each[key] for each in listed for key in _NAMING_KEYS if isinstance(each.get(key), str)]


def from_designer(definition: dict[str, Any]) -> list[Step]:
    """Return the task steps of a designer pipeline's definition."""
    process = definition.get("process") or {}
    variables = {
        str(name).lower(): str(value.get("value") or "")
        for name, value in (definition.get("variables") or {}).items()
        if isinstance(value, dict) and not value.get("isSecret")
    }
    steps = []
    for phase in process.get("phases") or []:
        for each in phase.get("steps") or []:
            task = each.get("task") or {}
            steps.append(
                Step(
                    task=str(task.get("id") or ""),
                    major=str(task.get("versionSpec") or "").split(".")[0],
                    inputs={str(k).lower(): str(v) for k, v in (each.get("inputs") or {}).items()},
                    spelling={str(k).lower(): str(k) for k in each.get("inputs") or {}},
                    name=str(each.get("refName") or ""),
                    display_name=str(each.get("displayName") or ""),
                    job=str(phase.get("name") or ""),
                    variables=variables,
                )
            )
    return steps


def matching(steps: list[Step], record: TimelineRecord) -> list[Step]:
    """Return the steps that a timeline record can be: same task and major, then narrowed by names.

    Never by order: checkout, initialisation and post-job steps shift it.
    """
    task = record.task
    if task is None:
        return []
    fitting = [
        step
        for step in steps
        if step.task.lower() in {task.id.lower(), task.name.lower()} and step.major in {task.major, ""}
    ]
    path = [part.lower() for part in (record.identifier or "").split(".") if part]
    for test in (
        lambda s: bool(s.name) and s.name.lower() in {(record.ref_name or "").lower(), *path[-1:]},
        lambda s: s.display_name.strip() == record.name.strip(),
        lambda s: bool(s.job) and s.job.lower() in path,
        lambda s: bool(s.stage) and s.stage.lower() in path,
    ):
        narrowed = [step for step in fitting if test(step)]
        fitting = narrowed or fitting
    return fitting


def _walk(node: Any, stage: str, job: str, variables: dict[str, str], depth: int) -> Iterator[Step]:
    """Find steps wherever they are: jobs, stages, deployment strategies, nested templates' remains."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(node, list):
        for each in node:
            yield from _walk(each, stage, job, variables, depth + 1)
        return
    if not isinstance(node, dict):
        return
    known = {**variables, **_variables(node.get("variables"))}
    stage = str(node.get("stage") or stage)
    job = str(node.get("job") or node.get("deployment") or job)
    if isinstance(node.get("task"), str):
        name, _, major = node["task"].partition("@")
        given = node.get("inputs") if isinstance(node.get("inputs"), dict) else {}
        yield Step(
            task=name.rsplit(".", 1)[-1],
            major=major.split(".")[0],
            inputs={str(k).lower(): str(v) for k, v in (given or {}).items()},
            spelling={str(k).lower(): str(k) for k in (given or {})},
            name=str(node.get("name") or ""),
            display_name=str(node.get("displayName") or ""),
            job=job,
            stage=stage,
            variables=known,
        )
        return
    for key, value in node.items():
        if key not in {"variables", "resources", "parameters", "inputs"}:
            yield from _walk(value, stage, job, known, depth + 1)


def _variables(given: Any) -> dict[str, str]:
    if isinstance(given, dict):
        return {str(k).lower(): str(v) for k, v in given.items() if not isinstance(v, (dict, list))}
    if isinstance(given, list):
        return {
            str(each["name"]).lower(): str(each.get("value", ""))
            for each in given
            if isinstance(each, dict) and "name" in each
        }
    return {}
