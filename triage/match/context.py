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
_SCRIPT_BEGINS = regex.compile(
    r"^(?:Script contents:|Generating (?P<short>script)\.|=+ ?Script ?=+)", regex.IGNORECASE
)
_SCRIPT_ENDS = "Starting Command Output"
# What is longer than this was never closed; "Generating script." alone prints a line or two.
_SCRIPT_LINES, _ANNOUNCED_LINES = 5000, 20

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
_SUCCESS = regex.compile(
    r"\b(?:(?:login|authentication|authorization|retry) succeeded|attempt \d{1,3}[^.]{0,20} succeeded|"
    r"successfully (?:logged in|authenticated|pushed|published|connected|restored))\b",
    regex.IGNORECASE,
)
# Lines to look at although no rule points at them: they change what the others mean.
MARKS = (
    "script contents:",
    "generating script",
    "starting command output",
    r"(?:login|authentication|authorization|retry) succeeded",
    r"attempt [0-9]{1,3}[^.\n]* succeeded",
    "successfully (?:logged in|authenticated|pushed|published|connected|restored)",
)


def is_success(line: str) -> bool:
    """Return True when a line tells that an attempt succeeded after all."""
    return bool(_SUCCESS.search(line))


def is_provisional(lines: Iterable[str]) -> bool:
    """Return True when a message, with the lines right after it, announces another attempt."""
    return any(_PROVISIONAL.search(line) for line in lines)


class Reader:
    """Follows a log from line to line and says which lines are the step's own words."""

    def __init__(self) -> None:
        self._script_until = 0

    def is_quoted(self, number: int, line: str) -> bool:
        """Return True when the line is source, trace or a test's report rather than a message."""
        if _SCRIPT_ENDS in line:
            self._script_until = 0
            return True
        if begins := _SCRIPT_BEGINS.match(line):
            self._script_until = number + (_ANNOUNCED_LINES if begins["short"] else _SCRIPT_LINES)
            return True
        if number <= self._script_until:
            return True
        if _MESSAGE_ALL_THE_SAME.match(line):
            return False
        return any(shape.search(line) for shape in _QUOTED)
