"""URLs are built from validated ids here, and nowhere else; none is ever taken from a log or event."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from triage.domain import RunRef
from triage.errors import UsageError

GUID = re.compile(r"^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
_NAME = re.compile(r"^[^/\\?#%:*<>|\"\x00-\x1f]{1,256}$")
_CLOUD = ("dev.azure.com", ".dev.azure.com", ".visualstudio.com")
_RELEASE_PAGES = {"_releaseProgress", "_release"}
_LOCAL = {"127.0.0.1", "localhost", "::1"}


def organization(url: str) -> tuple[str, str]:
    """Return an organisation's URL without trailing slash, and its name.

    Raises UsageError for anything but https://dev.azure.com/<name>, https://<name>.visualstudio.com,
    an Azure DevOps Server collection, or a played organisation on this machine.
    """
    parts = _split(url)
    host = parts.hostname or ""
    steps = [unquote(step) for step in parts.path.split("/") if step]
    wrong = (
        not host
        or parts.username is not None
        or bool(parts.query or parts.fragment)
        or (parts.scheme != "https" and not (parts.scheme == "http" and host in _LOCAL))
        or not all(_NAME.match(step) for step in steps)
    )
    if host.endswith(".visualstudio.com"):
        steps = steps or [host.split(".", 1)[0]]
        wrong = wrong or len(steps) > 1
        address = f"https://{parts.netloc}"
    else:
        wrong = wrong or not steps or (host == "dev.azure.com" and len(steps) != 1)
        address = f"{parts.scheme}://{parts.netloc}" + "".join(f"/{quote(step)}" for step in steps)
    if wrong:
        raise UsageError(
            f"azure_devops.url: {url!r} is no organisation; it looks like https://dev.azure.com/contoso "
            "(https only)."
        )
    return address, steps[-1]


def _split(url: str) -> SplitResult:
    """Split an address a person gave; one that is broken splits to nothing and so is refused."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # read late by urllib, and only then checked
    except ValueError:
        return urlsplit("")
    return parts


def allowed_host(host: str, own: str, extra: frozenset[str]) -> bool:
    """Return True when our token may be sent to a host."""
    host = host.lower()
    if host == own or host in extra:
        return True
    own_is_cloud = own == _CLOUD[0] or own.endswith(_CLOUD[1:])
    return own_is_cloud and (host == _CLOUD[0] or host.endswith(_CLOUD[1:]))


def segment(value: str | int) -> str:
    """Return a GUID, number or plain name as one quoted path segment.

    Raises ValueError for anything that could leave the segment.
    """
    text = str(value)
    if not _NAME.match(text) or text in {".", ".."}:
        raise ValueError(f"{text!r} is no name or id")
    return quote(text, safe="")


def run_page(organization_url: str, project: str, run_id: int) -> str:
    """Return the page of a run."""
    return f"{organization_url}/{segment(project)}/_build/results?buildId={int(run_id)}"


def release_page(organization_url: str, project: str, release_id: int, environment_id: int | None) -> str:
    """Return the page with the logs of a release's environment, as the service's own pages link it."""
    page = f"{organization_url}/{segment(project)}/_releaseProgress?_a=release-environment-logs"
    environment = f"&environmentId={int(environment_id)}" if environment_id is not None else ""
    return f"{page}&releaseId={int(release_id)}{environment}"


def connection_page(organization_url: str, project: str, connection_id: str) -> str:
    """Return the settings page of a service connection, as Azure's own tasks print it."""
    return (
        f"{organization_url}/{segment(project)}/_settings/adminservices?resourceId={segment(connection_id)}"
    )


def work_item_page(organization_url: str, project: str, number: int) -> str:
    """Return the page of a work item."""
    return f"{organization_url}/{segment(project)}/_workitems/edit/{int(number)}"


def pull_request_page(organization_url: str, project: str, repository: str, number: int) -> str:
    """Return the page of a pull request; the repository may be its name or id."""
    return f"{organization_url}/{segment(project)}/_git/{segment(repository)}/pullrequest/{int(number)}"


def parse_run(organization_url: str, url: str) -> RunRef:
    """Return the run whose page has this address.

    Raises UsageError when it is no run's page, or one of another organisation.
    """
    base, given = urlsplit(organization_url), _split(url)
    query = parse_qs(given.query)
    number = (query.get("buildId") or [""])[0]
    prefix = base.path.rstrip("/") + "/"
    # Azure DevOps does not mind the case of an organisation's name.
    same = (given.hostname, given.port) == (base.hostname, base.port) and (
        given.path.lower().startswith(prefix.lower())
    )
    steps = [unquote(step) for step in given.path[len(prefix) :].split("/") if step]
    if same and _NAME.match((steps or [""])[0]) and steps[1:2] and steps[1] in _RELEASE_PAGES:
        return _release(steps[0], query, url, organization_url)
    if (
        not same
        or not re.fullmatch(r"[0-9]+", number)
        or steps[1:2] != ["_build"]
        or not _NAME.match(steps[0])
    ):
        raise UsageError(
            f"{url!r} is not the page of a run in {organization_url}; it looks like "
            f"{organization_url}/<project>/_build/results?buildId=42"
        )
    return RunRef(steps[0], int(number))


def _release(project: str, query: dict[str, list[str]], url: str, organization_url: str) -> RunRef:
    release, environment = (query.get(name, [""])[0] for name in ("releaseId", "environmentId"))
    if not re.fullmatch(r"[0-9]+", release) or not re.fullmatch(r"[0-9]*", environment):
        raise UsageError(
            f"{url!r} is not the page of a release in {organization_url}; it looks like "
            f"{organization_url}/<project>/_releaseProgress?releaseId=4&environmentId=5"
        )
    return RunRef(project, int(release), "release", int(environment) if environment else None)
