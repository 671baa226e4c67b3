"""4 match: which rule fits which line of a log. Pure: no network, no clock, no database."""

from triage.match.engine import Search, search
from triage.match.load import check, count, file_name, load_pack, shipped_rules
from triage.match.pack import Pack, build, by_words
from triage.match.rule import Rule

__all__ = [
    "Pack",
    "Rule",
    "Search",
    "build",
    "by_words",
    "check",
    "count",
    "file_name",
    "load_pack",
    "search",
    "shipped_rules",
]
