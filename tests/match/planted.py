"""Secrets of every kind, made anew by chance at each run, in the lines that logs hold them in."""

from __future__ import annotations

import base64
import html
import json
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

LETTERS = string.ascii_letters + string.digits
UPPER = string.ascii_uppercase + string.digits
HEX = "0123456789abcdef"
WORD = LETTERS + "_-"
BASE64 = LETTERS + "+/"
SIGNS = LETTERS + "!#$^*()_+.~-"


@dataclass(frozen=True)
class Secret:
    """A secret as it stands in text; `part` is what must not be seen of it."""

    text: str
    part: str


@dataclass(frozen=True)
class Kind:
    """A kind of secret and the lines it stands in; `{}` is where."""

    name: str
    make: Callable[[Random], Secret]
    lines: tuple[str, ...]


def some(chance: Random, letters: str, count: int) -> str:
    """Return letters by chance: at least one digit, one small and one capital letter, if there are."""
    while True:
        text = "".join(chance.choices(letters, k=count))
        wanted = [
            set(group) & set(letters)
            for group in (string.digits, string.ascii_lowercase, string.ascii_uppercase)
        ]
        if all(not group or group & set(text) for group in wanted):
            return text


# Where a token that is known by its look may stand.
_ANYWHERE = (
    "remote: the credential {} has expired",
    'curl: (22) error 401 for {{"detail":"{} was refused"}}',
    "tried '{}', in vain",
)
# Where a secret that looks like nothing stands: behind its name.
_NAMED = (
    "login failed with password={} for robot",
    '{{"user": "robot", "password": "{}", "realm": "shop"}}',
    "    clientSecret: {}",
    "$env:NUGET_API_KEY = '{}'",
    "az login --service-principal -u robot --password {} --tenant contoso",
    "Server=db.example;User Id=robot;Password={};Encrypt=yes",
    '  client_secret = "{}"',
    "#<Credential user=robot, secretAccessKey={}, region=eu>",
    "export API_TOKEN={}",
    "X-Api-Key: {}",
)


def token(name: str, prefixes: str, letters: str, count: int, *lines: str, after: str = "") -> Kind:
    """Return a kind with one of its issuer's prefixes, parted by spaces."""

    def make(chance: Random) -> Secret:
        part = some(chance, letters, count)
        return Secret(chance.choice(prefixes.split()) + part + after, part)

    return Kind(name, make, lines + _ANYWHERE)


def named(name: str, letters: str, count: int, *lines: str) -> Kind:
    """Return a kind that only its name or place gives away."""

    def make(chance: Random) -> Secret:
        part = some(chance, letters, count)
        return Secret(part, part)

    return Kind(name, make, lines)


def _jwt(chance: Random) -> Secret:
    header = chance.choice([b'{"alg":"RS256","typ":"JWT"}', b'{ "alg": "RS256" }'])
    head = base64.urlsafe_b64encode(header).decode().rstrip("=")
    body = (
        base64.urlsafe_b64encode(json.dumps({"jti": some(chance, LETTERS, 30)}).encode()).decode().rstrip("=")
    )
    signature = some(chance, WORD, 86)
    return Secret(f"{head}.{body}.{signature}", signature)


def _marked(mark: str, before: int, after: int, end: str = "") -> Callable[[Random], Secret]:
    """Return an Azure key with Microsoft's mark within it."""

    def make(chance: Random) -> Secret:
        front = some(chance, LETTERS, before)
        return Secret(front + mark + some(chance, LETTERS, after) + end, front)

    return make


def _annotated(chance: Random) -> Secret:
    front = some(chance, LETTERS, 52)
    return Secret(f"{front}JQQJ99BKAC{some(chance, LETTERS, 14)}A{some(chance, LETTERS, 7)}", front)


def _azure_devops(chance: Random) -> Secret:
    front = some(chance, LETTERS, 76)
    return Secret(f"{front}AZDO{some(chance, LETTERS, 4)}", front)


def _entra(chance: Random) -> Secret:
    part = some(chance, LETTERS + "_.-~", 34)
    return Secret(f"{some(chance, LETTERS, 3)}8Q~{part}", part)


