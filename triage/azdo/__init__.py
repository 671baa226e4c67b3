"""The only door to Azure DevOps: the SDK goes in, domain values come out."""

from triage.azdo.door import Account, Door, Tested, Thread, Use, WorkItem, account, connect
from triage.azdo.gate import Gate, LocalGate
from triage.azdo.limits import Limits
from triage.azdo.memory import Memory
from triage.azdo.wire import FieldRefused, RevisionConflict

__all__ = [
    "Account",
    "Door",
    "FieldRefused",
    "Gate",
    "Limits",
    "LocalGate",
    "Memory",
    "RevisionConflict",
    "Tested",
    "Thread",
    "Use",
    "WorkItem",
    "account",
    "connect",
]
