"""Azure Service Bus: Azure DevOps posts events into a queue, or our own hook does; receivers store them.

The one door to azure-servicebus. At-least-once all the way: a message is settled only after its row
is committed, so that whatever breaks in between brings it again, and a run told twice is one job.
"""

from triage.intake.bus.client import is_used, require_usable
from triage.intake.bus.dead_letters import DeadLetter
from triage.intake.bus.running import Bus, State

__all__ = ["Bus", "DeadLetter", "State", "is_used", "require_usable"]