def _parts(*sizes: tuple[str, str, int]) -> Callable[[Random], Secret]:
    """Return a token of several parts, each a prefix, letters and their count; the last must not be seen."""

    def make(chance: Random) -> Secret:
        text, part = "", ""
        for prefix, letters, count in sizes:
            part = some(chance, letters, count)
            text += prefix + part
        return Secret(text, part)

    return make


def _user_and_password(chance: Random) -> Secret:
    password = some(chance, SIGNS, 18)
    return Secret(base64.b64encode(f"robot:{password}".encode()).decode(), password)


def _docker_config(chance: Random) -> Secret:
    inner = _user_and_password(chance)
    config = json.dumps({"auths": {"shop.azurecr.example": {"auth": inner.text}}})
    return Secret(base64.b64encode(config.encode()).decode(), inner.part)


def _in_base64(chance: Random) -> Secret:
    part = some(chance, LETTERS, 24)
    return Secret(base64.b64encode(part.encode()).decode(), part)


def _pem(kind: str) -> Callable[[Random], Secret]:
    def make(chance: Random) -> Secret:
        body = [some(chance, BASE64, 64) for _ in range(6)]
        lines = [f"-----BEGIN {kind}PRIVATE KEY-----", *body, f"-----END {kind}PRIVATE KEY-----"]
        return Secret("\\n".join(lines), "".join(body))

    return make


def _pem_in_base64(chance: Random) -> Secret:
    inner = _pem("RSA ")(chance)
    return Secret(base64.b64encode(inner.text.replace("\\n", "\n").encode()).decode(), inner.part)


def _pkcs12(chance: Random) -> Secret:
    part = some(chance, BASE64, 400)
    return Secret(f"MIIKZwIBAz{part}", part)


def _signature(chance: Random) -> Secret:
    part = base64.b64encode(chance.randbytes(32)).decode()
    return Secret(quote(part, safe=""), part)


def _uuid(chance: Random) -> Secret:
    part = "-".join(some(chance, HEX, count) for count in (8, 4, 4, 4, 12))
    return Secret(part, part)


def _prefixed(prefixes: str, make: Callable[[Random], Secret]) -> Callable[[Random], Secret]:
    def prefixed(chance: Random) -> Secret:
        inner = make(chance)
        return Secret(chance.choice(prefixes.split()) + inner.text, inner.part)

    return prefixed


def _xml_in_base64(chance: Random) -> Secret:
    part = some(chance, LETTERS, 40)
    return Secret(base64.b64encode(f"<saml:Assertion>{part}</saml:Assertion>".encode()).decode(), part)


