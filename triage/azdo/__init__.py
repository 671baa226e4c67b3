"""The only door to Azure DevOps: the SDK goes in, domain values come out."""

from triage.azdo.door import Door, Thread, Use, WorkItem, connect
from triage.azdo.memory import Memory
from triage.azdo.wire import FieldRefused, RevisionConflict

__all__ = ["Door", "FieldRefused", "Memory", "RevisionConflict", "Thread", "Use", "WorkItem", "connect"]
