"""Played: service hook subscriptions and what became of their notifications (area hooks)."""

from __future__ import annotations

import copy
import re
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse, Response

from triage.sandbox import service_bus
from triage.sandbox.answers import Refusal, listing
from triage.sandbox.organisation import wire_time
from triage.sandbox.security import require

if TYPE_CHECKING:
    from triage.sandbox.answers import Call, Routes

_MASK = "********"
_CONFIDENTIAL = ("basicAuthPassword", "connectionString")
_QUEUE_NAME = re.compile(r"^[A-Za-z0-9]([\w./-]{0,48}[A-Za-z0-9])?$")
# Publisher, event type: its resource versions. Those of endpoint-updated are not documented.
_EVENTS = {
    ("tfs", "build.complete"): ["1.0-preview.1", "1.0", "2.0"],
    ("tfs", "ms.vss-endpoint.endpoint-updated"): ["1.0-preview.1", "1.0"],
    ("pipelines", "ms.vss-pipelines.run-state-changed-event"): ["5.1-preview.1"],
    ("pipelines", "ms.vss-pipelines.stage-state-changed-event"): ["5.1-preview.1"],
    ("pipelines", "ms.vss-pipelines.job-state-changed-event"): ["5.1-preview.1"],
    ("rm", "ms.vss-release.deployment-completed-event"): ["3.0-preview.1"],
    ("rm", "ms.vss-release.release-abandoned-event"): ["3.0-preview.1"],
}
_FILTERS = ("publisherId", "eventType", "consumerId", "consumerActionId")


def _subscriptions(call: Call) -> Response:
    known = call.organisation.subscriptions
    require(call, "ServiceHooks/ViewSubscriptions", "View Subscriptions")
    if call.method != "GET":
        require(call, "ServiceHooks/EditSubscriptions", "Edit Subscriptions")
    if "subscriptionId" not in call.values:
        if call.method == "POST":
            number = str(uuid.uuid4())
            known[number] = _checked(call, number, {})
            return JSONResponse(_shown(call, known[number]))
        wanted = {name: call.query[name.lower()] for name in _FILTERS if call.query.get(name.lower())}
        fitting = [each for each in known.values() if all(each.get(k) == v for k, v in wanted.items())]
        return listing([_shown(call, each) for each in fitting])
    number = _known(call)
    if call.method == "DELETE":
        del known[number]
        return Response(status_code=204)
    if call.method == "PUT":
        known[number] = _checked(call, number, known[number])
    elif call.method == "POST":
        raise Refusal(405, "The requested resource does not support http method 'POST'.", "NotSupported")
    return JSONResponse(_shown(call, known[number]))


def _known(call: Call) -> str:
    number = call.guid("subscriptionId")
    if number not in call.organisation.subscriptions:
        raise Refusal(
            404, f"Cannot find a subscription with the id {number}.", "SubscriptionNotFoundException"
        )
    return number


def _checked(call: Call, number: str, old: dict[str, Any]) -> dict[str, Any]:
    """Return a subscription as it is kept; refuses what the service would not deliver."""
    given = call.table()
    for name in (*_FILTERS, "consumerInputs", "publisherInputs"):
        if not given.get(name):
            raise _wrong(f"{name} must be given.")
    if _versions(call, given["publisherId"], given["eventType"]) is None:
        raise _wrong(f"The publisher {given['publisherId']} has no event {given['eventType']}.")
    consumer = (given["consumerId"], given["consumerActionId"])
    if consumer not in (("webHooks", "httpRequest"), service_bus.CONSUMER):
        raise _wrong(
            "The played organisation has two consumers: webHooks with httpRequest, azureServiceBus with "
            "serviceBusQueueSend."
        )
    for table in ("consumerInputs", "publisherInputs"):
        if not all(isinstance(value, str) for value in given[table].values()):
            raise _wrong(f"All values of {table} must be texts.")
    project = given["publisherInputs"].get("projectId")
    if project and project.lower() not in call.organisation.projects:
        raise _wrong(f"The project {project} does not exist.")
    inputs = dict(given["consumerInputs"])
    kept = old.get("consumerInputs", {})
    inputs |= {name: kept.get(name, "") for name in _CONFIDENTIAL if inputs.get(name) == _MASK}
    _check_queue(inputs) if consumer == service_bus.CONSUMER else _check_target(call, inputs)
    now = wire_time()
    return {
        "createdBy": call.caller,
        "createdDate": now,
        **old,
        **{name: given[name] for name in _FILTERS},
        "id": number,
        "status": given.get("status", "enabled"),
        "resourceVersion": given.get("resourceVersion", "1.0"),
        "publisherInputs": given["publisherInputs"],
        "consumerInputs": inputs,
        "probationRetries": 0,
        "modifiedBy": call.caller,
        "modifiedDate": now,
    }