KINDS = (
    # source control and build systems
    token(
        "GitHub token",
        "ghp_ gho_ ghu_ ghr_",
        LETTERS,
        36,
        "fatal: could not read https://x-access-token:{}@github.example/shop.git",
    ),
    token("GitHub app token", "ghs_", LETTERS, 36, "GITHUB_TOKEN={}"),
    token("GitHub fine-grained token", "github_pat_", LETTERS, 82),
    token(
        "GitLab token",
        "glpat- gloas- glrt- glrtr- glcbt- glptt- glft- glimt- glagent- glwt- glsoat- glffct-",
        WORD,
        20,
        "PRIVATE-TOKEN: {}",
    ),
    token("GitLab deploy token", "gldt-", WORD, 20),
    token("Bitbucket app password", "ATBB", LETTERS, 32),
    token("Atlassian token", "ATATT ATCTT", WORD, 180),
    Kind("Azure DevOps token", _azure_devops, ("VS30063: you are not authorized with {}", *_ANYWHERE)),
    named(
        "Azure DevOps token, old",
        string.ascii_lowercase + "234567",
        52,
        "PAT {} refused",
        "AZURE_DEVOPS_EXT_PAT={}",
    ),
    token("CircleCI token", "CCIPAT_ CCIPRJ_", LETTERS, 62),
    token("Buildkite token", "bkua_ bkpt_ bkpat_ bkaj_", HEX, 40),
    token("Octopus Deploy key", "API-", UPPER, 31, "X-Octopus-ApiKey: {}"),
    token("SonarQube token", "squ_ sqp_ sqa_", HEX, 40, "SONAR_TOKEN: {}"),
    token("GitLab runner token", "GR1348941", WORD, 20),
    # package feeds
    token("npm token", "npm_", LETTERS, 36, "//registry.example/:_authToken={}"),
    token("PyPI token", "pypi-AgEIcHlwaS5vcmc", WORD, 150, "password = {}"),
    token(
        "NuGet key",
        "oy2",
        string.ascii_lowercase + "234567",
        43,
        "dotnet nuget push a.nupkg --api-key {} --source x",
    ),
    token("RubyGems key", "rubygems_", HEX, 48),
    token("Clojars token", "CLOJARS_", HEX, 60),
    token("crates.io token", "cio", LETTERS, 32),
    token("Docker Hub token", "dckr_pat_ dckr_oat_", WORD, 27, "docker login -u robot -p {} docker.example"),
    token("Artifactory key", "AKCp8", LETTERS, 68, "X-JFrog-Art-Api: {}"),
    token("Artifactory reference token", "cmVmdGtu", BASE64, 56),
    named("NuGet server's key", LETTERS, 40, "dotnet nuget push a.nupkg -k {} --source x"),
    # Azure
    Kind(
        "Entra client secret",
        _entra,
        ("client_secret={}&grant_type=client_credentials", "AADSTS7000222: {} expired", *_ANYWHERE),
    ),
    Kind(
        "Azure storage key",
        _marked("+ASt", 76, 5, "Q=="),
        ("AccountName=shop;AccountKey={};EndpointSuffix=x", "key {} refused"),
    ),
    named(
        "Azure storage key, old",
        BASE64,
        86,
        "DefaultEndpointsProtocol=https;AccountName=shop;AccountKey={}==;EndpointSuffix=x",
        "--account-key {}==",
        "the account refused {}==",
    ),
    Kind(
        "Azure Cosmos DB key",
        _marked("ACDb", 76, 5, "Q=="),
        ("AccountEndpoint=https://shop.documents.example;AccountKey={};", "key {} refused"),
    ),
    Kind(
        "Azure Service Bus key",
        _marked("+ASbA", 33, 5, "="),
        ("Endpoint=sb://shop.example/;SharedAccessKeyName=Root;SharedAccessKey={}", "key {} refused"),
    ),
    named(
        "Azure Event Hubs key, old",
        BASE64,
        43,
        "Endpoint=sb://shop.example/;SharedAccessKeyName=Root;SharedAccessKey={}=;EntityPath=x",
    ),
    Kind("Azure Search key", _marked("AzSeA", 42, 5), ("api-key: {}", "key {} refused")),
    Kind(
        "Azure Functions key",
        _marked("AzFu", 44, 5, "Q=="),
        ("https://shop.example/api/run?code={}", "x-functions-key: {}"),
    ),
    Kind(
        "Azure Cache for Redis key",
        _marked("AzCaA", 33, 5, "="),
        ("shop.redis.example:6380,password={},ssl=True", "key {} refused"),
    ),
    Kind(
        "Azure container registry key",
        _marked("+ACRA", 42, 5),
        ("docker login shop.azurecr.example -u shop -p {}", "key {} refused"),
    ),
    Kind("Azure key with Microsoft's mark", _annotated, ("Ocp-Apim-Subscription-Key: {}", "key {} refused")),
    Kind(
        "Azure shared access signature",
        _signature,
        (
            "403 for https://shop.blob.example/c?sv=2024-11-04&se=2026-01-01&sp=r&sig={}",
            "SharedAccessSignature sr=shop&sig={}&se=1&skn=Root",
            "the blob refused sig={}",
        ),
    ),
    token("Databricks token", "dapi", HEX, 32, after="-2"),
    Kind("Azure Batch key", _marked("+ABa", 76, 5, "Q=="), ("key {} refused",)),
    Kind("Azure Machine Learning key", _marked("+AMC", 76, 5, "Q=="), ("key {} refused",)),
    Kind("Azure API Management key", _marked("APIM", 76, 5, "Q=="), ("key {} refused",)),
    Kind("Azure IoT key", _marked("AIoTB", 33, 5, "="), ("key {} refused",)),
    Kind("Azure Relay key", _marked("+ARmB", 33, 5, "="), ("key {} refused",)),
    Kind("Azure Event Hubs key", _marked("+AEhB", 33, 5, "="), ("key {} refused",)),
    Kind("Azure Event Grid key", _marked("AZEGB", 33, 5, "="), ("key {} refused",)),
    named(
        "publishing profile's password",
        LETTERS,
        60,
        '<publishProfile userName="$shop" userPWD="{}" destinationAppUrl="x"/>',
    ),
    # other clouds
    token(
        "AWS access key", "AKIA ASIA ABIA ACCA", string.ascii_uppercase + "234567", 16, "AWS_ACCESS_KEY_ID={}"
    ),
    named(
        "AWS secret key",
        BASE64,
        40,
        "AWS_SECRET_ACCESS_KEY={}",
        '"SecretAccessKey": "{}"',
        "aws_secret_access_key = {}",
    ),
    named("AWS session token", BASE64, 300, "aws_session_token = {}", "X-Amz-Security-Token: {}"),
    token("AWS Bedrock key", "ABSK", BASE64, 100),
    token("Google API key", "AIza", WORD, 35, "https://maps.example/api?key={}&v=3"),
    token("Google access token", "ya29.", WORD, 120, "Authorization: Bearer {}"),
    token("Google refresh token", "1//0", WORD, 60),
    token("Google client secret", "GOCSPX-", WORD, 28),
    token("DigitalOcean token", "dop_v1_ doo_v1_ dor_v1_", HEX, 64),
    token("Heroku key", "HRKU-", WORD, 60),
    token("Fly.io token", "fo1_ fm1_ fm2_ fm1r_ fm1a_", BASE64, 200),
    token("Netlify or Supabase token", "nfp_ nfc_ sbp_", LETTERS, 40),
    token("PlanetScale password", "pscale_tkn_ pscale_pw_ pscale_oauth_", WORD, 43),
    # infrastructure
    token("Vault token", "hvs. hvb. hvr.", WORD, 90, "X-Vault-Token: {}"),
    Kind("Terraform Cloud token", _parts(("", LETTERS, 14), (".atlasv1.", WORD, 67)), _ANYWHERE),
    token("Pulumi token", "pul- ico-", HEX, 40),
    Kind("Grafana token", _prefixed("glsa_ glc_", _parts(("", LETTERS, 32), ("_", HEX, 8))), _ANYWHERE),
    token("Sentry token", "sntrys_ sntryu_ sntrya_ sntryi_", HEX, 64),
    token("New Relic key", "NRAK- NRAA- NRRA- NRII- NRIQ- NRJS-", UPPER, 27),
    Kind(
        "Dynatrace token",
        _prefixed("dt0c01. dt0s16. dt0s02.", _parts(("", UPPER, 24), (".", UPPER, 64))),
        _ANYWHERE,
    ),
    named("Datadog key", HEX, 32, "DD_API_KEY={}", "DD-API-KEY: {}"),
    token("Tailscale key", "tskey-auth-", LETTERS, 40),
    Kind("LaunchDarkly key", _prefixed("sdk- api- mob-", _uuid), _ANYWHERE),
    token("1Password token", "ops_eyJ", BASE64, 200),
    token("Doppler token", "dp.pt. dp.st. dp.ct. dp.sa. dp.scim. dp.audit.", LETTERS, 43),
    # services
    token(
        "Slack token",
        "xoxa- xoxb- xoxe- xoxo- xoxp- xoxr- xoxs- xoxe.xoxb- xoxe.xoxp- xapp-",
        LETTERS,
        40,
    ),
    token("Slack webhook", "https://hooks.slack.com/services/T0/B0/", LETTERS, 24),
    token("Teams webhook", "https://contoso.webhook.office.com/webhookb2/", WORD, 80),
    token("Discord webhook", "https://discord.example/api/webhooks/123456789012345678/", WORD, 68),
    Kind("Telegram bot token", _parts(("", string.digits, 9), (":AA", WORD, 33)), _ANYWHERE),
    Kind("Discord bot token", _parts(("M", WORD, 24), (".", WORD, 6), (".", WORD, 30)), _ANYWHERE),
    token("Facebook token", "EAA", LETTERS, 120),
    token("Adafruit key", "aio_", LETTERS, 28),
    token("Square token", "sq0atp- sq0csp- EAAA", WORD, 60),
    token("Mailgun key", "key-", HEX, 32),
    token("Brevo key", "xkeysib- xsmtpsib-", HEX, 64, after="-" + UPPER[:16]),
    token("Groq, xAI, Replicate or Perplexity key", "gsk_ xai- r8_ pplx-", LETTERS, 40),
    token("Notion token", "ntn_ secret_", LETTERS, 43),
    token("Figma token", "figd_", WORD, 40),
    token("Contentful token", "CFPAT-", WORD, 43),
    token("Stripe key", "sk_live_ sk_test_ rk_live_ rk_test_ whsec_", LETTERS, 24),
    token("Shopify token", "shpat_ shpca_ shppa_ shpss_", HEX, 32),
    Kind("SendGrid key", _parts(("SG.", WORD, 22), (".", WORD, 43)), _ANYWHERE),
    named("Mailchimp key", HEX, 32, "key {}-us12 is disabled"),
    token("Twilio key", "SK", HEX, 32),
    token("OpenAI key", "sk-proj-", WORD, 100),
    token("Anthropic key", "sk-ant-api03-", WORD, 95),
    token("Hugging Face token", "hf_ api_org_", LETTERS, 34),
    Kind("Postman key", _parts(("PMAK-", HEX, 24), ("-", HEX, 34)), _ANYWHERE),
    token("Linear key", "lin_api_ lin_oauth_", LETTERS, 40),
    Kind("Airtable token", _parts(("pat", LETTERS, 14), (".", HEX, 64)), _ANYWHERE),
    Kind("Snyk token", _uuid, ("SNYK_TOKEN={}", "snyk auth failed: token={}")),
    # by their shape alone
    Kind("JSON web token", _jwt, ("Authorization: Bearer {}", "MSAL: assertion {} refused", *_ANYWHERE)),
    Kind("RSA private key", _pem("RSA "), ("{}", 'key="{}"')),
    Kind(
        "PKCS #8 private key",
        _pem(""),
        ('{{"type": "service_account", "private_key": "{}"}}', "cannot load {}"),
    ),
    Kind("OpenSSH private key", _pem("OPENSSH "), ("ssh-add: {}", "echo '{}' > key")),
    Kind("private key of a kubeconfig", _pem_in_base64, ("    client-key-data: {}", '"tls.key": "{}"')),
    Kind("PKCS #12 file", _pkcs12, ("certificate {} is expired", "<CertificateData>{}</CertificateData>")),
    token("age key", "AGE-SECRET-KEY-1", UPPER, 58),
    # by what stands before them
    named("password", SIGNS, 16, *_NAMED),
    named("short password", LETTERS, 8, *_NAMED[:8]),
    named(
        "password in a URL",
        LETTERS + "!$*~-_.",
        18,
        "fatal: Authentication failed for 'https://robot:{}@git.example/shop.git/'",
        "redis://:{}@cache.example:6379/0",
        "amqp://robot:{}@mq.example/%2f",
    ),
    named("token in a URL", LETTERS, 52, "git clone https://{}@dev.azure.example/contoso/_git/shop"),
    Kind(
        "basic authentication",
        _user_and_password,
        (
            "> Authorization: Basic {}",
            "git -c http.extraheader='AUTHORIZATION: basic {}' fetch",
            '"auth": "{}"',
            "_auth={}",
            "sent {} to it",
        ),
    ),
    Kind("docker configuration", _docker_config, (".dockerconfigjson: {}", "DOCKER_AUTH_CONFIG is {}")),
    Kind("Kubernetes secret", _in_base64, ("  password: {}", '{{"data":{{"client-secret":"{}"}}}}')),
    named(
        "cookie",
        LETTERS,
        120,
        "< Set-Cookie: session={}; Path=/; HttpOnly",
        "Cookie: theme=dark; FedAuth={}",
        "JSESSIONID={}; Secure",
    ),
    named(
        "digest authentication",
        HEX,
        32,
        'Authorization: Digest username="robot", nonce="{}", uri="/"',
        'WWW: Proxy-Authorization: Digest response="{}"',
    ),
    named(
        "AWS request signature",
        HEX,
        64,
        "Authorization: AWS4-HMAC-SHA256 Credential=x/eu/s3, SignedHeaders=host, Signature={}",
        "https://s3.example/a?X-Amz-Expires=60&X-Amz-Signature={}",
    ),
    named(
        "secure string",
        LETTERS + "!#$",
        20,
        'ConvertTo-SecureString "{}" -AsPlainText -Force',
        "ConvertTo-SecureString -String '{}' -AsPlainText",
    ),
    named(
        "secret pipeline variable", LETTERS + " !#", 24, "##vso[task.setvariable variable=pw;issecret=true]{}"
    ),
    named("netrc", LETTERS, 20, "machine git.example login robot password {}"),
    named(
        "NuGet feed's password",
        LETTERS,
        40,
        '<add key="ClearTextPassword" value="{}" />',
        "nuget sources add -Name x -UserName robot -Password {}",
    ),
    named(
        "Maven server's password",
        LETTERS,
        20,
        "<server><id>x</id><username>robot</username><password>{}</password></server>",
    ),
    named(
        "environment of a container",
        LETTERS,
        30,
        '{{"name": "DB_PASSWORD", "value": "{}"}}',
        "docker run -e DB_PASSWORD={} shop",
    ),
    named(
        "curl's user",
        LETTERS + "!.",
        16,
        "curl -u robot:{} https://shop.example",
        "curl --user 'robot:{}' https://shop.example",
    ),
    named(
        "database login",
        LETTERS + "!.",
        16,
        "mysql -h db -u root -p{} shop",
        "CREATE USER robot IDENTIFIED BY '{}'",
        "sqlcmd -S db.example -U robot -P {} -Q x",
    ),
    named("Oracle login", LETTERS, 16, "jdbc:oracle:thin:robot/{}@db.example:1521/shop"),
    Kind("SAML assertion", _xml_in_base64, ("SAMLResponse={}", 'samlAssertion: "{}"')),
    named("connection string", SIGNS, 20, 'connectionString="cache.example:6380,robot,{}"'),
    named("registry's auth", LETTERS, 30, '"auth": "{}"', "npm config: _auth={}"),
    named("device code", WORD, 80, "device_code={}", "code_verifier={}"),
    named("authorization code", LETTERS, 40, "https://shop.example/callback?code={}&state=x"),
    named("variable", LETTERS, 20, "DEPLOY_PAT={}", "REGISTRY_PW={}", "export GIT_AUTH='{}'"),
    named("short token", string.ascii_lowercase, 9, '"access_token": "{}"', "authToken={}"),
    named("secret header", LETTERS, 20, "X-Shop-Auth: {}"),
    named("bearer token", LETTERS, 40, "sent bearer {} to it"),
    named("letters by chance", LETTERS, 40, "tried {} in vain"),
    named(
        "OAuth refresh token",
        WORD + ".",
        200,
        "grant_type=refresh_token&refresh_token={}&client_id=x",
        '"refresh_token":"{}"',
    ),
)

