"""1 receive: every kind of event becomes a run reference, or a reason why not. Pure."""

from triage.intake.events import Notice, parse

__all__ = ["Notice", "parse"]
