"""A played Azure Service Bus: AMQP 1.0 on a local socket, for the client library as it is.

It stands beside the played Azure DevOps, whose Service Bus consumer posts into it; tests and
`python -m triage.sandbox.bus` use it as well. Of the service it has what triage lives on: queues with
peek-lock, delivery counts, dead-letter queues, peeking, signatures and tokens. It has no topics,
sessions, scheduling, expiry or transactions. On top of that it fails on demand, see Broker.
"""

from triage.sandbox.bus.broker import Broker
from triage.sandbox.bus.queues import Message, Queue

__all__ = ["Broker", "Message", "Queue"]
