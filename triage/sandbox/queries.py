"""Played: the part of WIQL that triage uses; anything else is refused, never guessed."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fastapi.responses import JSONResponse

from triage.sandbox.answers import Refusal, invalid
from triage.sandbox.organisation import wire_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi.responses import Response

    from triage.sandbox.answers import Call, Routes

_TOKEN = re.compile(r"\s*(?:\[([\w.]+)\]|'((?:[^']|'')*)'|(<>|=|,|@\w+|\w+))")
_COMPARED = {"System.TeamProject", "System.State", "System.WorkItemType", "System.Id", "System.Title"}
_SORTED = {"System.Id", "System.CreatedDate", "System.ChangedDate"}
_TOP_MAX = 20_000

Item = dict[str, Any]


class _Words:
    """A query, word by word."""

    def __init__(self, query: str) -> None:
        self.left: list[tuple[str, str]] = []  # kind, text
        at = 0
        query = query.strip()
        while at < len(query):
            found = _TOKEN.match(query, at)
            if found is None:
                raise _wrong(f"near {query[at : at + 20]!r}")
            kind = ("field", "text", "word")[(found.lastindex or 1) - 1]
            self.left.append((kind, found[found.lastindex or 1]))
            at = found.end()

    def skip(self, *words: str) -> bool:
        """Take these words if they come next."""
        if [text.upper() for kind, text in self.left[: len(words)] if kind == "word"] != list(words):
            return False
        del self.left[: len(words)]
        return True

    def need(self, *words: str) -> None:
        """Take these words; anything else is refused."""
        if not self.skip(*words):
            raise _wrong(f"{' '.join(words)} is missing")

    def take(self, kind: str) -> str:
        """Take the next word, which must be of this kind."""
        if not self.left or self.left[0][0] != kind:
            raise _wrong(f"a {kind} is missing")
        return self.left.pop(0)[1]


def _wiql(call: Call) -> Response:
    query = call.table().get("query")
    if not isinstance(query, str):
        raise invalid("The query is missing.")
    words = _Words(query)
    words.need("SELECT")
    columns = [words.take("field")]
    while words.skip(","):
        columns.append(words.take("field"))
    words.need("FROM", "WORKITEMS")
    conditions = _conditions(call, words)
    order = _order(words)
    if words.left:
        raise _wrong(f"{words.left[0][1]!r} is not expected")
    top = call.asked("$top", _TOP_MAX)
    if not 0 < top <= _TOP_MAX:
        raise invalid(f"$top must be between 1 and {_TOP_MAX}.")
    found = [item for item in _indexed(call) if all(fits(item) for fits in conditions)]
    for field, descending in reversed(order):
        found.sort(key=lambda item: _value(item, field), reverse=descending)
    home = f"{call.organisation.url}/_apis/wit"
    return JSONResponse(
        {
            "queryType": "flat",
            "queryResultType": "workItem",
            "asOf": wire_time(),
            "columns": [{"referenceName": each, "url": f"{home}/fields/{each}"} for each in columns],
            "workItems": [
                {"id": item["id"], "url": f"{home}/workItems/{item['id']}"} for item in found[:top]
            ],
        }
    )


def _indexed(call: Call) -> list[Item]:
    """Return the items that the search index knows already: those of every project."""
    lag = call.organisation.search_lag_seconds
    every = [item for project in call.organisation.projects.values() for item in project.work_items.values()]
    return [item for item in every if not lag or _age(item) >= lag]


def _conditions(call: Call, words: _Words) -> list[Callable[[Item], bool]]:
    conditions: list[Callable[[Item], bool]] = []
    if words.skip("WHERE"):
        conditions.append(_condition(call, words))
        while words.skip("AND"):
            conditions.append(_condition(call, words))
    return conditions


def _condition(call: Call, words: _Words) -> Callable[[Item], bool]:
    field = words.take("field")
    if field == "System.Tags":
        words.need("CONTAINS")
        tag = words.take("text").replace("''", "'").strip().lower()
        return lambda item: tag in _tags(item)
    if field not in _COMPARED:
        raise Refusal(
            400,
            f"TF51005: The query references a field that does not exist or is not played: [{field}].",
            "WorkItemTrackingQueryException",
        )
    differs = words.skip("<>")
    if not differs:
        words.need("=")
    wanted = _operand(call, words, field).lower()
    return lambda item: (str(_value(item, field)).lower() == wanted) != differs


def _operand(call: Call, words: _Words, field: str) -> str:
    if words.skip("@PROJECT"):
        if field != "System.TeamProject" or call.found is None:
            raise _wrong("@project needs a project in the path, and [System.TeamProject]")
        return call.found.name
    if field == "System.Id":
        return words.take("word")
    return words.take("text").replace("''", "'")


def _order(words: _Words) -> list[tuple[str, bool]]:
    order: list[tuple[str, bool]] = []
    if words.skip("ORDER", "BY"):
        while True:
            field = words.take("field")
            if field not in _SORTED:
                raise _wrong(f"the played organisation does not sort by [{field}]")
            order.append((field, words.skip("DESC") or (words.skip("ASC") and False)))
            if not words.skip(","):
                break
    return order


def _value(item: Item, field: str) -> Any:
    return item["id"] if field == "System.Id" else item["fields"].get(field, "")


def _tags(item: Item) -> set[str]:
    return {tag.strip().lower() for tag in str(item["fields"].get("System.Tags", "")).split(";")}


def _age(item: Item) -> float:
    created = datetime.fromisoformat(str(item["fields"]["System.CreatedDate"])[:26] + "+00:00")
    return (datetime.now(UTC) - created).total_seconds()


def _wrong(what: str) -> Refusal:
    return Refusal(
        400, f"TF51006: The query statement is not right: {what}.", "WorkItemTrackingQueryException"
    )


ROUTES: Routes = {"wiql": {"POST": _wiql}}