def _versions(call: Call, publisher: str, event: str) -> list[str] | None:
    """Return the resource versions of an event, None when the organisation does not offer it."""
    return None if event in call.organisation.events_missing else _EVENTS.get((publisher, event))


def _event_types(call: Call) -> Response:
    publisher, event = call.values["publisherId"], call.values.get("eventTypeId", "")
    versions = _versions(call, publisher, event)
    if versions is None:
        raise Refusal(
            404, f"The publisher {publisher} has no event type {event}.", "EventTypeNotFoundException"
        )
    project = {"id": "projectId", "name": "Project", "isConfidential": False, "inputMode": "none"}
    return JSONResponse(
        {
            "publisherId": publisher,
            "id": event,
            "name": event.rpartition(".")[2],
            "supportedResourceVersions": versions,
            "inputDescriptors": [project],
        }
    )


def _check_target(call: Call, inputs: dict[str, str]) -> None:
    target = urlsplit(inputs.get("url", ""))
    if target.scheme not in {"http", "https"} or not target.hostname:
        raise _wrong("The input url must be an address.")
    if call.organisation.allow_local_hooks:
        return
    if inputs.get("basicAuthUsername") and target.scheme != "https":
        raise _wrong("Basic authentication needs an https address.")
    if target.hostname == "localhost" or target.hostname.startswith(("127.", "10.", "192.168.", "[")):
        raise _wrong("The address must be reachable from the internet.")


def _check_queue(inputs: dict[str, str]) -> None:
    if not inputs.get("connectionString", "").startswith("Endpoint=sb://"):
        raise _wrong("The input connectionString must be that of a Service Bus.")
    if not _QUEUE_NAME.match(inputs.get("queueName", "")):
        raise _wrong("The input queueName must be the name of a queue.")


def _shown(call: Call, subscription: dict[str, Any]) -> dict[str, Any]:
    shown = copy.deepcopy(subscription)
    for name in _CONFIDENTIAL:
        if name in shown["consumerInputs"]:
            shown["consumerInputs"][name] = _MASK
    shown["url"] = f"{call.organisation.url}/_apis/hooks/subscriptions/{shown['id']}"
    return shown


def _notifications(call: Call) -> Response:
    kept = call.organisation.notifications.get(_known(call), [])
    if "notificationId" in call.values:
        found = next((each for each in kept if each["id"] == call.number("notificationId")), None)
        if found is None:
            raise Refusal(404, "Cannot find the notification.", "NotificationNotFoundException")
        return JSONResponse(found)
    wanted = {name: call.query[name] for name in ("status", "result") if call.query.get(name)}
    found_all = [each for each in kept if all(each[name] == value for name, value in wanted.items())]
    return listing(found_all[::-1][: call.asked("maxResults", 100)])


def _wrong(message: str) -> Refusal:
    return Refusal(400, message, "SubscriptionInputException")


ROUTES: Routes = {
    "subscriptions": dict.fromkeys(("GET", "POST", "PUT", "DELETE"), _subscriptions),
    "event types": {"GET": _event_types},
    "notifications": {"GET": _notifications},
}
