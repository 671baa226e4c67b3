"""The played organisation tells its subscribers, and treats their answers as Azure DevOps does."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from triage.sandbox import service_bus
from triage.sandbox.organisation import sleep, wire_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from triage.sandbox.organisation import Organisation

RETRY_SECONDS = (1, 2, 4, 8, 16, 32, 60, 60)  # after a transient answer
PROBATION_SECONDS = (1200, 2400, 4800, 9600, 19200, 38400, 54000)  # after an enduring failure
_TRANSIENT = {0, 408, 502, 503, 504}  # 0: no answer at all; how the service sees that is not documented
_GONE = 410
_TIMEOUT_SECONDS = 30.0
_BUILD_STATUS = {
    "succeeded": "Succeeded",
    "partiallySucceeded": "PartiallySucceeded",
    "failed": "Failed",
    "canceled": "Stopped",
}


def deliver(organisation: Organisation, event: dict[str, Any], *, speed: float = 1.0) -> list[int]:
    """Post an event to each enabled subscription that wants it. Returns the last status of each, 0: no answer.

    `speed` divides the waits between retries. A subscription on probation loses the event.
    """
    addressed = _addressed(organisation, event)
    return [_carry(organisation, subscription, note, speed) for subscription, note in addressed]


class Courier:
    """Delivers beside whoever lets events happen, by a clock that goes `speed` times as fast.

    What is not taken is sent again, and probations take their course, as they do in the service; no
    subscription waits for another.
    """

    def __init__(self, organisation: Organisation, *, speed: float = 1.0) -> None:
        self._organisation = organisation
        self._speed = speed
        self._under_way: list[threading.Thread] = []
        self._probations: set[str] = set()  # subscriptions

    def take(self, event: dict[str, Any]) -> None:
        """Have an event delivered; returns at once."""
        for subscription, note in _addressed(self._organisation, event):
            self._under_way.append(self._start(self._carry, subscription, note))

    @property
    def is_idle(self) -> bool:
        """True when every event was taken or given up; that of a probation waits longer than any."""
        return not any(each.is_alive() for each in self._under_way)

    def _start(self, work: Callable[..., None], *about: Any) -> threading.Thread:
        thread = threading.Thread(target=work, args=about, name="played-courier", daemon=True)
        thread.start()
        return thread

    def _carry(self, subscription: dict[str, Any], note: dict[str, Any]) -> None:
        _carry(self._organisation, subscription, note, self._speed)
        number = subscription["id"]
        with self._organisation.lock:
            if subscription["status"] != "onProbation" or number in self._probations:
                return
            self._probations.add(number)
        self._start(self._probation, number)

    def _probation(self, subscription_id: str) -> None:
        for wait in PROBATION_SECONDS:
            sleep(wait / self._speed)
            if retry_probation(self._organisation, subscription_id) != "onProbation":
                break
        with self._organisation.lock:
            self._probations.discard(subscription_id)


def retry_probation(organisation: Organisation, subscription_id: str) -> str:
    """Send a subscription's failed notification once more, as its probation does. Returns the status then.

    That is "" for one that has been deleted. The service waits PROBATION_SECONDS between the tries; the
    caller of this does not.
    """
    with organisation.lock:
        subscription = organisation.subscriptions.get(subscription_id)
        kept = organisation.notifications.get(subscription_id, [])
        failed = next((note for note in reversed(kept) if note["result"] == "failed"), None)
    if subscription is None:
        return ""
    if subscription["status"] != "onProbation" or failed is None:
        return str(subscription["status"])
    status = _send(subscription, failed)
    with organisation.lock:
        subscription["probationRetries"] = subscription.get("probationRetries", 0) + 1
        subscription["lastProbationRetryDate"] = wire_time()
        if 200 <= status < 300:
            _settle(subscription, failed, status)
        elif status == _GONE or subscription["probationRetries"] >= len(PROBATION_SECONDS):
            subscription["status"] = "disabledBySystem"
    return str(subscription["status"])


def _addressed(
    organisation: Organisation, event: dict[str, Any]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the subscriptions in force that want an event, each with a notification for it."""
    with organisation.lock:
        wanted = [each for each in organisation.subscriptions.values() if _wants(each, event)]
        return [(each, _note(organisation, each, event)) for each in wanted]


