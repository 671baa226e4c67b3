"""What secrets look like that only a name or place gives away; `issuers` has those with marks of theirs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import regex


@dataclass(frozen=True, eq=False)
class Shape:
    """A kind of secret; its pattern masks its group "secret", or all that it matches.

    It is tried on text that holds one of its literals, if it has any, and so many letters in a row.
    Its time must be linear: only what is the end of a pattern may repeat without bound.
    """

    about: str
    literals: tuple[str, ...]
    pattern: str
    run: int = 0

    @cached_property
    def compiled(self) -> regex.Pattern[str]:
        """The pattern, compiled when first needed: all of them take 20 ms."""
        return regex.compile(self.pattern, regex.ASCII)


# Such words before letters that look like a key say that these are a file's hash.
HASH = r"(?:sha-?\d{1,3}|hash|integrity|digest|checksum|fingerprint|thumbprint|etag)"
HASH_BEFORE = re.compile(rf"(?i){HASH}[-:=\"'\s]{{0,5}}\Z")

# What could be anybody's key: `redact` looks whether its letters came by chance.
UNNAMED = re.compile(
    r"(?<![A-Za-z0-9+/_-])(?!(?i:sha)\d{1,3}-)"
    r"(?:[A-Za-z0-9+/]{24,}+(?![_-])|[A-Za-z0-9_-]{24,}+|[A-Za-z0-9+/]{24,}+)={0,2}"
)

# What stands for a secret in text, and is none.
_NONE = (
    r"(?![\"']?(?:\*+|\$\([\w.-]{1,80}\)|\$\{\{?[^}]{1,120}\}\}?|\$env:\w{1,80}|%\w{1,80}%|<[\w -]{1,60}>"
    r"|\{\w{0,30}\}|null|none|nil|yes|no|true|false|undefined|\(null\)|\(?sensitive\b|\(known\b|\[?redacted\]?"
    r"|x{3,200}|-{2,}|(?-i:\$[A-Z][A-Z0-9_]{2,60})|aadsts\d{3,9}:?|[a-z]{1,20}=(?:\d{1,4}|\*+)"
    r"|[^\s\"']{1,200}\.(?:pem|key|pfx|p12|crt|cer|json|ya?ml|txt))(?:[\s\"',;&)\]}>@]|$))"
)
# A value without quotes ends before the next pair; a comma or ampersand within it belongs to it.
_BARE = r"(?:[^\s\"';,&<>]|[,&](?![\s\"']|[\w.-]{1,40}[=:]|$))"
_SEPARATOR = (
    r"[\"'\])]{0,2}\s{0,4}"
    r"(?:=>|:=|==?|:(?!\s{1,4}[A-Za-z_]{1,40}[.,!:]?\s{1,4}[A-Za-z(/])(?!//))\s{0,4}"
)
_VARIABLE = r"(?-i:\b[A-Z][A-Z0-9_]{0,60}_(?:TOKEN|SECRET|PAT|PASS|PW|CREDENTIALS?|KEY|AUTH|SAS))"
_WEAK = r"(?:(?<!publickey)(?<!cancellation)token|secret|\bpat|\bsas|signature|passcode|credentials?)"
_RANDOM = r"(?=[^\s\"',;&<>]{0,80}\d)(?=[^\s\"',;&<>]{12})"  # a digit, and no short word
_NAME = r"(?:password|passwd|passphrase|secret|token|pwd|api_?key|connectionstring|privatekey|accesskey)"
_TO_QUOTE = r"(?P<secret>[^\"'<>]{3,})"


def _value(least: int) -> str:
    """Return the pattern of a value of so many characters at least, in quotes or not."""
    return (
        r"(?:\"(?P<secret>(?:[^\"\\]|\\.){1,}+)|'(?P<secret>[^']{1,})"
        rf"|(?P<secret>{_BARE}{{{least},}}+))"
    )


def _named(word: str, names: str) -> Shape:
    """Return the shape of a value behind a name; that starts with a word, for then it is found quickly."""
    return Shape(f"named {word}", (word,), rf"(?i){names}{_SEPARATOR}{_NONE}{_value(3)}")


def _qualified(word: str, before: str) -> str:
    """Return the pattern of a name that ends in a word."""
    return rf"{word}(?<=(?:{before})[ _-]?{word})"


# Told by what stands before it.
NAMED = (
    _named("pass", r"pass(?<!nopass)(?:word|wd|phrase)[12]?"),
    _named("pwd", r"pwd(?:(?<=;\s?pwd)|(?<!oldpwd)(?!\s{0,4}[=:]\s{0,4}(?:[/~]|[a-z]:[\\/])))"),
    _named(
        "secret",
        r"secret(?:(?<=(?:client|app|application|consumer|webhook|shared|jwt|session|oauth|otp)[ _-]?secret)"
        r"|[ _-]?(?:value|text|string)|id)",
    ),
    _named(
        "key",
        _qualified(
            "key",
            r"api|app|application|account|access|private|encryption|storage|admin|master|host|function|shared"
            r"|subscription|deploy|license|instrumentation|serviceprincipal|credential|machine|decryption"
            r"|validation|secret|signing",
        ),
    ),
    _named(
        "token",
        _qualified(
            "token",
            r"access|refresh|auth|authentication|id|bearer|session|security|oauth|sas|bot|api|registry|identity"
            r"|deploy|user|app|job|private|csrf|xsrf|federated|client|vault|csrfmiddleware",
        ),
    ),
    _named("auth", r"auth(?<=_auth|\bauth(?=\"\s{0,4}:))"),
    _named("assertion", r"assertion(?<=(?:client|saml)[ _-]?assertion)"),
    _named("saml", r"saml(?:response|request)"),
    _named("connection", r"connection[ _-]?string"),
    _named("code", r"code(?:(?<=(?:device|otp)[ _-]?code)|[ _-]?verifier)"),
    Shape(
        "variable",
        ("_token", "_secret", "_pat", "_pass", "_pw", "_cred", "_key", "_auth", "_sas"),
        rf"(?i){_VARIABLE}{_SEPARATOR}{_NONE}"
        r"(?:(?=[\"']?[^\s\"',;&<>]{0,200}\d)|(?=[\"']?[^\s\"']{20}))" + _value(6),
    ),
    Shape(
        "weakly named value",
        ("token", "secret", "pat", "sas", "signature", "passcode", "credential"),
        rf"(?i){_WEAK}{_SEPARATOR}{_NONE}[\"']?(?!sha\d{{1,3}}[-:]){_RANDOM}(?P<secret>{_BARE}{{12,}}+)",
    ),
    Shape(
        "pair of name and value",
        ("name", "key"),
        rf"(?i)[\"'](?:name|key)[\"']?\s{{0,4}}[:=]\s{{0,4}}[\"'][^\"']{{0,80}}{_NAME}[^\"']{{0,20}}[\"']"
        rf"\s{{0,4}},?\s{{0,4}}[\"']?value[\"']?\s{{0,4}}[:=]\s{{0,4}}[\"']{_TO_QUOTE}",
    ),
    Shape(
        "XML attribute pair",
        ("value=",),
        rf"(?i)(?:key|name)=[\"'][^\"'<>]{{0,80}}{_NAME}[^\"'<>]{{0,20}}[\"']\s{{1,4}}"
        rf"value=[\"']{_TO_QUOTE}",
    ),
    Shape(
        "XML element",
        ("</",),
        rf"(?i)<(?:\w{{1,20}}:)?\w{{0,40}}{_NAME}(?:\s[^<>]{{0,200}})?>(?P<secret>[^<>]{{3,2000}})</",
    ),
    Shape(
        "password in a sentence",
        ("password", "passphrase", "identified by"),
        r"(?i)(?:pass(?:word|phrase)\s(?:is\s|was\s|of\s|=\s)?|identified\s{1,4}by\s{1,4})"
        r"(?P<q>[\"'])(?P<secret>[^\"']{4,200})(?P=q)",
    ),
    Shape("netrc", ("login",), r"(?i)\blogin\s{1,4}\S{1,100}\s{1,4}password\s{1,4}(?P<secret>\S{3,})"),
    Shape(
        "secret variable of a pipeline",
        ("issecret=true",),
        r"(?i)##vso\[task\.setvariable [^\]]{0,300}issecret=true[^\]]{0,300}\](?P<secret>[^\r\n]{3,})",
    ),
    # RFC 7468, 4880: private keys; the body has no end where the log breaks it into lines
    Shape(
        "private key",
        ("private",),
        r"-----BEGIN[A-Z0-9 +_]{0,40}PRIVATE[ +_]KEY[A-Z +_]{0,10}-----"
        r"(?P<secret>(?:(?!-----END)[\s\S])+)",
    ),
    # RFC 9110: authorization and cookies; the schemes of AWS, Azure and Digest carry several values
    Shape(
        "authorization",
        ("authorization",),
        r"(?i)authorization[\"'\])]{0,3}\s{0,4}(?:=>|[:=,])\s{0,4}[\[({]?[\"']?(?P<secret>"
        r"(?:aws4-hmac-sha256|digest|shared(?:key(?:lite)?|accesssignature)|oauth|hawk)\s[^\r\n]{4,}"
        r"|(?:basic|bearer|token|negotiate|ntlm|ssws|geniekey|key|apikey|splunk|bot|pat)[\s+](?!\*)"
        r"[^\s\"',;]{4,}|(?=[^\s\"',;]{0,60}\d)(?!\*)[^\s\"',;]{12,})",
    ),
    Shape(
        "Basic, Bearer",
        ("basic ", "bearer ", "basic+", "bearer+"),
        r"(?i)\b(?:basic|bearer)[ +]{1,2}(?P<secret>(?=(?-i:[a-z/_.-]{0,80}[A-Z0-9+=]))"
        r"(?=[^\s]{0,200}[\d=+/])[A-Za-z0-9+/=_.~-]{12,}+)",
    ),
    Shape(
        "secret header",
        ("x-", "-token", "-key", "api"),
        r"(?i)\b(?:(?:x|aeg|ocp|private|job|deploy|circle|api|auth|dd)-(?:[a-z0-9]{1,20}-){0,4}"
        r"(?:token|key|secret|auth|apikey|api|signature|password))"
        r"[\"']?\s{0,4}[:=]\s{0,4}[\"']?(?!\*)(?P<secret>[^\s\"',;]{6,})",
    ),
    Shape(
        "cookie",
        ("cookie",),
        r"(?i)\b(?:set-)?cookies?[0-9]?[\"'\])]{0,2}\s{0,4}(?:=>|[:=])\s{0,4}[\[({]?[\"']?"
        r"(?P<secret>[\w.$%-]{1,80}=[^\r\n\"'\]]{3,})",
    ),
    Shape(
        "session cookie",
        (
            "fedauth",
            "arraffinity",
            "sessionid",
            "sessid",
            ".aspnet",
            "connect.sid",
            "authentication=",
            "__host-",
        ),
        r"(?i)(?:FedAuth\d?|ARRAffinity(?:SameSite)?|JSESSIONID|PHPSESSID|ASP\.NET_SessionId|connect\.sid"
        r"|\.AspNet(?:Core)?\.\w{1,40}|(?:User|Host)Authentication|__(?:Host|Secure)-[\w-]{1,40})="
        r"(?P<secret>[^;\s\"']{8,})",
    ),
    # RFC 3986: userinfo; a token may stand alone in it
    Shape("URL's password", ("://",), r"://[^/\s:@\"'<>]{0,200}:(?!\*{3}@)(?P<secret>[^/\s\"'<>]{1,4000})@"),
    Shape(
        "URL's token",
        ("://",),
        r"://(?P<secret>(?=[A-Za-z_-]{0,60}\d)[A-Za-z0-9_.~-]{24,4000})(?::x-oauth-basic)?@",
    ),
    Shape("Oracle", (":thin:",), r"(?i):thin:[^/\s]{1,100}/(?P<secret>[^@\s]{1,200})@"),
    # learn.microsoft.com/rest/api: sig of a shared access signature; x-amz-… and x-goog-… of presigned URLs
    Shape(
        "URL's parameter",
        ("sig", "token", "code", "key", "secret", "credential", "pass", "pwd", "assertion"),
        r"(?i)(?:[?&;#|]|\bsr=[^&\s]{1,400}&)(?:sig|signature|[a-z]{0,20}[_-]?token"
        r"|(?:x-)?(?:amz|goog)-(?:signature|credential|security-token)|api[_-]?key|apikey|pass(?:word|wd)?"
        r"|pwd|client[_-]secret|secret|assertion|code(?=[^&\s]{20})|(?:subscription-)?key(?=[^&\s]{16})|pat)="
        r"(?!\*{3}(?:&|$))(?P<secret>[^&\s\"'<>#;]{4,})",
    ),
    Shape("signature", ("sig=",), r"(?i)(?<![A-Za-z])sig=(?P<secret>[^&\s\"'<>;]{16,})"),
    # command lines
    Shape(
        "flag",
        ("pass", "pwd", "secret", "token", "key", "pat"),
        r"(?i)(?<![\w-])(?:--?|/)(?:[a-z]{1,20}[-_]?){0,3}(?:password|passwd|passphrase|pwd|pass|secret|token"
        r"|api-?key|account-?key|access-?key|sas|pat|client-?key|storage-?key)(?:[ =:]{1,3}|[\"',\] ]{3,4})"
        r"(?!(?:via|is|was|are|or|and|but|option|flag|parameter|argument|with|must|cannot|has|on|in|to|for|should"
        r"|not|may|can|from|will|the|an?|stdin|required|missing|invalid|expired|value|file|instead|when|if)"
        r"(?:[\s.,]|$))(?!\([\w ,-]{0,80}\)|--?[a-z-]{0,30}(?:[\s=]|$))" + _NONE + _value(3),
    ),
    Shape(
        "-p of a login",
        (" -p", " /p"),
        r"(?i)\b(?:login|sqlcmd|bcp|mysql\w{0,10}|mongo\w{0,10}|sshpass|psexec|osql|openssl|keytool|certutil"
        r"|signtool)\b[^|\r\n]{0,300}?\s[-/]p[ :]?"
        r"(?![ :]?(?:\d{1,5}:\d|\.{0,2}/|~/|--?[a-z-]{0,30}(?:[\s=]|$)))" + _NONE + _value(4),
    ),
    Shape(
        "user:password of a flag",
        ("-u", "--user", "--proxy-user", "--cred"),
        r"(?<![\w-])(?:-u|--user|--proxy-user|-U|--creds|--credentials)[ =]{0,2}[\"']?[^\s:\"'/]{0,100}:"
        r"(?!\*|/|\d{1,6}(?!\S))(?P<secret>[^\s\"']{4,})",
    ),
    Shape(
        "secure string",
        ("securestring", "asplaintext"),
        r"(?i)(?:convertto-securestring(?:\s-string)?|asplaintext(?:\s-force)?(?:\s-string)?)\s{0,4}\(?"
        r"(?:\"(?P<secret>[^\"]{3,})|'(?P<secret>[^']{3,})|(?P<secret>(?![-$(])[^\s\"')]{6,}))",
    ),
    Shape("key of a push", (" push ",), r"(?i)\bpush\b[^\r\n]{0,300}?\s-k\s(?P<secret>[^\s-]\S{15,})"),
)
