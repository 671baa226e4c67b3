"""What `triage scan` prints: the same findings for people, pipelines and other tools.

Whatever a report prints may be printed by a step of a pipeline, whose agent obeys `##vso[…]` and `##[…]`
wherever they stand; so neither leaves here but where we mean it.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Protocol, TextIO
from urllib.parse import quote

import triage
from triage.domain import Confidence, Match, Verdict
from triage.safe import AGENT_COMMAND, fenced, visible, words

if TYPE_CHECKING:
    from collections.abc import Callable

    from triage.match.engine import Search

_COLOUR = {Verdict.EXPIRED: "red", Verdict.REVOKED: "red", Verdict.LOOK_ALIKE: "dim"}
_SARIF = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


class Report(Protocol):
    """Is told log after log, and at the end that it was all."""

    def log(self, path: str, search: Search) -> None:
        """Take what one log holds."""
        ...

    def unreadable(self, sentence: str, /) -> None:
        """Take why an input could not be read."""
        ...

    def end(self) -> None:
        """Print what is printed last."""
        ...


class Text:
    """For people: the answer first, its evidence under it."""

    def __init__(self, stdout: TextIO) -> None:
        from rich.console import Console  # takes long, and the other reports do without

        self._out = Console(file=stdout, highlight=False, soft_wrap=True)
        self._logs = 0
        self._silent = True

    def log(self, path: str, search: Search) -> None:
        """See Report."""
        self._logs += 1
        for match in search.matches:
            self._silent = self._silent and match.verdict is Verdict.LOOK_ALIKE
            colour = _COLOUR.get(match.verdict, "yellow")
            where = f"{path}:{match.line}"
            self._out.print(f"[bold {colour}]{match.verdict}[/] [bold]{_shown(match.title)}[/]")
            self._out.print(f"  {_shown(where)}  {match.credential}, {match.confidence}, rule {match.rule}")
            self._out.print(f"  {_shown(match.excerpt)}")
            if match.explanation:
                self._out.print(f"  [dim]{_shown(match.explanation)}[/]")

    def unreadable(self, _sentence: str) -> None:
        """See Report."""
        self._silent = False

    def end(self) -> None:
        """See Report."""
        if self._silent:
            self._out.print(f"No expired or refused credential in {counted(self._logs)}.")


def counted(logs: int) -> str:
    """Return so many logs, in words."""
    return "1 log" if logs == 1 else f"{logs} logs"


def _shown(text: str) -> str:
    from rich.markup import escape

    return escape(AGENT_COMMAND.sub("## ", text))


class Json:
    """One object a line: a finding, or what was not read of a log."""

    def __init__(self, stdout: TextIO) -> None:
        self._out = stdout

    def log(self, path: str, search: Search) -> None:
        """See Report."""
        for match in search.matches:
            self._write(as_json(path, match))
        for cut in search.cut:
            self._write({"path": path, "cut": cut})

    def unreadable(self, sentence: str) -> None:
        """See Report."""

    def end(self) -> None:
        """See Report."""

    def _write(self, told: dict[str, object]) -> None:
        self._out.write(_dumped(told) + "\n")


def as_json(path: str, match: Match) -> dict[str, object]:
    """Return a finding as `--format json` prints it; these names are a contract."""
    return {
        "path": path,
        "line": match.line,
        "rule": match.rule,
        "credential": match.credential,
        "verdict": match.verdict.value,
        "confidence": match.confidence.value,
        "captures": dict(match.captures),
        "excerpt": match.excerpt,
    }


def _dumped(told: object, indent: int | None = None) -> str:
    """Return JSON in which the agent finds nothing to obey; it can only stand within strings."""
    return AGENT_COMMAND.sub(r"\\u0023#", json.dumps(told, indent=indent))


class Azure:
    """Logging commands: the findings become errors and warnings on the run's page."""

    def __init__(self, stdout: TextIO) -> None:
        self._out = stdout

    def log(self, path: str, search: Search) -> None:
        """See Report."""
        for match in search.matches:
            if match.verdict is Verdict.LOOK_ALIKE:
                self._out.write(f"Look-alike: {visible(match.title)} ({visible(path)}:{match.line})\n")
                continue
            said = f"{match.title} ({match.verdict}): {match.excerpt}"
            self._issue(_level(match), path, match.line, match.rule, said)
        for cut in search.cut:
            self._issue("warning", path, 1, "", cut)

    def unreadable(self, sentence: str) -> None:
        """See Report."""
        self._out.write(f"##vso[task.logissue type=warning]{_message(sentence)}\n")

    def end(self) -> None:
        """See Report."""

    def _issue(self, kind: str, path: str, line: int, code: str, message: str) -> None:
        properties = {"type": kind, "sourcepath": path, "linenumber": str(line), "code": code}
        said = ";".join(f"{name}={_property(value)}" for name, value in properties.items() if value)
        self._out.write(f"##vso[task.logissue {said}]{_message(message)}\n")


def _message(text: str) -> str:
    """Escape a message; % first, as the agent undoes it last."""
    return visible(text).replace("%", "%AZP25")


def _property(text: str) -> str:
    return _message(text).replace(";", "%3B").replace("]", "%5D")


