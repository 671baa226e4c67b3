"""Labelled cases of linking: right or honestly undecided, never wrong, and cheap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.link import played
from triage import azdo
from triage.sandbox.organisation import Organisation
from triage.sandbox.server import serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triage import diagnosis
    from triage.sandbox.server import Played

CASES = played.load()


@pytest.fixture(scope="module")
def known() -> diagnosis.Knowledge:
    return played.knowledge()


@pytest.fixture(scope="module")
def service() -> Iterator[Played]:
    with serve(Organisation("contoso"), token="t") as served:
        yield served


@pytest.fixture(scope="module")
def door(service: Played) -> azdo.Door:
    """One door that remembers; each case has a project and people of its own, so it begins cold."""
    return azdo.connect(service.url, service.token, memory=azdo.Memory())


def test_there_are_sixty_cases_half_of_them_with_several_connections_that_fit() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60
    assert sum(case.is_plausibly_another for case in CASES) >= 30


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_connection_of(
    service: Played, door: azdo.Door, known: diagnosis.Knowledge, case: played.Case
) -> None:
    organisation = service.organisation
    played.set_up(organisation, case)
    before = organisation.calls.copy()
    finding = played.conclude(door, known, case.ref)
    found = finding.attribution
    assert (found.connection.name if found.connection else "") == case.expect, found.reason
    assert case.says in found.reason
    assert case.method in {"", found.method.value}
    assert found.reason.endswith(".")

    cold = played.price(organisation.calls - before)
    before = organisation.calls.copy()
    again = played.conclude(door, known, case.again).attribution
    assert (again.connection, again.method) == (found.connection, found.method)
    warm = played.price(organisation.calls - before)
    assert cold.linking <= 8, f"{cold} calls of a cold memory"
    assert warm.linking <= 2, f"{warm} calls of a warm memory"
