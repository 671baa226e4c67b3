"""The pipeline behind a run: its tasks, its expanded YAML, or what the designer keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable

    from triage.sandbox.scenario import RunTable, StepTable

CHECKOUT = "6d15af64-176c-496d-b583-fd2ae21d4df4"
# Task GUIDs are facts, published in the tasks' own definitions.
TASKS = {
    "AzureCLI": ("46e4be58-730b-4389-8a2f-ea10b3e5e815", "Azure CLI", "279.0"),
    "AzureFileCopy": ("eb72cb01-a7e5-427b-a8a1-1b31ccac8a43", "Azure file copy", "278.0"),
    "AzureKeyVault": ("1e244d32-2dd4-4165-96fb-b7441ca9331e", "Azure Key Vault", "276.0"),
    "AzurePowerShell": ("72a1931b-effb-4d2e-8fd8-f8472a07cb62", "Azure PowerShell", "279.2"),
    "AzureResourceManagerTemplateDeployment": (
        "94a74903-f93f-4075-884f-dc11f34058b4",
        "ARM template deployment",
        "277.0",
    ),
    "AzureRmWebAppDeployment": ("497d490f-eea7-4f2b-ab94-48d9c1acdcb1", "Azure App Service deploy", "279.1"),
    "AzureWebApp": ("18bde28a-8172-45cb-b204-5cef1393dbb1", "Azure Web App", "279.1"),
    "Bash": ("6c731c3c-3c68-459a-a5c9-bde6e6595b5b", "Bash", "273.0"),
    "CmdLine": ("d9bafed4-0b18-4f58-968d-86655b4d2ce9", "Command line", "268.0"),
    "Docker": ("e28912f1-0114-4464-802a-a3a35437fd16", "Docker", "279.0"),
    "DotNetCoreCLI": ("5541a522-603c-47ad-91fc-a4b1d163081b", ".NET Core", "275.0"),
    "HelmDeploy": ("afa7d54d-537b-4dc8-b60a-e0eeea2c9a87", "Package and deploy Helm charts", "276.0"),
    "Npm": ("fe47e961-9fa8-4106-8639-368c022d43ad", "npm", "275.0"),
    "PowerShell": ("e213ff0f-5d5c-4791-802d-52ea3e7be1f1", "PowerShell", "276.0"),
    "TerraformTaskV4": ("fe504acc-6115-40cb-89ff-191386b5e7bf", "Terraform", "279.1"),
}


def task_of(step: StepTable) -> dict[str, str]:
    """Return a step's task as a timeline names it. Raises ValueError for an unknown task."""
    name, _, major = step.task.partition("@")
    if name not in TASKS or not major:
        raise ValueError(
            f"step {step.name!r}: task {step.task!r} is not one of {', '.join(TASKS)} with @major"
        )
    identifier, _, rest = TASKS[name]
    return {"id": identifier, "name": name, "version": f"{major}.{rest}"}


def expanded_yaml(table: RunTable, fill: Callable[[str], str]) -> str:
    """Return the pipeline with every template expanded, as the run's first log holds it."""
    stages: dict[str, dict[str, list[Any]]] = {}
    for step in table.steps:
        jobs = stages.setdefault(step.stage, {})
        here = jobs.setdefault(step.job, [{"task": f"{CHECKOUT}@1", "inputs": {"repository": "self"}}])
        inputs = {key: fill(value) for key, value in step.inputs.items()}
        if step.script:
            inputs["script"] = fill(step.script)
        written = {"task": step.task, "displayName": fill(step.name), "inputs": inputs}
        if written not in here:  # a retried step stands once
            here.append({**written, **({"continueOnError": True} if step.continue_on_error else {})})
    image = "windows-latest" if table.windows else "ubuntu-latest"
    told: dict[str, Any] = {
        "name": "$(Date:yyyyMMdd)$(Rev:.r)",
        "stages": [
            {
                "stage": stage,
                "jobs": [
                    {"job": job, "pool": {"vmImage": image}, "steps": steps} for job, steps in jobs.items()
                ],
            }
            for stage, jobs in stages.items()
        ],
    }
    if table.variables:
        told["variables"] = [{"name": key, "value": fill(value)} for key, value in table.variables.items()]
    return yaml.safe_dump(told, sort_keys=False, width=4096)


def designer_process(table: RunTable, fill: Callable[[str], str]) -> dict[str, Any]:
    """Return the `process` of a pipeline that was made in the designer."""
    return {
        "type": 1,
        "phases": [
            {
                "name": job,
                "refName": job,
                "condition": "succeeded()",
                "steps": [_designer_step(step, fill) for step in table.steps if step.job == job],
            }
            for job in dict.fromkeys(step.job for step in table.steps)
        ],
    }


def _designer_step(step: StepTable, fill: Callable[[str], str]) -> dict[str, Any]:
    task = task_of(step)
    return {
        "environment": {},
        "enabled": True,
        "continueOnError": step.continue_on_error,
        "alwaysRun": False,
        "displayName": fill(step.name),
        "timeoutInMinutes": 0,
        "condition": "succeeded()",
        "task": {
            "id": task["id"],
            "versionSpec": f"{task['version'].split('.')[0]}.*",
            "definitionType": "task",
        },
        "inputs": {key: fill(value) for key, value in step.inputs.items()},
    }
