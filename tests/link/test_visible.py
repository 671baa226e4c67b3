"""An input is left out only when the step's other inputs prove that the task does not look at it."""

from __future__ import annotations

import pytest

from triage.link.variables import expand, is_open
from triage.link.visible import is_hidden

BOTH = "command = push && nuGetFeedType = external"


@pytest.mark.parametrize(
    ("rule", "inputs", "hidden"),
    [
        (BOTH, {"command": "restore"}, True),
        (BOTH, {"command": "push", "nugetfeedtype": "internal"}, True),
        (BOTH, {"command": "Push", "nugetfeedtype": "External"}, False),
        (BOTH, {"command": "push"}, False),
        (BOTH, {"command": "$(what)"}, False),
        ("command != init", {"command": "init"}, True),
        ("command != init", {"command": "plan"}, False),
        ("command = plan || command = apply", {"command": "init"}, True),
        ("command = plan || command = apply", {"command": "apply"}, False),
        ("action == Deploy to devices", {"action": "Build"}, True),
        ("in(command, 'push')", {"command": "restore"}, False),
        ("", {}, False),
    ],
)
def test_a_rule_hides(rule: str, inputs: dict[str, str], *, hidden: bool) -> None:
    assert is_hidden(rule, inputs) is hidden


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(a)", "one"),
        ("$( A )-$(b)", "one-one"),
        ("${{ variables.a }}", "one"),
        ("${{ variables['a'] }}", "one"),
        ("$[ variables.a ]", "one"),
        ("$(unknown)", "$(unknown)"),
        ("$(circle)", "$(circle)"),
        ("plain", "plain"),
    ],
)
def test_variables_are_put_in_as_far_as_they_are_known(text: str, expected: str) -> None:
    known = {"a": "one", "b": "$(a)", "circle": "$(circle)"}
    found = expand(text, known.get)
    assert found == expected
    assert is_open(found) is ("$" in expected)
