"""4 match: which rule fits which line of a log. Pure: no network, no clock, no database."""

from triage.match.engine import Search, search
from triage.match.pack import Pack, Rule, check, load_pack, shipped_rules

__all__ = ["Pack", "Rule", "Search", "check", "load_pack", "search", "shipped_rules"]
