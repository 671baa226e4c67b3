"""`/metrics`: what a monitoring system asks of triage, counted when it asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from sqlmodel import Session, col, func, select

from triage.db import EVENT_SOURCES, Delivery, Health, Job, not_over, now, reader
from triage.jobs import State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from prometheus_client import Metric
    from sqlalchemy.engine import Engine

MEDIA_TYPE = CONTENT_TYPE_LATEST
_SHOWN = (State.AVAILABLE, State.RUNNING, State.RETRYABLE, State.DISCARDED, State.QUARANTINED)


def text(engine: Engine) -> bytes:
    """Return the measures in the text form of Prometheus."""
    registry = CollectorRegistry()
    registry.register(_Measures(engine))
    return generate_latest(registry)


class _Measures:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def collect(self) -> Iterator[Metric]:
        """Count; called by the registry."""
        with Session(reader(self.engine)) as session:
            told = "Jobs by state; those that ended well are left out."
            jobs = GaugeMetricFamily("triage_jobs", told, labels=["state"])
            for state in _SHOWN:
                jobs.add_metric([state], session.exec(select(func.count()).where(Job.state == state)).one())
            yield jobs
            due = select(func.min(Job.available_at)).where(
                Job.state == State.AVAILABLE, col(Job.available_at) < now()
            )
            oldest = session.exec(due).one()
            yield _age("triage_oldest_job_seconds", "How long the oldest job is due.", oldest)
            still = session.exec(select(func.count()).where(not_over())).one()
            yield GaugeMetricFamily("triage_incidents_open", "Open incidents.", value=still)
            last = select(Delivery.received_at).order_by(col(Delivery.id).desc()).limit(1)
            came = [session.exec(last.where(Delivery.source == each)).first() for each in EVENT_SOURCES]
            since = max((at for at in came if at is not None), default=None)
            yield _age("triage_last_event_seconds", "How long ago Azure DevOps told something.", since)
            told = "1 while a part of triage is well, else 0."
            parts = GaugeMetricFamily("triage_part_ok", told, labels=["part"])
            for row in session.exec(select(Health)):
                parts.add_metric([row.component], 1.0 if row.state == "ok" else 0.0)
            yield parts


def _age(name: str, what: str, since: datetime | None) -> Metric:
    return GaugeMetricFamily(name, what, value=(now() - since).total_seconds() if since else 0.0)
