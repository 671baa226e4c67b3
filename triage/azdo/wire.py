"""Requests through the SDK's client, and what Azure DevOps' refusals mean for the worker."""

from __future__ import annotations

import atexit
import math
import os
import re
import shutil
import tempfile
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import msgspec

from triage.azdo import urls
from triage.errors import AccessRefused, Cancel, JobError, RetryLater, Snooze

if "AZURE_DEVOPS_CACHE_DIR" not in os.environ:
    # The SDK keeps API locations for 12 hours in the home directory, which may not be writable, and
    # would believe them in the next process too.
    os.environ["AZURE_DEVOPS_CACHE_DIR"] = tempfile.mkdtemp(prefix="triage-azdo-")
    atexit.register(shutil.rmtree, os.environ["AZURE_DEVOPS_CACHE_DIR"], ignore_errors=True)

import requests
from azure.devops.client import Client
from azure.devops.exceptions import AzureDevOpsClientRequestError
from msrest.exceptions import ClientException

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from triage.azdo.sign_in import SignIn

_RESOURCE_AREAS = "e81700f7-3be2-46de-8624-2eb35882fcaa"
_CONNECT_SECONDS, _READ_SECONDS = 10, 60
_CHUNK = 256 * 1024
_SNOOZE_DEFAULT, _SNOOZE_MAX = 30.0, 900.0
_TEXT_MAX = 300  # characters of a server's message that we repeat
# Sent as the reader though their method says otherwise: two questions, and service hooks, whose events
# Azure DevOps drops silently when their creator may not read the runs.
_AS_READER = {
    "1a9c53f7-f243-4447-b110-35ef023636e4",  # wiql
    "cf1faa59-1b63-4448-bf04-13d981a46f5d",  # permission evaluation
    "fc50d02a-849f-41fb-8af1-0a5216103269",  # subscriptions
}


