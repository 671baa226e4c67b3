"""Requests through the SDK's client, and what Azure DevOps' refusals mean for the worker."""

from __future__ import annotations

import atexit
import math
import os
import random
import re
import shutil
import tempfile
import time
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import msgspec

from triage import faultpoint
from triage.azdo import urls
from triage.errors import AccessRefused, Cancel, JobError, RetryLater, Snooze

if "AZURE_DEVOPS_CACHE_DIR" not in os.environ:
    # The SDK keeps API locations for 12 hours in the home directory, which may not be writable, and
    # would believe them in the next process too.
    os.environ["AZURE_DEVOPS_CACHE_DIR"] = tempfile.mkdtemp(prefix="triage-azdo-")
    atexit.register(shutil.rmtree, os.environ["AZURE_DEVOPS_CACHE_DIR"], ignore_errors=True)

import requests
import urllib3
from azure.devops.exceptions import AzureDevOpsClientRequestError
from msrest.exceptions import ClientException

from triage.azdo.transport import BoundedClient, Deadline, decoded, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from triage.azdo.gate import Gate
    from triage.azdo.limits import Limits
    from triage.azdo.sign_in import SignIn

_RESOURCE_AREAS = "e81700f7-3be2-46de-8624-2eb35882fcaa"
_CHUNK = 256 * 1024
_CLOSED_MAX = 900.0  # seconds that a single answer may keep us away
_LOW = 0.1  # of the budget
_TEXT_MAX = 300  # characters of a server's message that we repeat
_CONNECTION = re.compile(r"^\w*Connection\w*\(host=[^)]*\): ")  # urllib3 begins with its own object
# Sent as the reader though their method says otherwise: two questions, and service hooks, whose events
# Azure DevOps drops silently when their creator may not read the runs.
_AS_READER = {
    "1a9c53f7-f243-4447-b110-35ef023636e4",  # wiql
    "cf1faa59-1b63-4448-bf04-13d981a46f5d",  # permission evaluation
    "fc50d02a-849f-41fb-8af1-0a5216103269",  # subscriptions
}

