"""The played organisation is not kinder than the real one. At the wire, without the SDK's help."""

from __future__ import annotations

import http.client
import json
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import requests
from azure.devops.connection import Connection
from azure.devops.exceptions import AzureDevOpsAuthenticationError
from msrest.authentication import BasicAuthentication

from tests.sandbox.conftest import RUN, TOKEN
from triage.errors import UsageError
from triage.sandbox.organisation import Fault, Organisation
from triage.sandbox.server import Played, serve

if TYPE_CHECKING:
    from triage.sandbox.organisation import Project

JSON = "application/json"
PATCH = "application/json-patch+json"
TITLE = [{"op": "add", "path": "/fields/System.Title", "value": "x"}]


def call(
    played: Played,
    method: str,
    path: str,
    body: Any = None,
    *,
    media: str = JSON,
    version: str | None = "7.1",
) -> requests.Response:
    headers = {"Content-Type": media} if body is not None else {}
    query = "" if version is None else ("&" if "?" in path else "?") + f"api-version={version}"
    return requests.request(
        method,
        f"{played.url}/{path}{query}",
        data=None if body is None else body if isinstance(body, str) else json.dumps(body),
        headers=headers,
        auth=("", TOKEN),
        timeout=10,
        allow_redirects=False,
    )


def told(response: requests.Response) -> tuple[int, str]:
    return response.status_code, response.json()["typeKey"]


def test_every_refusal_has_the_services_own_body(played: Played) -> None:
    body = call(played, "GET", "Nowhere/_apis/build/builds/1").json()
    assert list(body) == ["$id", "innerException", "message", "typeName", "typeKey", "errorCode", "eventId"]
    assert body["message"].startswith("TF200016")


@pytest.mark.parametrize(
    ("method", "path", "body", "media", "version", "expected"),
    [
        ("GET", "Nowhere/_apis/build/builds/1", None, JSON, "7.1", (404, "ProjectDoesNotExistWithNameException")),
        ("GET", "Shop/_apis/build/builds/999", None, JSON, "7.1", (404, "BuildNotFoundException")),
        ("GET", "Shop/_apis/build/builds/x", None, JSON, "7.1", (400, "VssPropertyValidationException")),
        ("GET", "Shop/_apis/build/builds/42/logs/9", None, JSON, "7.1", (404, "LogNotFoundException")),
        ("GET", "Shop/_apis/build/bilds/1", None, JSON, "7.1", (404, "HttpException")),
        ("GET", "_apis/build/builds/42", None, JSON, "7.1", (404, "HttpException")),
        ("GET", "Shop/_apis/build/builds/42", None, JSON, "9.9", (400, "VssVersionOutOfRangeException")),
        ("GET", "Shop/_apis/build/builds/42", None, JSON, "7.2", (400, "VssInvalidPreviewVersionException")),
        ("GET", "Shop/_apis/build/builds/42", None, JSON, "7.1-preview.99", (400, "VssVersionOutOfRangeException")),
        ("GET", "Shop/_apis/build/builds/42", None, JSON, "seven", (400, "VssVersionNotSpecifiedException")),
        ("POST", "Shop/_apis/build/builds/42/tags", ["a"], JSON, None, (400, "VssVersionNotSpecifiedException")),
        ("GET", "Shop/_apis/wit/workItems/1/comments", None, JSON, None, (400, "VssInvalidPreviewVersionException")),
        ("POST", "Shop/_apis/wit/workItems/1/comments", {"text": "x"}, JSON, "7.1", (400, "VssInvalidPreviewVersionException")),
        ("POST", "Shop/_apis/wit/workItems/$Bug", TITLE, JSON, "7.1", (415, "VssRequestContentTypeNotSupportedException")),
        ("POST", "Shop/_apis/build/builds/42/tags", ["a"], "text/plain", "7.1", (415, "VssRequestContentTypeNotSupportedException")),
        ("POST", "Shop/_apis/build/builds/42/tags", "{", JSON, "7.1", (400, "VssPropertyValidationException")),
        ("POST", "Shop/_apis/build/builds/42/tags", "a", JSON, "7.1", (400, "VssPropertyValidationException")),
        ("POST", "Shop/_apis/wit/workItems/$Bug", {}, PATCH, "7.1", (400, "VssPropertyValidationException")),
        ("POST", "Shop/_apis/wit/workItems/$Bug", [], PATCH, "7.1", (400, "VssPropertyValidationException")),
        ("POST", "Shop/_apis/wit/workItems/$Bug", [{"op": "put", "path": "/fields/System.Title", "value": "x"}], PATCH, "7.1", (400, "VssPropertyValidationException")),
        ("POST", "Shop/_apis/wit/workItems/$Bug", [{"op": "add", "path": "/System.Title", "value": "x"}], PATCH, "7.1", (400, "VssPropertyValidationException")),
        ("POST", "Shop/_apis/wit/workItems/$Bug", [{"op": "add", "path": "fields/System.Title", "value": "x"}], PATCH, "7.1", (400, "VssPropertyValidationException")),
        ("GET", "Shop/_apis/serviceendpoint/endpoints/prod-arm", None, JSON, "7.1", (400, "VssPropertyValidationException")),
        ("GET", "_apis/identities?identityIds=jack", None, JSON, "7.1", (400, "VssPropertyValidationException")),
    ],
)  # fmt: skip
def test_what_the_service_does_not_understand_is_refused(
    played: Played,
    method: str,
    path: str,
    body: Any,
    media: str,
    version: str | None,
    expected: tuple[int, str],
) -> None:
    assert told(call(played, method, path, body, media=media, version=version)) == expected


