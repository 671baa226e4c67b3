"""What fails next: the other pipelines in the connection's history, in the item, on the page, in explain."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import requests
from click.testing import CliRunner

from tests import findings
from triage import azdo, demo, impact
from triage.cli import cli
from triage.domain import Impact, Pipeline
from triage.publish import messages
from triage.sandbox import hooks, stories
from triage.sandbox.organisation import Fault, Organisation, Project
from triage.sandbox.server import serve
from triage.sandbox.wire import stamp

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator
    from pathlib import Path

    from triage.domain import Run

(STORY,) = (story for story in stories.load() if story.name == "arm-automatic-secret")
ELSEWHERE = "6f1c2d3e-0000-4000-8000-00000000000e"


def use(number: int, name: str, *, days: float = 1, project: str = "", plan: str = "Build") -> dict[str, Any]:
    """Return an entry of a history, as Azure DevOps writes it."""
    ended = stamp(datetime.now(UTC) - timedelta(days=days))
    own = f"https://evil.example/contoso/{project}/_apis/build/Definitions/{number}"
    return {
        "id": number,
        "planType": plan,
        "definition": {"_links": {"self": {"href": own}} if project else {}, "id": number, "name": name},
        "owner": {"id": 1000 + number, "name": "20261120.1"},
        "startTime": ended,
        "finishTime": ended,
        "result": "succeeded",
    }


@dataclass
class Stage:
    organisation: Organisation
    project: Project
    door: azdo.Door

    @property
    def run(self) -> Run:
        return replace(findings.run(), project_id=self.project.id, finished_at=datetime.now(UTC))

    def history(self, *uses: dict[str, Any]) -> None:
        self.project.uses[findings.CONNECTION] = list(uses)

    def find(self) -> Impact:
        return impact.find(self.door, self.run, findings.connection())


@pytest.fixture
def stage() -> Iterator[Stage]:
    organisation = Organisation("contoso")
    project = organisation.add_project("Shop")
    with serve(organisation, token="t") as played:
        yield Stage(organisation, project, azdo.connect(played.url, "t", memory=azdo.Memory()))


def test_the_other_pipelines_of_ninety_days_fail_next_each_named_once(stage: Stage) -> None:
    stage.history(
        use(7, "shop-deploy", days=0),  # the one that failed
        use(8, "nightly", days=1),
        use(9, "queue", days=2, project=ELSEWHERE),
        use(8, "nightly under its old name", days=3),
        use(7, "classic", days=4, plan="Release"),
        use(12, "of a kind that is not known", days=5, plan="Maintenance"),
        use(10, "last used long ago", days=91),
    )
    told = stage.find()
    assert [each.name for each in told.pipelines] == ["nightly", "queue", "classic"]
    home, shop = stage.door.organization_url, stage.project.id
    assert [each.url for each in told.pipelines] == [
        f"{home}/{shop}/_build?definitionId=8",
        f"{home}/{ELSEWHERE}/_build?definitionId=9",
        f"{home}/{shop}/_release?definitionId=7",
    ]
    assert (told.more, told.is_whole) == (0, True)


def test_ten_are_named_and_the_rest_counted(stage: Stage) -> None:
    stage.history(*[use(100 + n, f"p{n}") for n in range(60)])
    told = stage.find()
    assert [each.name for each in told.pipelines] == [f"p{n}" for n in range(10)]
    assert (told.more, told.is_whole) == (50, True)


def test_a_history_that_goes_on_behind_what_is_read_says_so(stage: Stage) -> None:
    stage.history(*[use(100 + n % 12, f"p{n % 12}", days=n / 100) for n in range(230)])
    told = stage.find()
    assert (len(told.pipelines), told.more, told.is_whole) == (10, 2, False)
    stage.door = azdo.connect(stage.door.organization_url, "t")
    stage.history(*[use(100, "p", days=n) for n in range(230)])
    assert stage.find().is_whole  # it goes back further than 90 days


def test_a_history_is_read_once_for_many_runs_and_for_linking_too(stage: Stage) -> None:
    stage.history(use(8, "nightly"))
    before: Counter[str] = stage.organisation.calls.copy()
    for _ in range(3):
        stage.find()
    asked = stage.organisation.calls - before
    assert asked["history"] == 1
    long_ago = datetime.now(UTC) - timedelta(minutes=5)
    stage.door.execution_history(stage.project.id, findings.CONNECTION, since=long_ago)
    assert (stage.organisation.calls - before)["history"] == 1


def test_a_history_that_may_not_be_read_only_means_to_know_less(stage: Stage) -> None:
    stage.history(use(8, "nightly"))
    stage.organisation.faults.append(Fault("GET", "/executionhistory", status=403))
    assert stage.find() == Impact(is_whole=False)


def test_without_a_connection_nothing_is_asked(stage: Stage) -> None:
    before = stage.organisation.calls.copy()
    assert impact.find(stage.door, stage.run, None) == Impact()
    assert stage.organisation.calls == before


def pipeline(number: int, name: str) -> Pipeline:
    return Pipeline(findings.PROJECT, number, name, f"{findings.PAGE}/_build?definitionId={number}")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (Impact((pipeline(8, "nightly"),)), "[nightly](…8)."),
        (Impact((pipeline(8, "a"), pipeline(9, "b"))), "[a](…8) and [b](…9)."),
        (Impact((pipeline(8, "a"), pipeline(9, "b")), more=3), "[a](…8), [b](…9) and 3 more."),
        (Impact((pipeline(8, "a"),), is_whole=False), "[a](…8) and perhaps some more."),
        (Impact((pipeline(8, "a"),), more=2, is_whole=False), "[a](…8) and at least 2 more."),
        (Impact((pipeline(7, "shop-deploy"), pipeline(8, "a"))), "[a](…8)."),  # the first has failed
        (Impact((pipeline(8, "x](https://evil.example)"),)), r"[x\]\(https\://evil.example\)](…8)."),
    ],
)
def test_the_work_item_names_what_fails_next(told: Impact, expected: str) -> None:
    finding = replace(findings.finding(), impact=told)
    text = messages.work_item(finding, incident_tag="t", incident_page="https://p")
    (line,) = re.findall(r"^- Will fail next: (.*) (?:It|They) used this connection", text, re.MULTILINE)
    assert ("It used" in text) == (line.startswith("[") and " and " not in line and "," not in line)
    assert line.replace(f"{findings.PAGE}/_build?definitionId=", "…") == expected


def test_nothing_is_said_of_what_is_not_known() -> None:
    for told in (Impact(), Impact((pipeline(7, "shop-deploy"),))):
        finding = replace(findings.finding(), impact=told)
        text = messages.work_item(finding, incident_tag="t", incident_page="https://p")
        assert "Will fail next" not in text


def test_the_story_of_a_shared_connection(tmp_path: Path) -> None:
    """From the hook to the work item, the incident's page and its JSON, and `triage explain`."""
    with demo.stage(tmp_path) as stage:
        STORY.set_up(stage.organisation)
        project = stage.organisation.projects[STORY.project_id]
        ((identity, endpoint),) = project.endpoints.items()
        other = {"projectReference": {"id": ELSEWHERE, "name": "Other"}, "name": "theirs"}
        endpoint["isShared"] = True
        endpoint["serviceEndpointProjectReferences"] = [
            {"projectReference": project.reference(), "name": endpoint["name"]},
            other,
        ]
        endpoint["operationStatus"] = {"state": "Failed", "statusMessage": "Failed to set the *role*"}
        project.uses[identity] = [use(901, "nightly [prod]"), use(902, "queue", project=ELSEWHERE)]
        STORY.play(stage.organisation, lambda event: hooks.deliver(stage.organisation, event))
        stage.settle()
        (item,) = project.work_items.values()
        said = "\n".join(str(value) for value in item["fields"].values())
        home = stage.organisation.url
        first = f"{home}/{project.id}/_build?definitionId=901"
        second = f"{home}/{ELSEWHERE}/_build?definitionId=902"
        for part in ("shared with 1 other project:", "Failed to set the", "Will fail next", first, second):
            assert part in said, part
        assert endpoint["authorization"]["parameters"]["serviceprincipalid"] in said
        (brief,) = stage.view("/api/incidents")
        told = stage.view(f"/api/incidents/{brief['id']}")
        assert [each["url"] for each in told["will_fail_next"]["pipelines"]] == [first, second]
        assert "evil.example" not in said + str(told)
        assert told["renewal"]["links"][0]["title"] == "the connection"
        page = requests.get(f"{stage.pages_url}/incidents/{brief['id']}", timeout=30).text
        for part in ("Will fail next", f'<a href="{first}">nightly [prod]</a>', "~/Credentials/appId/"):
            assert part in page, part
        (number,) = project.builds
        secret = stage.settings.azure_devops.token
        assert secret is not None
        address = f"{home}/{project.name}/_build/results?buildId={number}"
        shown = CliRunner().invoke(cli, ["explain", address, "--token", secret.get_secret_value()])
        text = shown.output
        for part in (
            f"fails next  nightly [prod] ({first})",
            "the connection: ",
            "shared with 1 other project",
        ):
            assert part in text, part
