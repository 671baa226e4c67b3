"""What Entra tells of a connection's application while a finding is made, or nothing at all."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from triage.azdo import Memory, sign_in, urls
from triage.azdo.graph import Graph
from triage.errors import UsageError
from triage.renewal.registration import OF_ENTRA, Registration

if TYPE_CHECKING:
    from triage.azdo.graph import Application
    from triage.azdo.sign_in import SignIn
    from triage.config import Settings
    from triage.domain import Connection

_PATIENCE_SECONDS = 5.0  # that a finding waits
_SILENT_SECONDS = 300.0  # that nobody is asked after a refusal, an outage or a slow answer
_KNOWN_SECONDS = 60.0  # a storm of one connection's runs asks once in it


class Applications:
    """Asks Microsoft Graph, shared by all threads. Whatever goes wrong there, a finding goes on without."""

    def __init__(
        self, url: str, reader: SignIn, tenant: str, *, patience_seconds: float = _PATIENCE_SECONDS
    ) -> None:
        self._url, self._reader, self._tenant = url, reader, tenant.lower()
        self._patience = patience_seconds
        self._memory = Memory()
        self._silent_until = 0.0

    def of(self, connection: Connection) -> Registration | None:
        """Return what Entra says of a connection's application, None when it says nothing in time."""
        number = connection.parameters.get("serviceprincipalid", "").lower()
        tenant = connection.parameters.get("tenantid", "").lower()
        is_elsewhere = bool(self._tenant and tenant and tenant != self._tenant)
        if connection.scheme not in OF_ENTRA or is_elsewhere or not urls.GUID.match(number):
            return None
        if time.monotonic() < self._silent_until:
            return None
        try:
            found = self._memory.recall((number,), lambda: self._asked(number), seconds=_KNOWN_SECONDS)
        except _Silent:
            self._silent_until = time.monotonic() + _SILENT_SECONDS
            return None
        return Registration(found, is_certain=bool(tenant) and tenant == self._tenant)

    def _asked(self, number: str) -> Application | None:
        """Ask in a thread of its own: neither Entra's token nor Graph's answer may hold up a finding."""
        graph = Graph(self._url, self._reader, attempts=1, seconds=self._patience)
        found: list[Application | None] = []
        asking = threading.Thread(target=_keep, args=(found, graph, number), name="graph", daemon=True)
        asking.start()
        asking.join(self._patience)
        if not found or (found[0] is None and number not in graph.missing):
            raise _Silent
        return found[0]


class _Silent(Exception):  # noqa: N818 - what happened
    """Graph said nothing of an application, not even that there is none."""


def from_settings(settings: Settings) -> Applications | None:
    """Return what asks, None unless that is set and can be done; `triage connections` tells why it cannot."""
    if not settings.expiry.graph:
        return None
    try:
        # Its own credential: whoever waits for a token of Azure DevOps waits for none of Graph.
        reader = sign_in.from_settings(settings.azure_devops)
    except UsageError:
        return None
    if not reader.is_entra:
        return None
    return Applications(settings.expiry.graph_url, reader, settings.azure_devops.tenant_id)


def _keep(found: list[Application | None], graph: Graph, number: str) -> None:
    with suppress(Exception):  # who asked hears nothing, which is what an outage means to it
        found.append(graph.application(number))
