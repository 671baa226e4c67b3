"""A run's timelines and logs, made from the steps that a scenario names."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from triage.sandbox import noise, pipeline
from triage.sandbox.wire import guid, stamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from triage.sandbox.scenario import RunTable, StepTable

_ISSUES_MAX = 10  # the agent's own limit per record; errorCount goes on counting


@dataclass
class Played:
    """What a run leaves behind."""

    result: str
    current: str
    timelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: dict[int, bytes] = field(default_factory=dict)
    ran: list[StepTable] = field(default_factory=list)  # of the last attempts, without the skipped ones


def play(table: RunTable, *, seed: str, at: datetime, fill: Callable[[str], str]) -> Played:
    """Return the timelines and logs of a run; `fill` puts ids and addresses into texts."""
    if table.validation_errors:
        return Played("failed", "")
    return _Recorder(table, seed, at - timedelta(minutes=8), fill).record()


class _Recorder:
    """Walks through stages, jobs and steps as an agent would, and keeps what it reports."""

    def __init__(self, table: RunTable, seed: str, at: datetime, fill: Callable[[str], str]) -> None:
        self.table = table
        self.seed = seed
        self.at = at
        self.fill = fill
        self.chance = random.Random(seed)
        self.played = Played("succeeded", guid(seed, "timeline"))
        self.next_log = 2
        self.newline = "\r\n" if table.windows else "\n"

    def record(self) -> Played:
        """Return everything the run leaves behind."""
        stages = list(dict.fromkeys(step.stage for step in self.table.steps))
        last: list[dict[str, Any]] = []
        for order, stage in enumerate(stages, 1):
            last.extend(self._stage(stage, order, last))
        if not self.table.designer:
            self.played.logs[1] = (
                b"\xef\xbb\xbf" + pipeline.expanded_yaml(self.table, self.fill).replace("\n", "\r\n").encode()
            )
        self._keep(self.played.current, last)
        if not self.table.logs:
            self._lose_logs()
        failed = {record["result"] for record in last if record["type"] == "Stage"}
        if "failed" in failed:
            self.played.result = "failed"
        elif "succeededWithIssues" in failed:
            self.played.result = "partiallySucceeded"
        return self.played

    def _lose_logs(self) -> None:
        """Leave what is known of a run whose agent died: errors without a place."""
        self.played.logs.clear()
        for timeline in self.played.timelines.values():
            for record in timeline["records"]:
                record["log"] = None
                for issue in record["issues"]:
                    issue["data"].pop("logFileLineNumber", None)

    def _stage(self, name: str, order: int, before: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return a stage's records of its last attempt; earlier attempts get timelines of their own."""
        steps = [step for step in self.table.steps if step.stage == name]
        blocked = any(r["type"] == "Stage" and r["result"] in {"failed", "skipped"} for r in before)
        attempts = sorted({step.attempt for step in steps})
        previous: dict[str, list[dict[str, Any]]] = {}
        records: list[dict[str, Any]] = []
        for attempt in attempts:
            chosen = [step for step in steps if step.attempt == attempt]
            records = self._attempt(name, order, attempt, chosen, blocked=blocked, previous=previous)
            if attempt == attempts[-1]:
                self.played.ran.extend(s for s, r in self._told if r["result"] != "skipped")
                break
            timeline = guid(self.seed, "timeline", name, str(attempt))
            self._keep(timeline, before + records)
            for record in records:
                earlier = previous.setdefault(record["identifier"] or record["name"], [])
                earlier.append({"attempt": attempt, "timelineId": timeline, "recordId": record["id"]})
        return records

    def _attempt(
        self,
        stage: str,
        order: int,
        attempt: int,
        steps: list[StepTable],
        *,
        blocked: bool,
        previous: dict[str, list[dict[str, Any]]],
    ) -> list[dict[str, Any]]:
        self._told: list[tuple[StepTable, dict[str, Any]]] = []
        ids = f"{stage}#{attempt}"
        top = self._record("Stage", stage, None, ids, order, attempt, stage)
        check = self._record(
            "Checkpoint", "Checkpoint", top["id"], f"{ids}/check", 1, attempt, f"{stage}.Checkpoint"
        )
        allowed = self._record(
            "Checkpoint.Authorization",
            "Checkpoint.Authorization",
            check["id"],
            f"{ids}/allow",
            1,
            attempt,
            None,
        )
        records = [top, check, allowed]
        for number, job in enumerate(dict.fromkeys(step.job for step in steps), 1):
            mine = [step for step in steps if step.job == job]
            path = f"{stage}.{job}"
            phase = self._record("Phase", job, top["id"], f"{ids}/{job}", number, attempt, path)
            runs = self._record("Job", job, phase["id"], f"{ids}/{job}/job", 1, attempt, f"{path}.__default")
            tasks = [] if blocked else self._job(runs, mine, attempt, f"{path}.__default", ids)
            runs["result"] = phase["result"] = "skipped" if blocked else _worst(tasks)
            if not blocked:
                runs["workerName"] = "Hosted Agent 4"
            records += [phase, runs, *tasks]
        top["result"] = "skipped" if blocked else _worst([r for r in records if r["type"] == "Job"])
        for record in records:
            record["previousAttempts"] = list(previous.get(record["identifier"] or record["name"], []))
            record["finishTime"] = stamp(self.at)
        return records

    def _job(
        self, job: dict[str, Any], steps: list[StepTable], attempt: int, path: str, ids: str
    ) -> list[dict[str, Any]]:
        first = len(self.played.logs)
        tasks = [
            self._plain("Initialize job", job, attempt, path, 1, "agent", None),
            self._plain("Checkout", job, attempt, path, 2, "checkout", pipeline.CHECKOUT),
        ]
        stopped = False
        for number, step in enumerate(steps, 3):
            record = self._step(step, job, attempt, path, ids, number, skipped=stopped)
            self._told.append((step, record))
            tasks.append(record)
            stopped = stopped or record["result"] == "failed"
        tasks.append(
            self._plain("Post-job: Checkout", job, attempt, path, len(steps) + 3, "agent", pipeline.CHECKOUT)
        )
        tasks.append(self._plain("Finalize Job", job, attempt, path, len(steps) + 4, "agent", None))
        # A job's own log repeats the lines of all its tasks.
        job["log"] = self._log(b"".join(list(self.played.logs.values())[first:]))
        return tasks

    def _plain(
        self,
        name: str,
        job: dict[str, Any],
        attempt: int,
        path: str,
        order: int,
        kind: str,
        task: str | None,
    ) -> dict[str, Any]:
        record = self._record(
            "Task", name, job["id"], f"{job['id']}/{name}", order, attempt, f"{path}.{name}"
        )
        record["task"] = {"id": task, "name": "Checkout", "version": "1.0.0"} if task else None
        lines = [
            f"##[section]Starting: {name}",
            *noise.chatter(kind, 24, self.chance),
            f"##[section]Finishing: {name}",
        ]
        record["log"] = self._log(self._bytes(lines))
        return record

    def _step(
        self,
        step: StepTable,
        job: dict[str, Any],
        attempt: int,
        path: str,
        ids: str,
        order: int,
        *,
        skipped: bool,
    ) -> dict[str, Any]:
        task = pipeline.task_of(step)
        reference = f"{task['name']}{order - 2}"
        record = self._record(
            "Task",
            self.fill(step.name),
            job["id"],
            f"{ids}/{path}/{order}",
            order,
            attempt,
            f"{path}.{reference}",
        )
        record["task"], record["refName"] = task, reference
        if skipped:
            record["result"], record["startTime"] = "skipped", None
            return record
        lines, issues = self._said(step, task)
        failed = step.result == "failed" or (not step.result and bool(step.errors))
        if failed:
            record["result"] = "succeededWithIssues" if step.continue_on_error else "failed"
        record["errorCount"], record["issues"] = len(issues), issues[:_ISSUES_MAX]
        record["log"] = self._log(self._bytes(lines))
        return record

    def _said(self, step: StepTable, task: dict[str, str]) -> tuple[list[str], list[dict[str, Any]]]:
        """Return a step's lines and the errors among them, each with its line's number."""
        kind, count = step.noise
        name = self.fill(step.name)
        friendly = pipeline.TASKS[task["name"]][1]
        lines = noise.header(name, friendly, f"{friendly}, as it comes with Azure Pipelines", task["version"])
        if step.script:
            lines += [
                "Generating script.",
                "Script contents:",
                *self.fill(step.script).strip("\n").split("\n"),
            ]
            lines.append("========================== Starting Command Output ===========================")
        lines += noise.chatter(kind, count, self.chance)
        if step.page_break:
            lines[len(lines) // 2] = "\ufeff" + lines[len(lines) // 2]
        lines += [self.fill(text) for text in step.output]
        issues = []
        for text in map(self.fill, step.errors):
            number = sum(line.count("\n") + 1 for line in lines) + 1
            data = {"type": "error", "logFileLineNumber": str(number)}
            issues.append({"type": "error", "category": "General", "message": text, "data": data})
            lines.append(f"##[error]{text}")
        lines += noise.chatter("agent", step.afterwards, self.chance)
        return [*lines, f"##[section]Finishing: {name}"], issues

    def _record(
        self,
        kind: str,
        name: str,
        parent: str | None,
        ids: str,
        order: int,
        attempt: int,
        identifier: str | None,
    ) -> dict[str, Any]:
        self.at += timedelta(seconds=2)
        return {
            "previousAttempts": [],
            "id": guid(self.seed, kind, ids),
            "parentId": parent,
            "type": kind,
            "name": name,
            "startTime": stamp(self.at),
            "finishTime": stamp(self.at),
            "currentOperation": None,
            "percentComplete": None,
            "state": "completed",
            "result": "succeeded",
            "resultCode": None,
            "changeId": self.next_log,
            "lastModified": "0001-01-01T00:00:00",
            "workerName": None,
            "order": order,
            "details": None,
            "errorCount": 0,
            "warningCount": 0,
            "url": None,
            "log": None,
            "task": None,
            "attempt": attempt,
            "identifier": identifier,
            "refName": name if kind == "Stage" else None,
            "issues": [],
        }

    def _bytes(self, lines: list[str]) -> bytes:
        return noise.stamped(lines, self.at, self.chance, newline=self.newline)

    def _log(self, text: bytes) -> dict[str, Any]:
        number, self.next_log = self.next_log, self.next_log + 1
        self.played.logs[number] = text
        return {"id": number, "type": "Container", "url": f"logs/{number}"}

    def _keep(self, timeline: str, records: list[dict[str, Any]]) -> None:
        self.played.timelines[timeline] = {
            "records": records,
            "lastChangedBy": "00000002-0000-8888-8000-000000000000",
            "lastChangedOn": stamp(self.at),
            "id": timeline,
            "changeId": len(records),
            "url": None,
        }


def _worst(records: list[dict[str, Any]]) -> str:
    results = {record["result"] for record in records}
    for result in ("failed", "succeededWithIssues"):
        if result in results:
            return result
    return "succeeded"