REACH_HELP = "If it lasts, check azure_devops.url, the proxy in between and https://status.dev.azure.com."


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
        limits: Limits,
        gate: Gate,
        writer: SignIn | None = None,
    ) -> None:
        self.organization_url = organization_url
        self.limits = limits
        self.gate = gate
        self._reader, self._writer = reader, writer or reader
        self._extra_hosts = extra_hosts
        self._clients: dict[tuple[str, SignIn], BoundedClient] = {}
        self._areas: dict[str, str] | None = None
        self._failures = 0  # in a row, of the organisation itself
        self._act_ends = math.inf

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
        return decoded(response), response.headers

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
        deadline: Deadline = response.deadline
        try:
            if "json" in response.headers.get("Content-Type", ""):
                raise _misunderstood("an object instead of a log")
            yield from response.iter_content(_CHUNK)
            if deadline.passed:  # without a length, a body that was cut looks whole
                raise self._too_slow("a log", self.limits.log_seconds)
        except requests.RequestException as error:
            if deadline.passed:
                raise self._too_slow("a log", self.limits.log_seconds) from None
            raise RetryLater(f"A log broke off while it was read: {_brief(error)}. {REACH_HELP}") from None
        finally:
            deadline.end()
            response.close()

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Give all requests of the `with` so long together; what is left bounds each of them."""
        before, self._act_ends = self._act_ends, time.monotonic() + seconds
        try:
            yield
        finally:
            self._act_ends = before

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
            client = self._client(area, self._signed_by(method, location))
            faultpoint.reach("before request")
            response = client._send(  # noqa: SLF001 - keeps headers, skips the slow decoder
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
            faultpoint.reach("after request")
        except JobError:
            raise
        except (
            AzureDevOpsClientRequestError,
            ClientException,
            ValueError,
            TypeError,
            AttributeError,
            KeyError,
        ) as error:
            raise RetryLater(
                f"Azure DevOps gave an answer triage does not understand: {_brief(error)}."
            ) from None
        return response

    def _exchange(
        self, advice: str, client: BoundedClient, request: Any, headers: Mapping[str, str], content: Any
    ) -> Any:
        """Send a request when the gate is open, and again when that is safe; return a 2xx answer.

        Refused unprocessed (429): again, once the gate opens. 404: once more, for what has just been
        made may be known to one of Azure DevOps' machines and not yet to another. Not what is made only
        now, nor a log: who wants one waits for as long as it may be on its way.
        """
        patient_until = time.monotonic() + self.limits.patience_seconds
        # Once is enough of a log, and of what is only being made.
        missed = request.method == "POST" or headers.get("Accept", "").startswith("text/plain")
        while True:
            self._pass_gate(patient_until)
            response = self._answer(advice, client, request, headers, content)
            status = response.status_code
            if _asks_for_patience(response):
                reason = f"Azure DevOps asks for patience ({status}); triage goes on when it is over."
                self.gate.close(_retry_after(response.headers, self.limits.throttled_seconds), reason)
            elif status == requests.codes.not_found and not missed:
                missed = True
                self.gate.pause(self.limits.again_seconds)
            else:
                if not 200 <= status < 300:  # noqa: PLR2004
                    _refusal(advice, request, response)
                return response

    def _pass_gate(self, patient_until: float) -> None:
        """Wait until requests may be sent. Raises Snooze when that takes longer than our patience."""
        while True:
            closed, reason = self.gate.closed_for()
            if closed <= 0:
                return
            if time.monotonic() + closed > min(patient_until, self._act_ends):
                raise Snooze(reason, closed)
            # Apart, so that not all who wait come back in the same instant.
            self.gate.pause(closed + random.uniform(0, min(0.25, closed)))  # noqa: S311

    def _answer(
        self, advice: str, client: BoundedClient, request: Any, headers: Mapping[str, str], content: Any
    ) -> Any:
        """Return one answer, read whole unless it is a log, and draw conclusions about the service."""
        what = f"{request.method} {urlsplit(request.url).path}"
        left = min(self.limits.request_seconds, self._act_ends - time.monotonic())
        if left <= 0:
            raise RetryLater(f"There was no time left for {what}: the requests before it took too long.")
        deadline = Deadline(left)
        streams, whole, broken = False, True, ""
        try:
            response = client.exchange_once(request, headers, content, deadline)
            streams = headers.get("Accept", "").startswith("text/plain") and response.ok
            whole = streams or read(response, deadline, self.limits.answer_bytes)
        except (requests.RequestException, ClientException, OSError) as error:
            streams, broken = False, _brief(error) or type(error).__name__
        finally:
            if not streams:
                deadline.end()
        if broken or (deadline.passed and not streams):
            told = RetryLater(f"Azure DevOps could not be reached for {what}: {broken}. {REACH_HELP}")
            failure = self._too_slow(what, left) if deadline.passed else told
            self._failed(failure)
            raise failure
        if streams:
            deadline.renew(self.limits.log_seconds)
            response.deadline = deadline
        if not whole:
            most = self.limits.answer_bytes >> 20
            raise RetryLater(
                f"Azure DevOps' answer to {what} is larger than {most} MiB, more than triage reads. "
                "If a proxy stands in between, check what it sends."
            )
        self._heed(advice, response, what)
        return response

    def _heed(self, advice: str, response: Any, what: str) -> None:
        """Slow down before we are refused, and count how often the organisation itself fails."""
        if response.ok and (pause := _slow_down(response.headers, self.limits)) > 0:
            self.gate.close(pause, "Azure DevOps delays triage, so it slows down.")
        if _is_sign_in(response):
            told = AccessRefused(f"Azure DevOps answers with its sign-in page instead of data. {advice}")
            self._failed(told)
            raise told
        if response.status_code == requests.codes.unauthorized or response.is_redirect:
            status = response.status_code
            self._failed(AccessRefused(f"Azure DevOps refuses the token ({status} at {what}). {advice}"))
        elif response.status_code >= 500 and not _asks_for_patience(response):  # noqa: PLR2004
            self._failed(RetryLater(f"Azure DevOps failed at {what} ({response.status_code}). {REACH_HELP}"))
        else:
            self._failures = 0

    def _failed(self, failure: JobError) -> None:
        """Count a failure of the organisation; several in a row are an outage, which closes the gate."""
        self._failures += 1
        beyond = self._failures - self.limits.outage_failures
        if beyond >= 0:
            pause = self.limits.outage_seconds * 2.0 ** min(beyond, 30)
            self.gate.close(min(pause, self.limits.outage_seconds_max), str(failure))

    @staticmethod
    def _too_slow(what: str, seconds: float) -> RetryLater:
        return RetryLater(f"Azure DevOps took longer than {seconds:.0f} s for {what}. {REACH_HELP}")

    def _signed_by(self, method: str, location: str) -> SignIn:
        return self._reader if method == "GET" or location in _AS_READER else self._writer

    def _client(self, area: str, sign_in: SignIn) -> BoundedClient:
        base = self._base(area)
        if (base, sign_in) not in self._clients:
            exchange = partial(self._exchange, sign_in.advice)
            self._clients[base, sign_in] = BoundedClient(
                base, sign_in.authentication(), self.limits, exchange
            )
        return self._clients[base, sign_in]

    def _base(self, area: str) -> str:
        """Return where an area is served: the organisation itself unless it says otherwise."""
        if not area:
            return self.organization_url
        if self._areas is None:
            answer = self.get("", _RESOURCE_AREAS, "7.1-preview.1")
            told = [] if isinstance(answer, dict) and answer.get("value", ()) is None else listed(answer)
            try:
                self._areas = {str(a["id"]).lower(): str(a["locationUrl"]).rstrip("/") for a in told}
            except KeyError as error:
                raise _misunderstood(f"a resource area without {error}") from None
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


def listed(body: Any, key: str = "value") -> list[dict[str, Any]]:
    """Return the list in an answer; what is null in it is left out.

    Raises RetryLater when the answer is of another shape: an empty list would say that there is none.
    """
    found = body.get(key) if isinstance(body, dict) else None
    if not isinstance(found, list) or not all(each is None or isinstance(each, dict) for each in found):
        raise _misunderstood(f"no list of {'values' if key == 'value' else key}")
    return [each for each in found if each is not None]


def _misunderstood(what: str) -> RetryLater:
    return RetryLater(f"Azure DevOps gave an answer triage does not understand: {what}. {REACH_HELP}")


def _is_sign_in(response: Any) -> bool:
    html = "text/html" in (response.headers.get("Content-Type") or "")
    return response.status_code == requests.codes.non_authoritative_info or (html and response.ok)


def _asks_for_patience(response: Any) -> bool:
    return response.status_code == requests.codes.too_many_requests or (
        response.status_code == requests.codes.service_unavailable and "Retry-After" in response.headers
    )


def _refusal(advice: str, request: Any, response: Any) -> None:
    """Raise what a status other than 2xx means. Takes the place of the SDK's own method."""
    status = response.status_code
    if response.is_redirect:
        raise AccessRefused(f"Azure DevOps redirects to another page, as it does to sign in. {advice}")
    message, type_key = _told(response)
    what = f"{request.method} {urlsplit(request.url).path}"
    if status == requests.codes.unauthorized:
        raise AccessRefused(f"Azure DevOps refuses the token (401 at {what}). {advice}")
    if status == requests.codes.forbidden:
        raise AccessRefused(f"Azure DevOps denies {what} (403): {message} {advice}")
    if status == requests.codes.not_found:
        raise NotThere(
            f"Not found, or not visible to triage's token: {what}. {message} {advice}".replace("  ", " ")
        )
    if (
        status in {requests.codes.conflict, requests.codes.precondition_failed}
        or "RevisionMismatch" in type_key
    ):
        raise RevisionConflict(f"Azure DevOps reports a conflict at {what}: {message} triage looks again.")
    if status == requests.codes.bad_request:
        field = _field(message, type_key)
        if field:
            raise FieldRefused(field, message)
        raise Cancel(f"Azure DevOps does not accept {what} (400): {message}")
    raise RetryLater(f"Azure DevOps failed at {what} ({status}). {message} {REACH_HELP}".replace("  ", " "))


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


