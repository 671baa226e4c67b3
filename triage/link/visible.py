"""Whether a task looks at an input at all: the `visibleRule` of its definition, as far as it can be told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_TERM = re.compile(r"^\s*(\w+)\s*(!?=)=?\s*(.*?)\s*$")


def is_hidden(rule: str, inputs: Mapping[str, str]) -> bool:
    """Return True when the step's other inputs show that the task does not look at this one.

    A rule such as `provider = azurerm && command != init`; names of `inputs` in lower case. What an
    input that is not given means is the task's secret, so it hides nothing.
    """
    return bool(rule) and all(
        any(_term(term, inputs) is False for term in way.split("&&")) for way in rule.split("||")
    )


def _term(term: str, inputs: Mapping[str, str]) -> bool | None:
    found = _TERM.match(term)
    if found is None:
        return None
    name, operator, wanted = found.groups()
    given = inputs.get(name.lower(), "").strip()
    if not given or "$" in given:
        return None
    return (given.lower() == wanted.lower()) is (operator == "=")