def test_a_get_without_a_version_is_answered(played: Played) -> None:
    assert call(played, "GET", f"Shop/_apis/build/builds/{RUN}", version=None).json()["id"] == RUN


def test_a_method_that_an_api_does_not_have_is_405(played: Played) -> None:
    assert call(played, "DELETE", f"Shop/_apis/build/builds/{RUN}").status_code == 405
    assert call(played, "POST", f"Shop/_apis/build/builds/{RUN}/tags/x", []).status_code == 405


def test_another_organisation_is_not_found(played: Played) -> None:
    address = played.url.replace("contoso", "fabrikam")
    assert requests.get(f"{address}/_apis/projects", auth=("", TOKEN), timeout=10).status_code == 404


def test_a_wrong_token_is_refused_and_the_sdk_says_so(played: Played) -> None:
    connection = Connection(base_url=played.url, creds=BasicAuthentication("", "wrong"))
    with pytest.raises(AzureDevOpsAuthenticationError):
        connection.clients_v7_1.get_build_client().get_build("Shop", RUN)
    assert requests.get(f"{played.url}/_apis/projects", auth=("user", TOKEN), timeout=10).status_code == 401


def test_an_expired_token_can_be_answered_with_the_sign_in_page(played: Played) -> None:
    played.organisation.sign_in_page = "203"
    page = call(played, "GET", "_apis/projects")
    assert (page.status_code, page.headers["Content-Type"]) == (203, "text/html; charset=utf-8")
    played.organisation.sign_in_page = "302"
    redirect = call(played, "GET", "_apis/projects")
    assert redirect.status_code == 302
    assert "Sign In" in requests.get(redirect.headers["Location"], timeout=10).text
    assert played.organisation.sign_in_visits == 1


def test_locations_are_listed_below_the_lower_cased_path_and_areas_are_those_of_a_server(
    played: Played,
) -> None:
    address = played.url.replace("contoso", "CONTOSO") + "/_apis"
    listed = requests.options(address, auth=("", TOKEN), timeout=10).json()
    assert listed["count"] == len(listed["value"]) > 25
    assert len({each["id"] for each in listed["value"]}) == listed["count"]
    assert call(played, "GET", "_apis/ResourceAreas").json() == {"count": 0, "value": None}


def test_the_ledger_tells_every_write_and_no_read(played: Played) -> None:
    call(played, "GET", f"Shop/_apis/build/builds/{RUN}")
    call(played, "PUT", f"Shop/_apis/build/builds/{RUN}/tags/a%2Fb")
    call(played, "POST", "Shop/_apis/wit/workItems/$Bug", TITLE, media=PATCH)
    call(played, "POST", "Shop/_apis/wit/wiql", {"query": "SELECT [System.Id] FROM WorkItems"})
    call(played, "POST", "Nowhere/_apis/wit/workItems/$Bug", TITLE, media=PATCH)
    ledger = requests.get(played.url.removesuffix("contoso") + "_ledger", timeout=10).json()
    assert [(each["method"], each["status"]) for each in ledger] == [
        ("PUT", 200),
        ("POST", 200),
        ("POST", 404),
    ]
    assert ledger[0]["path"].endswith("/tags/a/b")
    assert ledger[1]["body"] == TITLE
    assert ledger[1]["content_type"] == PATCH
    assert ledger[1]["query"] == {"api-version": "7.1"}
    assert [int(ledger[1]["answer_id"])] == list(played.organisation.projects[shop_id(played)].work_items)


def shop_id(played: Played) -> str:
    found = played.organisation.find_project("Shop")
    assert found
    return found.id


def test_a_fault_answers_as_often_as_told(played: Played) -> None:
    headers = {"Retry-After": "3"}
    played.organisation.faults.append(Fault("GET", "/builds/42$", times=2, status=429, headers=headers))
    answers = [call(played, "GET", "Shop/_apis/build/builds/42") for _ in range(3)]
    assert [each.status_code for each in answers] == [429, 429, 200]
    assert answers[0].headers["Retry-After"] == "3"


@pytest.mark.parametrize(("done", "fault"), [(0, {"drop": True}), (1, {"lose_reply": True})])
def test_a_connection_breaks_before_or_after_the_deed(
    played: Played, shop: Project, done: int, fault: dict[str, bool]
) -> None:
    played.organisation.faults.append(Fault("POST", r"workItems/\$Bug", **fault))  # type: ignore[arg-type]
    with pytest.raises(requests.ConnectionError):
        call(played, "POST", "Shop/_apis/wit/workItems/$Bug", TITLE, media=PATCH)
    assert len(shop.work_items) == len(played.organisation.ledger) == done


def test_a_busy_port_is_told_with_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(UsageError, match=f"port {port}.*0 picks a free one"),
            serve(Organisation(), token="x", port=port),
        ):
            pass


def test_only_this_machine_is_served(played: Played) -> None:
    assert urlsplit(played.url).hostname == "127.0.0.1"
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(played.url).port, timeout=10)
    connection.request("GET", "/_ledger")
    assert connection.getresponse().read() == b"[]"
    connection.close()
