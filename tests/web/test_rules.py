"""The pages of rules: found by words, families and verdicts, each with its own page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient

from tests.match import packs
from triage import config, match, web

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.engine import Engine

# These pages read no database: one kind is enough.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

SHIPPED = "acr-unauthorized-nearby"
ATTACK = "<script>alert(1)</script>"


def ids(page: str) -> list[str]:
    return re.findall(r'<td><a href="/rules/([^"]+)">', page)


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("?q=NEARBY+acr-unauthorized", [SHIPPED]),
        ("?q=acr-unauthorized-nearby", [SHIPPED]),
        ("?q=no+such+words+anywhere", []),
        ("?credential=nobodys", []),
    ],
)
def test_the_list_holds_the_rules_asked_for(client: TestClient, query: str, wanted: list[str]) -> None:
    page = client.get(f"/rules{query}").text
    assert ids(page) == wanted
    assert [each["id"] for each in client.get(f"/api/rules{query}").json()] == wanted
    assert ("No rule has all of this" in page) == (not wanted)


def test_a_filter_stays_in_the_form_and_in_the_address(client: TestClient) -> None:
    page = client.get("/rules?q=token&credential=sonarqube&verdict=missing").text
    assert 'value="token"' in page
    assert "<option selected>sonarqube</option>" in page
    assert "<option selected>missing</option>" in page
    assert "/api/rules?q=token&amp;credential=sonarqube&amp;verdict=missing" in page


def test_all_rules_are_reached_page_by_page(client: TestClient) -> None:
    seen: list[str] = []
    where: str | None = "/rules"
    while where:
        page = client.get(where).text
        seen += ids(page)
        following = re.search(r'<a href="([^"]+)" rel="next">', page)
        where = following[1].replace("&amp;", "&") if following else None
    assert len(seen) == len(set(seen)) == match.count() == len(client.get("/api/rules").json())
    assert 'href="/rules" rel="prev"' in client.get("/rules?from=100").text


def test_a_rule_has_a_page_with_all_it_states(client: TestClient) -> None:
    page = client.get(f"/rules/{SHIPPED}").text
    for shown in (
        "<h1>Azure Container Registry refuses the push or pull</h1>",
        "failed to fetch (?:oauth|anonymous) token",
        "Near, ±30 lines",
        '<a href="/rules/azure-firewall">',
        "another registry in the same step",
        "[registry.contoso.example/web]\nunauthorized",
        "Save &#39;connection name&#39; once",
        '<a href="https://learn.microsoft.com/azure/container-registry/',
        f"/api/rules/{SHIPPED}",
    ):
        assert shown in page
    assert SHIPPED in client.get("/rules/acr-invalid-client").text
    assert client.get(f"/api/rules/{SHIPPED}").json()["within"] == 30


def test_a_rule_that_is_not_there_brings_the_closest_ids(client: TestClient) -> None:
    page = client.get("/rules/acr-invalid-clint")
    assert page.status_code == 404
    assert "did you mean acr-invalid-client" in page.text
    assert "did you mean" in client.get("/api/rules/acr-invalid-clint").json()["error"]


@pytest.mark.parametrize("start", ["-1", "x", "9" * 5000, "²"])
def test_an_address_that_somebody_broke_begins_at_the_first_rule(client: TestClient, start: str) -> None:
    assert ids(client.get(f"/rules?from={start}").text) == ids(client.get("/rules").text)
    assert client.get("/rules?from=99999").status_code == 200


def test_a_pack_of_ones_own_is_shown_and_nothing_in_it_becomes_markup(
    settings: config.Settings, engine: Engine, tmp_path: Path
) -> None:
    folder = packs.write(tmp_path / "pack", reason=ATTACK, counter=ATTACK)
    file = folder / "widgets/widget-key-expired.toml"
    file.write_text(file.read_text().replace("https://widgets.example/errors", "javascript:alert(1)"))
    own = settings.model_copy(update={"rules": config.Rules(path=folder)})
    client = TestClient(web.create_app(own, engine))
    assert ids(client.get("/rules").text) == ["widget-key-expired"]
    page = client.get("/rules/widget-key-expired").text
    assert "<script" not in page
    assert 'href="javascript' not in page
    assert "<script" not in client.get(f"/rules?q={ATTACK}&credential={ATTACK}").text


@pytest.mark.parametrize("path", ["/rules", f"/rules/{SHIPPED}"])
def test_the_pages_need_no_script_and_nothing_from_elsewhere(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "<script" not in answer.text
    assert ' style="' not in answer.text
    assert 'src="' not in answer.text
