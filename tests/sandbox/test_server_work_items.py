"""Work items of the played organisation, through the unmodified SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from azure.devops.exceptions import AzureDevOpsServiceError
from azure.devops.v7_1.work_item_tracking.models import (
    ArtifactUriQuery,
    CommentCreate,
    CommentUpdate,
    JsonPatchOperation,
    TeamContext,
    Wiql,
    WorkItemBatchGetRequest,
)

if TYPE_CHECKING:
    from triage.sandbox.organisation import Organisation, Project

BUILD_LINK = {
    "rel": "ArtifactLink",
    "url": "vstfs:///Build/Build/42",
    "attributes": {"name": "Found in build"},
}


def add(path: str, value: Any, op: str = "add") -> JsonPatchOperation:
    return JsonPatchOperation(op=op, path=path, value=value)


@pytest.fixture
def work(sdk: Any) -> Any:
    return sdk.get_work_item_tracking_client()


def create(work: Any, *more: JsonPatchOperation, kind: str = "Bug", project: str = "Shop") -> Any:
    return work.create_work_item([add("/fields/System.Title", "It expired"), *more], project, kind)


def refused(work: Any, *more: JsonPatchOperation) -> str:
    with pytest.raises(AzureDevOpsServiceError) as caught:
        create(work, *more)
    return f"{caught.value.type_key}: {caught.value.message}"


def test_a_work_item_is_created_with_fields_links_and_markdown(work: Any) -> None:
    made = create(
        work,
        add("/fields/System.AssignedTo", "Jack <jack@contoso.example>"),
        add("/fields/System.Tags", "triage; expired-credential"),
        add("/fields/Microsoft.VSTS.TCM.ReproSteps", "**bold**"),
        add("/multilineFieldsFormat/Microsoft.VSTS.TCM.ReproSteps", "markdown"),
        add("/relations/-", BUILD_LINK),
        add("/relations/-", {"rel": "Hyperlink", "url": "https://contoso.example/x"}),
    )
    assert made.fields["System.AssignedTo"]["uniqueName"] == "jack@contoso.example"
    assert made.fields["System.Tags"] == "expired-credential; triage"
    assert (made.rev, made.fields["System.State"]) == (1, "New")
    assert made.additional_properties["multilineFieldsFormat"] == {
        "Microsoft.VSTS.TCM.ReproSteps": "markdown"
    }
    assert [each.rel for each in made.relations] == ["ArtifactLink", "Hyperlink"]
    assert work.get_work_item(made.id).relations is None
    assert len(work.get_work_item(made.id, expand="Relations").relations) == 2
    found = work.query_work_items_for_artifact_uris(
        ArtifactUriQuery(artifact_uris=[BUILD_LINK["url"]]), "Shop"
    )
    assert [each.id for each in found.artifact_uris_query_result[BUILD_LINK["url"]]] == [made.id]


def test_the_rules_of_the_process_refuse_with_their_codes(work: Any) -> None:
    for nobody in ("nobody@contoso.example", "left@contoso.example", "Build\\b460b0f8"):
        message = refused(work, add("/fields/System.AssignedTo", nobody))
        assert "RuleValidationException: TF401320: Rule Error for field Assigned To." in message
    assert "TF51535: Cannot find field Custom.Nope." in refused(work, add("/fields/Custom.Nope", "x"))
    assert "TF401347" in refused(work, add("/fields/System.AreaPath", "Shop\\Nowhere"))
    assert "TF401320" in refused(work, add("/fields/System.State", "Closed"))
    assert "TF401320" in refused(work, add("/fields/Microsoft.VSTS.Common.Severity", "high"))
    assert "TF401320" in refused(work, add("/fields/System.Title", "x" * 256))
    assert "ReadOnly" in refused(work, add("/fields/System.CreatedBy", "jack@contoso.example"))
    assert "valid patch" in refused(work, add("/relations/x", BUILD_LINK))
    assert "Relation already exists" in refused(
        work, add("/relations/-", BUILD_LINK), add("/relations/-", BUILD_LINK)
    )


def test_nothing_of_a_refused_patch_is_kept(work: Any, shop: Project) -> None:
    made = create(work)
    with pytest.raises(AzureDevOpsServiceError):
        work.update_work_item([add("/fields/System.Title", "New"), add("/fields/Custom.Nope", "x")], made.id)
    assert shop.work_items[made.id]["fields"]["System.Title"] == "It expired"
    assert shop.work_items[made.id]["rev"] == 1


def test_a_changed_item_fails_the_revision_test(work: Any) -> None:
    made = create(work)
    changed = work.update_work_item(
        [add("/rev", 1, "test"), add("/fields/System.State", "Active")], made.id, "Shop"
    )
    assert changed.rev == 2
    with pytest.raises(AzureDevOpsServiceError, match="/rev"):
        work.update_work_item(
            [add("/rev", 1, "test"), add("/fields/System.State", "Closed")], made.id, "Shop"
        )


def test_adding_tags_keeps_the_old_ones_and_replacing_does_not(work: Any) -> None:
    made = create(work, add("/fields/System.Tags", "a"))
    assert work.update_work_item([add("/fields/System.Tags", "b")], made.id).fields["System.Tags"] == "a; b"
    replaced = work.update_work_item([add("/fields/System.Tags", "c", "replace")], made.id)
    assert replaced.fields["System.Tags"] == "c"


def test_an_unknown_item_is_tf401232(work: Any) -> None:
    with pytest.raises(AzureDevOpsServiceError, match="TF401232"):
        work.get_work_item(999)
    made = create(work)
    asked = WorkItemBatchGetRequest(ids=[made.id, 999], fields=["System.Title"], error_policy="omit")
    found = work.get_work_items_batch(asked, "Shop")
    assert found[0].fields == {"System.Title": "It expired"}
    assert found[1] is None


def test_validating_keeps_nothing(work: Any, shop: Project) -> None:
    work.create_work_item([add("/fields/System.Title", "x")], "Shop", "Bug", validate_only=True)
    assert shop.work_items == {}


def test_a_server_of_ones_own_refuses_markdown(work: Any, organisation: Organisation) -> None:
    organisation.refuse_markdown = True
    message = refused(work, add("/multilineFieldsFormat/System.Description", "markdown"))
    assert "/multilineFieldsFormat/System.Description" in message
    made = create(work)
    assert work.add_work_item_comment(CommentCreate(text="*x*"), "Shop", made.id, "markdown").format == "html"


def test_comments_are_html_unless_they_say_markdown(work: Any) -> None:
    made = create(work)
    first = work.add_comment(CommentCreate(text="<b>x</b>"), "Shop", made.id)
    second = work.add_work_item_comment(CommentCreate(text="**x**"), "Shop", made.id, "markdown")
    assert (first.format, second.format) == ("html", "markdown")
    work.update_comment(CommentUpdate(text="changed"), "Shop", made.id, first.id)
    assert [each.text for each in work.get_comments("Shop", made.id).comments] == ["**x**", "changed"]
    history = {"format": "Markdown", "text": "third"}
    work.update_work_item([add("/fields/System.History", history)], made.id)
    assert work.get_comments("Shop", made.id, order="asc").comments[2].format == "markdown"


def test_types_fields_states_and_categories_are_those_of_the_process(work: Any) -> None:
    assert "Bug" in [each.name for each in work.get_work_item_types("Shop")]
    assert [each.name for each in work.get_work_item_types("Small")] == ["Epic", "Issue", "Task"]
    fields = work.get_work_item_type_fields_with_references("Shop", "bug", expand="all")
    severity = next(each for each in fields if each.name == "Severity")
    assert "2 - High" in severity.allowed_values
    states = work.get_work_item_type_states("Small", "Issue")
    assert {each.name: each.category for each in states}["Done"] == "Completed"
    category = work.get_work_item_type_category("Shop", "Microsoft.BugCategory")
    assert category.default_work_item_type.name == "Bug"
    with pytest.raises(AzureDevOpsServiceError, match="does not exist"):
        work.get_work_item_type_category("Small", "Microsoft.BugCategory")
    with pytest.raises(AzureDevOpsServiceError, match="does not exist"):
        create(work, project="Small")


def query(work: Any, text: str, top: int | None = None) -> list[int]:
    asked = Wiql(query=text)
    return [each.id for each in work.query_by_wiql(asked, TeamContext(project="Shop"), top=top).work_items]


def test_wiql_finds_whole_tags_in_this_project_only(work: Any) -> None:
    tagged = add("/fields/System.Tags", "triage-ab; it's")
    first, second = create(work, tagged).id, create(work, tagged).id
    create(work, add("/fields/System.Tags", "triage-abc"))
    create(work, tagged, kind="Issue", project="Small")
    where = "SELECT [System.Id] FROM WorkItems WHERE [System.TeamProject] = @project AND "
    assert query(work, where + "[System.Tags] CONTAINS 'TRIAGE-ab'") == [first, second]
    assert query(work, where + "[System.Tags] Contains 'it''s' ORDER BY [System.Id] DESC") == [second, first]
    assert query(work, where + "[System.Tags] CONTAINS 'triage-ab' ORDER BY [System.Id]", top=1) == [first]
    work.update_work_item([add("/fields/System.State", "Closed")], first)
    assert query(work, where + "[System.Tags] CONTAINS 'triage-ab' AND [System.State] <> 'Closed'") == [
        second
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SELECT * FROM WorkItems",
        "SELECT TOP 5 [System.Id] FROM WorkItems",
        "SELECT [System.Id] FROM WorkItemLinks",
        "SELECT [System.Id] FROM WorkItems WHERE [Custom.Nope] = 'x'",
        "SELECT [System.Id] FROM WorkItems WHERE [System.Tags] = 'x'",
        "SELECT [System.Id] FROM WorkItems WHERE [System.Tags] CONTAINS 'it's'",
        "SELECT [System.Id] FROM WorkItems WHERE [System.State] <> 'x' OR [System.State] <> 'y'",
        "SELECT [System.Id] FROM WorkItems WHERE [System.State] = @project",
        "SELECT [System.Id] FROM WorkItems; DROP",
    ],
)
def test_wiql_that_is_not_played_is_refused(work: Any, text: str) -> None:
    with pytest.raises(AzureDevOpsServiceError, match="TF5100"):
        query(work, text)


def test_the_search_index_can_lag_behind(work: Any, organisation: Organisation) -> None:
    made = create(work)
    everything = "SELECT [System.Id] FROM WorkItems"
    assert query(work, everything) == [made.id]
    organisation.search_lag_seconds = 60
    assert query(work, everything) == []