class FieldRefused(JobError):  # noqa: N818 - what happened, as the other answers
    """Azure DevOps refuses a work item's field: an unknown assignee, field or area, or Markdown."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"Azure DevOps refuses the field {field}: {message}")
        self.field = field


class RevisionConflict(RetryLater):
    """Somebody changed the work item in between."""


class NotThere(Cancel):
    """What was asked for does not exist, or we may not see it (404)."""


class Wire:
    """Sends requests to one organisation; one per thread."""

    def __init__(
        self,
        organization_url: str,
        reader: SignIn,
        extra_hosts: frozenset[str],
        writer: SignIn | None = None,
    ) -> None:
        self.organization_url = organization_url
        self._reader, self._writer = reader, writer or reader
        self._extra_hosts = extra_hosts
        self._clients: dict[tuple[str, SignIn], Any] = {}
        self._areas: dict[str, str] | None = None

    def get(self, area: str, location: str, version: str, **parts: Any) -> Any:
        """GET JSON. Keywords as of `send`."""
        return self.send("GET", area, location, version, **parts)[0]

    def send(
        self,
        method: str,
        area: str,
        location: str,
        version: str,
        *,
        route: Mapping[str, str | int] | None = None,
        query: Mapping[str, str | int] | None = None,
        content: Any = None,
        media_type: str = "application/json",
    ) -> tuple[Any, Mapping[str, str]]:
        """Send one request and return the decoded answer and its headers.

        `area` and `location` are the SDK's ids of an API. Raises a JobError that says what to do.
        """
        response = self._response(method, area, location, version, route, query, content, media_type)
        _refuse_sign_in_page(response, self._signed_by(method, location).advice)
        body = _read(response)
        if not body:
            return None, response.headers
        try:
            return msgspec.json.decode(body), response.headers
        except msgspec.DecodeError as error:
            raise RetryLater(f"Azure DevOps sent an answer that is no JSON ({error}).") from None

    def stream(
        self,
        area: str,
        location: str,
        version: str,
        *,
        route: Mapping[str, str | int],
        query: Mapping[str, str | int] | None = None,
    ) -> Iterator[bytes]:
        """GET plain text in chunks; memory stays flat however long the log."""
        response = self._response("GET", area, location, version, route, query, None, None)
        _refuse_sign_in_page(response, self._reader.advice)
        try:
            yield from response.iter_content(_CHUNK)
        except requests.RequestException as error:
            raise RetryLater(f"A log broke off while it was read: {_brief(error)}.") from None
        finally:
            response.close()

    def _response(
        self,
        method: str,
        area: str,
        location: str,
        version: str,
        route: Mapping[str, str | int] | None,
        query: Mapping[str, str | int] | None,
        content: Any,
        media_type: str | None,
    ) -> Any:
        accept = "application/json" if media_type else "text/plain"
        try:
            return self._client(area, self._signed_by(method, location))._send(  # noqa: SLF001 - keeps headers, skips the slow decoder
                http_method=method,
                location_id=location,
                version=version,
                route_values={key: urls.segment(value) for key, value in (route or {}).items()},
                # The SDK joins these as they are; its own clients quote them first.
                query_parameters={key: quote(str(value), safe="") for key, value in (query or {}).items()},
                content=content,
                media_type=media_type or "application/json",
                accept_media_type=accept,
            )
        except JobError:
            raise
        except (requests.RequestException, ClientException) as error:
            raise RetryLater(f"Azure DevOps could not be reached: {_brief(error)}.") from None
        except (AzureDevOpsClientRequestError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise RetryLater(
                f"Azure DevOps gave an answer triage does not understand: {_brief(error)}."
            ) from None

    def _signed_by(self, method: str, location: str) -> SignIn:
        return self._reader if method == "GET" or location in _AS_READER else self._writer

    def _client(self, area: str, sign_in: SignIn) -> Any:
        base = self._base(area)
        if (base, sign_in) not in self._clients:
            client = Client(base, sign_in.authentication())
            client.config.redirect_policy.allow = False  # a redirect could carry our token elsewhere
            client.config.retry_policy.policy.total = 0  # the worker retries, without holding a thread
            client.config.retry_policy.policy.status_forcelist = frozenset()
            client.config.retry_policy.policy.respect_retry_after_header = False
            client.config.connection.timeout = (_CONNECT_SECONDS, _READ_SECONDS)
            # The SDK's own loses status and headers.
            client._handle_error = partial(_refusal, sign_in.advice)  # noqa: SLF001
            self._clients[base, sign_in] = client
        return self._clients[base, sign_in]

    def _base(self, area: str) -> str:
        """Return where an area is served: the organisation itself unless it says otherwise."""
        if not area:
            return self.organization_url
        if self._areas is None:
            answer = self.get("", _RESOURCE_AREAS, "7.1-preview.1")
            listed = (answer or {}).get("value") or []
            self._areas = {str(a["id"]).lower(): str(a["locationUrl"]).rstrip("/") for a in listed}
        base = self._areas.get(area, self.organization_url)
        there, here = urlsplit(base), urlsplit(self.organization_url)
        host = there.hostname or ""
        # Plain http would show the token to the network; only a played organisation has it.
        plain = there.scheme != "https" and (there.scheme, there.netloc) != (here.scheme, here.netloc)
        if not urls.may_have_token(base, self.organization_url, self._extra_hosts):
            raise AccessRefused(
                f"Azure DevOps names the host {host!r}, to which the token must not go. If it is yours, "
                "add it to azure_devops.extra_hosts."
            )
        if plain:
            raise AccessRefused(
                f"Azure DevOps names {there.scheme}://{host}, where the token could be read on its way. "
                "Check azure_devops.url and any proxy in between: only https is accepted."
            )
        return base


def _read(response: Any) -> bytes:
    try:
        return bytes(response.content)
    except requests.RequestException as error:
        raise RetryLater(f"An answer of Azure DevOps broke off: {_brief(error)}.") from None


def _refuse_sign_in_page(response: Any, advice: str) -> None:
    html = "text/html" in (response.headers.get("Content-Type") or "")
    if response.status_code == requests.codes.non_authoritative_info or html:
        raise AccessRefused(f"Azure DevOps answers with its sign-in page instead of data. {advice}")


def _refusal(advice: str, request: Any, response: Any) -> None:
    """Raise what a status other than 2xx means. Takes the place of the SDK's own method."""
    status = response.status_code
    if response.is_redirect if hasattr(response, "is_redirect") else 300 <= status < 400:  # noqa: PLR2004
        raise AccessRefused(f"Azure DevOps redirects to another page, as it does to sign in. {advice}")
    message, type_key = _told(response)
    what = f"{request.method} {urlsplit(request.url).path}"
    if status == requests.codes.unauthorized:
        raise AccessRefused(f"Azure DevOps refuses the token (401 at {what}). {advice}")
    if status == requests.codes.forbidden:
        raise AccessRefused(f"Azure DevOps denies {what} (403): {message} {advice}")
    if status == requests.codes.not_found:
        raise NotThere(f"Not found, or not visible to triage's token: {what}. {message}")
    if (
        status in {requests.codes.conflict, requests.codes.precondition_failed}
        or "RevisionMismatch" in type_key
    ):
        raise RevisionConflict(f"{what}: {message}")
    if status == requests.codes.too_many_requests or (
        status == requests.codes.service_unavailable and "Retry-After" in response.headers
    ):
        raise Snooze(f"Azure DevOps asks for patience ({status}).", _retry_after(response.headers))
    if status == requests.codes.bad_request:
        field = _field(message, type_key)
        if field:
            raise FieldRefused(field, message)
        raise Cancel(f"Azure DevOps does not accept {what} (400): {message}")
    raise RetryLater(f"Azure DevOps failed at {what} ({status}). {message}".rstrip())


def _told(response: Any) -> tuple[str, str]:
    try:
        body = msgspec.json.decode(response.content)
        return str(body.get("message") or "")[:_TEXT_MAX], str(body.get("typeKey") or "")
    except (msgspec.DecodeError, AttributeError, requests.RequestException):
        return "", ""


def _field(message: str, type_key: str) -> str:
    """Return which field a 400 is about, "" when it is about none (azure-devops.md 9.6)."""
    if named := re.search(r"TF401320: Rule Error for field \{?([^.{}]+?)\}?\. Error code", message):
        return "System.AssignedTo" if named[1].strip() in {"Assigned To", "AssignedTo"} else named[1].strip()
    if named := re.search(r"TF51535: Cannot find field ([\w.]+)", message):
        return named[1].rstrip(".")
    if "TF401347" in message:
        return "System.AreaPath"
    if "multilineFieldsFormat" in message:
        return "multilineFieldsFormat"
    return "System.AssignedTo" if type_key == "RuleValidationException" else ""


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        seconds = float(headers.get("Retry-After", _SNOOZE_DEFAULT))
    except ValueError:
        return _SNOOZE_DEFAULT
    return min(max(seconds, 1.0), _SNOOZE_MAX) if math.isfinite(seconds) else _SNOOZE_DEFAULT


def _brief(error: Exception) -> str:
    text = str(getattr(error, "inner_exception", None) or error)
    return text.split("\n", 1)[0][:_TEXT_MAX]
