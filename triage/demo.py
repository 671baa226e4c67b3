"""`triage demo`: a played organisation, pipelines that fail, and triage at work beside it."""

from __future__ import annotations

import html
import json
import logging
import re
import secrets
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import requests
import structlog
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from triage import config, jobs, service
from triage.sandbox import hooks, stories
from triage.sandbox.organisation import Organisation
from triage.sandbox.server import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy.engine import Engine

    from triage.sandbox.server import Played

_PATIENCE_SECONDS = 120.0
_LOOK_SECONDS = 0.05
_ROUND_SECONDS = 0.001  # a round belongs to its slot of time; each of these is one of its own
_COMMENT_SHOWN = 150  # letters
_ELEMENT = re.compile(r"<[^>]+>")
_EVENTS = (
    "build.complete",
    "ms.vss-pipelines.run-state-changed-event",
    "ms.vss-pipelines.stage-state-changed-event",
    "ms.vss-release.deployment-completed-event",
)


@dataclass(frozen=True)
class Stage:
    """A played organisation with triage subscribed to it."""

    organisation: Organisation
    engine: Engine
    pages_url: str
    settings: config.Settings

    def view(self, path: str) -> Any:
        """Return triage's own JSON at a path, None when there is none."""
        answer = requests.get(self.pages_url + path, timeout=30)
        return answer.json() if answer.ok else None

    def look(self) -> None:
        """Let triage finish, look at its open incidents and at what ends soon, and finish again.

        A served triage does so every few minutes, or daily.
        """
        self.settle()
        for kind in (jobs.Kind.MEND, jobs.Kind.EXPIRY):
            jobs.put_round(self.engine, kind, _ROUND_SECONDS)
        self.settle()

    def play(self, told: Sequence[stories.Story], *, tell: Callable[[str], object] = lambda _: None) -> None:
        """Play stories, each to its end; `tell` hears what comes next."""

        def look() -> None:
            tell("triage works")
            self.look()

        stories.play_all(
            told,
            self.organisation,
            lambda event: hooks.deliver(self.organisation, event),
            look,
            begin=lambda story: tell(story.title),
        )

    def settle(self) -> None:
        """Wait until every job has ended."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while jobs.unfinished(self.engine) and time.monotonic() < end:
            time.sleep(_LOOK_SECONDS)


@contextmanager
def stage(
    folder: Path,
    *,
    port: int = 0,
    workers: int = 2,
    database_url: str = "",
    name: str = "contoso",
    known_as: Callable[[Played], str] = lambda played: played.url,
) -> Iterator[Stage]:
    """Serve a played organisation and triage beside it; nothing leaves this machine.

    Without a database's URL a new one is made in the folder. `known_as` returns the address by which
    triage is told of the organisation.
    """
    token, password = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    organisation = Organisation(name)
    with ExitStack() as stack:
        played = stack.enter_context(serve(organisation, token=token))
        listener = service.listen("127.0.0.1", port)
        pages_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        settings = config.load(
            azure_devops={"url": known_as(played), "token": token},
            database={"url": database_url or f"sqlite:///{folder / 'triage.db'}"},
            hook={"username": "triage", "password": password},
            server={"public_url": pages_url},
            owners={"default_team": "Platform team"},
            policy={"settle_seconds": 0.2, "group_wait_seconds": 0, "group_interval_seconds": 0},
            rules={},
            sweep={"every_seconds": 0},
            watch={"every_seconds": 0},
            expiry={"every_seconds": 0},
            after_renewal={"every_seconds": 0},
            workers=workers,
        )
        for event_type in _EVENTS:
            organisation.subscribe(
                f"{pages_url}/hooks/azure-devops",
                event_type=event_type,
                username="triage",
                password=password,
            )
        engine = stack.enter_context(service.running(settings, listener))
        yield Stage(organisation, engine, pages_url, settings)


def run(*, once: bool, form: Literal["text", "json"], port: int = 0) -> int:
    """Play every scenario. Returns 0 when all ended as expected, else 1."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    told = stories.load()
    with (
        tempfile.TemporaryDirectory(prefix="triage-demo-") as folder,
        stage(Path(folder), port=port) as played,
    ):
        _play(played, told, quiet=form == "json")
        results = [_result(story, played) for story in told]
        if form == "json":
            print(json.dumps({"scenarios": results}, indent=2))  # noqa: T201 - the command's output
        else:
            _tell(played, told, results)
        if not once:
            if form == "text":
                invite(played)
            _stay()
    return 0 if all(result["ok"] for result in results) else 1


def _play(played: Stage, told: list[stories.Story], *, quiet: bool) -> None:
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=Console(stderr=True),
        disable=quiet,
    ) as progress:
        looks = 1 + max((len(story.scenario.afterwards) for story in told), default=0)
        playing = progress.add_task("Pipelines run", total=len(told) + looks)
        played.play(
            told, tell=lambda what: progress.update(playing, description=escape(what[:60]), advance=1)
        )
        progress.update(playing, description="All has been played")