class Markdown:
    """For a run's summary page or a comment."""

    def __init__(self, stdout: TextIO) -> None:
        self._out = stdout
        self._found: list[str] = []
        self._else: list[str] = []
        self._logs = 0

    def log(self, path: str, search: Search) -> None:
        """See Report."""
        self._logs += 1
        for match in search.matches:
            told = self._else if match.verdict is Verdict.LOOK_ALIKE else self._found
            told.append(
                f"**{words(match.title)}** – {match.verdict}, {match.confidence}\n\n"
                f"{words(path)}, line {match.line}; {match.credential}, rule {match.rule}\n\n"
                f"{fenced(match.excerpt)}\n"
                + (f"\n{words(match.explanation)}\n" if match.explanation else "")
            )
        self._else += [f"{words(path)}: {words(cut)}\n" for cut in search.cut]

    def unreadable(self, sentence: str) -> None:
        """See Report."""
        self._else.append(words(sentence) + "\n")

    def end(self) -> None:
        """See Report."""
        count = len(self._found)
        credentials = "credentials" if count > 1 else "credential"
        heading = f"{count or 'No'} expired or refused {credentials} in {counted(self._logs)}"
        parts = [f"## {heading}\n", *self._found]
        if self._else:
            parts += ["### Besides\n", *self._else]
        self._out.write("\n".join(parts))


class Sarif:
    """SARIF 2.1.0, for code scanning and viewers."""

    def __init__(self, stdout: TextIO) -> None:
        self._out = stdout
        self._rules: dict[str, dict[str, Any]] = {}
        self._results: list[dict[str, Any]] = []
        self._notes: list[dict[str, Any]] = []
        self._whole = True

    def log(self, path: str, search: Search) -> None:
        """See Report."""
        for match in search.matches:
            self._rules.setdefault(match.rule, _sarif_rule(match))
            self._results.append(
                {
                    "ruleId": match.rule,
                    "ruleIndex": list(self._rules).index(match.rule),
                    "level": _level(match),
                    "message": {"text": f"{match.title} ({match.verdict}, {match.confidence})."},
                    "locations": [_location(path, match)],
                    "properties": {"captures": dict(match.captures)},
                }
            )
        self._notes += [_note("warning", f"{path}: {cut}") for cut in search.cut]

    def unreadable(self, sentence: str) -> None:
        """See Report."""
        self._notes.append(_note("error", sentence))
        self._whole = False

    def end(self) -> None:
        """See Report."""
        driver = {
            "name": "triage",
            "version": triage.__version__,
            "semanticVersion": triage.__version__,
            "rules": list(self._rules.values()),
        }
        invocation = {"executionSuccessful": self._whole, "toolExecutionNotifications": self._notes}
        told = {"tool": {"driver": driver}, "invocations": [invocation], "results": self._results}
        self._out.write(_dumped({"$schema": _SARIF, "version": "2.1.0", "runs": [told]}, indent=2) + "\n")


def _sarif_rule(match: Match) -> dict[str, Any]:
    said = {"credential": match.credential, "verdict": match.verdict.value}
    rule: dict[str, Any] = {"id": match.rule, "shortDescription": {"text": match.title}, "properties": said}
    if match.explanation:
        rule["help"] = {"text": match.explanation}
    return rule


def _level(match: Match) -> str:
    if match.verdict is Verdict.LOOK_ALIKE:
        return "note"
    return "warning" if match.confidence is Confidence.HINT else "error"


def _location(path: str, match: Match) -> dict[str, Any]:
    uri = quote(PurePath(path).as_posix(), safe="/:!") if path != "-" else "stdin"
    region = {"startLine": match.line, "snippet": {"text": match.excerpt}}
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}


def _note(level: str, text: str) -> dict[str, Any]:
    return {"level": level, "message": {"text": text}}


class Junit:
    """JUnit's XML, which every pipeline can publish: a log is a test, a finding its failure."""

    def __init__(self, stdout: TextIO) -> None:
        self._out = stdout
        self._cases: list[ET.Element] = []

    def log(self, path: str, search: Search) -> None:
        """See Report."""
        real = [match for match in search.matches if match.verdict is not Verdict.LOOK_ALIKE]
        for match in real:
            case = self._case(f"{path}:{match.line} {match.title}")
            said = {"type": match.verdict.value, "message": f"{match.title} ({match.verdict})"}
            failure = ET.SubElement(case, "failure", {name: visible(value) for name, value in said.items()})
            failure.text = visible(
                f"{path}:{match.line}: {match.excerpt} "
                f"[{match.credential}, {match.confidence}, rule {match.rule}]"
            )
        case = self._cases[-1] if real else self._case(path)
        besides = [f"line {m.line}: {m.title}. {m.explanation}" for m in search.matches if m not in real]
        if besides or search.cut:
            ET.SubElement(case, "system-out").text = "\n".join(map(visible, (*besides, *search.cut)))

    def unreadable(self, sentence: str) -> None:
        """See Report."""
        error = ET.SubElement(self._case(sentence), "error", {"type": "unreadable"})
        error.set("message", visible(sentence))

    def end(self) -> None:
        """See Report."""
        counts = {
            "tests": len(self._cases),
            "failures": sum(case.find("failure") is not None for case in self._cases),
            "errors": sum(case.find("error") is not None for case in self._cases),
        }
        suite = ET.Element("testsuite", {"name": "triage scan", **{k: str(v) for k, v in counts.items()}})
        suite.extend(self._cases)
        root = ET.Element("testsuites")
        root.append(suite)
        ET.indent(root)
        written = ET.tostring(root, encoding="unicode", xml_declaration=False)
        self._out.write(f'<?xml version="1.0" encoding="UTF-8"?>\n{written}\n')

    def _case(self, name: str) -> ET.Element:
        case = ET.Element("testcase", {"classname": "triage.scan", "name": visible(name)})
        self._cases.append(case)
        return case


FORMATS: dict[str, Callable[[TextIO], Report]] = {
    "text": Text,
    "json": Json,
    "sarif": Sarif,
    "junit": Junit,
    "azure": Azure,
    "markdown": Markdown,
}
