"""Played: pull requests, their threads and statuses, and statuses of commits (area git)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from fastapi.responses import JSONResponse, Response

from triage.sandbox.answers import Refusal, listing
from triage.sandbox.organisation import wire_time

if TYPE_CHECKING:
    from triage.sandbox.answers import Call, Routes
    from triage.sandbox.organisation import Project

_STATUSES = ["unknown", "active", "fixed", "wontFix", "closed", "byDesign", "pending"]
_STATES = ["notSet", "pending", "succeeded", "failed", "error", "notApplicable", "partiallySucceeded"]
_TYPES = ["unknown", "text", "codeChange", "system"]
_COMMENT_MAX, _COMMENTS_MAX = 150_000, 500
_COMMIT = re.compile(r"^[0-9a-f]{40}$", re.IGNORECASE)

Key = tuple[str, int]


def _repository(call: Call, project: Project) -> str | None:
    wanted = call.values["repositoryId"].lower()
    known: dict[str, dict[str, Any]] = {key[0]: {} for key in project.pull_requests} | project.repositories
    return next((i for i, r in known.items() if wanted in {i.lower(), str(r.get("name", "")).lower()}), None)


def _place(call: Call) -> tuple[Project, str]:
    """Return where the repository is; its id is enough when the path names no project."""
    for project in [call.found] if call.found else call.organisation.projects.values():
        if repository := _repository(call, project):
            return project, repository
    name = call.values["repositoryId"]
    raise Refusal(
        404,
        f"TF401019: The Git repository with name or identifier {name} does not exist or you do not have "
        "permissions for the operation you are attempting.",
        "GitRepositoryNotFoundException",
    )


def _pull(call: Call) -> tuple[Project, Key]:
    project, repository = _place(call)
    key = (repository, call.number("pullRequestId"))
    if key not in project.pull_requests:
        raise Refusal(
            404,
            f"TF401180: The requested pull request was not found: {key[1]}.",
            "GitPullRequestNotFoundException",
        )
    return project, key


def _repositories(call: Call) -> Response:
    return listing(list(call.project.repositories.values()))


def _pull_requests(call: Call) -> Response:
    if "pullRequestId" in call.values:
        project, key = _pull(call)
        return JSONResponse(project.pull_requests[key])
    project, repository = _place(call)
    return listing([each for key, each in project.pull_requests.items() if key[0] == repository])


def _threads(call: Call) -> Response:
    project, key = _pull(call)
    threads = project.threads.setdefault(key, [])
    if "threadId" in call.values:
        found = _thread_of(call, threads)
        if call.method == "PATCH":
            _change(found, call.table())
        return JSONResponse(found)
    if call.method == "POST":
        threads.append(_new_thread(call, call.table()))
        return JSONResponse(threads[-1])
    return listing(threads)


def _thread_of(call: Call, threads: list[dict[str, Any]]) -> dict[str, Any]:
    wanted = call.number("threadId")
    found = next((each for each in threads if each["id"] == wanted), None)
    if found is None:
        raise Refusal(
            404,
            f"The comment thread {wanted} does not exist.",
            "GitPullRequestCommentThreadNotFoundException",
        )
    return found


def _new_thread(call: Call, given: dict[str, Any]) -> dict[str, Any]:
    comments = given.get("comments")
    if not isinstance(comments, list) or not comments:
        raise _wrong("A thread needs at least one comment.")
    now = wire_time()
    made = {
        "pullRequestThreadContext": None,
        "id": 0,
        "publishedDate": now,
        "lastUpdatedDate": now,
        "comments": [_comment(call, index, each) for index, each in enumerate(comments, 1)],
        "status": _one_of(given.get("status", "unknown"), _STATUSES, "status"),
        "threadContext": given.get("threadContext"),
        "properties": _properties(given.get("properties")),
        "identities": None,
        "isDeleted": False,
    }
    made["id"] = call.organisation.next_id()
    return made


def _change(thread: dict[str, Any], given: dict[str, Any]) -> None:
    if given.get("comments"):
        raise _wrong("Comments of an existing thread have an address of their own.")
    if given.get("status") is not None:
        thread["status"] = _one_of(given["status"], _STATUSES, "status")
    thread["properties"] |= _properties(given.get("properties"))
    thread["lastUpdatedDate"] = wire_time()


def _properties(given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise _wrong("The properties of a thread must be an object.")
    return {
        key: value if isinstance(value, dict) else {"$type": "System.String", "$value": str(value)}
        for key, value in given.items()
    }


def _comment(call: Call, number: int, given: Any) -> dict[str, Any]:
    now = wire_time()
    return {
        "id": number,
        "parentCommentId": given.get("parentCommentId", 0) if isinstance(given, dict) else 0,
        "author": call.organisation.caller,
        "content": _content(given),
        "publishedDate": now,
        "lastUpdatedDate": now,
        "lastContentUpdatedDate": now,
        "commentType": _one_of(given.get("commentType", "text"), _TYPES, "commentType"),
        "usersLiked": [],
        "isDeleted": False,
    }


def _content(given: Any) -> str:
    content = given.get("content") if isinstance(given, dict) else None
    if not isinstance(content, str) or not content.strip() or len(content) > _COMMENT_MAX:
        raise _wrong(f"A comment needs content of at most {_COMMENT_MAX} characters.")
    return content


def _comments(call: Call) -> Response:
    project, key = _pull(call)
    thread = _thread_of(call, project.threads.get(key, []))
    comments: list[dict[str, Any]] = thread["comments"]
    if "commentId" not in call.values:
        if call.method == "GET":
            return listing(comments)
        if len(comments) >= _COMMENTS_MAX:
            raise _wrong(f"A thread holds {_COMMENTS_MAX} comments at most.")
        comments.append(_comment(call, len(comments) + 1, call.table()))
        thread["lastUpdatedDate"] = wire_time()
        return JSONResponse(comments[-1])
    found = next((each for each in comments if each["id"] == call.number("commentId")), None)
    if found is None:
        raise Refusal(404, "The comment does not exist.", "GitPullRequestCommentNotFoundException")
    if call.method == "DELETE":
        found["isDeleted"], found["content"] = True, ""
        thread["isDeleted"] = all(each["isDeleted"] for each in comments)
        return Response()
    if call.method == "PATCH":
        found["content"] = _content(call.table())
        found["lastUpdatedDate"] = found["lastContentUpdatedDate"] = thread["lastUpdatedDate"] = wire_time()
    return JSONResponse(found)


def _pull_request_statuses(call: Call) -> Response:
    project, key = _pull(call)
    kept = project.statuses.setdefault(key, [])
    if call.method == "POST":
        kept.append(_status(call, len(kept) + 1))
        return JSONResponse(kept[-1])
    if "statusId" in call.values:
        found = next((each for each in kept if each["id"] == call.number("statusId")), None)
        if found is None:
            raise Refusal(404, "The status does not exist.", "GitStatusNotFoundException")
        return JSONResponse(found)
    return listing(kept)


def _commit_statuses(call: Call) -> Response:
    project, repository = _place(call)
    commit = call.values["commitId"].lower()
    if not _COMMIT.match(commit):
        raise _wrong(f"{commit!r} is no full commit id.")
    kept = project.commit_statuses.setdefault((repository, commit), [])
    if call.method == "POST":
        kept.append(_status(call, len(kept) + 1))
        return JSONResponse(kept[-1], 201)
    return listing(kept)


def _status(call: Call, number: int) -> dict[str, Any]:
    given = call.table()
    context = given.get("context")
    if not isinstance(context, dict) or not context.get("name"):
        raise _wrong("A status needs a context with a name.")
    now = wire_time()
    return {
        "id": number,
        "state": _one_of(given.get("state"), _STATES, "state"),
        "description": given.get("description"),
        "context": {"name": context["name"], "genre": context.get("genre")},
        "creationDate": now,
        "updatedDate": now,
        "createdBy": call.organisation.caller,
        "targetUrl": given.get("targetUrl"),
    }


def _one_of(given: Any, names: list[str], what: str) -> str:
    """Return an enumeration's name; the service reads its number as well."""
    if isinstance(given, int) and not isinstance(given, bool) and 0 <= given < len(names):
        return names[given]
    found = next((name for name in names if isinstance(given, str) and name.lower() == given.lower()), None)
    if found is None:
        raise _wrong(f"{given!r} is not a valid {what}.")
    return found


def _wrong(message: str) -> Refusal:
    return Refusal(400, message, "InvalidArgumentValueException")


ROUTES: Routes = {
    "repositories": {"GET": _repositories},
    "pull requests": {"GET": _pull_requests},
    "threads": {"GET": _threads, "POST": _threads, "PATCH": _threads},
    "thread comments": {"GET": _comments, "POST": _comments, "PATCH": _comments, "DELETE": _comments},
    "pull request statuses": {"GET": _pull_request_statuses, "POST": _pull_request_statuses},
    "commit statuses": {"GET": _commit_statuses, "POST": _commit_statuses},
}