# Known only where it stands alone.
LINE_OF_A_KEY = named("line of a private key", BASE64, 64, "{}")


def url_encoded(text: str) -> str:
    """Return text as a part of a URL."""
    return quote(text, safe="")


def json_escaped(text: str) -> str:
    """Return text as it stands within a JSON string."""
    return json.dumps(text)[1:-1]


def base64_encoded(text: str) -> str:
    """Return text in base64."""
    return base64.b64encode(text.encode()).decode()


def split_by_colours(text: str) -> str:
    """Return text with a colour changed every five letters, as a tool that highlights would print it."""
    return "\x1b[0m\x1b[1;31m".join(text[at : at + 5] for at in range(0, len(text), 5))


def pushed_to_the_edge(text: str) -> str:
    """Return text that begins where an excerpt is about to end."""
    return "." * 205 + " " + text


ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "URL": url_encoded,
    "JSON": json_escaped,
    "JSON in JSON": lambda text: json_escaped(json_escaped(text)),
    "URL in JSON in URL": lambda text: url_encoded(json_escaped(url_encoded(text))),
    "JSON by numbers": lambda text: "".join(f"\\u{ord(sign):04x}" for sign in text),
    "HTML": html.escape,
    "HTML by numbers": lambda text: "".join(f"&#{ord(sign)};" for sign in text),
    "base64": base64_encoded,
    "base64 in JSON in a URL": lambda text: url_encoded(json_escaped(f'"{base64_encoded(text)}"')),
    "colours": split_by_colours,
    "colours in JSON": lambda text: json_escaped(split_by_colours(text)),
    "at the excerpt's edge": pushed_to_the_edge,
    "PowerShell command": lambda text: base64.b64encode(text.encode("utf-16-le")).decode(),
}
