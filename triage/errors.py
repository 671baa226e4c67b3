"""What can go wrong, and what the worker does about it.

TriageError
├── UsageError           a person's input; exit 2
├── UnreadableError      an input file; exit 3
├── RulePackError        all problems of all rules at once; exit 4
└── JobError             while triaging one run
    ├── RetryLater       try again with backoff; costs an attempt
    ├── Snooze           come back at a time; costs no attempt (throttled, log not ready)
    ├── Cancel           nothing to do any more (the run is gone, another organisation's)
    └── AccessRefused    our own credential is refused; retried slowly, told to a person
"""

from __future__ import annotations


class TriageError(Exception):
    """Any failure that triage can explain. Its text names the input and the next step."""

    exit_code = 2


class UsageError(TriageError):
    """A setting, flag or argument is wrong."""


class UnreadableError(TriageError):
    """An input cannot be read."""

    exit_code = 3


class RulePackError(TriageError):
    """The rule pack is wrong; carries every problem found."""

    exit_code = 4

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        files: dict[str, list[str]] = {}
        for problem in problems:
            files.setdefault(problem.split(": ", 1)[0], []).append(f"  {problem}")
        count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        where = f" in {len(files)} files" if len(files) > 1 else ""
        told = "\n\n".join("\n".join(each) for each in files.values())
        super().__init__(f"The rule pack has {count}{where}:\n{told}")


class JobError(TriageError):
    """Triaging one run did not get to its end."""


class RetryLater(JobError):  # noqa: N818 - named by the worker's answer
    """A passing fault: try again with backoff."""


class Snooze(JobError):  # noqa: N818
    """Not now: come back in so many seconds. Consumes no attempt."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class Cancel(JobError):  # noqa: N818
    """There is nothing to do for this run, and there never will be."""


class AccessRefused(JobError):  # noqa: N818
    """Azure DevOps refuses our own credential or lacks a right we need."""
