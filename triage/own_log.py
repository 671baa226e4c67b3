"""triage's own log: to standard error, one event a line."""

from __future__ import annotations

import sys


def to_stderr() -> None:
    """Write lines for a person to a terminal, JSON to anything else."""
    import structlog  # noqa: PLC0415 - the command line starts without it

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer()
            if not sys.stderr.isatty()
            else structlog.dev.ConsoleRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
