"""The command line: each verb a few lines."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

import triage
from triage.domain import Verdict
from triage.errors import TriageError, UnreadableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from triage import config

_AGE_MAX = 100_000


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
    them. Exit codes: 0 done, nothing found; 1 found (scan), not reported (rules try) or a scenario
    failed (demo); 2 wrong usage or settings; 3 input unreadable; 4 rule pack wrong.
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
    from triage import own_log

    own_log.to_stderr()
    sys.exit(played.run(once=once, form=form, port=port))


@cli.command()
@click.argument("run_url")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--token", envvar="TRIAGE_AZURE_DEVOPS__TOKEN", help="Personal access token to read with.")
@click.option("--rules", "rules_path", type=click.Path(path_type=Path), help="A rule pack of your own.")
def explain(run_url: str, form: Literal["text", "json"], token: str | None, rules_path: Path | None) -> None:
    """Tell what triage would make of the run at RUN_URL. Writes nothing.

    RUN_URL is the address of the run's page, e.g.
    https://dev.azure.com/contoso/Shop/_build/results?buildId=42 or, of a classic release,
    https://dev.azure.com/contoso/Shop/_releaseProgress?releaseId=4&environmentId=5
    """
    from triage import explain as told
    from triage import own_log

    own_log.to_stderr()
    told.run(run_url, form=form, token=token, rules_path=rules_path)


@cli.command()
@click.argument("paths", nargs=-1, required=True)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "sarif", "junit", "azure", "markdown"]),
    default="text",
    show_default=True,
)
@click.option("--rules", "rules_path", type=click.Path(path_type=Path), help="A rule pack of your own.")
@click.option(
    "--jobs",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Logs searched side by side; 0: as many as there are cores.",
)
@click.option("--exit-zero", is_flag=True, help="Exit 0 also when something was found.")
def scan(paths: Sequence[str], form: str, rules_path: Path | None, jobs: int, *, exit_zero: bool) -> None:
    """Search logs on disk for expired credentials: files, folders, or - for standard input.

    Needs no server and no token. Reads plain logs, gzip, and the archive of a run's logs (zip).

    json: one object a line, with path, line (1-based), rule, credential, verdict, confidence, captures,
    excerpt; or with path and cut, what was not read of a log. azure: logging commands, for a step of a
    pipeline. junit and sarif: files to publish. markdown: a summary.

    Exits 0 when nothing was found, 1 when something was (a look-alike alone is nothing), 2 wrong usage,
    3 an input could not be read, 4 the rule pack is wrong.
    """
    from triage import match
    from triage import scan as scanning
    from triage.scan import reports

    pack = match.load_pack(rules_path or _own_rules())
    gc.freeze()  # the pack stays: to look for garbage in it again and again takes a twentieth of the time
    sys.exit(
        scanning.run(
            paths,
            pack=pack,
            report=reports.FORMATS[form](sys.stdout),
            stdin=sys.stdin.buffer,
            stderr=sys.stderr,
            jobs=jobs or os.cpu_count() or 1,
            exit_zero=exit_zero,
        )
    )


@cli.command()
@click.option("--host", help="Address to listen on (server.host).")
@click.option("--port", type=int, help="Port to listen on (server.port).")
@click.option("--workers", type=int, help="Worker processes on this machine (workers).")
def serve(**flags: Any) -> None:
    """Receive events, triage runs, show pages: everything on one machine."""
    from triage import own_log, service

    own_log.to_stderr()
    service.serve(_settings(**flags))


@cli.command()
@click.option("--workers", type=int, help="Worker processes on this machine (workers).")
def work(**flags: Any) -> None:
    """Triage runs that another process has received; no web server."""
    from triage import own_log, service

    own_log.to_stderr()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    service.work(_settings(**flags), stopping)


@cli.command()
@click.option("--organization", help="The organisation's address, e.g. https://dev.azure.com/contoso.")
@click.option(
    "--auth",
    type=click.Choice(["managed-identity", "workload-identity", "service-principal", "token", "azure-cli"]),
    help="How triage signs in to Azure DevOps.",
)
@click.option("--tenant-id", help="Entra tenant of a service principal.")
@click.option("--client-id", help="Application of a service principal, or a user-assigned managed identity.")
@click.option("--certificate-file", help="Certificate and private key of a service principal.")
@click.option("--expires-on", help="The day the token or secret expires, e.g. 2027-01-31.")
@click.option("--public-url", help="The https address at which Azure DevOps reaches triage.")
@click.option("--database-url", help="sqlite:///file or postgresql://user@host/name.")
@click.option("--default-team", help="The team that gets what nobody else owns.")
@click.option(
    "--project", "projects", multiple=True, help="Install the hooks of this project; may be repeated."
)
@click.option("--all-projects", is_flag=True, help="Install the hooks of every project.")
@click.option("--force", is_flag=True, help="Write anew what exists already.")
@click.option("--no-input", is_flag=True, help="Ask nothing: flags and environment say it all.")
def init(**given: Any) -> None:
    """Set triage up: ask for what it needs, write it down, test it, and offer to install the hooks.

    Writes triage.toml, and secrets to triage.secrets.toml, both readable by you alone; secrets that are in
    the environment (TRIAGE_AZURE_DEVOPS__TOKEN, …__CLIENT_SECRET) stay there. Overwrites nothing without
    --force. Tests by what `triage doctor` does. Exits 2 when something does not work.
    """
    from triage import init as setting_up

    sys.exit(setting_up.run(setting_up.Given(**given)))


@cli.command()
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def doctor(form: Literal["text", "json"]) -> None:
    """Look at everything that triage needs, and tell of each fault how to mend it. Writes nothing.

    Settings and their files, the hook's secret, rule pack, owners, database, queue, public address, the
    credential (kind, expiry, identity, missing and excess rights), the clock, and the service hooks.

    Exits 0 when all is well, 1 when there are warnings only, 2 when something does not work.
    """
    from triage import doctor as examining

    sys.exit(examining.run(form))


@cli.group()
def hooks() -> None:
    """Install, look at and repair the service hooks that tell triage of failed runs."""


def _hooks_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(
        (
            click.option("--project", "projects", multiple=True, help="A project by name; may be repeated."),
            click.option("--all-projects", is_flag=True, help="Every project that the credential may see."),
            click.option("--url", help="Where Azure DevOps reaches triage (server.public_url)."),
            click.option("--service-bus", is_flag=True, help="Send to a Service Bus queue instead."),
            click.option("--queue", help="The queue's name."),
            click.option(
                "--send-connection-string",
                envvar="TRIAGE_SEND_CONNECTION_STRING",
                help="SAS that lets Azure DevOps send to the queue; better set as the variable.",
                show_envvar=True,
            ),
            click.option("--releases", is_flag=True, help="Deployments of classic releases as well."),
            click.option(
                "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True
            ),
        )
    ):
        command = option(command)
    return command


@hooks.command("install")
@_hooks_options
def hooks_install(**given: Any) -> None:
    """Create the subscriptions that are missing and update those that differ.

    For each project one for failed and one for partially succeeded runs, and one for changed service
    connections where Azure DevOps offers that. Doing it twice does nothing more.
    Azure DevOps drops events that the one who made a subscription may not read, so triage makes them with
    its own credential (azure_devops), which needs Edit Subscriptions in each project.
    """
    from triage import config, subscribing

    sys.exit(subscribing.install(config.load(), subscribing.Choice(**given)))


@hooks.command("status")
@_hooks_options
def hooks_status(**given: Any) -> None:
    """Tell of each subscription whether it works, and which of its last events were not delivered.

    Without --project and --all-projects: of the projects that have one already. Exits 1 when one does not
    work.
    """
    from triage import config, subscribing

    sys.exit(subscribing.status(config.load(), subscribing.Choice(**given)))


@hooks.command("repair")
@_hooks_options
def hooks_repair(**given: Any) -> None:
    """Do what install does, and replace what Azure DevOps has switched off.

    A subscription on probation or disabled by the system is created anew and the old one deleted; one that
    is there twice is removed once; a password that differs is set again. What a person disabled stays so.
    """
    from triage import config, subscribing

    sys.exit(subscribing.install(config.load(), subscribing.Choice(**given), repair=True))


@cli.command("sweep")
@click.option("--since", metavar="AGE", default="1d", show_default=True, help="How far back: 30m, 12h, 7d.")
@click.option("--project", "projects", multiple=True, help="Only this project; may be given again.")
def sweep_(since: str, projects: tuple[str, ...]) -> None:
    """Queue the failed runs that no event told of.

    Workers do so by themselves every few minutes (sweep.every_seconds); this looks further back, after
    an outage or where service hooks are not allowed. Runs that triage knows already are left alone.
    """
    from triage import own_log, service

    own_log.to_stderr()
    click.echo(service.sweep(_settings(), _age(since), projects))


@cli.group("connections")
def connections_() -> None:
    """Look at every service connection: when its credential ends, whose it is, who uses it."""


def _connections_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(
        (
            click.option(
                "--project", "projects", multiple=True, help="Only this project; may be given again."
            ),
            click.option(
                "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True
            ),
        )
    ):
        command = option(command)
    return command


@connections_.command("list")
@click.option("--unused", is_flag=True, help="Only those that no run has used for 90 days.")
@_connections_options
def connections_list(projects: tuple[str, ...], form: str, *, unused: bool) -> None:
    """List connections with scheme, age, likely end and its source, and who uses them; triage's own first.

    The end is known from Entra (expiry.graph), from a date in the description ("expires 2027-01-31"), or
    from the last change of a connection that Azure DevOps made itself, whose secret lasts three months.
    """
    from triage import connections

    connections.show(_settings(), projects, form, unused=unused)


@connections_.command("show")
@click.argument("name", metavar="NAME|ID")
@_connections_options
def connections_show(name: str, projects: tuple[str, ...], form: str) -> None:
    """Tell everything about the connections of this name or id, its owner too."""
    from triage import connections

    connections.show_one(_settings(), name, projects, form)


@connections_.command("expiring")
@click.option("--within", type=click.IntRange(min=0), default=30, show_default=True, help="So many days.")
@_connections_options
def connections_expiring(within: int, projects: tuple[str, ...], form: str) -> None:
    """List credentials that end soon or have ended, triage's own included; exits 1 when there are any."""
    from triage import connections

    sys.exit(connections.expiring(_settings(), projects, within, form))


