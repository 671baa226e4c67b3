"""2 store: what has come in, by whichever way, becomes a row and the job it tells of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sqlmodel import Session

from triage import jobs
from triage.db import Delivery
from triage.intake.events import Notice, parse

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine


def store(
    engine: Engine,
    body: bytes | None,
    organization_url: str,
    *,
    source: Literal["hook", "service-bus"] = "hook",
) -> dict[str, str]:
    """Keep an event durably and queue the run it tells of. Returns what became of it.

    A body that could not be taken whole is None.
    """
    if body is None:
        notice = Notice("refused", "The body is too large, compressed or broke off.")
    else:
        notice = parse(body, organization_url)
    outcome: str = notice.kind
    if notice.ref is not None:
        outcome = "queued" if jobs.put(engine, notice.ref, marker=notice.marker) else "duplicate"
    with Session(engine) as session, session.begin():
        session.add(
            Delivery(
                source=source,
                event_type=notice.event_type,
                event_id=notice.event_id,
                subscription_id=notice.subscription_id,
                notification_id=notice.notification_id,
                outcome=outcome,
                reason=notice.reason,
                run_key=str(notice.ref) if notice.ref else "",
            )
        )
    return {"outcome": outcome, "reason": notice.reason}
