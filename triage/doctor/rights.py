"""What the identities may do: what triage lacks, and what they have beyond it. Asked, never tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triage import azdo
from triage.azdo import administration
from triage.azdo.administration import Right
from triage.doctor.check import error, ok, some, warning

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from triage.azdo import Account, Door
    from triage.azdo.administration import Project
    from triage.doctor.check import Check

# Security namespaces, as Microsoft's reference names them.
_BUILD = "33344d9c-fc72-4d6f-aba5-fa317101a7e9"
_AREA = "83e28ad4-2d72-4ceb-97b0-c7726d5502c3"
_GIT = "2e9eb7ed-3c0a-47d4-87c1-0ffdd275fd87"
_PROJECT = "52d39943-cb85-4d7f-8fa8-c6baac873819"
_ENDPOINTS = "49b48001-ca20-4adc-8111-5b60c903a50c"
_HOOKS = "cb594ebe-87dd-4fc9-ac2c-6a10a4c92046"
_TAGGING = "bb50f182-8e5e-40b8-bc21-e8752a1e7ae2"

# What triage needs: namespace, action, what for.
_TO_READ = (
    (_BUILD, "ViewBuilds", "runs and their logs"),
    (_BUILD, "ViewBuildDefinition", "pipelines"),
    (_ENDPOINTS, "ViewEndpoint", "service connections"),
    (_AREA, "WORK_ITEM_READ", "work items"),
    (_GIT, "GenericRead", "pull requests"),
)
_TO_WRITE = (
    (_AREA, "WORK_ITEM_WRITE", "filing work items"),
    (_TAGGING, "Create", "new tags on work items"),
    (_GIT, "PullRequestContribute", "threads on pull requests"),
)
# Which of the two lets one tag a run is not documented.
_TO_TAG = ((_BUILD, "EditBuildQuality"), (_BUILD, "UpdateBuildInformation"))
_TO_SUBSCRIBE = (_HOOKS, "EditSubscriptions")
# What triage never needs, and what a stolen credential could do with it.
_EXCESS = (
    (_BUILD, "DeleteBuilds", "delete runs"),
    (_BUILD, "EditBuildDefinition", "change pipelines"),
    (_BUILD, "AdministerBuildPermissions", "change who may do what with pipelines"),
    (_GIT, "GenericContribute", "push code"),
    (_GIT, "ForcePush", "rewrite history"),
    (_GIT, "PullRequestBypassPolicy", "complete pull requests against policy"),
    (_GIT, "ManagePermissions", "change who may do what with code"),
    (_ENDPOINTS, "Administer", "change service connections"),
    (_ENDPOINTS, "Create", "create service connections"),
    (_PROJECT, "GENERIC_WRITE", "change the project"),
    (_PROJECT, "DELETE", "delete the project"),
)


def examine(account: Account, projects: Sequence[Project]) -> Iterator[Check]:
    """Ask the service what the identities may do. A token's scopes may narrow it, never widen it."""
    reader = azdo.connect(account.url, account.reader, extra_hosts=account.extra_hosts)
    writer = reader
    if account.writer:
        writer = azdo.connect(account.url, account.writer, extra_hosts=account.extra_hosts)
    tokens = {project: _tokens(reader, project) for project in projects}
    may_read = administration.evaluate(reader, _all(tokens))
    may_write = may_read if writer is reader else administration.evaluate(writer, _all(tokens))
    missing: list[tuple[str, str]] = []
    for project in projects:
        place = tokens[project]
        missing += _missing(_TO_READ, place, may_read, project)
        missing += _missing(_TO_WRITE, place, may_write, project)
        tag = [may_write.get(Right(space, place[space], action)) for space, action in _TO_TAG]
        if not any(tag):
            missing.append((project.name, "Edit build quality or Update build information (tags on runs)"))
    yield from _told_missing(missing, len(projects))
    yield from _told_excess(tokens, may_read, may_write, separate=account.writer is not None)
    space, action = _TO_SUBSCRIBE
    unable = [p.name for p in projects if not may_read.get(Right(space, tokens[p][space], action))]
    if unable:
        yield warning(
            "right to subscribe",
            f"the identity may not edit service hooks in {some(unable)}.",
            "Grant it Edit Subscriptions there, or create the subscriptions by hand (deploy/README.md).",
        )
    else:
        yield ok("right to subscribe", "the identity may edit service hooks.")


def _tokens(door: Door, project: Project) -> dict[str, str]:
    """Return what each namespace calls a project."""
    return {
        _BUILD: project.id,
        _AREA: administration.area_token(door, project),
        _GIT: f"repoV2/{project.id}",
        _PROJECT: f"$PROJECT:vstfs:///Classification/TeamProject/{project.id}",
        _ENDPOINTS: f"endpoints/{project.id}",
        _HOOKS: f"PublisherSecurity/{project.id}",
        _TAGGING: f"/{project.id}",
    }


def _all(tokens: dict[Project, dict[str, str]]) -> list[Right]:
    actions = [(space, action) for space, action, _ in (*_TO_READ, *_TO_WRITE, *_EXCESS)]
    actions += [*_TO_TAG, _TO_SUBSCRIBE]
    return [Right(space, place[space], action) for place in tokens.values() for space, action in actions]


def _missing(
    needed: Sequence[tuple[str, str, str]],
    place: dict[str, str],
    may: dict[Right, bool],
    project: Project,
) -> list[tuple[str, str]]:
    return [
        (project.name, f"{action} ({what})")
        for space, action, what in needed
        if may.get(Right(space, place[space], action)) is False
    ]


def _told_missing(missing: Sequence[tuple[str, str]], looked_at: int) -> Iterator[Check]:
    by_right: dict[str, list[str]] = {}
    for project, right in missing:
        by_right.setdefault(right, []).append(project)
    for right, names in by_right.items():
        yield error(
            "missing right",
            f"{right} in {some(names)}.",
            "Grant it to the identity in Project settings, Permissions (deploy/README.md lists the groups).",
        )
    if not missing:
        yield ok("rights", f"all that triage needs, in {looked_at} projects looked at.")


def _told_excess(
    tokens: dict[Project, dict[str, str]],
    may_read: dict[Right, bool],
    may_write: dict[Right, bool],
    *,
    separate: bool,
) -> Iterator[Check]:
    able: dict[str, list[str]] = {}
    for project, place in tokens.items():
        may = [what for space, action, what in _EXCESS if _either(may_read, may_write, space, place, action)]
        if separate:  # then the reading one, which takes in hostile logs, should write nothing
            may += [
                f"write, though it only reads ({what})"
                for space, action, what in _TO_WRITE
                if may_read.get(Right(space, place[space], action))
            ]
        if may:
            able.setdefault(", ".join(may), []).append(project.name)
    for told, names in able.items():
        yield warning(
            "excess rights",
            f"in {some(names)} the identity can {told}.",
            "Take these rights away: who steals the credential has them, too.",
        )
    if not able:
        yield ok("excess rights", "none of those that would do harm.")


def _either(
    may_read: dict[Right, bool],
    may_write: dict[Right, bool],
    space: str,
    place: dict[str, str],
    action: str,
) -> bool:
    right = Right(space, place[space], action)
    return may_read.get(right, False) or may_write.get(right, False)
