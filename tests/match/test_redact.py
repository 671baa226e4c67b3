import base64

import pytest

from triage.match import redact

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


@pytest.mark.parametrize(
    "text",
    [
        "AADSTS7000215: Invalid client secret provided. Ensure the secret being sent is the client secret value, for a secret added to app '11111111-2222-3333-4444-555555555555'.",
        "Trace ID: 11111111-2222-3333-4444-555555555555 Timestamp: 2026-11-21 03:00:00Z",
        "unauthorized: authentication required on https://shop.azurecr.example/v2/",
        "tenant 11111111-2222-3333-4444-555555555555, subscription 99999999-2222-3333-4444-555555555555",
        "Secret expired, update service connection at https://dev.example/contoso/Shop/_settings/adminservices?resourceId=11111111-2222-3333-4444-555555555555",
        "docker run -p 8080:80 web",
        "mkdir -p /var/lib/agents",
        "sha256:" + HEX,
        "commit " + HEX[:40],
        "password: ***",
    ],
)
def test_what_linking_needs_survives(text: str) -> None:
    assert redact.mask(text) == text


def test_our_own_token_is_masked_wherever_it_stands() -> None:
    assert redact.mask("refused: short-own-value!", own=["short-own", "short-own-value"]) == "refused: ***!"