@connections_.command("owners")
@_connections_options
def connections_owners(projects: tuple[str, ...], form: str) -> None:
    """List whose each connection is, and how that is known."""
    from triage import connections

    connections.owners(_settings(), projects, form)


@cli.group("jobs")
def jobs_() -> None:
    """Look after the queue: what waits, what failed for good, what to try again."""


_states = click.Choice(
    ["available", "running", "retryable", "completed", "discarded", "cancelled", "quarantined"]
)


@jobs_.command("list")
@click.option("--state", "states", type=_states, multiple=True, help="Only these; may be given again.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def jobs_list(states: tuple[str, ...], limit: int, form: str) -> None:
    """List jobs, the newest first; without --state those that did not succeed so far."""
    from triage import queue

    queue.show(_settings(), states, limit, form)


@jobs_.command("show")
@click.argument("number", type=int)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def jobs_show(number: int, form: str) -> None:
    """Tell everything about the job NUMBER."""
    from triage import queue

    queue.show_one(_settings(), number, form)


@jobs_.command("replay")
@click.argument("numbers", metavar="[NUMBER]...", type=int, nargs=-1)
@click.option("--state", type=click.Choice(["discarded", "quarantined", "cancelled"]), help="All of a state.")
def jobs_replay(numbers: tuple[int, ...], state: str | None) -> None:
    """Try jobs again that have ended, by number or by state; their counters begin at zero."""
    from triage import queue

    queue.replay(_settings(), numbers, state)


@cli.group()
def bus() -> None:
    """Look after the Service Bus queue that events come through (service_bus)."""


@bus.group("dead-letters")
def dead_letters() -> None:
    """Messages that could not be handled; nothing removes them but a person."""


@dead_letters.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="So many at most.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def dead_letters_list(limit: int, form: Literal["text", "json"]) -> None:
    """List the oldest dead letters: when, why, and which run each tells of. Takes none."""
    from triage import config
    from triage.intake.bus import show

    show.table(config.load(), limit=limit, form=form)


@dead_letters.command("show")
@click.argument("number", metavar="ID", type=int)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def dead_letters_show(number: int, form: Literal["text", "json"]) -> None:
    """Tell everything about the dead letter ID but its body."""
    from triage import config
    from triage.intake.bus import show

    show.one(config.load(), number, form=form)


@dead_letters.command("replay")
@click.argument("numbers", metavar="[ID]...", nargs=-1, type=int)
@click.option("--all", "everything", is_flag=True, help="All that are there now.")
def dead_letters_replay(numbers: Sequence[int], *, everything: bool) -> None:
    """Put dead letters on the queue again; a run that is known already is not triaged twice."""
    from triage import config
    from triage.intake.bus import show

    if bool(numbers) == everything:
        raise UsageError("Name the dead letters to replay (triage bus dead-letters list), or --all.")
    show.replayed(config.load(), numbers)


_rules_option = click.option(
    "--rules", "pack", type=click.Path(path_type=Path), help="A rule pack of your own (rules.path)."
)


@cli.group()
def rules() -> None:
    """Look after the rule pack: find, write, try and check rules."""


@rules.command("show")
@click.argument("rule_id", metavar="[ID]", required=False)
@click.option("--credential", default="", help="List only this family.")
@click.option(
    "--verdict", type=click.Choice([each.value for each in Verdict]), help="List only this verdict."
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@_rules_option
def rules_show(
    rule_id: str | None, credential: str, verdict: str | None, form: str, pack: Path | None
) -> None:
    """List the rules, or tell everything about the rule ID.

    What it means, what it recognises and what not, which recipe renews the credential, and which rules
    it yields to. With --format json one object a line in a list, or one object.
    """
    from triage import catalogue
    from triage.authoring import show

    known = catalogue.read(pack or _own_rules())
    if rule_id is not None:
        found = known.find(rule_id)
        return show.entry(found) if form == "text" else click.echo(json.dumps(found.full(), indent=2))
    if credential:
        known.require(credential)
    entries = known.select(credential=credential, verdict=verdict or "")
    if form == "text":
        return show.table(entries)
    for entry in entries:
        click.echo(json.dumps(entry.brief()))
    return None


@rules.command("new")
@click.argument("rule_id", metavar="ID")
@click.option("--from", "log", metavar="LOG", help="A log that holds the message, or - for standard input.")
@click.option("--line", type=int, help="The message's line. [default: the last ##[error] that tells a cause]")
@click.option("--group", help="The folder to write to. [default: where its kin are]")
@_rules_option
def rules_new(rule_id: str, log: str | None, line: int | None, group: str | None, pack: Path | None) -> None:
    """Write the file of a new rule, as far as it can be filled in.

    With --from, its pattern and its example come from a line of the log: the words stay, what changes
    from run to run becomes a capture, and what looks like a secret is masked. Overwrites nothing.
    """
    from triage.authoring import draft, new

    if line is not None and log is None:
        raise UsageError("--line is a line of the log given with --from.")
    drafted = draft.from_log(_log(log), line) if log else None
    folder = new.folder(pack or _own_rules())
    file, rivals = new.write(folder, rule_id, group, drafted)
    shown = new.shown(file)
    click.echo(f"Wrote {shown}" + (f" from line {drafted.line} of {log}." if drafted else "."))
    for rival in rivals:
        click.echo(f"The rule {rival} matches this line already: change that one, or say who yields.")
    click.echo(f"Next: fill in what is empty, then\n  triage rules check {shown}")
    click.echo(f"  triage rules try {shown} {log or 'LOG'}")


@rules.command("try")
@click.argument("rule", metavar="ID|FILE")
@click.argument("log")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@_rules_option
def rules_try(rule: str, log: str, form: str, pack: Path | None) -> None:
    """Try a rule on LOG (- for standard input), and say line by line why it matched or not.

    The rule is one of the pack, or a file that is not in it yet. Says which condition refused a line,
    which lines only quote a message, and which other rule wins. Exits 0 when triage would report the
    rule, 1 when not.
    """
    from triage import match
    from triage.authoring import attempt, show

    folder = pack or _own_rules() or match.shipped_rules()
    made = attempt.run(*attempt.read(folder, rule), _log(log))
    if form == "json":
        click.echo(json.dumps(attempt.as_json(made)))
    else:
        show.attempt(made, log)
    sys.exit(0 if made.reported else 1)


@rules.command("check")
@click.argument("path", required=False, type=click.Path(path_type=Path))
def rules_check(path: Path | None) -> None:
    """Check every rule and recipe, and report all problems at once, file by file.

    PATH is the folder of a pack, or one file of it, or a rule's file that is not in the pack yet: it is
    checked among the others. Without PATH the shipped pack (or rules.path) is checked.
    """
    from triage import match, renewal
    from triage.errors import RulePackError

    pack = _own_rules()
    file = path if path and path.is_file() else None
    pack = pack if file else path or pack
    if problems := _problems(pack, file):
        raise RulePackError(problems)
    recipes = len(renewal.load(pack).recipes)
    everything = f"{match.count(pack)} rules and {recipes} renewal recipes are in order."
    click.echo(f"{file} is in order." if file else everything)


@rules.command("schema")
@click.option("--recipes", is_flag=True, help="The schema of a recipe instead of a rule's.")
def rules_schema(*, recipes: bool) -> None:
    """Print the JSON Schema of a rule, for editors; the shipped files name it in their first line."""
    from triage.authoring import schema
    from triage.match import Rule
    from triage.renewal import RecipeFile

    click.echo(schema.text(RecipeFile if recipes else Rule), nl=False)


def main() -> None:
    """Run the command line."""
    cli(prog_name="triage")


def _problems(pack: Path | None, file: Path | None) -> list[str]:
    """Return what is wrong with a pack, or with one file of it, a rule or a recipe."""
    from triage import match, renewal
    from triage.match.load import RECIPES

    if file is None:
        return match.check(pack) + renewal.check(pack)
    is_recipe = file.resolve().parent.name == RECIPES
    name = match.file_name(pack or match.shipped_rules(), file)
    rule = [] if is_recipe else match.check(pack, only=file)
    return rule + [problem for problem in renewal.check(pack) if problem.startswith(f"{name}: ")]


def _log(path: str) -> bytes:
    """Return a log's bytes. Raises UnreadableError."""
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}; check the path.") from None


def _age(text: str) -> timedelta:
    """Return a length of time. Raises UsageError."""
    units = {"m": "minutes", "h": "hours", "d": "days"}
    number, unit = text[:-1], text[-1:]
    if not number.isdecimal() or unit not in units or not 0 < int(number) <= _AGE_MAX:
        raise UsageError(f"--since {text}: say a number of minutes, hours or days: 30m, 12h, 7d.")
    return timedelta(**{units[unit]: int(number)})


def _own_rules() -> Path | None:
    """Return the folder of the pack that the settings name.

    Without settings they are not read, which takes a tenth of a second: as long as to search 60 MB.
    """
    named = any(name.upper().startswith("TRIAGE_") for name in os.environ)
    if not (named or Path("triage.toml").exists() or Path("triage.secrets.toml").exists()):
        return None
    from triage import config

    return config.load().rules.path


def _settings(**flags: Any) -> config.Settings:
    from triage import config

    given = {name: value for name, value in flags.items() if value is not None}
    overrides: dict[str, Any] = {"workers": given["workers"]} if "workers" in given else {}
    server: dict[str, Any] = {name: given[name] for name in ("host", "port") if name in given}
    if server:
        overrides["server"] = config.load().server.model_copy(update=server)
    return config.load(**overrides)
