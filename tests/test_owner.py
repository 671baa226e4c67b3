"""Whose connection it is; never from a log's text."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests import findings
from triage import azdo, owner
from triage.domain import Attribution, Identity, LinkMethod, OwnerMethod
from triage.errors import UsageError
from triage.sandbox.organisation import Organisation
from triage.sandbox.server import serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOBODY = owner.Fallback()
TEAM = owner.Fallback(team="Platform", area="Shop\\Platform", assignee="team@contoso.example")


@pytest.fixture
def organisation() -> Organisation:
    made = Organisation("contoso")
    made.add_user("jo@contoso.example", "Jo")
    made.add_user("left@contoso.example", "Left", isActive=False)
    return made


@pytest.fixture
def door(organisation: Organisation) -> Iterator[azdo.Door]:
    with serve(organisation, token="t") as played:
        yield azdo.connect(played.url, "t")


def person(organisation: Organisation, name: str) -> Identity:
    user = next(u for u in organisation.users.values() if u["uniqueName"] == name)
    return Identity(user["id"], user["displayName"], user["uniqueName"], user["descriptor"])


def service(name: str, unique: str | None, descriptor: str = "aad.x", **more: Any) -> Identity:
    return Identity(more.pop("id", "11111111-0000-4000-8000-000000000000"), name, unique, descriptor, **more)


def attribution(**changes: Any) -> Attribution:
    nobody = {"created_by": None, "modified_by": None, "administrators": ()}
    connection = replace(findings.connection(), **{**nobody, **changes})
    return Attribution(connection, LinkMethod.TASK_INPUT, "because")


UNASSIGNABLE = [
    service("Build Service", "Build\\11111111-0000-4000-8000-000000000000", "svc.x"),
    service("shop-deploy", "11111111-0000-4000-8000-000000000000", "aadsp.x"),
    service("Microsoft.VisualStudio.Services.TFS", "00000002-0000-8888-8000-000000000000@2c895908", "s2s.x"),
    service("[Shop]\\Endpoint Administrators", "vstfs:///group", "vssgp.x", is_container=True),
    service("A group with a mail", "group@contoso.example", "aadgp.x"),
    service("Nameless", None),
    service("System", "x@contoso.example", id="00000002-0000-8888-8000-000000000000"),
]


@pytest.mark.parametrize("identity", UNASSIGNABLE, ids=lambda i: i.display_name)
def test_what_is_no_person_is_passed_over(
    door: azdo.Door, organisation: Organisation, identity: Identity
) -> None:
    jo = person(organisation, "jo@contoso.example")
    told = attribution(modified_by=identity, created_by=jo)
    found = owner.find(door, findings.run(), told, None, NOBODY)
    assert (found.assignee, found.method) == ("jo@contoso.example", OwnerMethod.CREATED_BY)
    assert ("no person" in found.reason) is bool(identity.unique_name)


def test_who_changed_it_last_goes_before_who_made_it(door: azdo.Door, organisation: Organisation) -> None:
    jo = person(organisation, "jo@contoso.example")
    left = person(organisation, "left@contoso.example")
    found = owner.find(door, findings.run(), attribution(modified_by=jo, created_by=left), None, NOBODY)
    assert found.method is OwnerMethod.MODIFIED_BY


def test_people_who_left_are_passed_over_and_named(door: azdo.Door, organisation: Organisation) -> None:
    left = person(organisation, "left@contoso.example")
    found = owner.find(door, findings.run(), attribution(created_by=left), None, TEAM)
    assert found.assignee != "left@contoso.example"
    run = replace(findings.run(), requested_for=None, requested_by=None)
    found = owner.find(door, run, attribution(created_by=left), None, TEAM)
    assert (found.assignee, found.team, found.method) == (
        "team@contoso.example",
        "Platform",
        OwnerMethod.FALLBACK,
    )


def test_the_requester_is_asked_before_the_default(door: azdo.Door, organisation: Organisation) -> None:
    run = replace(findings.run(), requested_for=person(organisation, "jo@contoso.example"))
    assert owner.find(door, run, attribution(), None, TEAM).method is OwnerMethod.REQUESTER


def test_without_anybody_it_says_what_to_set(door: azdo.Door) -> None:
    run = replace(findings.run(), requested_for=None, requested_by=None)
    found = owner.find(door, run, attribution(), None, NOBODY)
    assert found.assignee is None
    assert "owners.default_" in found.reason


@pytest.mark.parametrize(
    "condition",
    [
        {"connection": findings.connection().id.upper()},
        {"name": findings.connection().name[:3].upper() + "*"},
        {"type": findings.connection().type},
        {"project": findings.run().project_name.lower()},
    ],
    ids=lambda c: next(iter(c)),
)
def test_the_owners_file_wins(
    door: azdo.Door, organisation: Organisation, tmp_path: Path, condition: dict[str, str]
) -> None:
    key, value = next(iter(condition.items()))
    file = tmp_path / "owners.toml"
    file.write_text(
        '[[owner]]\nname = "nothing-like-it"\nassignee = "wrong@contoso.example"\n'
        f'[[owner]]\n{key} = "{value}"\nassignee = "right@contoso.example"\narea = "Shop"\n'
    )
    told = attribution(created_by=person(organisation, "jo@contoso.example"))
    found = owner.find(door, findings.run(), told, owner.load_owners(file), NOBODY)
    assert (found.assignee, found.area, found.method) == (
        "right@contoso.example",
        "Shop",
        OwnerMethod.OWNERS_FILE,
    )


def test_a_service_tree_id_is_looked_up_in_the_owners_file(door: azdo.Door, tmp_path: Path) -> None:
    file = tmp_path / "owners.toml"
    file.write_text('[[owner]]\nservice = "tree-7"\nteam = "Payments"\n')
    told = attribution(service_management_reference="tree-7")
    found = owner.find(door, findings.run(), told, owner.load_owners(file), NOBODY)
    assert (found.team, found.method) == ("Payments", OwnerMethod.SERVICE_TREE)


def test_a_wrong_owners_file_names_each_mistake_with_its_entry(tmp_path: Path) -> None:
    file = tmp_path / "owners.toml"
    file.write_text('[[owner]]\nasignee = "jo"\nname = "x"\n[[owner]]\nteam = "t"\n')
    with pytest.raises(UsageError) as told:
        owner.load_owners(file)
    text = str(told.value)
    assert "entry 1: asignee: no such key; did you mean 'assignee'?" in text
    assert "entry 1: names nobody" in text
    assert "entry 2: has no condition" in text


def test_an_owners_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"owners\.file: .*missing\.toml cannot be read"):
        owner.load_owners(tmp_path / "missing.toml")
