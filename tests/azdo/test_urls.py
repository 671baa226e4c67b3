"""The addresses of organisations and runs in each of their forms, and where the token may go."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.conftest import RUN, TOKEN, fill
from tests.test_cli import triage
from triage import azdo, config
from triage.azdo import urls
from triage.domain import RunRef
from triage.errors import UsageError
from triage.intake import parse
from triage.sandbox.organisation import Organisation
from triage.sandbox.server import serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triage.sandbox.server import Played

NEW, OLD = "https://dev.azure.com/contoso", "https://contoso.visualstudio.com"
SERVER = "https://tfs.contoso.example:8443/tfs/DefaultCollection"


@pytest.mark.parametrize(
    ("given", "address", "name"),
    [
        ("https://dev.azure.com/contoso/", NEW, "contoso"),
        ("https://contoso.visualstudio.com", OLD, "contoso"),
        ("https://contoso.visualstudio.com/", OLD, "contoso"),
        ("https://contoso.visualstudio.com/DefaultCollection", OLD, "contoso"),
        ("https://contoso.visualstudio.com/defaultcollection/", OLD, "contoso"),
        (
            "https://tfs.contoso.example/tfs/DefaultCollection",
            "https://tfs.contoso.example/tfs/DefaultCollection",
            "DefaultCollection",
        ),
        (SERVER + "/", SERVER, "DefaultCollection"),
        ("https://tfs.contoso.example/My%20Team", "https://tfs.contoso.example/My%20Team", "My Team"),
    ],
)
def test_each_form_of_an_organisations_address_is_taken(given: str, address: str, name: str) -> None:
    assert urls.organization(given) == (address, name)


@pytest.mark.parametrize(
    "given",
    [
        "https://contoso.visualstudio.com/Shop",
        "https://contoso.visualstudio.com/DefaultCollection/Shop",
        "https://dev.azure.com/contoso/Shop",
        "http://tfs.contoso.example/tfs/DefaultCollection",
        "https://tfs.contoso.example",
        "https://visualstudio.com",
    ],
)
def test_what_is_more_or_less_than_an_organisation_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match="is no organisation"):
        urls.organization(given)


@pytest.mark.parametrize(
    "page",
    [
        "https://dev.azure.com/contoso/Shop%20One/_build/results?buildId=42&view=results",
        "https://DEV.azure.com/Contoso/Shop%20One/_build/results?buildId=42",
        "https://dev.azure.com:443/contoso/Shop%20One/_build/results?buildId=42",
        "https://contoso.visualstudio.com/Shop%20One/_build/results?buildId=42",
        "https://contoso.visualstudio.com/DefaultCollection/Shop%20One/_build/results?buildId=42",
        "https://contoso.visualstudio.com/Shop%20One/_build/index?buildid=42&_a=summary",
    ],
)
def test_a_run_is_the_same_in_the_old_and_the_new_form(page: str) -> None:
    for organization in (NEW, OLD):
        assert urls.parse_run(organization, page) == RunRef("Shop One", 42)
    assert urls.organization_of_run(page).lower() in {NEW, OLD, "https://dev.azure.com:443/contoso"}


def test_a_run_of_a_server_is_below_its_collection() -> None:
    page = f"{SERVER}/Shop/_build/results?buildId=42"
    assert urls.organization_of_run(page) == SERVER
    assert urls.parse_run(SERVER, page) == RunRef("Shop", 42)
    for other in (page.replace("8443", "9443"), page.replace("DefaultCollection", "Other")):
        with pytest.raises(UsageError, match="not the page of a run"):
            urls.parse_run(SERVER, other)


@pytest.mark.parametrize(
    "page",
    [
        "https://other.visualstudio.com/Shop/_build/results?buildId=42",
        "https://contoso.visualstudio.com.evil.example/x",
    ],
)
def test_another_organisations_run_is_refused(page: str) -> None:
    with pytest.raises(UsageError, match="not the page of a run"):
        urls.parse_run(NEW, page)


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        (NEW, "https://contoso.visualstudio.com/DefaultCollection/", True),
        (NEW, "https://contoso.vsrm.visualstudio.com/", True),
        (OLD, "https://dev.azure.com/Contoso/", True),
        (OLD + "/DefaultCollection", "https://vsrm.dev.azure.com/contoso/", True),
        (SERVER, SERVER + "/", True),
        ("https://tfs.contoso.example/tfs/Main", "https://tfs.contoso.example:443/tfs/main/", True),
        ("https://tfs.contoso.example/My%20Team", "https://tfs.contoso.example/My Team/", True),
        (NEW, "https://other.visualstudio.com/", False),
        (SERVER, SERVER.replace("8443", "9443"), False),
    ],
)
def test_an_event_is_ours_in_whichever_form_it_names_us(ours: str, theirs: str, *, same: bool) -> None:
    event = {
        "eventType": "build.complete",
        "resource": {
            "id": 42,
            "result": "failed",
            "project": {"id": "a" * 8 + "-0000-4000-8000-" + "0" * 12},
        },
        "resourceContainers": {"collection": {"baseUrl": theirs}},
    }
    assert (parse(json.dumps(event).encode(), ours).kind == "run") is same


@pytest.mark.parametrize(
    ("organization", "there", "allowed"),
    [
        (NEW, "https://dev.azure.com/contoso", True),
        (NEW, "https://vsrm.dev.azure.com/contoso", True),
        (NEW, "https://vssps.dev.azure.com/Contoso/", True),
        (NEW, "https://vssps.dev.azure.com", True),
        (NEW, "https://app.vssps.visualstudio.com", True),
        (NEW, "https://contoso.visualstudio.com", True),
        (NEW, "https://contoso.vsrm.visualstudio.com", True),
        (OLD, "https://dev.azure.com/contoso", True),
        (OLD, "https://contoso.vssps.visualstudio.com", True),
        (NEW, "https://vsrm.dev.azure.com/other", False),
        (NEW, "https://other.visualstudio.com", False),
        (NEW, "https://other.vsrm.visualstudio.com", False),
        (NEW, "https://a.b.dev.azure.com/contoso", False),
        (NEW, "https://evil-dev.azure.com/contoso", False),
        (NEW, "https://dev.azure.com.evil.example/contoso", False),
        (NEW, "https://contoso.visualstudio.com.evil.example", False),
        (NEW, "https://dev.azure.com:8443/contoso", False),
        (SERVER, SERVER, True),
        (SERVER, "https://tfs.contoso.example:8443/tfs/Other", True),
        (SERVER, "https://tfs.contoso.example/tfs/DefaultCollection", False),
        (SERVER, "https://dev.azure.com/contoso", False),
        (SERVER, "https://search.contoso.example/tfs", True),
        (SERVER, "https://other.contoso.example:8443/tfs", True),
        (SERVER, "https://other.contoso.example/tfs", False),
        ("http://127.0.0.1:8081/contoso", "http://127.0.0.1:8081/contoso", True),
        ("http://127.0.0.1:8081/contoso", "https://dev.azure.com/contoso", False),
    ],
)
def test_the_token_goes_to_exactly_the_right_hosts(organization: str, there: str, *, allowed: bool) -> None:
    extra = frozenset({"search.contoso.example", "other.contoso.example:8443"})
    given = extra if organization == SERVER else frozenset()
    assert urls.may_have_token(there, organization, given) is allowed


def test_a_server_takes_no_entra_identity() -> None:
    with pytest.raises(UsageError, match="knows no Entra identities"):
        azdo.account(config.AzureDevOps(url=SERVER, auth="managed-identity"))
    azdo.account(config.AzureDevOps(url=OLD, auth="managed-identity"))


@pytest.fixture(scope="module")
def collection() -> Iterator[Played]:
    made = Organisation("tfs/DefaultCollection")
    fill(made.add_project("Shop"))
    with serve(made, token=TOKEN) as served:
        yield served


def test_a_servers_collection_is_read_at_the_wire(collection: Played) -> None:
    door = azdo.connect(collection.url, TOKEN)
    assert door.organization == "DefaultCollection"
    run = door.run(RunRef("Shop", RUN))
    assert run.url == f"{collection.url}/Shop/_build/results?buildId={RUN}"


def test_explain_finds_the_collection_in_the_runs_address(collection: Played) -> None:
    page = f"{collection.url}/Shop/_build/results?buildId={RUN}"
    done = triage("explain", page, "--format", "json", settings={"TRIAGE_AZURE_DEVOPS__TOKEN": TOKEN})
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["run"]["url"] == page