def _wants(subscription: dict[str, Any], event: dict[str, Any]) -> bool:
    """Return True when a subscription is in force and its filters let the event through."""
    if subscription["status"] != "enabled" or subscription["eventType"] != event["eventType"]:
        return False
    resource = event.get("resource") or {}
    run, stage = resource.get("run") or {}, resource.get("stage") or {}
    pipeline = resource.get("definition") or resource.get("pipeline") or {}
    build = _BUILD_STATUS.get(str(resource.get("result")))
    facts = {
        "projectId": event.get("resourceContainers", {}).get("project", {}).get("id"),
        "buildStatus": build,
        "definitionName": pipeline.get("name"),
        "pipelineId": pipeline.get("id"),
        "runStateId": run.get("state"),
        "runResultId": run.get("result"),
        "stageName": stage.get("name"),
        "stageStateId": stage.get("state"),
        "stageResultId": stage.get("result"),
    }
    inputs = subscription.get("publisherInputs") or {}
    return all(
        str(facts[name]).lower() == str(wanted).lower()
        for name, wanted in inputs.items()
        if wanted and name in facts
    )


def _note(organisation: Organisation, subscription: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    """Add a notification to the subscription's history and return it."""
    history = organisation.notifications.setdefault(subscription["id"], [])
    inputs = subscription["consumerInputs"]
    body = {"subscriptionId": subscription["id"], "notificationId": len(history) + 1, **event}
    if inputs.get("resourceDetailsToSend") == "none":
        body.pop("resource", None)
    for name, key in (("message", "messagesToSend"), ("detailedMessage", "detailedMessagesToSend")):
        form = inputs.get(key)
        if form and isinstance(body.get(name), dict):
            body[name] = None if form == "none" else {form: body[name].get(form)}
    note = {
        "id": len(history) + 1,
        "subscriptionId": subscription["id"],
        "eventId": event["id"],
        "status": "queued",
        "result": "pending",
        "createdDate": wire_time(),
        "details": {"eventType": event["eventType"], "event": body, "requestAttempts": 0, "response": None},
    }
    history.append(note)
    return note


def _carry(
    organisation: Organisation, subscription: dict[str, Any], note: dict[str, Any], speed: float
) -> int:
    status = 0
    for wait in (0, *RETRY_SECONDS):
        sleep(wait / speed)
        status = _send(subscription, note)
        if status not in _TRANSIENT:
            break
        note["status"] = "queuedForRetry"
    with organisation.lock:
        _settle(subscription, note, status)
    return status


def _settle(subscription: dict[str, Any], note: dict[str, Any], status: int) -> None:
    """Write down how a notification ended, and what that means for its subscription."""
    note["status"] = "completed"
    note["modifiedDate"] = wire_time()
    note["result"] = "succeeded" if 200 <= status < 300 else "failed"
    if note["result"] == "succeeded":
        subscription["status"] = "enabled"
        subscription["probationRetries"] = 0
        subscription["lastSuccessfulAttemptDate"] = wire_time()
    else:
        subscription["status"] = "disabledBySystem" if status == _GONE else "onProbation"


def _send(subscription: dict[str, Any], note: dict[str, Any]) -> int:
    """Send a notification once, to whichever consumer it is for, and return the status."""
    if subscription["consumerId"] != service_bus.CONSUMER[0]:
        return _post(subscription, note)
    note["details"]["requestAttempts"] += 1
    return service_bus.post(subscription["consumerInputs"], note["details"]["event"])


def _post(subscription: dict[str, Any], note: dict[str, Any]) -> int:
    """Post a notification once and return the status, 0 when there is no answer. Follows no redirect."""
    inputs = subscription["consumerInputs"]
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "X-VSS-SubscriptionId": subscription["id"],
        "X-VSS-ActivityId": str(uuid.uuid4()),
    }
    for line in str(inputs.get("httpHeaders") or "").splitlines():
        name, _, value = line.partition(":")
        headers[name.strip()] = value.strip()
    if inputs.get("basicAuthUsername"):
        login = f"{inputs['basicAuthUsername']}:{inputs.get('basicAuthPassword', '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    target = urlsplit(inputs["url"])
    kind = http.client.HTTPSConnection if target.scheme == "https" else http.client.HTTPConnection
    connection = kind(target.hostname or "", target.port, timeout=_TIMEOUT_SECONDS)
    details, begun = note["details"], time.monotonic()
    details["requestAttempts"] += 1
    try:
        path = (target.path or "/") + (f"?{target.query}" if target.query else "")
        connection.request("POST", path, json.dumps(details["event"]).encode(), headers)
        answer = connection.getresponse()
        details["response"] = answer.read(4096).decode("utf-8", "replace")
        details["errorMessage"] = None if answer.status < 300 else f"{answer.reason} ({answer.status})"
        return answer.status
    except (OSError, http.client.HTTPException) as error:
        details["errorMessage"] = str(error)
        return 0
    finally:
        details["requestDuration"] = round(time.monotonic() - begun, 3)
        connection.close()
