"""The whole story under each kind of address: the service's new and old hosts, and a server's collection.

What is played: names, TLS, paths and where areas are, by a proxy that answers for every host. What cannot be
played: Azure DevOps' own certificates, and whatever its front door does besides (redirects between the old
and the new host, of which none is followed).
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.test_cli import triage
from triage import demo
from triage.sandbox import hooks, hosts, stories

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from triage.sandbox.server import Played

STORIES = {story.name: story for story in stories.load()}
NEW, OLD = "https://dev.azure.com/contoso", "https://contoso.visualstudio.com"
COLLECTION = "tfs/DefaultCollection"
REPRO = "Microsoft.VSTS.TCM.ReproSteps"
_RELEASE = "efc2f575-36ef-48e9-b672-0c6fb4a48ac5"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


class Address:
    """How triage knows the organisation, and how the organisation calls itself in what it sends."""

    def __init__(self, configured: str, told: str, areas: dict[str, str] | None = None) -> None:
        self.configured, self.told, self.areas = configured, told, areas or {}
        self.hosts = hosts.Hosts()
        self.token = ""

    def of(self, played: Played, stack: ExitStack, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        self.token = played.token
        if not self.configured:
            self.configured = self.told = played.url
            played.organisation.refuse_markdown = True  # as servers do
            return played.url
        self.hosts = stack.enter_context(hosts.serve(played, folder))
        for name, value in self.hosts.environment.items():
            monkeypatch.setenv(name, value)
        played.organisation.url, played.organisation.area_urls = self.told, self.areas
        return self.configured

    def explain(self, page: str) -> dict[str, str]:
        """Return the run that `triage explain` finds at a page, without being told of the organisation."""
        settings = {"TRIAGE_AZURE_DEVOPS__TOKEN": self.token, **self.hosts.environment}
        done = triage("explain", page, "--format", "json", settings=settings)
        assert (done.returncode, done.stderr) == (0, b""), done.stderr
        run: dict[str, str] = json.loads(done.stdout)["run"]
        return run


@pytest.mark.parametrize(
    ("address", "asked", "explained"),
    [
        pytest.param(Address(NEW, OLD), {"dev.azure.com"}, OLD, id="new, told by its old name"),
        pytest.param(
            Address(f"{OLD}/DefaultCollection", NEW),
            {"contoso.visualstudio.com"},
            f"{OLD}/DefaultCollection",
            id="old, told by its new name",
        ),
        pytest.param(Address("", ""), set(), "", id="collection of a server"),
    ],
)
def test_a_story_from_the_event_to_the_work_item(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stack: ExitStack,
    address: Address,
    asked: set[str],
    explained: str,
) -> None:
    story = STORIES["acr-automatic-connection"]
    name = "contoso" if asked else COLLECTION

    def known_as(played: Played) -> str:
        return address.of(played, stack, tmp_path, monkeypatch)

    with demo.stage(tmp_path, workers=1, name=name, known_as=known_as) as stage:
        story.set_up(stage.organisation)
        (number, *_) = story.play(stage.organisation, lambda event: hooks.deliver(stage.organisation, event))
        stage.settle()
        assert stories.check(story, stage.organisation, stage.view) == []
        project = stage.organisation.projects[story.project_id]
        (item,) = project.work_items.values()
        ours = address.configured.removesuffix("/DefaultCollection") if asked else address.configured
        page = f"{ours}/{quote(project.name)}/_build/results?buildId={number}"
        assert page in item["fields"][REPRO]
        links = [each["url"] for each in item["relations"] if each["rel"] == "Hyperlink"]
        assert links
        assert all(link.startswith((ours, stage.pages_url)) for link in links), links
        assert address.hosts.asked == asked

        # Of the organisation itself it is told nothing but what stands in the page's address.
        told = address.explain((explained or ours) + page.removeprefix(ours))
        assert (told["project"], told["url"].rsplit("=", 1)[1]) == (project.name, str(number))


@pytest.mark.parametrize(
    ("address", "area"),
    [
        (Address(NEW, NEW, {_RELEASE: "https://vsrm.dev.azure.com/contoso/"}), "vsrm.dev.azure.com"),
        (
            Address(OLD, OLD, {_RELEASE: "https://contoso.vsrm.visualstudio.com/"}),
            "contoso.vsrm.visualstudio.com",
        ),
    ],
    ids=["new", "old"],
)
def test_a_release_is_read_at_the_host_of_its_area(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stack: ExitStack, address: Address, area: str
) -> None:
    story = STORIES["classic-release"]

    def known_as(played: Played) -> str:
        return address.of(played, stack, tmp_path, monkeypatch)

    with demo.stage(tmp_path, workers=1, known_as=known_as) as stage:
        story.set_up(stage.organisation)
        story.play(stage.organisation, lambda event: hooks.deliver(stage.organisation, event))
        stage.settle()
        assert stories.check(story, stage.organisation, stage.view) == []
        assert area in address.hosts.asked
