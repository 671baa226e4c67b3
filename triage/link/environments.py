"""The Kubernetes connection that a deployment job's environment hands to its steps.

With `environment: prod.web` the connection behind the Kubernetes resource `web` is passed to every step that
takes such a connection and names none; an environment without a resource passes nothing. Microsoft says so in
its YAML reference (jobs.deployment.environment) and in the reference of HelmDeploy, and the authors of the
tasks in https://github.com/microsoft/azure-pipelines-tasks/issues/13075.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from triage.link.variables import is_open

if TYPE_CHECKING:
    from triage.link.definition import Step
    from triage.link.sources import Sources
    from triage.link.task_inputs import Input

_WAY = "connectiontype"  # the input by which such a task chooses between a cluster and a subscription


@dataclass(frozen=True)
class Handed:
    """What an environment hands to a step."""

    name: str  # prod.web
    connection: str = ""  # its id; "" when triage cannot see it
    why_not: str = ""  # then: why


def takes(step: Step, given: Input, inputs: tuple[Input, ...]) -> bool:
    """Return True when a step takes what its job's environment hands over for this input.

    Not when the step names one itself, or goes to its cluster by a subscription.
    """
    others = [each for each in inputs if each is not given and _WAY in each.visible.lower()]
    named = [name for each in (given, *others) for name in each.names]
    return given.type == "kubernetes" and bool(step.environment) and not any(map(step.inputs.get, named))


def of_step(sources: Sources, step: Step) -> Handed | None:
    """Return what the environment of a step's job hands to it, None when it hands nothing. Three calls."""
    name = sources.expanded(step, step.environment)
    if is_open(name):
        return Handed(name, why_not="whose name holds a value that triage cannot see")
    if "." not in name:
        return None
    asked = sources.handed
    if name.lower() not in asked:
        if not sources.may_ask_of_environment(_first(name)):
            return Handed(name, why_not="which triage did not ask for, having asked so much before")
        known = sources.environments(_first(name))
        asked[name.lower()] = None if name.lower() in known else _of_resource(sources, name, known)
    return asked[name.lower()]


def _first(name: str) -> str:
    return name.split(".", 1)[0]


def _of_resource(sources: Sources, name: str, known: dict[str, int]) -> Handed | None:
    """Return what prod.web hands over; the name of an environment can have dots as well."""
    ways = [(name[:at].lower(), name[at + 1 :].lower()) for at, each in enumerate(name) if each == "."]
    fitting = [(known[environment], resource) for environment, resource in ways if environment in known]
    if not fitting:
        return Handed(name, why_not="which is gone, or which triage may not see (Reader of the environment)")
    if len(fitting) > 1:
        return Handed(name, why_not="which can be a resource of two environments")
    environment, resource = fitting[0]
    resources = sources.environment_resources(environment)
    by_number = {str(number): (number, kind) for number, kind in resources.values()}
    number, kind = resources.get(resource) or by_number.get(resource) or (0, "")
    if not number:
        return Handed(
            name, why_not="whose resource is gone, or which triage may not see (Reader of the environment)"
        )
    if kind.lower() != "kubernetes":
        return None
    connection = sources.kubernetes_connection(environment, number)
    return Handed(
        name,
        connection,
        "" if connection else "whose connection triage may not see (Reader of the environment)",
    )
