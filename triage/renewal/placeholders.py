"""What the placeholders of a recipe stand for: in a sentence, and in a command that gets pasted."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from triage.link import task_inputs
from triage.renewal import state
from triage.safe import words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from triage.domain import Connection, Run, TimelineRecord

PLACEHOLDER = re.compile(r"\{(\w+)\}")
CODE = re.compile(r"(`[^`]*`)")
# A value goes into a command only when no shell can take it for anything but one word.
_ONE_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:/@%+_-]*")

_APPS_PAGE = "https://portal.azure.com/#view/Microsoft_AAD_IAM/ActiveDirectoryMenuBlade/~/RegisteredApps"

# What stands in for a value that is not known: in a sentence, in a command.
_UNKNOWN = {
    "connection_name": ("the service connection", "<service connection>"),
    "connection_url": ("", "<page of the connection>"),
    "connection_type": ("service connection", "<type>"),
    "connection_id": ("the connection's id", "<connection id>"),
    "app_id": ("the application's id", "<application id>"),
    "app_url": (_APPS_PAGE, "<page of the application>"),
    "tenant_id": ("the tenant's id", "<tenant id>"),
    "subscription_id": ("the subscription's id", "<subscription id>"),
    "registry": ("the registry", "<registry>"),
    "run_url": ("", "<page of the run>"),
    "task": ("the task", "<task>"),
    "task_upgrade": ("perhaps a newer major version", "<task>"),
    "project_name": ("the project", "<project>"),
    "project_id": ("the project's id", "<project>"),
    "organization_url": ("", "<organisation url>"),
    "pipeline_name": ("the pipeline", "<pipeline>"),
}

# Whole phrases, the first when the connection is known, the second when it is not.
_PHRASES = {
    "holder": ("'{connection_name}'", "the pipeline"),
    "check": (
        ("Run the [pipeline]({run_url}) again; *Verify* on the connection alone proves little."),
        ("Run the [pipeline]({run_url}) again."),
    ),
    "enter": (
        ("Open the [connection page]({connection_url}), choose *Edit*, enter it there and choose *Save*."),
        (
            "Put it where the failed step of the [run]({run_url}) reads it: a "
            "[service connection]({connection_url}) (*Edit*, *Save*), a secret variable of the pipeline, "
            "a variable group (*Pipelines*, *Library*) or a secret in Azure Key Vault."
        ),
    ),
    "enter_command": (
        (
            "This connection's secret is changed on its [page]({connection_url}) alone: choose *Edit*, "
            "enter it there and choose *Save*."
        ),
        (
            "If it is not in the variable `SECRET` yet, read it there without showing it: `read -rs SECRET "
            "&& export SECRET`. Into a variable group: "
            '`AZURE_DEVOPS_EXT_PIPELINE_VAR_<variable>="$SECRET" az pipelines variable-group variable update '
            "--organization {organization_url} --project {project_id} --group-id <group id> "
            "--name <variable> --prompt-value true`. Into Azure Key Vault: "
            '`printf %s "$SECRET" | az keyvault secret set --vault-name <vault> --name <secret> '
            "--file /dev/stdin`."
        ),
    ),
}

# What to look at before federating, the second when nothing is known of the failed task.
_CHECK_TASKS = (
    "Check that the tasks that use it support it; of the failed task, {task_upgrade} does.",
    (
        "Check that the tasks that use it support it; a script that signs in by itself has to move into an "
        "AzureCLI@2 step."
    ),
)

# `az devops service-endpoint update` cannot change a secret; REST takes the connection as it is read, with
# the secret added (learn.microsoft.com/rest/api/azure/devops/serviceendpoint/endpoints).
_REST = (
    "If it is not in the variable `SECRET` yet, read it there without showing it: `read -rs SECRET && export "
    "SECRET`. Then put it into the connection: `az devops service-endpoint show --organization "
    "{organization_url} --project {project_id} --id {connection_id} | jq "
    "'.authorization.parameters.SECRET_FIELD = env.SECRET' | az rest --method put "
    "--resource 499b84ac-1321-427f-aa17-267ca6975798 "
    "--url '{organization_url}/_apis/serviceendpoint/endpoints/{connection_id}?api-version=7.1' --body @-`."
)

# In which field a connection of this type and scheme keeps its one secret, as the Terraform provider
# azuredevops writes it. Types with two secrets, or with a key file, are left to the page.
_SECRET_FIELDS = {
    ("azurerm", "serviceprincipal"): "serviceprincipalkey",
    ("dockerregistry", "serviceprincipal"): "serviceprincipalkey",
    ("dockerregistry", "usernamepassword"): "password",
    ("externalcargorepository", "token"): "apitoken",
    ("externalcargorepository", "usernamepassword"): "password",
    ("externalmavenrepository", "token"): "apitoken",
    ("externalmavenrepository", "usernamepassword"): "password",
    ("externalnpmregistry", "token"): "apitoken",
    ("externalnpmregistry", "usernamepassword"): "password",
    ("externalnugetfeed", "none"): "nugetkey",
    ("externalnugetfeed", "token"): "apitoken",
    ("externalnugetfeed", "usernamepassword"): "password",
    ("externalpythondownloadfeed", "token"): "apitoken",
    ("externalpythondownloadfeed", "usernamepassword"): "password",
    ("externalpythonuploadfeed", "token"): "apitoken",
    ("externalpythonuploadfeed", "usernamepassword"): "password",
    ("externaltfs", "token"): "apitoken",
    ("generic", "usernamepassword"): "password",
    ("github", "token"): "AccessToken",
    ("githubenterprise", "token"): "apitoken",
    ("jenkins", "usernamepassword"): "password",
    ("sonarcloud", "token"): "apitoken",
    ("sonarqube", "usernamepassword"): "username",  # the token is the user's name
}

_WHOLE = frozenset(_PHRASES) | {"check_tasks"}
NAMES = frozenset(_UNKNOWN) | _WHOLE
SENTENCES = _WHOLE - {"holder"}


def values(
    connection: Connection | None, run: Run, record: TimelineRecord | None, organization_url: str
) -> dict[str, str]:
    """Return what is known, raw; the phrases still with their own placeholders."""
    task = record.task if record else None
    known = {
        "run_url": run.url,
        "project_name": run.project_name,
        "project_id": run.project_id,
        "pipeline_name": run.pipeline_name,
        "organization_url": organization_url,
        "task": str(task) if task else "",
        "task_upgrade": _upgrade(record),
        "connection_url": f"{organization_url}/{quote(run.project_name)}/_settings/adminservices",
    }
    if connection is not None:
        app = connection.parameters.get("serviceprincipalid", "")
        known |= {
            "connection_name": connection.name,
            "connection_url": connection.url,
            "connection_type": connection.type,
            "connection_id": connection.id,
            "app_id": app,
            "app_url": state.credentials_page(connection),
            "tenant_id": connection.parameters.get("tenantid", ""),
            "subscription_id": connection.data.get("subscriptionid", ""),
            "registry": connection.parameters.get("loginserver") or connection.parameters.get("registry", ""),
        }
    known |= {name: of[0 if connection else 1] for name, of in _PHRASES.items()}
    known["check_tasks"] = _CHECK_TASKS[0 if known["task_upgrade"] else 1]
    field = _SECRET_FIELDS.get((connection.type, connection.scheme)) if connection else None
    # What one project reads of a shared connection does not name the other projects; writing it back might
    # take it away from them.
    if field and connection and not connection.is_shared:
        known["enter_command"] = _REST.replace("SECRET_FIELD", field)
    return known


def fill(text: str, known: Mapping[str, str]) -> str:
    """Return the text with its placeholders filled in: plain words, in commands only single ones."""
    return "".join(
        PLACEHOLDER.sub(lambda m: _in_command(m[1], known), part)
        if part.startswith("`")
        else PLACEHOLDER.sub(lambda m: _in_sentence(m[1], known), part)
        for part in CODE.split(text)
    )


def _in_sentence(name: str, known: Mapping[str, str]) -> str:
    value = known.get(name, "")
    if name in _WHOLE:
        return fill(value, known)
    if not value:
        return _UNKNOWN[name][0]
    return value if name.endswith("_url") else words(value)


def _in_command(name: str, known: Mapping[str, str]) -> str:
    value = known.get(name, "")
    return value if _ONE_WORD.fullmatch(value) else _UNKNOWN[name][1]


def _upgrade(record: TimelineRecord | None) -> str:
    """Return which version of a task supports federation, as Microsoft's table says."""
    if record is None or record.task is None:
        return ""
    said = task_inputs.federation(record.task)
    if said.startswith("Use "):
        return said.removeprefix("Use ")
    return str(record.task) if said == "Y" else ""