def _retry_after(headers: Mapping[str, str], otherwise: float) -> float:
    """Return for how long we are asked to wait: in seconds, or until a date by the server's own clock."""
    told = headers.get("Retry-After", "")
    seconds = _number(told)
    if seconds is None and (until := _date(told)) is not None:
        seconds = until - (_date(headers.get("Date", "")) or time.time())
    return otherwise if seconds is None else min(max(seconds, 1.0), _CLOSED_MAX)


def _slow_down(headers: Mapping[str, str], limits: Limits) -> float:
    """Return the pause that an answer other than a refusal asks for, 0 for none."""
    pauses = [0.0]
    if "Retry-After" in headers:  # the next request would be delayed, by no more than this
        pauses.append(min(_retry_after(headers, 0.0), limits.delayed_seconds_max))
    if (delayed := _number(headers.get("X-RateLimit-Delay", ""))) is not None:
        pauses.append(min(delayed, limits.delayed_seconds_max))
    budget, left = (_number(headers.get(f"X-RateLimit-{name}", "")) for name in ("Limit", "Remaining"))
    if budget and left is not None and left < budget * _LOW:
        reset = _number(headers.get("X-RateLimit-Reset", ""))
        until = (
            limits.low_seconds if reset is None else reset - (_date(headers.get("Date", "")) or time.time())
        )
        pauses.append(min(max(until, 0.0), limits.low_seconds))
    return max(pauses)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None


def _brief(error: Exception) -> str:
    cause = getattr(error, "inner_exception", None) or error
    if isinstance(cause, requests.ConnectTimeout):
        return "no connection in time"
    while cause.args and isinstance(cause.args[0], Exception):
        cause = cause.args[0]
    if isinstance(cause, urllib3.exceptions.TimeoutError):
        return "not a byte in time"
    if len(cause.args) > 1 and isinstance(cause.args[1], OSError):  # ("Connection aborted.", why)
        cause = cause.args[1]
    reason = getattr(cause, "reason", None) or cause
    said = _CONNECTION.sub("", str(reason)).split("\n", 1)[0]
    return said[:_TEXT_MAX].rstrip(".")
