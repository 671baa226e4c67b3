"""What Microsoft Graph tells of an application's secrets. Without it triage knows less and works on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import requests

from triage.azdo import shapes, urls
from triage.azdo.sign_in import Header
from triage.azdo.transport import Deadline, decoded, read
from triage.errors import JobError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from triage.azdo.sign_in import SignIn

_FIELDS = "id,appId,displayName,passwordCredentials,keyCredentials"
_MOST = 1024 * 1024
_SECONDS = 30.0
_ATTEMPTS, _WAIT_SECONDS, _WAIT_MAX_SECONDS = 3, 5.0, 60.0
_BUSY = {429, 503, 504}


@dataclass(frozen=True)
class Secret:
    """One credential of an application: when it begins and ends, never what it is."""

    kind: Literal["password", "key"]
    starts_at: datetime | None
    ends_at: datetime


@dataclass(frozen=True)
class Application:
    """An application of our tenant."""

    id: str  # appId
    name: str
    secrets: tuple[Secret, ...]


class Graph:
    """Asks for applications, each once. The first refusal ends the asking and is kept in `problem`."""

    def __init__(
        self,
        url: str,
        sign_in: SignIn,
        *,
        attempts: int = _ATTEMPTS,
        seconds: float = _SECONDS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = url.rstrip("/")
        self.problem = ""  # why nothing is asked any more, one sentence
        self.missing: set[str] = set()  # ids, in lower case, that our tenant has no application of
        self._sign_in = sign_in
        self._attempts, self._seconds = attempts, seconds
        self._sleep = sleep
        self._known: dict[str, Application | None] = {}

    def application(self, app_id: str) -> Application | None:
        """Return an application, None when our tenant has none of this id or Graph does not tell."""
        number = app_id.lower()
        if self.problem or not urls.GUID.match(number):
            return None
        if number not in self._known:
            try:
                self._known[number] = self._ask(number)
            except (JobError, requests.RequestException, OSError) as away:
                self.problem = f"Microsoft Graph could not be asked ({_brief(away)})."
                return None
        return self._known[number]

    def _ask(self, number: str) -> Application | None:
        for attempt in range(self._attempts):
            response = self._get(number)
            if response.status_code not in _BUSY or attempt == self._attempts - 1:
                break
            self._sleep(_patience(response.headers.get("Retry-After", "")))
        if response.status_code == requests.codes.not_found:
            self.missing.add(number)
            return None  # deleted, or of another tenant
        if response.status_code in {requests.codes.unauthorized, requests.codes.forbidden}:
            self.problem = (
                "Microsoft Graph does not let triage read applications: grant its identity the application "
                "permission Application.Read.All, with an administrator's consent, or unset expiry.graph."
            )
            return None
        if response.status_code != requests.codes.ok:
            self.problem = f"Microsoft Graph answered {response.status_code}; triage asks again next time."
            return None
        body = decoded(response)
        if shapes.text(body, "appId").lower() != number:
            return None
        passwords, keys = (shapes.items(body, f"{kind}Credentials") for kind in ("password", "key"))
        found = [_secret("password", each) for each in passwords] + [_secret("key", each) for each in keys]
        return Application(
            number, shapes.text(body, "displayName"), tuple(each for each in found if each is not None)
        )

    def _get(self, number: str) -> requests.Response:
        deadline = Deadline(self._seconds)
        try:
            response = requests.get(
                f"{self.url}/v1.0/applications(appId='{number}')",
                params={"$select": _FIELDS},
                auth=Header(self._sign_in.bearer(f"{self.url}/.default")),
                timeout=(min(10.0, self._seconds), min(20.0, self._seconds)),
                allow_redirects=False,  # the token goes nowhere else
                stream=True,
            )
            if not read(response, deadline, _MOST):
                raise requests.RequestException("the answer is too large")
        finally:
            deadline.end()
        return response


def from_settings(url: str, sign_in: SignIn) -> Graph:
    """Return what asks. Raises UsageError when a token is all there is: Graph takes Entra identities only."""
    if not sign_in.is_entra:
        raise UsageError(
            f"expiry.graph: Microsoft Graph takes no personal access token; set {sign_in.setting}.auth to an "
            "Entra identity, or unset expiry.graph."
        )
    return Graph(url, sign_in)


def _secret(kind: Literal["password", "key"], body: object) -> Secret | None:
    ends = shapes.moment(shapes.text(body, "endDateTime"))
    return Secret(kind, shapes.moment(shapes.text(body, "startDateTime")), ends) if ends else None


def _patience(told: str) -> float:
    return min(float(told), _WAIT_MAX_SECONDS) if told.isdecimal() else _WAIT_SECONDS


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
