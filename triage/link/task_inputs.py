"""Which inputs of which task name a service connection (condensed from the tasks' own definitions)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from triage.domain import Task

_SCRIPTS = {
    "d9bafed4-0b18-4f58-968d-86655b4d2ce9",  # CmdLine
    "6c731c3c-3c68-459a-a5c9-bde6e6595b5b",  # Bash
    "e213ff0f-5d5c-4791-802d-52ea3e7be1f1",  # PowerShell
    "bfc8bf76-e7ac-4a8c-9a55-a944a9f632fd",  # BatchScript
}
# These write a connection's credential where later steps of the job find it.
_HAND_OVER = {
    "cargoauthenticate",
    "mavenauthenticate",
    "npmauthenticate",
    "nugetauthenticate",
    "pipauthenticate",
    "sonarcloudprepare",
    "sonarqubeprepare",
    "twineauthenticate",
}
_LOGINS = {"docker", "kubernetes"}  # so do these, when they are told to log in
# Groups of inputs have rules, too, and inputs have defaults, which the extract of the tasks' definitions does
# not hold. These are as they stand in the `groups` and `inputs` of the task.json of
# https://github.com/microsoft/azure-pipelines-terraform (Tasks/TerraformTask, V1 to V5 alike, where
# src/base-terraform-command-handler.ts reads backendService* in `init` alone and environmentServiceName* in
# the rest) and https://github.com/jason-johnson/azure-pipelines-tasks-terraform (tasks/terraform-cli).
TERRAFORM, TERRAFORM_CLI = "fe504acc-6115-40cb-89ff-191386b5e7bf", "51355d76-dd54-4754-919d-bba27fdf59e4"
_OF_GROUPS = {
    (TERRAFORM, "backendservicearm"): "provider = azurerm && command = init",
    (TERRAFORM, "backendserviceaws"): "provider = aws && command = init",
    (TERRAFORM, "backendservicegcp"): "provider = gcp && command = init",
    (TERRAFORM, "backendserviceoci"): "provider = oci && command = init",
    (TERRAFORM_CLI, "backendservicearm"): "command = init && backendType = azurerm",
    (TERRAFORM_CLI, "backendserviceaws"): "command = init && backendType = aws",
    (TERRAFORM_CLI, "providerserviceaws"): (
        "command = plan || command = apply || command = destroy || command = refresh || command = import"
    ),
}
_DEFAULTS = {
    TERRAFORM: {"provider": "azurerm", "command": "init"},
    TERRAFORM_CLI: {"command": "validate", "backendtype": "local"},
}
CHECKOUT = "6d15af64-176c-496d-b583-fd2ae21d4df4"


@dataclass(frozen=True)
class Input:
    """An input that names a connection."""

    names: tuple[str, ...]  # its name and aliases, lower case
    type: str  # of the connection, lower case; "" when any
    multi: bool  # a comma list
    visible: str = ""  # when the task looks at it, see link/visible.py


def inputs(task: Task) -> tuple[Input, ...]:
    """Return the inputs of a task that name connections; none for scripts and unknown tasks."""
    known = _table().get(task.id.lower())
    if known is None:
        return ()
    majors = known["majors"]
    listed = majors.get(task.major) or majors.get("*") or [each for one in majors.values() for each in one]
    return tuple(
        Input(tuple(each["names"]), each["type"], each["multi"], each.get("visible") or _of_group(task, each))
        for each in listed
    )


def _of_group(task: Task, given: dict[str, Any]) -> str:
    return _OF_GROUPS.get((task.id.lower(), given["names"][0]), "")


def defaults(task: Task) -> dict[str, str]:
    """Return what inputs mean that a step does not give, as far as it decides where a task looks."""
    return _DEFAULTS.get(task.id.lower(), {})


def hands_over(task_id: str, command: str) -> bool:
    """Return True for a step that leaves its connection's credential to the steps after it."""
    name = str(_table().get(task_id, {}).get("name", "")).lower()
    return name in _HAND_OVER or (name in _LOGINS and command.lower() == "login")


def takes_back(task_id: str, command: str) -> bool:
    """Return True for a step that signs out of what one before it signed in to."""
    return str(_table().get(task_id, {}).get("name", "")).lower() in _LOGINS and command.lower() == "logout"


def as_task(task_id: str, major: str) -> Task:
    """Return a task as a timeline would name it."""
    return Task(task_id, str(_table().get(task_id, {}).get("name", "")), major)


def id_of(name: str) -> str:
    """Return the GUID of a task that YAML names, "" when the table does not have it."""
    return _ids().get(name.lower(), name.lower() if name.lower() in _table() else "")


def is_script(task: Task | None) -> bool:
    """Return True for tasks that run whatever the repository holds."""
    return task is not None and task.id.lower() in _SCRIPTS


def federation(task: Task) -> str:
    """Return what Microsoft's table says of federation for this version: "Y", advice, or ""."""
    known = _table().get(task.id.lower()) or {}
    return str(known.get("federation", {}).get(task.major, ""))


def cannot_federate(task: Task, connection_type: str) -> bool:
    """Return True when Microsoft's table says that this version cannot use such a connection federated."""
    said = federation(task)
    if connection_type == "dockerregistry" and "Docker Registry service connection: N" in said:
        return True
    return said == "N" or said.startswith("Use ")


def federating_version(task: Task) -> str:
    """Return the version of a task that can use federation where this one cannot, "" when there is none."""
    said = federation(task)
    if said.startswith("Use "):
        return said.removeprefix("Use ").split(" ", 1)[0]
    known = (_table().get(task.id.lower()) or {}).get("federation", {})
    later = [int(major) for major, each in known.items() if each == "Y" and int(major) > int(task.major)]
    return f"{task.name}@{min(later)}" if later else ""


@cache
def _ids() -> dict[str, str]:
    named = {str(known["name"]).lower(): identity for identity, known in _table().items()}
    return named | {f"terraformtaskv{version}": TERRAFORM for version in range(1, 5)}  # V5 dropped the V


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(
        files("triage").joinpath("task_inputs.json").read_text(encoding="utf-8")
    )
    return table
