"""Mask secrets before any text leaves the matcher; identifiers needed for linking survive."""

from __future__ import annotations

from typing import TYPE_CHECKING

import regex

if TYPE_CHECKING:
    from collections.abc import Iterable

MASK = "***"

# Each entry masks its group "secret", or everything it matches. Shapes are the issuers' own.
_SHAPES = [
    # private keys and certificates' keys, also escaped onto one line
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?P<secret>[\s\S]{1,8000}?)(?:-----END|\Z)",
    # JSON web tokens
    r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?",
    # GitHub, GitLab, npm, PyPI, Docker, Slack, AWS, Google, Stripe, SendGrid, Hugging Face, Databricks, …
    r"\bgh[pousr]_[A-Za-z0-9]{20,}",
    r"\bgithub_pat_[A-Za-z0-9_]{20,}",
    r"\bgl(?:pat|ptt|rt|cbt|dt|ft|soat|agent)-[A-Za-z0-9_-]{16,}",
    r"\bnpm_[A-Za-z0-9]{20,}",
    r"\bpypi-[A-Za-z0-9_-]{32,}",
    r"\bdckr_(?:pat|oat)_[A-Za-z0-9_-]{16,}",
    r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b",
    r"\bAIza[A-Za-z0-9_-]{35}",
    r"\bya29\.[A-Za-z0-9_-]{20,}",
    r"\b(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,}",
    r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
    r"\bhf_[A-Za-z0-9]{20,}",
    r"\bdapi[a-f0-9]{32}\b",
    r"\b(?:hvs|hvb|hvr)\.[A-Za-z0-9_-]{20,}",
    r"\bsq[pua]_[a-f0-9]{40}\b",
    r"\boy2[a-z0-9]{43}\b",
    r"\bcio[A-Za-z0-9]{32}\b",
    r"\brubygems_[a-f0-9]{48}\b",
    r"\b[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_-]{40,}",
    r"\bATATT[A-Za-z0-9_=-]{20,}",
    r"https://hooks\.slack\.com/services/(?P<secret>[A-Za-z0-9/]{20,})",
    r"https://[a-z0-9.-]{1,80}\.webhook\.office\.com/(?P<secret>[A-Za-z0-9@/-]{20,})",
    # Entra client secrets (…8Q~…), Azure DevOps tokens (old: 52 base32; new: AZDO inside 84), Azure keys
    r"\b[A-Za-z0-9_~.-]{3}[78]Q~[A-Za-z0-9_~.-]{31,34}",
    r"\b[A-Za-z0-9]{76}AZDO[A-Za-z0-9]{4}\b",
    r"\b[a-z2-7]{52}\b",
    r"\b[A-Za-z0-9+/]{86}==",
    r"\b[A-Za-z0-9+/]{32,43}(?:AzSe|ASt|ACDb|AIoT|AzFu|AzCa)[A-Za-z0-9+/=]{4,12}",
    # in URLs and headers
    r"://[^/\s:@]{0,200}:(?P<secret>[^/\s@]{1,400})@",
    (
        r"[?&](?:sig|signature|x-amz-signature|x-amz-credential|x-amz-security-token|code|access_token|token|"
        r"api[_-]?key|key|password|client_secret|refresh_token)=(?P<secret>[^&\s\"'<>]{4,})"
    ),
    (
        r"\b(?:authorization|proxy-authorization)['\"]?\s*[:=]\s*['\"]?(?:basic|bearer|token|negotiate)?\s*"
        r"(?P<secret>[^\s'\",;]{4,})"
    ),
    r"\b(?:basic|bearer) (?P<secret>[A-Za-z0-9+/=_.~-]{16,})",
    r"\b(?:set-)?cookie['\"]?\s*:\s*(?P<secret>\S.{3,2000})",
    # name = value; the value in any of the usual quotings
    (
        r"(?:password|passwd|pwd|passphrase|secret|client[_-]?secret|api[_-]?key|account[_-]?key|accountkey|"
        r"shared[_-]?access[_-]?key|sharedaccesskey|sharedaccesssignature|private[_-]?key|access[_-]?token|"
        r"refresh[_-]?token|auth[_-]?token|_authtoken|_password|personal[_-]?access[_-]?token|x-api-key|"
        r"serviceprincipalkey|storage[_-]?key|instrumentationkey|sas[_-]?token|secret[_-]?access[_-]?key)"
        r"(?:\\?[\"'])?\s{0,4}(?:=>|[:=])\s{0,4}(?:\\?[\"'])?(?P<secret>[^\s\"'\\,;&<>]{4,})"
    ),
    (
        r"(?:--|-)(?:password|client-secret|secret|token|api-key|account-key|sas-token)"
        r"[ =](?P<secret>[^\s-]\S{3,})"
    ),
    r"(?<=\s-p )(?!\d+:\d|[./~$])(?P<secret>\S{8,})",
]
_SECRETS = [regex.compile(shape, regex.IGNORECASE if "(?P<" in shape else 0) for shape in _SHAPES]
_TIMEOUT = 1.0


def mask(line: str, own: Iterable[str] = ()) -> str:
    """Return the text with every secret replaced by ***.

    `own` are values of ours that must never appear. Fails closed: text that cannot be checked in
    time is masked whole.
    """
    for value in sorted(own, key=len, reverse=True):
        if value:
            line = line.replace(value, MASK)
    try:
        for shape in _SECRETS:
            line = shape.sub(_masked, line, timeout=_TIMEOUT)
    except TimeoutError:
        return MASK
    return line


def _masked(found: regex.Match[str]) -> str:
    if "secret" not in found.re.groupindex:
        return MASK
    start, end = found.span("secret")
    at = found.start()
    whole: str = found.group()
    return f"{whole[: start - at]}{MASK}{whole[end - at :]}"