def _result(story: stories.Story, played: Stage) -> dict[str, Any]:
    differences = stories.check(story, played.organisation, played.view)
    return {
        "name": story.name,
        "title": story.title,
        "ok": not differences,
        "expected": story.expected,
        "happened": stories.happened(story, played.organisation, played.view),
        "differences": differences,
    }


def _tell(played: Stage, told: list[stories.Story], results: list[dict[str, Any]]) -> None:
    out = Console()
    table = Table("", "Run", "Signature", "Connection", "Owner", "Work item", "Renewal", pad_edge=False)
    for each in results:
        seen = each["happened"]
        connection = escape(seen["connection"] or "–")
        how = f"\n[dim]{escape(seen['link'])}[/]" if seen["connection"] and seen["link"] else ""
        table.add_row(
            "[green]✓[/]" if each["ok"] else "[red]✗[/]",
            escape(each["title"]),
            escape(f"{seen['rule']} ({seen['verdict']})") if seen["rule"] else "[dim]nothing[/]",
            connection + how,
            _owner(seen) if seen["items"] else "–",
            "\n".join(map(_item, seen["items"])) or "–",
            escape(seen["recipe"] or "–") if seen["items"] else "–",
        )
    out.print(table)
    out.print(_later(results, {story.name: story for story in told}))
    for each in results:
        for difference in each["differences"]:
            out.print(f"[red]{escape(each['name'])}:[/] {escape(difference)}")
    good = sum(each["ok"] for each in results)
    out.print(f"{good} of {len(results)} scenarios ended as expected.\n")
    out.print(f"triage's incidents:        {played.pages_url}/", highlight=False, soft_wrap=True)
    out.print(f"the same as JSON:          {played.pages_url}/api/incidents", highlight=False, soft_wrap=True)
    out.print(f"what ends when:            {played.pages_url}/connections", highlight=False, soft_wrap=True)
    out.print(f"the played organisation:   {played.organisation.url}", highlight=False, soft_wrap=True)


def _later(results: list[dict[str, Any]], told: dict[str, stories.Story]) -> Table:
    """Return what came after the first failure: renewals, relapses, warnings."""
    table = Table("", "Some time later", "What happened", "What triage did", pad_edge=False, show_lines=True)
    for each in results:
        if told[each["name"]].afterwards:
            mark = "[green]✓[/]" if each["ok"] else "[red]✗[/]"
            table.add_row(mark, escape(each["title"]), *_afterwards(told[each["name"]], each["happened"]))
    return table


def _owner(seen: dict[str, Any]) -> str:
    how = f"\n[dim]{escape(seen['owner_method'])}[/]" if seen["owner_method"] else ""
    return escape(str(seen["owner"] or "nobody")) + how


def _item(item: dict[str, Any]) -> str:
    return f"[link={item['url']}]#{item['id']}[/link]\n[dim]{escape(item['state'])}[/]"


def _afterwards(story: stories.Story, seen: dict[str, Any]) -> tuple[str, str]:
    """Return what people and pipelines did later, and what triage made of it; both with markup."""
    happened = [escape(each) for each in story.afterwards]
    did = []
    for item in seen["items"]:
        number = f"[link={item['url']}]#{item['id']}[/link]"
        did += [f"{number} {escape(each)}" for each in ("is filed.", *map(_plain, item["comments"]))]
        did.append(f"{number} is [bold]{escape(item['state'])}[/] in the end.")
    return "\n".join(happened), "\n".join(did)


def _plain(comment: str) -> str:
    """Return how a comment begins, without its HTML."""
    text = " ".join(html.unescape(_ELEMENT.sub("", comment)).split())
    return text if len(text) <= _COMMENT_SHOWN else text[:_COMMENT_SHOWN].rsplit(" ", 1)[0] + " …"


def invite(played: Stage) -> None:
    """Tell how to try the other commands on what was played; the token is good for nothing else."""
    azure_devops = played.settings.azure_devops
    given = {
        "TRIAGE_AZURE_DEVOPS__URL": azure_devops.url,
        "TRIAGE_AZURE_DEVOPS__TOKEN": azure_devops.token.get_secret_value() if azure_devops.token else "",
        "TRIAGE_DATABASE__URL": played.settings.database.url,
    }
    out = Console()
    out.print("\nThe other commands, in another terminal:\n", highlight=False)
    for name, value in given.items():
        out.print(f"  export {name}={value}", highlight=False, markup=False, soft_wrap=True)
    out.print("  python3 -m triage connections list", highlight=False, markup=False)


def _stay() -> None:
    print("\nIt all stays up until Ctrl-C.", file=sys.stderr)  # noqa: T201 - the command's last word
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print(file=sys.stderr)  # noqa: T201
