"""The way to the Service Bus: settings checked, connections opened, failures told in sentences."""

from __future__ import annotations

import logging
import re
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from azure.core.credentials import AccessToken
from azure.servicebus import ServiceBusClient, parse_connection_string
from azure.servicebus.exceptions import (
    MessagingEntityDisabledError,
    MessagingEntityNotFoundError,
    OperationTimeoutError,
    ServiceBusAuthenticationError,
    ServiceBusAuthorizationError,
    ServiceBusConnectionError,
    ServiceBusQuotaExceededError,
)

from triage.azdo import sign_in
from triage.errors import TriageError, UsageError

if TYPE_CHECKING:
    from azure.servicebus import ServiceBusReceivedMessage

    from triage.azdo.sign_in import SignIn
    from triage.config import Credential, ServiceBus, Settings

# Azure Service Bus itself, as Entra knows it.
SCOPE = "https://servicebus.azure.net/.default"
TRY_SECONDS = 10.0  # the library has no limit of its own on opening a link
WAIT_SECONDS = 2.0  # a receiver looks up so often, to see whether it is to stop
REOPEN_SECONDS = 300.0  # a quiet link is opened anew: it may be dead without knowing
_GREETING = b"AMQP\x03\x01\x00\x00"
_TLS_PORT = 5671
_HOST = re.compile(r"^[A-Za-z0-9][A-Za-z0-9.-]*(?::\d{1,5})?$")


@dataclass(frozen=True)
class Access:
    """Where the queue is, and who triage is there."""

    bus: ServiceBus
    sign_in: SignIn | None  # None: the connection string lets triage in

    def get_token(self, *_: str, **__: object) -> AccessToken:
        """Return a bearer token; what azure-servicebus asks of a credential, for each link and in time again.

        Its own name of the scope has one slash too many.
        """
        if self.sign_in is None:
            raise TypeError("a connection string is no Entra identity")
        token, ends = self.sign_in.token(SCOPE)
        return AccessToken(token, int(ends))


def access(settings: Settings) -> Access:
    """Return the way to the queue; asks nobody yet. Raises UsageError when the settings are wrong."""
    bus = settings.service_bus
    if not bus.namespace:
        return Access(bus, None)
    return Access(bus, sign_in.from_settings(*_credential(settings)))


def is_used(bus: ServiceBus) -> bool:
    """Return True when the settings name a Service Bus."""
    return bool(bus.namespace or bus.connection_string)


def require_usable(settings: Settings) -> None:
    """Raise UsageError unless the settings are empty or name one Service Bus in one way."""
    bus = settings.service_bus
    if bus.forward and not is_used(bus):
        raise UsageError(
            "service_bus.forward is on, but there is no Service Bus to forward to: set "
            "service_bus.connection_string or service_bus.namespace, or switch it off."
        )
    if bus.connection_string is not None and bus.namespace:
        raise UsageError(
            "service_bus.connection_string and service_bus.namespace are both set: keep the connection "
            "string, or the namespace alone to sign in with Entra."
        )
    if bus.credential.configured and not bus.namespace:
        raise UsageError(
            "service_bus.credential is set, but service_bus.namespace, where it signs in, is not: set it, or "
            "leave the credential out beside a connection string."
        )
    if bus.connection_string is not None:
        _require_connection_string(bus)
    elif bus.namespace and not _HOST.match(bus.namespace):
        raise UsageError(
            f"service_bus.namespace: {bus.namespace!r} is no host name; write e.g. "
            "contoso.servicebus.windows.net."
        )
    elif bus.namespace:
        _require_identity(settings)


def _require_identity(settings: Settings) -> None:
    section, setting = _credential(settings)
    if section.auth == "token":
        raise UsageError(
            f"service_bus.namespace needs an Entra identity, but {setting}.auth is `token`, which no Service "
            "Bus takes: set service_bus.credential.auth (or azure_devops.auth, for both), or, instead of the "
            "namespace, service_bus.connection_string (TRIAGE_SERVICE_BUS__CONNECTION_STRING)."
        )
    if problem := section.problem(setting):
        raise UsageError(problem)


def _credential(settings: Settings) -> tuple[Credential, str]:
    """Return what signs in to the queue, and the setting that it is from."""
    own = settings.service_bus.credential
    return (own, "service_bus.credential") if own.configured else (settings.azure_devops, "azure_devops")


