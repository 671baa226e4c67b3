"""Everything about each rule of a pack, for people: what `rules show` prints and the pages of rules show."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from triage import renewal
from triage.domain import Verdict
from triage.errors import UsageError
from triage.match import load, shipped_rules

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

    from triage.match import Rule
    from triage.renewal import Applies, RecipeFile

_PLACEHOLDER = re.compile(r"('?)\{(\w+)\}")
_HOLDER = "the connection"  # what the placeholder {holder} stands for, or the pipeline itself
_DECIDED = {"credentials", "verdicts", "advice", "priority"}  # conditions that the rule alone decides
_UNKNOWN = "unknown"  # what recipes call the type of a connection that is not decided


@dataclass(frozen=True)
class Choice:
    """A recipe that can apply to a rule's credential, and what of the connection it depends on."""

    id: str
    title: str
    when: str  # empty when it always applies; of several recipes the first whose conditions hold


@dataclass(frozen=True)
class Entry:
    """A rule with what only the whole pack tells of it."""

    rule: Rule
    file: str
    recipes: tuple[Choice, ...]
    yielded_by: tuple[str, ...]  # the rules that yield to it

    def brief(self) -> dict[str, str]:
        """Return the row of a list."""
        rule = self.rule
        return {
            "id": rule.id,
            "credential": rule.credential,
            "verdict": rule.verdict.value,
            "confidence": rule.confidence.value,
            "status": rule.status,
            "title": rule.title,
        }

    def full(self) -> dict[str, Any]:
        """Return everything, as JSON."""
        return {
            "file": self.file,
            **self.rule.model_dump(mode="json"),
            "yielded_by": list(self.yielded_by),
            "recipes": [{"id": each.id, "title": each.title, "when": each.when} for each in self.recipes],
        }

    def holds(self, words: Iterable[str]) -> bool:
        """Return True when every word stands somewhere in the rule."""
        rule = self.rule
        logs = (example.log for example in rule.examples)
        text = "\n".join((*self.brief().values(), rule.explanation, rule.pattern, *logs)).lower()
        return all(word.lower() in text for word in words)


@dataclass(frozen=True)
class Catalogue:
    """The rules of a pack by their ids, in the order of their files."""

    entries: dict[str, Entry]

    def select(self, q: str = "", credential: str = "", verdict: str = "") -> list[Entry]:
        """Return the rules that hold all words of `q`, of one family, with one verdict."""
        return [
            entry
            for entry in self.entries.values()
            if credential in ("", entry.rule.credential)
            and verdict in ("", entry.rule.verdict)
            and entry.holds(q.split())
        ]

    def require(self, credential: str) -> None:
        """Raise UsageError that names the closest families when there is none of this name."""
        if credential not in self.credentials():
            raise UsageError(f"There is no family {credential!r}{close(credential, self.credentials())}")

    def credentials(self) -> list[str]:
        """Return the families of credentials, by name."""
        return sorted({entry.rule.credential for entry in self.entries.values()})

    def find(self, name: str) -> Entry:
        """Return one rule. Raises UsageError that names the closest ids."""
        if entry := self.entries.get(name):
            return entry
        raise UsageError(f"There is no rule {name!r}{close(name, self.entries)}")


def close(name: str, known: Collection[str]) -> str:
    """Return the end of a sentence that says what else might be meant."""
    inside = [each for each in known if name.lower() in each]
    near = list(dict.fromkeys([*inside, *difflib.get_close_matches(name.lower(), known)]))[:3]
    return f"; did you mean {' or '.join(near)}?" if near else "; `triage rules show` lists all."


def read(path: Path | None = None) -> Catalogue:
    """Read a pack's rules with all that they state; what is wrong with them is `rules check`'s to say."""
    rules, _ = load.read(path or shipped_rules())
    recipes = renewal.load(path).recipes
    yielded: dict[str, list[str]] = {}
    for _, rule in rules:
        for other in rule.yields_to:
            yielded.setdefault(other, []).append(rule.id)
    return Catalogue(
        {
            rule.id: Entry(rule, name, _choices(rule, recipes), tuple(yielded.get(rule.id, ())))
            for name, rule in rules
        }
    )


def _choices(rule: Rule, recipes: Sequence[RecipeFile]) -> tuple[Choice, ...]:
    """Return the recipes that can apply, in the order in which `renewal.choose` prefers them."""
    if rule.verdict is Verdict.LOOK_ALIKE:
        return ()
    cases = [(case, recipe) for recipe in recipes for case in recipe.applies if _can_apply(case, rule)]
    found = []
    for case, recipe in sorted(cases, key=_preference, reverse=True):
        when = _when(case, rule)
        found.append(Choice(recipe.id, _PLACEHOLDER.sub(_named, recipe.title), when))
        if not when:
            break  # it always applies: none after it is ever chosen
    return tuple(found)


def _can_apply(case: Applies, rule: Rule) -> bool:
    decided = (
        (case.credentials, rule.credential),
        (case.verdicts, rule.verdict.value),
        (case.advice, rule.advice),
    )
    types = {*rule.connection_types, _UNKNOWN}
    return all(value in wanted for wanted, value in decided if wanted) and (
        not case.types or not rule.connection_types or bool(types & set(case.types))
    )


def _preference(choice: tuple[Applies, RecipeFile]) -> tuple[int, int, str]:
    case, recipe = choice
    given = [key for key, value in case if key != "priority" and value]
    return case.priority, len(given), recipe.id


def _when(case: Applies, rule: Rule) -> str:
    """Return the conditions that only the connection decides, in words."""
    said = []
    for key, wanted in case:
        values = wanted if isinstance(wanted, list) else [wanted]
        if key == "types" and rule.connection_types:
            values = [each for each in values if each in {*rule.connection_types, _UNKNOWN}]
        if not wanted or key in _DECIDED:
            continue
        if values == [_UNKNOWN]:
            said.append("the connection is not decided")
            continue
        said.append(f"{key.removesuffix('s').replace('_', ' ')} {' or '.join(map(str, values))}")
    return ", ".join(said)


def _named(placeholder: re.Match[str]) -> str:
    """Write what a placeholder stands for: '{connection_name}' is a name, {registry} a thing."""
    quote, name = placeholder[1], placeholder[2].replace("_", " ")
    if name == "holder":
        return _HOLDER
    return f"{quote}{name}" if quote else f"the {name}"
