"""The pages of rules: what triage recognises, how, and what it advises; the same as JSON under /api."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.templating import Jinja2Templates

from triage import catalogue
from triage.authoring import show
from triage.domain import Verdict
from triage.errors import UsageError

if TYPE_CHECKING:
    from triage.catalogue import Catalogue, Entry

_PAGE = 100  # rules on a page
_DIGITS = 6  # of the number that a page begins with
_WEB = ("http://", "https://")  # what a reference may be to become a link
_First = Annotated[str, Query(alias="from")]


def router(path: Path | None) -> APIRouter:
    """Return the routes of a pack's rules, which are read when they are first asked for."""
    routes = APIRouter()
    templates = Jinja2Templates(directory=Path(__file__).parent / "templates")
    known = functools.cache(lambda: catalogue.read(path))

    @routes.get("/rules")
    def rules_page(
        request: Request, q: str = "", credential: str = "", verdict: str = "", first: _First = ""
    ) -> Response:
        asked = {"q": q.strip(), "credential": credential, "verdict": verdict}
        return templates.TemplateResponse(request, "rules.html", _listed(known(), asked, _number(first)))

    @routes.get("/rules/{name}")
    def rule_page(request: Request, name: str) -> Response:
        entry = _find(known(), name)
        return templates.TemplateResponse(request, "rule.html", _told(entry))

    @routes.get("/api/rules")
    def rules_json(q: str = "", credential: str = "", verdict: str = "") -> list[dict[str, str]]:
        return [entry.brief() for entry in known().select(q, credential, verdict)]

    @routes.get("/api/rules/{name}")
    def rule_json(name: str) -> dict[str, Any]:
        return _find(known(), name).full()

    return routes


def _find(known: Catalogue, name: str) -> Entry:
    try:
        return known.find(name)
    except UsageError as error:
        raise HTTPException(404, str(error)) from None


def _listed(known: Catalogue, asked: dict[str, str], first: int) -> dict[str, Any]:
    """Return what the list shows: a page of the rules asked for, and the ways to the others."""
    found = known.select(**asked)
    given = {key: value for key, value in asked.items() if value}
    return {
        "asked": asked,
        "rules": [entry.brief() for entry in found[first : first + _PAGE]],
        "count": len(found),
        "first": first,
        "earlier": _link(given, max(0, first - _PAGE)) if first else "",
        "later": _link(given, first + _PAGE) if first + _PAGE < len(found) else "",
        "json": f"/api/rules?{urlencode(given)}" if given else "/api/rules",
        "credentials": known.credentials(),
        "verdicts": [verdict.value for verdict in Verdict],
    }


def _number(given: str) -> int:
    """Return where a page begins; an address that somebody broke begins at the first rule."""
    return int(given) if given.isascii() and given.isdigit() and len(given) <= _DIGITS else 0


def _link(given: dict[str, str], first: int) -> str:
    asked = {**given, "from": str(first)} if first else given
    return f"/rules?{urlencode(asked)}" if asked else "/rules"


def _told(entry: Entry) -> dict[str, Any]:
    rule = entry.full()
    return {
        "rule": rule,
        "conditions": show.conditions(rule),
        "references": [(each, each.startswith(_WEB)) for each in rule["references"]],
    }
