from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from random import Random

import pytest

from tests.match import leaks, planted
from triage.match import clean, redact

# Put together here so that no secret-looking text stands in a file.
LETTERS = "Ab3dE6gH9jKlMnOpQrStUvWxYz01234567890abc"
HEX = "0123456789abcdef" * 4
JWT = ".".join(["eyJ" + LETTERS[:20], "eyJ" + LETTERS[:24], LETTERS[:30]])

SECRETS = {
    "github": ("ghp_" + LETTERS[:36], "remote: {}"),
    "github fine-grained": ("github_pat_" + LETTERS, "using {}"),
    "gitlab": ("glpat-" + LETTERS[:20], "using {}"),
    "npm": ("npm_" + LETTERS[:36], "//registry.example/:_authToken={}"),
    "slack": ("xoxb-" + "1" * 12 + "-" + LETTERS[:20], "token {}"),
    "docker": ("dckr_pat_" + LETTERS[:27], "login with {}"),
    "aws key": ("AKIA" + "ABCDEFGH12345678", "key {} is unknown"),
    "aws secret": (LETTERS, "AWS_SECRET_ACCESS_KEY={}"),
    "entra secret": ("abc8Q~" + LETTERS[:34], "client_secret: {}"),
    "entra secret alone": ("abc8Q~" + LETTERS[:34], "tried {} in vain"),
    "azure devops": ("a2b3c4d5e6f7g" * 4, "PAT {} refused"),
    "azure devops new": (LETTERS[:38] * 2 + "AZDO" + "a1B2", "PAT {} refused"),
    "storage key": (LETTERS[:38] * 2 + "AbCdEfGhIj==", "AccountKey={};EndpointSuffix=x"),
    "shared access signature": (
        "aB%2Fc3d4e5f6g7h8%3D",
        "https://a.blob.example/c?sv=2024&se=2026-01-01&sig={}&sp=r",
    ),
    "json web token": (JWT, "sent {}"),
    "bearer": (LETTERS, "Authorization: Bearer {}"),
    "basic": (base64.b64encode(b"robot:" + LETTERS.encode()).decode(), "> Authorization: Basic {}"),
    "basic-auth url": ("hunter2-" + LETTERS[:8], "fatal: could not read https://robot:{}@git.example/x"),
    "connection string": ("Tr0ub4dor&3", "Server=db.example;User Id=sa;Password={};Encrypt=yes"),
    "json": (LETTERS[:12], '{{"password": "{}", "user": "robot"}}'),
    "escaped json": (LETTERS[:12], '{{\\"password\\":\\"{}\\"}}'),
    "cookie": ("session=" + LETTERS, "Set-Cookie: {}"),
    "flag": (LETTERS[:14], "az login --service-principal --password {} --tenant t"),
    "docker -p": (LETTERS[:14], "docker login -u robot -p {} registry.example"),
    "private key": (LETTERS * 3, "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----"),
}


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_does_not_leave_the_matcher(kind: str) -> None:
    secret, around = SECRETS[kind]
    masked = redact.mask(around.format(secret))
    assert secret not in masked
    assert redact.MASK in masked


GUID = "11111111-2222-3333-4444-555555555555"
BASE64_HASH = base64.b64encode(hashlib.sha512(b"a file").digest()).decode()
SHORT_HASH = base64.b64encode(hashlib.sha256(b"a file").digest()).decode()


