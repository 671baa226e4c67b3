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

# What is quoted, traced, listed or reported, and no message: by how the line begins, or by what it holds.
_QUOTES_BEGIN = (
    r"^##\[(?:command|section|group)\]",
    r"^\+{1,4} ",  # set -x
    r"^\s*(?:if |elif |while |until )?\[?\[? ?.{0,40}\b(?:e?grep|findstr|Select-String|sed|awk)\b",
    r"^\s*(?:echo|printf|Write-Host|Write-Output|Write-Error|console\.log|print)\b.{0,4}[\"'(]",
    # A comment; not BuildKit's "#12 ERROR", nor the bullet of Terraform and Vault's "* permission denied".
    r"^\s*(?:#(?!\d|#?\[|#vso\[)|//|<!--|\*(?: @| \w+(?: \w+){6,}\.?$|/)|/\*|;;|REM )",
    r"^\s*(?:PASS(?:ED)?|ok|not ok|SKIP(?:PED)?|XFAIL|✓|✔|√|✗|✕|×|○|●)(?:\b|\s)",  # a test runner's
    r"^\s*(?:E\s+|>\s+)?(?:assert|AssertionError)\b",
    r"^\s*\d{1,6} ?[|│] ",  # a compiler's or a listing's gutter
    r"^\s*(?:[-+<>]\s+|@@ )",  # a diff
    r"^\s*(?:Passed|Failed|Skipped)!?\s+\w+(?:[._]\w+)+(?:\(|\s*(?:\[|$))",  # dotnet test
    r"^(?:\s*\[[-+]\]|\s+\[[!?]\]) ",  # Pester
    r"^\s*(?:test|it|describe)\s*\(",
    r"^\s{4,}(?:returns|raises|rejects|responds|throws|fails|logs|should|does not)\b",  # RSpec, Mocha
    r"^\s*[\w.]+_test\.go:\d+: ",
    r"^(?:DEBUG|INFO|WARNING|ERROR|CRITICAL)\s+[\w.]+:[\w]+\.py:\d+ ",  # pytest's captured log
    r"^\s*(?:var|const|let|final|private|public|static|string|String|raise|throw|return)\s.{0,80}[\"'`(]",
    r"^[\w./\\-]+\.\w{1,5}:\d+:\s{2,}",  # grep -n on indented source
    r"^\* (?:SSL|TLS|ALPN|Connected|Server certificate|Closing)",  # curl -v
    r"^\s*\[?\"[^\"]*\"(?:, ?\"[^\"]*\")*\]?,\s*$|^\s*\[?'[^']*'(?:, ?'[^']*')*\]?,\s*$",  # a list of strings
    r"^\s*\w+:\s+[\w.&]+\{\w+: ",
    r"^HEAD is now at [0-9a-f]{7}",
    r"^\s*\|.*\|\s*$",  # a row of a table in documentation
)
_QUOTES_HOLD = (
    r"\|\|\s*(?:echo|printf|Write-Host)\b",
    r"\b(?:PASSED|SKIPPED|XFAIL)\b\s*(?:\[\s*\d{1,3}%\])?\s*$",
    r"::test_\w+",
    r"\b(?:mock|Mock|stub|Stub)(?:[.s_ (]|ed\b|ito)|\bside_effect=|\bMagicMock\b",
    r"\.(?:includes|contains|startsWith|indexOf|test|match)\(",
)
_QUOTE_BEGINS = regex.compile("|".join(_QUOTES_BEGIN))
_QUOTES_HELD = tuple(regex.compile(each) for each in _QUOTES_HOLD)  # one by one is quicker than as one
# A diff's marker also begins list items that tools print; these are messages all the same.
_MESSAGE_ALL_THE_SAME = regex.compile(
    r"^\s*[-<>]\s+(?!raise|throw).{0,40}\b(?:error|ERR!|denied|unauthorized)|"
    # Composer's list of packages, which tells on the same line why one failed.
    r"^\s*-\s+(?:installing|downloading|updating|upgrading|syncing) [\w.-]+/[\w.-]+ \(|"
    # Gradle's causes: "> Could not GET …", "> Username must not be null!", "> a.b.CException: 401".
    r"^\s*>\s+(?:(?:could not|failed|received|unable to|username|password|credentials|basic auth\w*)\b|"
    r"(?:[\w$]{1,60}\.){2,8}\w{0,60}(?:exception|error):)|"
    # What Flux and others say, where a test runner would name a test: there is no colon in most names.
    r"^\s*✗ (?:failed to|unable to|could not|error) [^:]{1,80}: ",
    regex.IGNORECASE,
)
AGENT_ERROR = "##[error]"  # the agent's own word that a step failed, wherever it stands

