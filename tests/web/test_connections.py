"""The pages of connections show what the daily look saw, and ask nobody."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlmodel import Session

from triage import db, web
from triage.db import Health, Incident, SeenConnection
from triage.web.words import ahead

if TYPE_CHECKING:
    from fastapi.testclient import TestClient
    from sqlalchemy.engine import Engine

    from triage import config

ATTACK = "<script>alert(1)</script>"
SHOP = "b460b0f8-0000-4000-8000-000000000001"


def seen(number: str, days: int | None = None, **values: Any) -> SeenConnection:
    now = db.now()
    return SeenConnection(
        **{
            "key": f"connection:{number}",
            "name": number,
            "type": "azurerm",
            "scheme": "serviceprincipal",
            "creation": "manual",
            "project_id": "p",
            "places": json.dumps([{"project": "Shop", "url": "https://dev.azure.com/x/Shop/1"}]),
            "created_at": now - timedelta(days=200),
            "ends_at": None if days is None else now + timedelta(days=days),
            "source": "unknown" if days is None else "description",
            "reason": "Its description says so.",
            "pipelines": '["deploy", "nightly", "weekly", "yearly"]',
            "last_used_at": now - timedelta(days=2),
            "uses_asked_at": now,
            **values,
        }
    )


def keep(engine: Engine, *rows: SeenConnection, problem: str = "") -> None:
    with Session(engine) as session, session.begin():
        session.add_all([*rows, Health(component="inventory", state="ok", detail=problem)])


@pytest.fixture
def known(engine: Engine) -> None:
    keep(
        engine,
        seen("calendar", 40),
        seen("soon", 30, work_item=7, work_item_url="https://dev.azure.com/x/_workitems/edit/7"),
        seen("gone", -3),
        seen("today", 0),
        seen("federated", source="no secret", scheme="workloadidentityfederation"),
        seen("idle", 400, pipelines="[]", last_used_at=None),
        seen("forgotten", 500, last_used_at=db.now() - timedelta(days=90, hours=1)),
        seen("unasked", 600, pipelines="[]", last_used_at=None, uses_asked_at=None),
        seen("hidden", 700, pipelines="null", last_used_at=None),
        seen(SHOP, name=f"Shop {ATTACK}"),
        seen("", key="own:azure_devops", name="triage itself", type="", scheme="token", places="[]"),
    )


def names(client: TestClient, query: str = "") -> list[str]:
    return [each["name"].split()[0] for each in client.get(f"/api/connections{query}").json()]


@pytest.mark.usefixtures("known")
def test_what_ends_first_comes_first_and_what_never_ends_last(client: TestClient) -> None:
    order = ["gone", "today", "soon", "calendar", "idle", "forgotten", "unasked", "hidden"]
    assert names(client)[:8] == order
    assert set(names(client)[8:]) == {"Shop", "federated", "triage"}
    page = client.get("/connections").text
    places = [page.index(f"/connections/{name}") for name in order]
    assert places == sorted(places)
    assert "<h1>11 credentials</h1>" in page


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("state", "wanted"),
    [
        ("ended", {"gone"}),
        ("soon", {"today", "soon"}),
        ("later", {"calendar", "idle", "forgotten", "unasked", "hidden"}),
        ("never", {"federated"}),
        ("unknown", {"Shop", "triage"}),
        ("unused", {"idle", "forgotten"}),
        ("own", {"triage"}),
        ("no such state", {"gone", "today", "soon", "calendar", "idle", "forgotten", "unasked", "hidden"}),
    ],
)
def test_a_state_is_an_address(client: TestClient, state: str, wanted: set[str]) -> None:
    found = names(client, f"?state={state}")
    if state == "unused":
        told = client.get("/api/connections").json()
        assert {each["name"] for each in told if each["is_unused"]} == wanted
    assert set(found) >= wanted if state == "no such state" else set(found) == wanted
    page = client.get(f"/connections?state={state}").text
    assert all(f">{name}</a>" in page for name in wanted - {"Shop", "triage"})
    if state == "soon":
        assert '<option value="soon" selected>ends soon (2)</option>' in page


@pytest.mark.usefixtures("known")
def test_a_name_is_looked_for_as_it_is(client: TestClient) -> None:
    assert names(client, "?q=CALEN") == ["calendar"]
    assert names(client, "?q=%25") == [], "no wildcard"
    assert "Nothing is like this" in client.get("/connections?q=%25").text
    assert names(client, "?q=calen%00dar") == ["calendar"]
    assert client.get("/connections/calen%00dar").status_code == 200


@pytest.mark.usefixtures("known")
def test_the_list_says_who_uses_it_and_what_was_said_of_it(client: TestClient) -> None:
    page = client.get("/connections").text
    assert "deploy, nightly, weekly and 1 more" in page
    assert "not shown to triage" in page
    assert "nobody" in page
    assert "not asked yet" in page
    assert '<a href="https://dev.azure.com/x/_workitems/edit/7">#7</a>' in page


def test_a_long_list_is_read_page_by_page(client: TestClient, engine: Engine) -> None:
    keep(engine, *(seen(f"c{number:03}", number) for number in range(205)))
    assert names(client, "?from=100")[0] == "c100"
    page = client.get("/connections?state=later&from=100").text
    assert "101 to 174 of 174" in page
    assert 'href="/connections?state=later" rel="prev"' in page
    assert "/api/connections?state=later&amp;from=100" in page
    assert names(client, "?from=x")[0] == "c000"


@pytest.mark.usefixtures("known")
def test_nothing_from_a_name_becomes_markup(client: TestClient) -> None:
    for path in ("/", "/connections", f"/connections/{SHOP}"):
        assert "<script" not in client.get(path).text


def test_a_connection_tells_when_it_broke_before(client: TestClient, engine: Engine) -> None:
    keep(engine, seen(SHOP, name="shop-prod"))
    with Session(engine) as session, session.begin():
        for number, state in ((1, "closed"), (2, "open")):
            session.add(
                Incident(
                    key=str(number),
                    tag="t",
                    state=state,
                    project_id="p",
                    project_name="Shop",
                    credential="c",
                    verdict="expired",
                    confidence="certain",
                    title=f"It broke {number}",
                    connection_id=SHOP,
                    renewed_by="Ada",
                    work_item=number,
                    work_item_url="https://dev.azure.com/x/_workitems/edit/2",
                )
            )
    page = client.get(f"/connections/{SHOP.upper()}").text
    assert page.index("It broke 2") < page.index("It broke 1")
    assert "Ada" in page
    told = client.get(f"/api/connections/{SHOP}").json()
    assert [each["id"] for each in told["incidents"]] == [2, 1]
    assert (told["incident"], told["work_item"]) == (2, 2), "the one that is open"
    assert f'<a href="/connections/{SHOP}">' in client.get("/incidents/2").text


@pytest.fixture
def convertible(engine: Engine) -> None:
    places = [{"project": name, "url": f"https://dev.azure.com/x/{name}/1"} for name in ("Shop", "Small")]
    with Session(engine) as session, session.begin():
        session.add(seen("automatic", 700, creation="automatic"))
        session.add(seen("shared", 800, creation="automatic", places=json.dumps(places)))


@pytest.mark.usefixtures("known", "convertible")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        (SHOP, "expires 2027-01-31"),
        (SHOP, "one that was made by hand cannot be converted"),
        ("automatic", "<em>Convert</em> to workload identity federation"),
        ("shared", "one that several projects share cannot be converted"),
        ("idle", "delete it rather than renew it"),
        ("federated", "no secret that ends is kept"),
        ("soon", "https://dev.azure.com/x/_workitems/edit/7"),
        ("gone", "triage connections show gone"),
        ("own:azure_devops", "azure_devops.expires_on"),
    ],
)
def test_a_connection_s_page_says_what_to_do(client: TestClient, name: str, told: str) -> None:
    assert told in client.get(f"/connections/{name}").text


def test_a_connection_that_nobody_has_seen_is_not_there(client: TestClient) -> None:
    page = client.get(f"/connections/{SHOP}")
    assert (page.status_code, "has seen no connection" in page.text) == (404, True)
    assert client.get("/api/connections/own:nothing").json()["error"]


def test_before_the_first_look_the_page_says_when_it_is(
    client: TestClient, settings: config.Settings, engine: Engine
) -> None:
    assert "has not looked at the service connections yet" in client.get("/connections").text
    settings.expiry.every_seconds = 0
    never = type(client)(web.create_app(settings, engine)).get("/connections").text
    assert "<code>expiry.every_seconds</code> is 0. Set it to 86400" in never


def test_a_look_that_was_shown_nothing_says_why(client: TestClient, engine: Engine) -> None:
    keep(engine, problem="The connections of Shop are not shown to triage: refused.")
    page = client.get("/connections").text
    assert "was shown no service connection" in page
    assert "not shown to triage: refused." in page
    assert "triage doctor" in page


@pytest.mark.usefixtures("known")
def test_the_inbox_tells_what_ends_soon(client: TestClient) -> None:
    page = client.get("/").text
    assert "Ends soon" in page
    assert '<a href="/connections/today">' in page
    assert "/connections/calendar" not in page


@pytest.mark.parametrize("path", ["/", "/connections", "/rules", "/deliveries"])
def test_every_page_leads_to_the_others(client: TestClient, path: str) -> None:
    page = client.get(path).text
    assert f'<a href="{path}" aria-current="page">' in page
    assert page.count("aria-current") == 1


@pytest.mark.parametrize(
    ("days", "said"),
    [(-2, "2 days ago"), (-1, "yesterday"), (0, "today"), (1, "tomorrow"), (9, "in 9 days")],
)
def test_a_day_is_said_in_words(days: int, said: str) -> None:
    assert ahead(days) == said