@pytest.mark.parametrize(
    "text",
    [
        f"AADSTS7000215: Invalid client secret provided. Ensure the secret being sent is the client secret value, for a secret added to app '{GUID}'.",
        f"AADSTS7000222: The provided client secret keys for app '{GUID}' are expired.",
        f"Trace ID: {GUID} Timestamp: 2026-11-21 03:00:00Z",
        f"Correlation ID: {GUID} request_id={GUID} x-ms-request-id: {GUID}",
        "unauthorized: authentication required on https://shop.azurecr.example/v2/",
        f"tenant {GUID}, subscription 99999999-2222-3333-4444-555555555555",
        f"az login --service-principal -u {GUID} -p *** --tenant {GUID}",
        f'{{"client_id":"{GUID}","tenantId":"{GUID}","appId":"{GUID}","error":"invalid_client"}}',
        f"https://login.example/{GUID}/oauth2/v2.0/token?client_id={GUID}&grant_type=client_credentials",
        f"Secret expired, update service connection at https://dev.example/contoso/Shop/_settings/adminservices?resourceId={GUID}",
        "https://contoso@dev.azure.example/contoso/Shop/_git/shop",
        "Login failed for user 'robot@contoso.example'.",
        "denied: requested access to the resource is denied: shop.azurecr.example/shop/web:1.2.3",
        "docker run -p 8080:80 web",
        "mkdir -p /var/lib/agents",
        "sha256:" + HEX,
        "shop.azurecr.example/web@sha256:" + HEX,
        "commit " + HEX[:40],
        f"HEAD is now at {HEX[:40]}",
        f"integrity checksum failed: wanted sha512-{BASE64_HASH} but got sha512-{BASE64_HASH[::-1].strip('=')}==",
        f'"integrity": "sha512-{BASE64_HASH}"',
        f"Installed Newtonsoft.Json 13.0.3 with content hash {BASE64_HASH}.",
        f"script-src 'sha256-{SHORT_HASH}'",
        "ED25519 key fingerprint is SHA256:" + SHORT_HASH.strip("="),
        "thumbprint 0123456789ABCDEF0123456789ABCDEF01234567 of the certificate",
        "2026-11-21T03:00:00.1234567Z ##[error]The process '/usr/bin/docker' failed with exit code 1",
        "password: ***",
        "Authorization: Basic ***",
        "https://robot:***@shop.example/x?sig=***&se=2026-01-01",
        "Password: authentication failed for user robot",
        "WARNING! Using --password via the CLI is insecure. Use --password-stdin.",
        "Could not load assembly X, Version=1.0.0.0, Culture=neutral, PublicKeyToken=b77a5c561934e089",
        "Unexpected token < in JSON at position 0",
        "client_secret=$(clientSecret) and $env:AZURE_CLIENT_SECRET and ${{ secrets.TOKEN }}",
        "fetching token: AADSTS700082: The refresh token has expired due to inactivity",
        "Error fetching access token: invalid_grant (Invalid grant: account not found)",
        "PWD=/home/vsts/work/1/s",
        "npm ERR! code E401: Unable to authenticate, your authentication token seems to be invalid.",
        "se=2026-01-01&sp=r&sv=2024-11-04",
        "/home/vsts/work/1/s/src/Shop.Web/Controllers/Api2/V1/OrdersController.cs(12,34)",
        "Microsoft.Azure.Pipelines.Tasks.AzureResourceManagerTemplateDeploymentV3.Deployment2Failed",
    ],
)
def test_what_linking_needs_survives(text: str) -> None:
    assert redact.mask(text) == text


def test_our_own_token_is_masked_wherever_it_stands() -> None:
    assert redact.mask("refused: short-own-value!", own=["short-own", "short-own-value"]) == "refused: ***!"


OWN = 'oWn "tok3n" of/ours+€=='


@pytest.mark.parametrize("encoding", planted.ENCODINGS)
@pytest.mark.parametrize("before", ["", "x", "xy", "xyz "])
def test_our_own_value_is_masked_however_encoded(encoding: str, before: str) -> None:
    text = planted.ENCODINGS[encoding](f"{before}{OWN}, said the service")
    shown = redact.mask(clean.text(clean.wash(text.encode())), own=[OWN])
    assert redact.MASK in shown
    assert leaks.seen(OWN, shown) == []


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_our_own_value_is_masked_in_base64_that_cannot_be_read(shift: int) -> None:
    text = base64.b64encode(b"\xff" * (6 + shift) + OWN.encode() + b"\x00\xff\x01").decode()
    assert redact.mask(f"sent {text} to it", own=[OWN]) == "sent *** to it"


