"""Keep a prepared rule pack between starts: reading and compiling hundreds of rules takes a second.

A kept pack is found by a key over every rule file's name, size and time of change, and over the modules
that prepare it, so an edit is noticed.
Where nothing can be written, every start reads the files.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import triage
from triage.domain import Confidence, Verdict
from triage.match import context, linear, pack, prescan
from triage.match.pack import Pack, Prepared
from triage.match.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_FORMAT = 3  # raise it when what is written changes
_PACKS = 8  # kept at most, the newest
_UNUSED = {"examples", "counter_examples", "references"}  # of a rule, when searching


def key(folder: Path, files: Iterable[Path]) -> str:
    """Return the name under which a pack in its present state is kept."""
    state: list[object] = [_FORMAT, triage.__version__, prescan.version(), str(folder.resolve())]
    makers = (Path(module.__file__ or "") for module in (context, linear, pack, prescan))
    for file in (*makers, *files):
        stat = file.stat()
        state.append((str(file), stat.st_size, stat.st_mtime_ns))
    return hashlib.sha256(repr(state).encode()).hexdigest()


def load(name: str) -> Pack | None:
    """Return a kept pack; None when there is none or it cannot be used."""
    with suppress(OSError, ValueError, KeyError, TypeError, prescan.Unusable):
        head, databases = (_folder() / name).read_bytes().split(b"\n", 1)
        stored = json.loads(head)
        cut = stored["cut"]
        rules = [
            Rule.model_construct(
                **{**each, "verdict": Verdict(each["verdict"]), "confidence": Confidence(each["confidence"])}
            )
            for each in stored["rules"]
        ]
        both = (databases[:cut], databases[cut:]) if cut else None
        return Pack(tuple(rules), Prepared(stored["sieve"], stored["words"], both).scanner())
    return None


def save(name: str, rules: Sequence[Rule], prepared: Prepared) -> None:
    """Keep a pack, and forget the oldest; silently not, where nothing can be written."""
    sieve, patterns = prepared.databases or (b"", b"")
    stored = {
        "cut": len(sieve),  # where the second database begins
        "rules": [rule.model_dump(mode="json", exclude=_UNUSED) for rule in rules],
        "sieve": prepared.sieve,
        "words": prepared.words,
    }
    with suppress(OSError):
        folder = _folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        number, fresh = tempfile.mkstemp(dir=folder)
        with os.fdopen(number, "wb") as file:
            file.write(json.dumps(stored).encode() + b"\n" + sieve + patterns)
        Path(fresh).replace(folder / name)
        for old in sorted(folder.iterdir(), key=lambda each: each.stat().st_mtime)[:-_PACKS]:
            old.unlink(missing_ok=True)


def _folder() -> Path:
    """Return the user's folder for what can be made again, as the platform names it."""
    given = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    try:
        return (Path(given) if given else Path.home() / ".cache") / "triage" / "packs"
    except RuntimeError as error:  # nobody's home
        raise FileNotFoundError(str(error)) from None