def _require_connection_string(bus: ServiceBus) -> None:
    name = "service_bus.connection_string (TRIAGE_SERVICE_BUS__CONNECTION_STRING)"
    try:
        parts = parse_connection_string(_secret(bus))
    except (ValueError, KeyError, TypeError):  # whose text may hold the secret
        raise UsageError(
            f"{name} is no connection string of a Service Bus: copy it whole from the shared access policy, "
            "Endpoint=sb://…;SharedAccessKeyName=…;SharedAccessKey=…"
        ) from None
    if not parts.shared_access_key and not parts.shared_access_signature:
        raise UsageError(f"{name} holds no SharedAccessKey: copy it whole from the shared access policy.")
    if parts.entity_path and parts.entity_path != bus.queue:
        raise UsageError(
            f"{name} is of the queue {parts.entity_path!r}, but service_bus.queue is {bus.queue!r}: "
            "name the same queue in both."
        )


def connect(way: Access) -> ServiceBusClient:
    """Return a client for a queue's links; it tries everything once, for so long as TRY_SECONDS.

    Raises OSError when nobody speaks AMQP there, AccessRefused or RetryLater when Entra gives no token.
    """
    bus = way.bus
    # The library's words on a failure may hold tokens, its frames do; ours say what a person needs.
    logging.getLogger("azure.servicebus").setLevel(logging.CRITICAL)
    host, use_tls = _address(bus)
    _greet(host, use_tls=use_tls)
    if bus.connection_string is not None:
        return ServiceBusClient.from_connection_string(
            _secret(bus), retry_total=0, try_timeout=TRY_SECONDS, logging_enable=False
        )
    way.get_token()  # the library would hide why there is none
    return ServiceBusClient(
        host,
        way,
        retry_total=0,
        try_timeout=TRY_SECONDS,
        logging_enable=False,
        use_tls=use_tls,
    )


def payload(message: ServiceBusReceivedMessage) -> bytes:
    """Return a message's body, whichever way its sender has put it."""
    parts = message.body
    if isinstance(parts, bytes):
        return parts
    if isinstance(parts, str):
        return parts.encode()
    try:
        return b"".join(part if isinstance(part, bytes) else str(part).encode() for part in parts)
    except TypeError:  # a number, say: no event
        return b""


def explain(error: Exception, way: Access) -> str:
    """Return what went wrong and what to do. Says nothing that the library said: it may hold secrets."""
    bus, where = way.bus, _address(way.bus)[0]
    match error:
        case TriageError():
            return str(error)
        case ServiceBusAuthenticationError() | ServiceBusAuthorizationError():
            given = "service_bus.connection_string"
            if way.sign_in is not None:
                given = f"triage's {way.sign_in.kind} ({way.sign_in.setting}.auth)"
            return (
                f"The Service Bus {where} refuses {given}: it must be valid, and have Listen on the queue "
                f"{bus.queue}; Send, too, to forward or to replay."
            )
        case MessagingEntityNotFoundError():
            return (
                f"The Service Bus {where} has no queue {bus.queue}: create it, or correct service_bus.queue."
            )
        case MessagingEntityDisabledError() | ServiceBusQuotaExceededError():
            return f"The queue {bus.queue} of the Service Bus {where} is disabled or full."
        case OperationTimeoutError() | ServiceBusConnectionError() | OSError():
            return f"The Service Bus {where} does not answer; it is tried again."
    return f"The Service Bus {where} failed ({type(error).__name__}); it is tried again."


def _secret(bus: ServiceBus) -> str:
    return bus.connection_string.get_secret_value() if bus.connection_string else ""


def _address(bus: ServiceBus) -> tuple[str, bool]:
    """Return the host, with its port if it has one of its own, and whether it speaks TLS.

    The service always does; only an emulator on this machine does not.
    """
    if bus.connection_string is None:
        return bus.namespace, not bus.namespace.startswith("127.0.0.1:")
    host = parse_connection_string(_secret(bus)).fully_qualified_namespace
    return host, "UseDevelopmentEmulator=true" not in _secret(bus)


def _greet(host: str, *, use_tls: bool) -> None:
    """Raise OSError unless somebody answers AMQP's greeting.

    The library would wait for ever for one who takes the connection and says nothing.
    """
    name, _, port = host.partition(":")
    with socket.create_connection((name, int(port or _TLS_PORT)), timeout=TRY_SECONDS) as plain:
        line = ssl.create_default_context().wrap_socket(plain, server_hostname=name) if use_tls else plain
        with line:
            line.sendall(_GREETING)
            if not line.recv(8).startswith(b"AMQP"):
                raise ConnectionError(f"{host} does not speak AMQP.")
