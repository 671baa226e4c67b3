"""Whose credential reads Terraform's state.

`init` is given the connection of the back end. What the commands after it read the state with depends on the
version of the task and on its flags: the connection that `init` kept (-backend-config=client_secret=…, up to
V4), or that of their own provider (environment variables, as in V5). So a message of theirs about the state
can be about either: see src/azure-terraform-command-handler.ts of V4 and V5 in
https://github.com/microsoft/azure-pipelines-terraform.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from triage.domain import LinkMethod
from triage.link import named, task_inputs

if TYPE_CHECKING:
    from triage.domain import Match
    from triage.link.definition import Step
    from triage.link.named import Named
    from triage.link.sources import Sources

_ABOUT_STATE = re.compile(
    r"\bstate lock\b|\bexisting workspaces\b|\bback ?end\b"
    r"|\b(?:load|read|open|refresh|persist|sav|inspect|migrat|lock)\w* (?:the )?(?:remote )?states?\b",
    re.IGNORECASE,
)
_TASKS = {task_inputs.TERRAFORM, task_inputs.TERRAFORM_CLI}


def reads_state(steps: list[Step], match: Match) -> bool:
    """Return True when a message is about the state, and the steps it can be of have not set that up."""
    ours = [step for step in steps if step.task_id in _TASKS]
    return bool(ours) and not any(map(_is_init, ours)) and bool(_ABOUT_STATE.search(match.excerpt))


def take_back_ends(told: Named, sources: Sources, before: list[Step]) -> None:
    """Take in the connections with which the steps before set up the state."""
    inits = [step for step in before if _is_init(step)]
    for step in inits:
        task = task_inputs.as_task(step.task_id, step.major)
        way = named.Way(
            f"may read its state with it: step '{step.title}' set that up", LinkMethod.EARLIER_STEP
        )
        for each in task_inputs.inputs(task):
            for name in each.names if each.names[0].startswith("backendservice") else ():
                for connection in named.connections(sources, sources.value(step, name)):
                    told.connections.setdefault(connection.id, (connection, way))
    if not inits:
        told.unseen.append("reads its state with a credential that no step before it shows")


def _is_init(step: Step) -> bool:
    if step.task_id not in _TASKS:
        return False
    task = task_inputs.as_task(step.task_id, step.major)
    command = {**task_inputs.defaults(task), **step.inputs}.get("command", "")
    return command.strip().lower() == "init" or "$" in command