# A message that a later attempt may overcome: a warning, a step on the way, or one followed by a retry.
_PROVISIONAL = regex.compile(
    r"^\s*(?:##\[(?:warning|debug)\]|warn(?:ing)?\b|\[?(?:debug|info|informational|trace|verbose)\]?[\s:]|"
    r"time=\S+ level=(?:debug|info)\b)|\b(?:retry(?:ing)?|will try again|attempt \d+)\b",
    regex.IGNORECASE,
)
_SUCCESSES = (
    r"\b(?:login|authentication|authorization|retry|get_?token) succeeded\b",
    r"\battempt [0-9]{1,3}[^.\n]{0,20} succeeded\b",
    r"\bsuccessfully (?:logged in|authenticated|pushed|published|connected|restored)\b",
    r"\bdownloaded newer image for\b",
)
_SUCCESS = regex.compile("|".join(_SUCCESSES), regex.IGNORECASE)

# What begins and what ends the output of a test run: what stands between is about the tests.
_TESTS_BEGIN = (
    r"^=+ (?:test session starts|FAILURES|ERRORS) =+",
    r"^-+ (?:live log|Captured (?:log|std\w+)) (?:call|setup|teardown) -+",
    r"^=== RUN\s+Test",
    r" T E S T S$",
    r"\bRunning [\w.$]+Tests?$",
    r"^\s*Starting test execution, please wait",
    r"^A total of \d+ test files? matched",
    r"^Running RSpec|^Randomized with seed \d",
    r"^(?:Starting|Running) (?:discovery in|tests from) ",
)
_TESTS_END = (
    r"^=+ (?:short test summary|.{0,200}\b(?:passed|failed|errors?|skipped|warnings?)\b.{0,80} in \d)",
    r"^(?:FAIL|ok  )\t[\w./-]+\s+(?:\d|\(cached\)|\[build failed)",
    r"\bTests run: \d+, Failures: \d",
    r"^\s*Total tests: \d|^Test Run (?:Failed|Successful|Aborted)|^(?:Failed|Passed)!\s+- Failed: ",
    r"^Test Suites: .{0,80}total",
    r"^\d+ examples?, \d+ failures?",
    r"^Tests Passed: \d+, Failed: ",
)
_BEGIN = regex.compile("|".join(_TESTS_BEGIN), regex.IGNORECASE)
_END = regex.compile("|".join(_TESTS_END), regex.IGNORECASE)
_RUN_LINES = 300  # that belong to a test run of which only the end was recognised

# Lines to look at although no rule points at them: they change what the others mean.
MARKS = (
    "script contents:",
    "generating script",
    "starting command output",
    *_SUCCESSES,
    *_TESTS_BEGIN,
    *_TESTS_END,
)


def is_success(line: str) -> bool:
    """Return True when a line tells that an attempt succeeded after all."""
    return bool(_SUCCESS.search(line))


def is_provisional(lines: Iterable[str]) -> bool:
    """Return True when a message, with the lines right after it, announces another attempt."""
    return any(_PROVISIONAL.search(line) for line in lines)


def is_firm(line: str) -> bool:
    """Return True when the agent itself calls a line an error; no test run explains it away."""
    return line.startswith(AGENT_ERROR)


class Reader:
    """Follows a log by its marks and says which lines are the step's own words."""

    def __init__(self) -> None:
        self._script_until = 0
        self._tests_since = 0  # the line where the output of a test run began; 0 outside

    def see(self, number: int, line: str) -> None:
        """Take note of a line that may be a mark."""
        if _SCRIPT_ENDS in line:
            self._script_until = 0
        elif begins := _SCRIPT_BEGINS.match(line):
            self._script_until = number + (_ANNOUNCED_LINES if begins["short"] else _SCRIPT_LINES)
        elif _BEGIN.search(line) and not self._tests_since:
            self._tests_since = number

    def tests_ended(self, number: int, line: str) -> int:
        """Return the line with which a test run began that ends with this one; 0 when none ends."""
        if not _END.search(line):
            return 0
        since = self._tests_since or max(1, number - _RUN_LINES)
        self._tests_since = 0
        return since

    def is_quoted(self, number: int, line: str) -> bool:
        """Return True when the line is source, trace or a test's report rather than a message."""
        if number <= self._script_until or _SCRIPT_BEGINS.match(line):
            return True
        if self._tests_since and not is_firm(line):
            return True
        is_quote = _QUOTE_BEGINS.match(line) or any(each.search(line) for each in _QUOTES_HELD)
        return bool(is_quote) and not _MESSAGE_ALL_THE_SAME.match(line)
