"""Rules as a terminal shows them: a table, one in full, and one tried on a log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from triage.authoring.attempt import Attempt
    from triage.catalogue import Entry

_COLUMNS = ("id", "credential", "verdict", "confidence", "title")
_OUTCOME = {"matches": "green", "refused": "yellow", "left out": "yellow", "dropped": "yellow"}
_LABEL = 22  # columns of what stands before a value


def table(entries: Sequence[Entry]) -> None:
    """Print a row for each rule."""
    rows = [_COLUMNS, *(tuple(entry.brief()[column] for column in _COLUMNS) for entry in entries)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_COLUMNS) - 1)]
    out = _console()
    for number, row in enumerate(rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        line = escape("  ".join([*cells, row[-1]]))
        out.print(line if number else f"[bold]{line}[/]")
    out.print(f"{len(entries)} {'rule' if len(entries) == 1 else 'rules'}.")


def entry(shown: Entry) -> None:
    """Print everything about one rule."""
    rule, out = shown.rule, _console()
    out.print(f"[bold]{escape(rule.title)}[/]")
    out.print(f"{rule.id} – {rule.credential}, {rule.verdict}, {rule.confidence}, {rule.status}\n")
    if rule.explanation:
        out.print(f"{escape(rule.explanation)}\n")
    _values(out, "file", [shown.file])
    _values(out, "connection types", [", ".join(rule.connection_types) or "any"])
    _values(out, "pattern", [rule.pattern])
    for key, values in conditions(rule.model_dump(mode="json")):
        _values(out, key, values)
    _values(out, "yields to", rule.yields_to)
    _values(out, "yield to it", shown.yielded_by)
    _values(out, "false positives", rule.false_positives)
    recipes = [f"{r.id}: {r.title}" + (f" (when {r.when})" if r.when else "") for r in shown.recipes]
    _values(out, "recipe", recipes or ["none: there is nothing to renew"])
    _values(out, "references", rule.references)
    for example in rule.examples:
        captures = ", ".join(f"{name} = {value}" for name, value in example.captures.items())
        note = [f"captures {captures}"] if captures else []
        _values(out, "matches", [*example.log.strip("\n").splitlines(), *note])
    for counter in rule.counter_examples:
        _values(out, "does not match", [*counter.log.strip("\n").splitlines(), f"because: {counter.reason}"])


def conditions(rule: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Return what must hold besides the pattern: each key in words, with its values."""
    lines = rule["within"]
    named = {
        "unless": "unless the line has",
        "near": f"near, ±{lines} lines",
        "not_near": f"not near, ±{lines} lines",
        "followed_by": f"then, in {lines} lines",
    }
    found = [(said, list(rule[key])) for key, said in named.items() if rule[key]]
    return [*found, ("its dates prove", [rule["time"]])] if rule["time"] else found


def attempt(made: Attempt, name: str) -> None:
    """Print what a rule makes of a log, line by line."""
    out = _console()
    for told in made.lines:
        out.print(f"[bold {_OUTCOME[told.outcome]}]{told.outcome}[/]  {escape(name)}:{told.line}")
        out.print(f"  {escape(told.text)}")
        for capture, value in told.captures.items():
            out.print(f"  [dim]{escape(capture)} =[/] {escape(value)}")
        for why in told.why:
            out.print(f"  {escape(why)}")
    out.print(escape(made.conclusion))


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def _values(out: Console, label: str, values: Iterable[str]) -> None:
    for number, value in enumerate(values):
        out.print(f"[dim]{('' if number else label).ljust(_LABEL)}[/]{escape(value)}")
