"""Settings that cannot work are told at the start, by their name and without their secrets."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from triage import config
from triage.errors import UsageError
from triage.intake.bus import is_used, require_usable

KEY = "Endpoint=sb://contoso.servicebus.windows.net/;SharedAccessKeyName=triage;SharedAccessKey=c2VjcmV0"

IDENTITY = config.Credential(auth="managed-identity")


def bus(connection_string: str | None = None, **more: object) -> config.ServiceBus:
    secret = SecretStr(connection_string) if connection_string is not None else None
    return config.ServiceBus(connection_string=secret, **more)  # type: ignore[arg-type]


def settings(given: config.ServiceBus) -> config.Settings:
    return config.Settings(azure_devops=config.AzureDevOps(auth="managed-identity"), service_bus=given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (bus("c2VjcmV0"), "service_bus.connection_string (TRIAGE_SERVICE_BUS__CONNECTION_STRING) is no"),
        (bus(""), "service_bus.connection_string (TRIAGE_SERVICE_BUS__CONNECTION_STRING) is no"),
        (bus("Endpoint=sb://c.servicebus.windows.net/;SharedAccessKeyName=c2VjcmV0"), "connection_string"),
        (bus(KEY + ";EntityPath=other"), "is of the queue 'other', but service_bus.queue is 'triage'"),
        (bus(KEY, namespace="contoso.servicebus.windows.net"), "are both set"),
        (bus(namespace="sb://contoso/"), "service_bus.namespace: 'sb://contoso/' is no host name"),
        (bus(forward=True), "service_bus.forward is on"),
        (bus(KEY, credential=IDENTITY), "service_bus.credential is set, but service_bus.namespace"),
        (bus(credential=IDENTITY), "service_bus.credential is set, but service_bus.namespace"),
    ],
)
def test_what_cannot_work_is_refused(given: config.ServiceBus, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        require_usable(settings(given))
    assert said in str(refused.value)
    assert "c2VjcmV0" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        (bus(), False),
        (bus(KEY), True),
        (bus(KEY + ";EntityPath=triage"), True),
        (bus(namespace="contoso.servicebus.windows.net", forward=True), True),
    ],
)
def test_what_can_work_is_taken(given: config.ServiceBus, used: bool) -> None:  # noqa: FBT001
    require_usable(settings(given))
    assert is_used(given) is used


@pytest.mark.parametrize("name", ["", "a b", "/a", "a/", "a?b", "x" * 261])
def test_a_name_that_no_queue_can_have_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"service_bus\.queue"):
        config.load(service_bus={"queue": name})
