"""The command line: each verb a few lines."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

import triage
from triage import config
from triage.errors import TriageError

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Commands(click.Group):
    """Turns every explained error into its sentence on stderr and its exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TriageError as error:
            click.echo(f"triage: {error}", err=True)
            ctx.exit(error.exit_code)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(triage.__version__, prog_name="triage")
def cli() -> None:
    """From a failed Azure DevOps run to the person who can renew its credential.

    Settings come from triage.toml and from TRIAGE_… environment variables; deploy/README.md lists
    them. Exit codes: 0 done, nothing found; 1 found (scan) or a scenario failed (demo); 2 wrong
    usage or settings; 3 input unreadable; 4 rule pack wrong.
    """


@cli.command()
@click.option("--once", is_flag=True, help="Run to the end and exit instead of staying up.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--port", type=int, default=0, help="Port of triage's own pages. [default: a free one]")
def demo(*, once: bool, form: Literal["text", "json"], port: int) -> None:
    """Play a whole organisation with failing pipelines and let triage do its work.

    Needs no account and no network. Exits 1 when a scenario did not end as expected.
    """
    from triage import demo as played

    _log_to_stderr()
    sys.exit(played.run(once=once, form=form, port=port))


@cli.command()
@click.argument("run_url")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--token", envvar="TRIAGE_AZURE_DEVOPS__TOKEN", help="Personal access token to read with.")
@click.option("--rules", "rules_path", type=click.Path(path_type=Path), help="A rule pack of your own.")
def explain(run_url: str, form: Literal["text", "json"], token: str | None, rules_path: Path | None) -> None:
    """Tell what triage would make of the run at RUN_URL. Writes nothing.

    RUN_URL is the address of the run's page, e.g.
    https://dev.azure.com/contoso/Shop/_build/results?buildId=42
    """
    from triage import explain as told

    _log_to_stderr()
    told.run(run_url, form=form, token=token, rules_path=rules_path)


@cli.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--rules", "rules_path", type=click.Path(path_type=Path), help="A rule pack of your own.")
def scan(paths: Sequence[str], form: Literal["text", "json"], rules_path: Path | None) -> None:
    """Search logs on disk for expired credentials: files, folders, or - for standard input.

    Needs no server and no token. With --format json prints one object a line: path, line (1-based),
    rule, credential, verdict, confidence, captures, excerpt. Exits 0 when nothing was found, 1 when
    something was (a look-alike alone is nothing), 2 wrong usage, 3 an input could not be read, 4 the
    rule pack is wrong.
    """
    from triage import match
    from triage.match import scan as scanning

    pack = match.load_pack(rules_path or config.load().rules.path)
    sys.exit(
        scanning.run(
            paths, format=form, pack=pack, stdin=sys.stdin.buffer, stdout=sys.stdout, stderr=sys.stderr
        )
    )


@cli.command()
@click.option("--host", help="Address to listen on (server.host).")
@click.option("--port", type=int, help="Port to listen on (server.port).")
@click.option("--workers", type=int, help="Worker threads in this process (workers).")
def serve(**flags: Any) -> None:
    """Receive events, triage runs, show pages: everything in one process."""
    from triage import service

    _log_to_stderr()
    service.serve(_settings(**flags))


@cli.command()
@click.option("--workers", type=int, help="Worker threads in this process (workers).")
def work(**flags: Any) -> None:
    """Triage runs that another process has received; no web server."""
    from triage import service

    _log_to_stderr()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    service.work(_settings(**flags), stopping)


@cli.group()
def rules() -> None:
    """Look after the rule pack."""


@rules.command("check")
@click.argument("path", required=False, type=click.Path(path_type=Path))
def rules_check(path: Path | None) -> None:
    """Check every rule and recipe in PATH, or the shipped pack, and report all problems at once."""
    from triage import match, renewal
    from triage.errors import RulePackError

    path = path or config.load().rules.path
    problems = match.check(path) + renewal.check(path)
    if problems:
        raise RulePackError(problems)
    pack, book = match.load_pack(path), renewal.load(path)
    click.echo(f"{len(pack.rules)} rules and {len(book.recipes)} renewal recipes are in order.")


def main() -> None:
    """Run the command line."""
    cli(prog_name="triage")


def _settings(**flags: Any) -> config.Settings:
    given = {name: value for name, value in flags.items() if value is not None}
    overrides: dict[str, Any] = {"workers": given["workers"]} if "workers" in given else {}
    server: dict[str, Any] = {name: given[name] for name in ("host", "port") if name in given}
    if server:
        overrides["server"] = config.load().server.model_copy(update=server)
    return config.load(**overrides)


def _log_to_stderr() -> None:
    import structlog

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
