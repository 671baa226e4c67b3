"""`triage scan`: search logs on disk or from standard input, and report what was found."""

from triage.scan.run import FOUND, NOTHING, UNREADABLE, run

__all__ = ["FOUND", "NOTHING", "UNREADABLE", "run"]
