"""Make text from logs and names harmless in Markdown, whoever wrote it."""

from __future__ import annotations

import re
import unicodedata

_EXCERPT_LINES, _EXCERPT_COLUMNS = 20, 300
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+!|~@&:$^])")
_LEADING = re.compile(r"^(\d+(?=\.(?: |$))|(?=[-=]))")  # would begin a list or underline a heading
_BARE_LINK = re.compile(r"\bwww\.", re.IGNORECASE)
AGENT_COMMAND = re.compile(r"##(?=(?:vso)?\[)", re.IGNORECASE)
# Control, format (bidirectional and zero-width marks), surrogates, private use, unassigned, and
# line and paragraph separators, which some viewers break lines at.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def visible(text: str) -> str:
    """Return the text on one line, without characters that cannot be seen or that the agent obeys."""
    seen = "".join(c for c in re.sub(r"\s+", " ", text) if unicodedata.category(c) not in _UNSEEN)
    return AGENT_COMMAND.sub("## ", seen).strip()


def words(text: str) -> str:
    """Return a name as Markdown that shows as itself: no markup, link, mention or reference."""
    shown = visible(text)[:_EXCERPT_COLUMNS].strip()
    # A backslash inside keeps AB#12, !12, @name and https://… from becoming links on their own.
    escaped = _LEADING.sub(r"\1\\", _MARKDOWN.sub(r"\\\1", shown))
    return _BARE_LINK.sub(lambda found: found[0][:-1] + "\\.", escaped)


def fenced(text: str) -> str:
    """Return evidence in a fence that nothing inside can close."""
    lines = [_code_line(line) for line in re.split(r"\r?\n", text)[:_EXCERPT_LINES]]
    longest = max((len(run) for line in lines for run in re.findall(r"`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}text", *lines, fence])


def _code_line(line: str) -> str:
    shown = "".join(c for c in line if c == "\t" or unicodedata.category(c) not in _UNSEEN)
    # The agent obeys these wherever a line is printed again.
    shown = AGENT_COMMAND.sub("## ", shown)
    return shown if len(shown) <= _EXCERPT_COLUMNS else shown[: _EXCERPT_COLUMNS - 1] + "…"