def test_a_value_found_out_is_masked_in_the_rest_of_the_line() -> None:
    masked = redact.mask(f"password={LETTERS[:12]} was refused: no {LETTERS[:12]!r} here")
    assert masked == "password=*** was refused: no '***' here"


@pytest.mark.parametrize("before", ["", "u", "us"])
def test_a_value_found_out_is_masked_in_base64(before: str) -> None:
    encoded = base64.b64encode(f"{before}hunter22 again".encode()).decode()
    assert redact.mask(f"password=hunter22 was refused: no {encoded} here") == (
        "password=*** was refused: no *** here"
    )


@pytest.fixture
def no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Letters that look like a key are not masked for that alone."""
    monkeypatch.setattr(redact, "_by_chance", lambda _text: iter(()))


@pytest.mark.parametrize("before", ["", "x", "xy", "xyz"])
def test_a_secret_is_masked_in_base64_of_base64(no_chance: None, before: str) -> None:
    text = "password=hunter222"
    for _ in range(3):
        text = base64.b64encode(text.encode()).decode()
        assert redact.mask(f"sent {before}{text} to it") == "sent *** to it"


def test_a_user_and_a_password_in_base64_are_masked(no_chance: None) -> None:
    assert redact.mask(f"sent {base64.b64encode(b'robot:hunter22').decode()} to it") == "sent *** to it"


@pytest.mark.parametrize("encoding", ["URL", "JSON", "HTML"])
def test_a_secret_is_masked_when_escaped_four_times(encoding: str) -> None:
    text = 'password="hunter22 & more" refused'
    for _ in range(4):
        text = planted.ENCODINGS[encoding](text)
        assert leaks.seen("hunter22", redact.mask(text)) == []


@pytest.mark.parametrize("between", ["", "/", "+", "_", "-"])
def test_letters_by_chance_are_masked_to_their_end(between: str) -> None:
    assert redact.mask(f"tried {LETTERS[:30]}{between}{LETTERS[:12]} in vain") == "tried *** in vain"


def test_keys_side_by_side_are_masked(no_chance: None) -> None:
    kind = next(kind for kind in planted.KINDS if kind.name == "Azure Relay key")
    keys = [kind.make(Random(number)).text for number in range(3)]
    assert redact.mask(" ".join(keys)) == "*** *** ***"


def test_a_masked_text_is_not_masked_again() -> None:
    for secret, around in SECRETS.values():
        masked = redact.mask(around.format(secret))
        assert redact.mask(masked) == masked


def test_text_that_cannot_be_checked_in_time_is_masked_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_SECONDS", 0.0)
    assert redact.mask("nothing secret here") == redact.MASK


def test_a_text_with_very_many_secrets_is_masked_whole() -> None:
    assert redact.mask(" ".join(f"password={number}secret" for number in range(200))) == redact.MASK


@pytest.mark.parametrize("sign", ["\u00ad", "\u200b", "\u2060", "\ufeff", "\x1b[1m"])
def test_what_cannot_be_seen_hides_no_secret(sign: str) -> None:
    masked = sign.join("password=") + sign + "***" + sign.join(" refused")
    assert redact.mask(sign.join("password=hunter22 refused")) == masked


def test_bytes_written_as_numbers_hide_no_secret() -> None:
    numbers = [f"\\x{ord(letter):02x}" for letter in "password=hunter22"]
    assert redact.mask("".join(numbers)) == "".join(numbers[:9]) + "***"


def test_nothing_is_compiled_or_read_before_it_is_needed() -> None:
    """The command starts quickly."""
    code = "import sys, triage.match.redact; print([name for name in sys.modules if 'microsoft' in name])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
