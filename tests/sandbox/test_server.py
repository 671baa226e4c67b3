"""The unmodified SDK against the played organisation."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from azure.devops.exceptions import AzureDevOpsServiceError
from azure.devops.v7_1.build.models import UpdateTagParameters
from azure.devops.v7_1.git.models import (
    Comment,
    GitPullRequestCommentThread,
    GitPullRequestStatus,
    GitStatus,
    GitStatusContext,
)
from azure.devops.v7_1.service_hooks.models import Subscription

from tests.sandbox.conftest import (
    BROKEN,
    ENDPOINT,
    LOG,
    OLD_TIMELINE,
    PIPELINE,
    PULL_REQUEST,
    REPOSITORY,
    RUN,
)

if TYPE_CHECKING:
    from triage.sandbox.organisation import Organisation, Project
    from triage.sandbox.server import Played


def test_a_run_is_read_with_its_timeline_of_the_last_attempt(sdk: Any) -> None:
    build = sdk.get_build_client()
    run = build.get_build("Shop", RUN)
    record = build.get_build_timeline("Shop", RUN).records[0]
    assert (run.result, run.definition.name) == ("failed", "deploy")
    assert (record.attempt, record.task.version) == (2, "2.250.1")
    earlier = record.previous_attempts[0].timeline_id
    assert earlier == OLD_TIMELINE
    assert build.get_build_timeline("Shop", RUN, timeline_id=earlier).records[0].attempt == 1


def test_a_timeline_keeps_ten_errors_and_counts_them_all(sdk: Any) -> None:
    record = sdk.get_build_client().get_build_timeline("Shop", RUN).records[0]
    assert (len(record.issues), record.error_count) == (10, 14)


def test_a_run_without_jobs_has_no_timeline(sdk: Any, shop: Project) -> None:
    shop.builds[43] = {**shop.builds[RUN], "id": 43}
    assert sdk.get_build_client().get_build_timeline("Shop", 43) is None


def test_logs_come_as_text_and_as_lines(sdk: Any) -> None:
    build = sdk.get_build_client()
    assert {log.id: log.line_count for log in build.get_build_logs("Shop", RUN)} == {1: 2, 2: 4}
    assert b"".join(build.get_build_log("Shop", RUN, 2)) == LOG
    assert build.get_build_log_lines("Shop", RUN, 2, start_line=2, end_line=3) == ["two", "three"]
    assert b"".join(build.get_build_log("Shop", RUN, 2, start_line=4)) == b"four\n"


def test_the_first_log_is_the_expanded_yaml(sdk: Any) -> None:
    text = b"".join(sdk.get_build_client().get_build_log("Shop", RUN, 1)).decode("utf-8-sig")
    assert text.startswith("stages:\r\n")


def test_a_definition_has_revisions(sdk: Any) -> None:
    build = sdk.get_build_client()
    assert build.get_definition("Shop", PIPELINE).revision == 2
    assert build.get_definition("Shop", PIPELINE, revision=1).revision == 1
    with pytest.raises(AzureDevOpsServiceError, match="does not exist"):
        build.get_definition("Shop", PIPELINE, revision=3)


def test_failed_runs_are_listed_for_a_sweep(sdk: Any) -> None:
    build = sdk.get_build_client()
    assert [
        run.id for run in build.get_builds("Shop", result_filter="failed", status_filter="completed")
    ] == [RUN]
    assert build.get_builds("Shop", result_filter="succeeded") == []


def test_tags_are_added_and_removed_in_every_way(sdk: Any, shop: Project) -> None:
    build = sdk.get_build_client()
    assert build.add_build_tag("Shop", RUN, "expired-credential") == ["expired-credential"]
    assert build.add_build_tag("Shop", RUN, "expired-credential") == ["expired-credential"]
    build.add_build_tags(["a", "b/c"], "Shop", RUN)
    build.update_build_tags(UpdateTagParameters(tags_to_add=["d"], tags_to_remove=["a"]), "Shop", RUN)
    assert build.delete_build_tag("Shop", RUN, "d") == ["expired-credential", "b/c"]
    assert build.get_build_tags("Shop", RUN) == shop.builds[RUN]["tags"] == ["expired-credential", "b/c"]


def test_properties_take_a_patch(sdk: Any) -> None:
    build = sdk.get_build_client()
    build.update_build_properties([{"op": "add", "path": "/triage.rule", "value": "x"}], "Shop", RUN)
    kept = build.get_build_properties("Shop", RUN)
    assert kept["value"]["triage.rule"]["$value"] == "x"


def test_connections_are_found_by_id_and_name_and_failed_ones_only_on_demand(sdk: Any) -> None:
    endpoints = sdk.get_service_endpoint_client()
    assert [each.id for each in endpoints.get_service_endpoints("Shop")] == [ENDPOINT]
    assert len(endpoints.get_service_endpoints("Shop", include_failed=True)) == 2
    assert endpoints.get_service_endpoints("Shop", type="dockerregistry") == []
    assert (
        len(endpoints.get_service_endpoints("Shop", endpoint_ids=[ENDPOINT, BROKEN], include_failed=True))
        == 2
    )
    named = endpoints.get_service_endpoints_by_names("Shop", ["Prod-ARM", "nobody"])
    assert [each.name for each in named] == ["prod-arm"]
    assert named[0].additional_properties["isDisabled"] is False


def test_an_unknown_connection_is_null_and_no_secret_is_shown(played: Played, sdk: Any) -> None:
    endpoints = sdk.get_service_endpoint_client()
    found = endpoints.get_service_endpoint_details("Shop", ENDPOINT)
    assert found.authorization.parameters == {"tenantid": "t", "serviceprincipalkey": None}
    assert found.data["PrivateKey"] is None
    response = endpoints._send(
        "GET",
        "e85f1c62-adfc-4b74-b618-11a150fb195e",
        "7.1-preview.4",
        route_values={"project": "Shop", "endpointId": "00000000-0000-4000-8000-000000000000"},
    )
    assert (response.status_code, response.content) == (200, b"null")


def test_the_execution_history_has_pages(sdk: Any) -> None:
    client = sdk.get_service_endpoint_client()

    def page(token: str | None) -> tuple[list[int], str | None]:
        response = client._send(
            "GET",
            "10a16738-9299-4cd1-9a81-fd23ad6200d0",
            "7.1-preview.1",
            route_values={"project": "Shop", "endpointId": ENDPOINT},
            query_parameters={"top": "3", **({"continuationToken": token} if token else {})},
        )
        ids = [each["data"]["owner"]["id"] for each in response.json()["value"]]
        return ids, response.headers.get("X-MS-ContinuationToken")

    assert page(None) == ([0, 1, 2], "3")
    assert page("3") == ([3, 4], None)


def test_a_thread_is_opened_answered_changed_and_closed(sdk: Any) -> None:
    git = sdk.get_git_client()
    thread = GitPullRequestCommentThread(
        comments=[Comment(content="Look", comment_type=1, parent_comment_id=0)],
        status=1,
        properties={"triage.key": {"$type": "System.String", "$value": "k"}},
    )
    made = git.create_thread(thread, REPOSITORY, PULL_REQUEST, project="Shop")
    git.create_comment(Comment(content="Again"), REPOSITORY, PULL_REQUEST, made.id, project="Shop")
    git.update_comment(
        Comment(content="Changed"), "shop", PULL_REQUEST, made.id, 1
    )  # by name, without project
    git.update_thread(GitPullRequestCommentThread(status="closed"), REPOSITORY, PULL_REQUEST, made.id)
    found = git.get_threads(REPOSITORY, PULL_REQUEST, project="Shop")
    assert [each.status for each in found] == ["closed"]
    assert [each.content for each in found[0].comments] == ["Changed", "Again"]
    assert found[0].properties["triage.key"]["$value"] == "k"


def test_statuses_are_kept_on_pull_requests_and_commits(sdk: Any) -> None:
    git = sdk.get_git_client()
    context = GitStatusContext(name="credential-expiry", genre="triage")
    git.create_pull_request_status(
        GitPullRequestStatus(state="failed", context=context), REPOSITORY, PULL_REQUEST
    )
    assert [each.state for each in git.get_pull_request_statuses(REPOSITORY, PULL_REQUEST)] == ["failed"]
    made = git.create_commit_status(GitStatus(state="error", context=context), "a" * 40, REPOSITORY)
    assert made.context.name == "credential-expiry"
    with pytest.raises(AzureDevOpsServiceError, match="context"):
        git.create_pull_request_status(GitPullRequestStatus(state="failed"), REPOSITORY, PULL_REQUEST)
    with pytest.raises(AzureDevOpsServiceError, match="TF401180"):
        git.get_pull_request(REPOSITORY, 1)


def test_projects_and_people_are_found_and_strangers_are_null(sdk: Any, organisation: Organisation) -> None:
    assert sdk.get_core_client().get_project("shop").id == sdk.get_core_client().get_projects()[0].id
    jack = next(iter(organisation.users))
    identity = sdk.get_identity_client()
    found = identity.read_identities(identity_ids=f"{jack},{ENDPOINT}")
    assert found[0].properties["Mail"]["$value"] == "jack@contoso.example"
    assert found[0].additional_properties.get("uniqueName") is None
    assert found[1] is None
    assert (
        len(identity.read_identities(search_filter="MailAddress", filter_value="jack@contoso.example")) == 1
    )


def test_a_subscription_is_made_read_replaced_and_deleted(
    sdk: Any, organisation: Organisation, shop: Project
) -> None:
    hooks = sdk.get_service_hooks_client()
    wanted = Subscription(
        publisher_id="tfs",
        event_type="build.complete",
        resource_version="2.0",
        consumer_id="webHooks",
        consumer_action_id="httpRequest",
        publisher_inputs={"projectId": shop.id, "buildStatus": "Failed"},
        consumer_inputs={
            "url": "https://triage.example/hooks/azure-devops",
            "basicAuthUsername": "hook",
            "basicAuthPassword": "kept",
        },
    )
    made = hooks.create_subscription(wanted)
    assert (made.status, made.consumer_inputs["basicAuthPassword"]) == ("enabled", "********")
    made.publisher_inputs["buildStatus"] = ""
    hooks.replace_subscription(made, made.id)
    assert organisation.subscriptions[made.id]["consumerInputs"]["basicAuthPassword"] == "kept"
    assert len(hooks.list_subscriptions(publisher_id="tfs")) == 1
    assert hooks.list_subscriptions(publisher_id="rm") == []
    hooks.delete_subscription(made.id)
    with pytest.raises(AzureDevOpsServiceError, match="Cannot find"):
        hooks.get_subscription(made.id)
    wanted.consumer_inputs["url"] = "https://127.0.0.1/hook"
    with pytest.raises(AzureDevOpsServiceError, match="reachable from the internet"):
        hooks.create_subscription(wanted)


def test_a_release_tells_its_tasks_only_when_asked(sdk: Any, shop: Project) -> None:
    phases = [{"phaseId": "1", "deploymentJobs": [{"tasks": [{"id": 5, "name": "Deploy"}]}]}]
    shop.releases[9] = {
        "id": 9,
        "environments": [{"id": 3, "deploySteps": [{"releaseDeployPhases": phases}]}],
    }
    shop.release_logs[9, 3, 1, 5] = b"it failed\n"
    release = sdk.get_release_client()
    jobs = [
        release.get_release("Shop", 9, expand=expand).environments[0].deploy_steps[0].release_deploy_phases[0]
        for expand in (None, "tasks")
    ]
    assert [len(each.deployment_jobs) for each in jobs] == [0, 1]
    log = release.get_task_log("Shop", 9, 3, 1, 5)
    assert io.BytesIO(b"".join(log)).read() == b"it failed\n"


def test_a_queue_subscription_keeps_its_connection_string_to_itself(
    sdk: Any, organisation: Organisation, shop: Project
) -> None:
    hooks = sdk.get_service_hooks_client()
    wanted = Subscription(
        publisher_id="tfs",
        event_type="build.complete",
        resource_version="2.0",
        consumer_id="azureServiceBus",
        consumer_action_id="serviceBusQueueSend",
        publisher_inputs={"projectId": shop.id, "buildStatus": "Failed"},
        consumer_inputs={
            "connectionString": "Endpoint=sb://contoso.servicebus.windows.net/;SharedAccessKey=kept",
            "queueName": "triage",
        },
    )
    made = hooks.create_subscription(wanted)
    assert made.consumer_inputs["connectionString"] == "********"
    hooks.replace_subscription(made, made.id)
    assert organisation.subscriptions[made.id]["consumerInputs"]["connectionString"].endswith("=kept")
    for name, value in (("queueName", "a b"), ("connectionString", "https://contoso.example")):
        kept, wanted.consumer_inputs[name] = wanted.consumer_inputs[name], value
        with pytest.raises(AzureDevOpsServiceError, match=name):
            hooks.create_subscription(wanted)
        wanted.consumer_inputs[name] = kept
