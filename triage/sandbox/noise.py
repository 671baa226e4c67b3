"""What steps print besides the line that matters: the same for the same seed, and never twice alike."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

_WORDS = (  # noqa: SIM905 - fifty quotes less
    "anchor basket beacon bridge candle canvas carbon cedar cobalt copper coral delta ember falcon fennel "
    "garnet harbor hazel indigo juniper kernel lantern linden maple marble meadow nectar onyx orchid pebble "
    "pepper pigment quartz raven ribbon saffron sierra silver spruce summit tangent thistle timber topaz "
    "tulip umber velvet walnut willow zephyr"
).split()
_GREEN, _YELLOW, _DIM, _RESET = "\x1b[32m", "\x1b[33m", "\x1b[2m", "\x1b[0m"

KINDS: dict[str, Callable[[random.Random], Iterator[str]]] = {}


def chatter(kind: str, count: int, chance: random.Random) -> list[str]:
    """Return `count` lines as a tool of this kind prints them.

    Raises ValueError for a kind that nobody has written yet.
    """
    if kind not in KINDS:
        raise ValueError(f"no noise is called {kind!r}; known: {', '.join(sorted(KINDS))}")
    lines: list[str] = []
    while len(lines) < count:
        lines.extend(KINDS[kind](chance))
    return lines[:count]


def header(title: str, friendly: str, description: str, version: str) -> list[str]:
    """Return what the agent prints when a task starts."""
    rule = "=" * 78
    return [
        f"##[section]Starting: {title}",
        rule,
        f"Task         : {friendly}",
        f"Description  : {description}",
        f"Version      : {version}",
        "Author       : Microsoft Corporation",
        "Help         : https://learn.microsoft.com/azure/devops/pipelines/tasks/reference",
        rule,
    ]


def stamped(lines: Iterable[str], start: datetime, chance: random.Random, *, newline: str = "\n") -> bytes:
    """Return lines as the agent keeps them: stamped, but for the later lines of one message.

    A text with line feeds is one message. A line that begins with a byte order mark is where the
    agent began a new page of its log.
    """
    kept, at = [], start
    for line in lines:
        at += timedelta(microseconds=chance.randint(90, 260_000))
        page = "\ufeff" if line.startswith("\ufeff") else ""
        stamp = f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond:06d}{chance.randint(0, 9)}Z"
        kept.append(f"{page}{stamp} {line.removeprefix(page)}".replace("\n", newline) + newline)
    return "".join(kept).encode()


def _kind(name: str) -> Callable[[Callable[[random.Random], Iterator[str]]], None]:
    def keep(lines: Callable[[random.Random], Iterator[str]]) -> None:
        KINDS[name] = lines

    return keep


def _word(chance: random.Random) -> str:
    return chance.choice(_WORDS)


def _hex(chance: random.Random, digits: int) -> str:
    return f"{chance.getrandbits(digits * 4):0{digits}x}"


def _version(chance: random.Random) -> str:
    return f"{chance.randint(0, 12)}.{chance.randint(0, 30)}.{chance.randint(0, 9)}"


@_kind("agent")
def _agent(chance: random.Random) -> Iterator[str]:
    yield f"##[debug]Evaluating condition for step: '{_word(chance)}'"
    yield f"Agent name: 'Hosted Agent {chance.randint(2, 40)}'"
    yield f"Set build variable {_word(chance).upper()}_{_word(chance).upper()} for this job."
    yield f"Downloaded task cache {_hex(chance, 8)} in {chance.randint(8, 900)} ms."


@_kind("checkout")
def _checkout(chance: random.Random) -> Iterator[str]:
    total = chance.randint(120, 4000)
    yield f"##[command]git --config-env=http.extraheader=env_var_http.extraheader fetch --depth={chance.randint(1, 5)} origin"
    yield f"remote: Found {total} objects to send. ({chance.randint(3, 90)} ms)"
    # A progress bar redraws its line with carriage returns: one line for Azure DevOps.
    yield "\r".join(
        f"Receiving objects: {part:3d}% ({total * part // 100}/{total})" for part in range(0, 101, 5)
    )
    yield f" * [new ref]         {_hex(chance, 40)} -> origin/{_word(chance)}"
    for _ in range(6):
        yield f"Updating files: {_word(chance)}/{_word(chance)}/{_word(chance)}.cs"
    yield f"HEAD is now at {_hex(chance, 7)} Rename {_word(chance)} to {_word(chance)}"


@_kind("npm")
def _npm(chance: random.Random) -> Iterator[str]:
    package = f"@{_word(chance)}/{_word(chance)}"
    yield f"npm http fetch GET 200 https://npm.pkg.example/{package} {chance.randint(9, 401)}ms (cache hit)"
    yield f"npm http fetch GET 200 https://npm.pkg.example/{_word(chance)}-{_word(chance)} {chance.randint(12, 950)}ms"
    if chance.random() < 0.3:
        yield f"{_YELLOW}npm warn{_RESET} deprecated {_word(chance)}@{_version(chance)}: use {_word(chance)} instead"
    if chance.random() < 0.2:
        yield f"added {chance.randint(40, 1401)} packages, and audited {chance.randint(41, 1500)} packages in {chance.randint(4, 60)}s"
        yield "found 0 vulnerabilities"
    yield f"{_DIM}  dist/{_word(chance)}-{_hex(chance, 8)}.js{_RESET}  {chance.randint(1, 401)}.{chance.randint(10, 99)} kB │ gzip: {chance.randint(1, 99)}.04 kB"


@_kind("docker")
def _docker(chance: random.Random) -> Iterator[str]:
    step, total = chance.randint(1, 14), 14
    yield f"Step {step}/{total} : RUN install --mode {chance.randint(400, 755)} /src/{_word(chance)} /opt/{_word(chance)}"
    yield f" ---> Running in {_hex(chance, 12)}"
    yield f"Removing intermediate container {_hex(chance, 12)}"
    yield f" ---> {_hex(chance, 12)}"
    yield f"{_hex(chance, 12)}: Preparing"
    yield f"{_hex(chance, 12)}: Waiting"
    yield "\r".join(
        f"{_hex(chance, 12)}: Extracting [{'=' * part:<20}] {part * 5}%" for part in range(0, 21, 4)
    )
    yield f"#{chance.randint(5, 30)} sha256:{_hex(chance, 64)} {chance.randint(1, 90)}.40MB / 90.40MB {chance.randint(1, 20)}.1s"


@_kind("dotnet")
def _dotnet(chance: random.Random) -> Iterator[str]:
    name = f"{_word(chance).title()}.{_word(chance).title()}"
    yield f"  Restored /home/vsts/work/1/s/src/{name}/{name}.csproj (in {chance.randint(90, 9000)} ms)."
    yield f"  {name} -> /home/vsts/work/1/s/src/{name}/bin/Release/net8.0/{name}.dll"
    if chance.random() < 0.4:
        yield (
            f"/home/vsts/work/1/s/src/{name}/{_word(chance).title()}.cs({chance.randint(9, 401)},{chance.randint(3, 60)}): "
            f"warning CS8618: Non-nullable property '{_word(chance).title()}' must contain a value."
        )
    if chance.random() < 0.2:
        yield f"    {chance.randint(1, 9)} Warning(s)"
        yield "    0 Error(s)"
        yield f"Time Elapsed 00:00:{chance.randint(10, 59)}.{chance.randint(10, 99)}"


@_kind("terraform")
def _terraform(chance: random.Random) -> Iterator[str]:
    thing = f"azurerm_{_word(chance)}.{_word(chance)}"
    yield f'{_GREEN}  + {_RESET}resource "{thing.replace(".", chr(34) + " " + chr(34))}" {{'
    yield f'      {_GREEN}+{_RESET} name                = "{_word(chance)}-{_word(chance)}"'
    yield f"      {_GREEN}+{_RESET} id                  = (known after apply)"
    yield f"      {_GREEN}+{_RESET} retention_in_days   = {chance.choice((30, 90, 365, 401))}"
    yield "    }"
    yield f"{thing}: Refreshing state... [id=/subscriptions/***/resourceGroups/rg-{_word(chance)}]"
    yield f"data.azurerm_{_word(chance)}.this: Read complete after {chance.randint(0, 9)}s"


@_kind("az")
def _az(chance: random.Random) -> Iterator[str]:
    yield f"cli.azure.cli.core: Command index has {chance.randint(300, 401)} groups."
    yield f'  "etag": "W/\\"{_hex(chance, 8)}\\"",'
    yield f'  "name": "{_word(chance)}-{_word(chance)}",'
    yield f'  "provisioningState": "{chance.choice(("Succeeded", "Running", "Accepted"))}",'
    yield f'  "resourceGroup": "rg-{_word(chance)}",'
    yield f"Alive:  {_YELLOW}{'.' * chance.randint(3, 30)}{_RESET}"
    yield f"{chance.randint(1, 99)} files hashed, {chance.randint(1, 401)} kB to upload"


@_kind("powershell")
def _powershell(chance: random.Random) -> Iterator[str]:
    yield f"VERBOSE: Populating RepositorySourceLocation property for module Az.{_word(chance).title()}."
    yield f"VERBOSE: Loading module from path '/usr/share/az_12.3.0/Az.{_word(chance).title()}/{_version(chance)}'."
    yield f"VERBOSE: Importing cmdlet 'Get-Az{_word(chance).title()}{_word(chance).title()}'."
    yield f"{_word(chance).title():<20} {_word(chance):<12} {chance.randint(1, 401):>6} {chance.randint(1, 99)}.{chance.randint(10, 99)}%"


@_kind("copy")
def _copy(chance: random.Random) -> Iterator[str]:
    yield f"Copying 'D:\\a\\1\\s\\site\\{_word(chance)}\\{_word(chance)}.css' to the staging folder."
    yield f"{chance.randint(1, 90)}.{chance.randint(0, 9)} %, {chance.randint(1, 401)} Done, 0 Failed, {chance.randint(1, 99)} Pending, 0 Skipped"
    yield f"INFO: Scanning {_word(chance)}; {chance.randint(10, 4010)} entries so far."


@_kind("tests")
def _tests(chance: random.Random) -> Iterator[str]:
    names = ("TokenExpiredIsRefreshed", "UnauthorizedGivesA401", "InvalidClientSecretIsReported")
    odd = chance.choice(names) if chance.random() < 0.2 else f"{_word(chance).title()}{_word(chance).title()}"
    yield f"  Passed Shop.Tests.{_word(chance).title()}.{odd} [{chance.randint(1, 401)} ms]"
    yield f"  Passed Shop.Tests.{_word(chance).title()}.{_word(chance).title()}Is{_word(chance).title()} [< 1 ms]"
    if chance.random() < 0.1:
        yield f"info: {_word(chance).title()}.Middleware[{chance.randint(1, 9)}] Request finished HTTP/1.1 GET /{_word(chance)} - 401 in {chance.randint(1, 40)}ms"


@_kind("helm")
def _helm(chance: random.Random) -> Iterator[str]:
    yield f"upgrade.go:{chance.randint(90, 500)}: [debug] preparing upgrade for {_word(chance)}-{_word(chance)}"
    yield f'client.go:{chance.randint(90, 500)}: [debug] Looks like there are no changes for Deployment "{_word(chance)}"'
    yield f"deployment.apps/{_word(chance)}-{_word(chance)} unchanged"
    yield f"  {chance.randint(401, 900)} pods considered, {chance.randint(1, 9)} changed"
