"""The played organisation's web hooks: who gets what, and what an answer does to a subscription."""

from __future__ import annotations

import base64
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from triage.sandbox import hooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from triage.sandbox.organisation import Organisation, Project

SPEED = 100_000.0


class Receiver:
    """Answers with the next of its statuses, 200 when there is none left."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.got: list[tuple[dict[str, str], Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((dict(self.headers), msgspec.json.decode(body)))
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def subscription(organisation: Organisation, shop: Project, receiver: Receiver) -> dict[str, Any]:
    number = organisation.subscribe(
        receiver.url,
        event_type="build.complete",
        username="hook",
        password="s",
        projectId=shop.id,
        buildStatus="Failed",
    )
    return organisation.subscriptions[number]


def event(project: str, result: str = "failed") -> dict[str, Any]:
    return {
        "id": "33433986-0000-4000-8000-000000000000",
        "eventType": "build.complete",
        "publisherId": "tfs",
        "message": {"text": "t", "html": "h", "markdown": "m"},
        "resource": {"id": 42, "result": result},
        "resourceContainers": {"project": {"id": project}},
    }


def test_an_event_goes_to_the_subscriptions_that_want_it(
    organisation: Organisation, shop: Project, receiver: Receiver, subscription: dict[str, Any]
) -> None:
    subscription["consumerInputs"] |= {"httpHeaders": "X-Own:yes", "messagesToSend": "none"}
    assert hooks.deliver(organisation, event(shop.id)) == [200]
    assert hooks.deliver(organisation, event(shop.id, "succeeded")) == []
    assert hooks.deliver(organisation, event("another project")) == []
    headers, body = receiver.got[0]
    assert headers["Authorization"] == "Basic " + base64.b64encode(b"hook:s").decode()
    assert (headers["X-Own"], headers["X-VSS-SubscriptionId"]) == ("yes", subscription["id"])
    assert (body["subscriptionId"], body["notificationId"], body["message"]) == (subscription["id"], 1, None)
    assert body["resource"]["id"] == 42


def test_a_passing_failure_is_retried_eight_times(
    organisation: Organisation, shop: Project, receiver: Receiver, subscription: dict[str, Any]
) -> None:
    receiver.statuses = [503] * 8
    assert hooks.deliver(organisation, event(shop.id), speed=SPEED) == [200]
    assert len(receiver.got) == 9
    assert subscription["status"] == "enabled"
    assert organisation.notifications[subscription["id"]][0]["details"]["requestAttempts"] == 9


@pytest.mark.parametrize("status", [500, 429, 401, 400])
def test_an_enduring_failure_means_probation_and_lost_events(
    organisation: Organisation, shop: Project, receiver: Receiver, subscription: dict[str, Any], status: int
) -> None:
    receiver.statuses = [status]
    assert hooks.deliver(organisation, event(shop.id), speed=SPEED) == [status]
    assert subscription["status"] == "onProbation"
    assert hooks.deliver(organisation, event(shop.id), speed=SPEED) == []
    assert hooks.retry_probation(organisation, subscription["id"]) == "enabled"
    assert [body["notificationId"] for _, body in receiver.got] == [1, 1]
    assert organisation.notifications[subscription["id"]][0]["result"] == "succeeded"


def test_after_seven_vain_retries_a_person_must_enable_it_again(
    organisation: Organisation, shop: Project, receiver: Receiver, subscription: dict[str, Any]
) -> None:
    receiver.statuses = [500] * 8
    hooks.deliver(organisation, event(shop.id), speed=SPEED)
    told = [hooks.retry_probation(organisation, subscription["id"]) for _ in range(7)]
    assert told == ["onProbation"] * 6 + ["disabledBySystem"]


def test_gone_ends_a_subscription_at_once(
    organisation: Organisation, shop: Project, receiver: Receiver, subscription: dict[str, Any]
) -> None:
    receiver.statuses = [410]
    hooks.deliver(organisation, event(shop.id))
    assert (subscription["status"], len(receiver.got)) == ("disabledBySystem", 1)


def test_nobody_there_is_retried_and_then_means_probation(
    organisation: Organisation, shop: Project, subscription: dict[str, Any]
) -> None:
    subscription["consumerInputs"]["url"] = "http://127.0.0.1:1/hook"
    assert hooks.deliver(organisation, event(shop.id), speed=SPEED) == [0]
    assert subscription["status"] == "onProbation"


def test_a_courier_sends_again_and_lets_probations_take_their_course(
    organisation: Organisation, shop: Project, receiver: Receiver, subscription: dict[str, Any]
) -> None:
    courier = hooks.Courier(organisation, speed=SPEED)
    receiver.statuses = [503] * 11  # nine tries, and two of the probation
    courier.take(event(shop.id))
    wait_for(lambda: courier.is_idle)
    wait_for(lambda: len(receiver.got) == 12 and subscription["status"] == "enabled")
    courier.take(event(shop.id))
    wait_for(lambda: courier.is_idle)
    assert [body["notificationId"] for _, body in receiver.got] == [1] * 12 + [2]


def test_a_courier_leaves_a_subscription_alone_that_is_gone(
    organisation: Organisation, shop: Project, receiver: Receiver, subscription: dict[str, Any]
) -> None:
    receiver.statuses = [500]
    courier = hooks.Courier(organisation, speed=20_000)
    courier.take(event(shop.id))
    wait_for(lambda: courier.is_idle)
    assert subscription["status"] == "onProbation"
    organisation.subscriptions.clear()
    assert hooks.retry_probation(organisation, subscription["id"]) == ""


def test_no_subscription_of_a_courier_waits_for_another(
    organisation: Organisation, shop: Project, receiver: Receiver, subscription: dict[str, Any]
) -> None:
    away = organisation.subscribe(
        "http://127.0.0.1:1/hook", event_type="build.complete", username="", password=""
    )
    organisation.subscriptions = dict(reversed(organisation.subscriptions.items()))
    assert next(iter(organisation.subscriptions)) == away
    courier = hooks.Courier(organisation)  # at the service's own speed
    courier.take(event(shop.id))
    wait_for(lambda: receiver.got)
    assert not courier.is_idle
    assert subscription["status"] == "enabled"


def wait_for(true: Callable[[], object]) -> None:
    """Wait for something that must come true."""
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.005)
