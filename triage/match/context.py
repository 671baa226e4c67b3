"""Tell a step's own message from text that only looks like one.

What matters is the step that failed: a signature in a script's source, a test's name, a compiler's
gutter or a shell trace is not its failure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import regex

if TYPE_CHECKING:
    from collections.abc import Iterable

# The agent prints a script before it runs it; what runs begins after this line.
_SCRIPT_BEGINS = regex.compile(r"^(?:Script contents:|Generating script\.|=+ ?Script ?=+)", regex.IGNORECASE)
_SCRIPT_ENDS = "Starting Command Output"
_SCRIPT_MAX_LINES = 400  # a script longer than this was never closed

_QUOTED = [
    regex.compile(p)
    for p in (
        r"^##\[(?:command|debug|section|group)\]",
        r"^\+{1,4} ",  # set -x
        r"^\s*(?:if |elif |while |until )?\[?\[? ?.{0,40}\b(?:grep|egrep|findstr|Select-String|sed|awk)\b",
        r"^\s*(?:echo|printf|Write-Host|Write-Output|Write-Error|console\.log|print)\b.{0,4}[\"'(]",
        r"\|\|\s*(?:echo|printf|Write-Host)\b",
        r"^\s*(?:#(?!\d|#?\[|#vso\[)|//|<!--|\* |/\*|;;|REM )",  # a comment; not BuildKit's "#12 ERROR"
        r"^\s*(?:PASS(?:ED)?|ok|not ok|SKIP(?:PED)?|XFAIL|✓|✔|√|✗|✕|×|○|●)(?:\b|\s)",  # a test runner's line
        r"\b(?:PASSED|SKIPPED|XFAIL)\b\s*(?:\[\s*\d{1,3}%\])?\s*$",
        r"^\s*(?:E\s+|>\s+)?(?:assert|AssertionError)\b",
        r"^\s*\d{1,6} ?[|│] ",  # a compiler's or a listing's gutter
        r"^\s*(?:[-+<>]\s+|@@ )",  # a diff
        r"^\s*(?:Passed|Failed|Skipped)!?\s+\w+(?:[._]\w+)+(?:\(|\s*(?:\[|$))",  # dotnet test
        r"^\s*(?:test|it|describe)\s*\(",
        r"::test_\w+",
        r"^\s*\|.*\|\s*$",  # a row of a table in documentation
    )
]
# A diff's marker also begins list items that tools print; these are messages all the same.
_MESSAGE_ALL_THE_SAME = regex.compile(
    r"^\s*(?:[-<>]\s+.{0,40}(?:error|ERR!|denied|unauthorized)|>\s+(?:could not|failed|received)\b)",
    regex.IGNORECASE,
)

# A message that a later attempt may overcome: a warning, or one followed by the word of a retry.
_PROVISIONAL = regex.compile(
    r"^\s*(?:##\[warning\]|warn(?:ing)?\b)|\b(?:retry(?:ing)?|will try again|attempt \d+)\b", regex.IGNORECASE
)
SUCCESS = "login succeeded"


def is_provisional(lines: Iterable[str]) -> bool:
    """Return True when a message, with the lines right after it, announces another attempt."""
    return any(_PROVISIONAL.search(line) for line in lines)


class Reader:
    """Follows a log from line to line and says which lines are the step's own words."""

    def __init__(self) -> None:
        self._script_since: int | None = None

    def is_quoted(self, number: int, line: str) -> bool:
        """Return True when the line is source, trace or a test's report rather than a message."""
        if _SCRIPT_ENDS in line:
            self._script_since = None
            return True
        if _SCRIPT_BEGINS.match(line):
            self._script_since = number
            return True
        if self._script_since is not None:
            if number - self._script_since <= _SCRIPT_MAX_LINES:
                return True
            self._script_since = None
        if _MESSAGE_ALL_THE_SAME.match(line):
            return False
        return any(shape.search(line) for shape in _QUOTED)
