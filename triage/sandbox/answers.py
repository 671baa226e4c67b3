"""What a played API is asked and what it answers, in the service's own words and forms."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastapi.responses import Response

    from triage.sandbox.organisation import Organisation, Project
    from triage.sandbox.tokens import Token

_GUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE)
_PATCH_KEYS = {"op", "path", "value", "from"}


class Refusal(Exception):  # noqa: N818 - what the service says
    """An answer other than 2xx, with the body the service sends."""

    def __init__(self, status: int, message: str, type_key: str, *, code: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type_key = type_key
        self.code = code

    def response(self) -> JSONResponse:
        """Return it as the service writes it."""
        return JSONResponse(
            {
                "$id": "1",
                "innerException": None,
                "message": self.message,
                "typeName": f"Microsoft.TeamFoundation.{self.type_key}, Microsoft.TeamFoundation",
                "typeKey": self.type_key,
                "errorCode": self.code,
                "eventId": 3000,
            },
            self.status,
        )


@dataclass(frozen=True)
class Call:
    """One request, its route already taken apart."""

    organisation: Organisation
    method: str
    values: Mapping[str, str]  # of the route template
    query: Mapping[str, str]  # keys in lower case, as the service reads them
    headers: Mapping[str, str]
    body: bytes
    found: Project | None = None
    token: Token | None = None  # whose call it is

    @property
    def caller(self) -> dict[str, Any]:
        """Return the identity that calls."""
        return (self.token.caller if self.token else None) or self.organisation.caller

    @property
    def rights(self) -> frozenset[str]:
        """Return what the caller may do."""
        own = self.token.rights if self.token else None
        return self.organisation.rights if own is None else own

    @property
    def project(self) -> Project:
        """Return the project the path names."""
        if self.found is None:
            raise Refusal(400, "The request must name a project in its path.", "ProjectNotSpecifiedException")
        return self.found

    def number(self, name: str) -> int:
        """Return a number of the route."""
        return _whole(self.values[name], name)

    def guid(self, name: str) -> str:
        """Return a GUID of the route, in lower case."""
        return as_guid(self.values[name], name)

    def asked(self, name: str, default: int) -> int:
        """Return a number of the query."""
        given = self.query.get(name.lower())
        return _whole(given, name) if given else default

    def flag(self, name: str) -> bool:
        """Return a true-or-false of the query."""
        given = self.query.get(name.lower(), "false").lower()
        if given not in {"true", "false"}:
            raise invalid(f"The value {given!r} is not valid for {name}.")
        return given == "true"

    def json(self) -> Any:
        """Return a JSON body; refuses other content types and broken JSON."""
        self._require_type("application/json")
        return self._decoded()

    def table(self) -> dict[str, Any]:
        """Return a JSON body that must be an object."""
        said = self.json()
        if not isinstance(said, dict):
            raise invalid("The body of the request must be a JSON object.")
        return said

    def patch(self) -> list[dict[str, Any]]:
        """Return a JSON patch; refuses what is none."""
        self._require_type("application/json-patch+json")
        patch = self._decoded()
        if not isinstance(patch, list) or not patch or not all(_is_operation(each) for each in patch):
            raise bad_patch()
        return list(patch)

    def _require_type(self, wanted: str) -> None:
        given = self.headers.get("content-type", "").split(";")[0].strip().lower()
        if given != wanted:
            raise Refusal(
                415,
                f'The request indicated a Content-Type of "{given}" for method type "{self.method}" which is not '
                f"supported. Valid content types for this method are: {wanted}.",
                "VssRequestContentTypeNotSupportedException",
            )

    def _decoded(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            raise invalid("The body of the request is not valid JSON.") from None


if TYPE_CHECKING:
    Handler = Callable[[Call], Response]
    Routes = Mapping[str, Mapping[str, Handler]]


def invalid(message: str) -> Refusal:
    """Return the refusal of a value that makes no sense (400)."""
    return Refusal(400, message, "VssPropertyValidationException")


def bad_patch(path: str = "") -> Refusal:
    """Return the refusal of what is no JSON patch, or of a path in it."""
    about = f" The path {path} is not known." if path else ""
    return invalid(f"You must pass a valid patch document in the body of the request.{about}")


def listing(values: list[Any], headers: dict[str, str] | None = None) -> JSONResponse:
    """Return a collection."""
    return JSONResponse({"count": len(values), "value": values}, headers=headers)


def as_guid(text: str, name: str) -> str:
    """Return a GUID in lower case; refuses what is none."""
    if not _GUID.match(text):
        raise invalid(f"The value {text!r} is not valid for {name}: it is no GUID.")
    return text.lower()


def _whole(text: str, name: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise invalid(f"The value {text!r} is not valid for {name}: it is no number.")
    return int(text)


def _is_operation(each: Any) -> bool:
    return (
        isinstance(each, dict)
        and set(each) <= _PATCH_KEYS
        and each.get("op") in {"add", "replace", "remove", "test", "copy", "move"}
        and str(each.get("path", "")).startswith("/")
    )
