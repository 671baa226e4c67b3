"""4 match: which rule fits which line of a log. Pure: no network, no clock, no database."""

from triage.match.engine import Search, search
from triage.match.load import check, load_pack, shipped_rules
from triage.match.pack import Pack, build
from triage.match.rule import Rule

__all__ = ["Pack", "Rule", "Search", "build", "check", "load_pack", "search", "shipped_rules"]
