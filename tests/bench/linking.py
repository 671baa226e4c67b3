"""Measure how failed steps are linked to their connections, and what a finding costs.

`python -m tests.bench.linking [--list]` plays the labelled cases of tests/link/cases and prints the share linked
right, left undecided and linked wrong, and the calls of Azure DevOps' API for each finding: of a memory that
holds nothing of the project, and for the next failed run of the same pipeline. With --list every case.
"""

# ruff: noqa: T201 - a report

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING

from tests.link import played
from triage import azdo
from triage.sandbox.organisation import Organisation
from triage.sandbox.server import serve

if TYPE_CHECKING:
    from triage import diagnosis
    from triage.domain import Attribution
    from triage.sandbox.server import Played

_COLD_MAX, _WARM_MAX = 8, 2


@dataclass(frozen=True)
class Result:
    """What came of a case."""

    case: played.Case
    found: Attribution
    cold: played.Price
    warm: played.Price

    @property
    def verdict(self) -> str:
        """Return how it ended against its label."""
        name = self.found.connection.name if self.found.connection else ""
        if name:
            return "right" if name == self.case.expect else "WRONG"
        return "missed" if self.case.expect else "undecided"


def main(*, listed: bool) -> int:
    """Print the report. Returns 1 when a case is wrong or missed, or a finding costs too much."""
    known = played.knowledge()
    with serve(Organisation("contoso"), token="t") as service:
        door = azdo.connect(service.url, service.token, memory=azdo.Memory())
        results = [_measure(service, door, known, case) for case in played.load()]
    if listed:
        for each in results:
            name = each.found.connection.name if each.found.connection else "–"
            print(f"{each.verdict:9} {each.cold.linking}/{each.warm.linking}  {each.case.name}: {name}")
            print(f"                {each.found.reason}")
    several = [each for each in results if each.case.is_plausibly_another]
    for title, chosen in (("all cases", results), ("several connections that fit", several)):
        _shares(title, chosen)
    methods = Counter(each.found.method.value for each in results)
    print("how it is known:  " + ", ".join(f"{name} {n}" for name, n in methods.most_common()))
    cheap = _costs(results)
    good = all(each.verdict in {"right", "undecided"} for each in results)
    return 0 if good and cheap else 1


def _measure(service: Played, door: azdo.Door, known: diagnosis.Knowledge, case: played.Case) -> Result:
    asked = service.organisation.calls
    played.set_up(service.organisation, case)
    before = asked.copy()
    found = played.conclude(door, known, case.ref).attribution
    cold, before = played.price(asked - before), asked.copy()
    played.conclude(door, known, case.again)
    return Result(case, found, cold, played.price(asked - before))


def _shares(title: str, results: list[Result]) -> None:
    count = Counter(each.verdict for each in results)
    decidable = sum(bool(each.case.expect) for each in results)
    print(
        f"{title}: {len(results)}; {count['right']} of {decidable} that can be told linked right "
        f"({count['right'] / decidable:.1%}), {count['undecided']} of {len(results) - decidable} that nobody can "
        f"tell left undecided, {count['missed']} missed, {count['WRONG']} wrong (wanted 0)"
    )


def _costs(results: list[Result]) -> bool:
    for title, prices, most in (
        ("cold memory", [each.cold for each in results], _COLD_MAX),
        ("warm memory", [each.warm for each in results], _WARM_MAX),
    ):
        linking = [price.linking for price in prices]
        reading = [price.reading for price in prices]
        print(
            f"calls for connection and owner, {title}: {mean(linking):.1f} on average, {max(linking)} at most "
            f"(wanted ≤ {most}); to read the run itself {mean(reading):.1f}, {max(reading)} at most"
        )
    return max(each.cold.linking for each in results) <= _COLD_MAX and (
        max(each.warm.linking for each in results) <= _WARM_MAX
    )


if __name__ == "__main__":
    sys.exit(main(listed="--list" in sys.argv))
