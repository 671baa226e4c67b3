"""URLs are built from validated ids here, and nowhere else; none is ever taken from a log or event."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from triage.domain import RunRef
from triage.errors import UsageError

GUID = re.compile(r"^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
_NAME = re.compile(r"^[^/\\?#%:*<>|\"\x00-\x1f]{1,256}$")
_NEW, _OLD = "dev.azure.com", ".visualstudio.com"
_AREA_HOST = re.compile(r"[a-z]+\.dev\.azure\.com")
_OLD_AREA_HOST = re.compile(r"[a-z0-9-]+\.[a-z]+\.visualstudio\.com")
_HTTPS = 443
_RELEASE_PAGES = {"_releaseprogress", "_release"}
_LOCAL = {"127.0.0.1", "localhost", "::1"}


def organization(url: str) -> tuple[str, str]:
    """Return an organisation's URL without trailing slash, and its name.

    Raises UsageError for anything but https://dev.azure.com/<name>, https://<name>.visualstudio.com (with
    or without /DefaultCollection), an Azure DevOps Server collection, or a played organisation on this
    machine.
    """
    parts = _split(url)
    host = parts.hostname or ""
    steps = _steps(parts)
    wrong = (
        not host
        or parts.username is not None
        or bool(parts.query or parts.fragment)
        or (parts.scheme != "https" and not (parts.scheme == "http" and host in _LOCAL))
        or not all(_NAME.match(step) for step in steps)
    )
    if host.endswith(_OLD):
        # DefaultCollection is the only one there is, and the service leaves it out itself.
        wrong = wrong or [step.lower() for step in steps] not in ([], ["defaultcollection"])
        name, address = host.split(".", 1)[0], f"https://{parts.netloc}"
    else:
        wrong = wrong or not steps or (host == _NEW and len(steps) != 1)
        name = steps[-1] if steps else ""
        address = f"{parts.scheme}://{parts.netloc}" + "".join(f"/{quote(step)}" for step in steps)
    if wrong:
        raise UsageError(
            f"azure_devops.url: {url!r} is no organisation; it looks like https://dev.azure.com/contoso, "
            "https://contoso.visualstudio.com or https://tfs.contoso.example/tfs/DefaultCollection "
            "(https only)."
        )
    return address, name


def is_server(organization_url: str) -> bool:
    """Return True for Azure DevOps Server, which a company runs itself."""
    host = urlsplit(organization_url).hostname or ""
    return not (host == _NEW or host.endswith(_OLD) or host in _LOCAL)


def organization_of_run(url: str) -> str:
    """Return the organisation's URL that a run's page begins with.

    Raises UsageError when it is no run's page.
    """
    parts = _split(url)
    steps = _steps(parts)
    lower = [step.lower() for step in steps]
    at = lower.index("_build") - 1 if "_build" in lower else -1  # the project stands before it
    if not parts.hostname or at < 0:
        raise UsageError(
            f"{url!r} is not the page of a run; it looks like "
            "https://dev.azure.com/contoso/Shop/_build/results?buildId=42"
        )
    before = "".join(f"/{quote(step)}" for step in steps[:at])
    return organization(f"{parts.scheme}://{parts.netloc}{before}")[0]


def _steps(parts: SplitResult) -> list[str]:
    return [unquote(step) for step in parts.path.split("/") if step]


def _split(url: str) -> SplitResult:
    """Split an address a person gave; one that is broken splits to nothing and so is refused."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # read late by urllib, and only then checked
    except ValueError:
        return urlsplit("")
    return parts


def may_have_token(url: str, organization_url: str, extra: frozenset[str]) -> bool:
    """Return True when our token may be sent to an address that Azure DevOps names.

    That is: the organisation's own host and port, `extra` ones (host, or host:port), and for the service
    the hosts of its areas (vsrm.dev.azure.com, contoso.vssps.visualstudio.com), of no other organisation.
    """
    there, here = _split(url), _split(organization_url)
    host, own = (there.hostname or "").lower(), (here.hostname or "").lower()
    port = _port(there)
    if host and ((host, port) == (own, _port(here)) or host in extra or f"{host}:{port}" in extra):
        return True
    if is_server(organization_url) or own in _LOCAL or port != _HTTPS:
        return False
    name = own.split(".", 1)[0] if own.endswith(_OLD) else next(iter(_steps(here)), "").lower()
    if host == _NEW or _AREA_HOST.fullmatch(host):
        # Here the organisation is in the path; an area of the whole service names none.
        return next(iter(_steps(there)), name).lower() == name
    return host == f"{name}{_OLD}" or bool(
        _OLD_AREA_HOST.fullmatch(host) and host.split(".")[0] in {name, "app"}
    )


def _port(parts: SplitResult) -> int | None:
    return parts.port or {"https": _HTTPS, "http": 80}.get(parts.scheme)


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


def pipeline_page(organization_url: str, project: str, pipeline_id: int, kind: str) -> str:
    """Return the page of a pipeline, or of a classic release pipeline ("release")."""
    page = "_release" if kind == "release" else "_build"
    return f"{organization_url}/{segment(project)}/{page}?definitionId={int(pipeline_id)}"


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
    """Return the run whose page has this address, in whichever form of the organisation's URL.

    Raises UsageError when it is no run's page, or one of another organisation.
    """
    given = _split(url)
    query = {key.lower(): values for key, values in parse_qs(given.query).items()}
    number = (query.get("buildid") or [""])[0]
    steps = _within(organization_url, given)
    if steps and _NAME.match(steps[0]) and steps[1:2] and steps[1].lower() in _RELEASE_PAGES:
        return _release(steps[0], query, url, organization_url)
    if (
        steps is None
        or not re.fullmatch(r"[0-9]+", number)
        or [step.lower() for step in steps[1:2]] != ["_build"]
        or not _NAME.match(steps[0])
    ):
        raise UsageError(
            f"{url!r} is not the page of a run in {organization_url}; it looks like "
            f"{organization_url}/<project>/_build/results?buildId=42"
        )
    return RunRef(steps[0], int(number))


def _within(organization_url: str, given: SplitResult) -> list[str] | None:
    """Return the steps of a path below the organisation, None when it is not of this organisation."""
    base = urlsplit(organization_url)
    ours, theirs = _place(base), _place(given)
    # Azure DevOps does not mind the case of an organisation's name.
    within = theirs[0] == ours[0] and [step.lower() for step in theirs[1][: len(ours[1])]] == [
        step.lower() for step in ours[1]
    ]
    return theirs[1][len(ours[1]) :] if within else None


def _place(parts: SplitResult) -> tuple[tuple[str, int | None], list[str]]:
    """Return host and port, and the steps; https://contoso.visualstudio.com as https://dev.azure.com/contoso."""
    host, steps = (parts.hostname or "").lower(), _steps(parts)
    if host.endswith(_OLD):
        steps = steps[1:] if steps and steps[0].lower() == "defaultcollection" else steps
        return (_NEW, _port(parts)), [host.split(".", 1)[0], *steps]
    return (host, _port(parts)), steps


def _release(project: str, query: dict[str, list[str]], url: str, organization_url: str) -> RunRef:
    release, environment = (query.get(name, [""])[0] for name in ("releaseid", "environmentid"))
    if not re.fullmatch(r"[0-9]+", release) or not re.fullmatch(r"[0-9]*", environment):
        raise UsageError(
            f"{url!r} is not the page of a release in {organization_url}; it looks like "
            f"{organization_url}/<project>/_releaseProgress?releaseId=4&environmentId=5"
        )
    return RunRef(project, int(release), "release", int(environment) if environment else None)
