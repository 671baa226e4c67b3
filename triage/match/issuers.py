"""Issuers' tokens, known by their prefix or look, and Azure's keys, known by Microsoft's marks in them.

Azure's keys are told by the patterns of microsoft-security-utilities-secret-masker, which Microsoft keeps
for Azure CLI and the pipelines' agent: of the libraries it alone knows them and needs nothing else
(detect-secrets: last released in 2024, one kind of Azure key; gitleaks has no Python package of its own).
It knows few other issuers, so the rest is from the issuers' documentation.
"""

from __future__ import annotations

import json
import pkgutil
from functools import cache

from triage.match.shapes import HASH, Shape

_START = r"(?<![A-Za-z0-9_-])"  # a token starts here
_HEX = r"[0-9a-f]"
_TOKEN = 12  # letters in a row that every token has at least
_AZURE = (
    "microsoft_security_utilities_secret_masker.GeneratedRegexPatterns",
    "HighConfidenceSecurityModels.json",
)


@cache
def azure_keys() -> tuple[Shape, ...]:
    """Return Microsoft's patterns; read when first needed, so that the command starts quickly."""
    data = pkgutil.get_data(*_AZURE)
    return tuple(
        Shape(each["Name"], tuple(each["Signatures"]), each["Pattern"].replace("(?P<refine>", "(?P<secret>"))
        for each in json.loads(data or b"")
    )


def _token(about: str, prefixes: str, rest: str) -> Shape:
    """Return the shape of tokens that start with one of some prefixes, parted by spaces."""
    literals = tuple(prefixes.split())
    alternatives = "|".join(each.replace(".", r"\.") for each in literals)
    return Shape(about, literals, f"{_START}(?:{alternatives}){rest}", _TOKEN)


# An issuer's tokens, as its documentation (named behind) tells them; lengths are lower bounds, for they grow.
TOKENS = (
    # docs.github.com: about authentication to GitHub, token formats
    _token("GitHub", "ghp_ gho_ ghu_ ghs_ ghr_", r"[A-Za-z0-9._-]{20,}"),
    _token("GitHub, fine-grained", "github_pat_", r"\w{20,}"),
    # docs.gitlab.com/security/tokens: token prefixes
    _token(
        "GitLab",
        "glpat- gloas- gldt- glrt- glrtr- glcbt- glptt- glft- glimt- glagent- glwt- glsoat- glffct-",
        r"[A-Za-z0-9._-]{16,}",
    ),
    _token("GitLab runner", "GR1348941", r"[A-Za-z0-9_-]{16,}"),
    # github.com/pypi/warehouse: API tokens are macaroons, base64
    _token("PyPI", "pypi-", r"[A-Za-z0-9_-]{32,}"),
    # docs.docker.com/security: personal and organisation access tokens
    _token("Docker Hub", "dckr_pat_ dckr_oat_", r"[A-Za-z0-9_-]{16,}"),
    # guides.rubygems.org/api-key-scopes; crates.io: cio, then 32; clojars.org: deploy tokens
    _token("RubyGems", "rubygems_", _HEX + r"{40,}"),
    _token("crates.io", "cio", r"[A-Za-z0-9]{32}(?![A-Za-z0-9])"),
    _token("Clojars", "CLOJARS_", r"[A-Za-z0-9]{40,}"),
    # jfrog.com/help: API keys AKC…, reference tokens are base64 of "reftkn:"
    _token("Artifactory", "AKCp", r"[A-Za-z0-9]{40,}"),
    _token("Artifactory reference token", "cmVmdGtu", r"[A-Za-z0-9+/]{40,}"),
    # octopus.com/docs: how to create an API key
    _token("Octopus Deploy", "API-", r"[A-Z0-9]{25,40}(?![A-Za-z0-9])"),
    # api.slack.com/authentication/token-types
    _token("Slack", "xoxa- xoxb- xoxe- xoxo- xoxp- xoxr- xoxs- xoxe.xoxb- xoxe.xoxp- xapp-", r"[\w-]{10,}"),
    Shape(
        "Slack webhook",
        ("hooks.slack.com",),
        r"hooks\.slack\.com/\w{1,20}/(?P<secret>[A-Za-z0-9/_-]{16,})",
    ),
    # learn.microsoft.com/microsoftteams: incoming webhooks, also those of Power Automate (sig=)
    Shape("Teams webhook", ("webhook.office.com",), r"webhook\.office\.com/(?P<secret>[A-Za-z0-9@/_-]{20,})"),
    # discord.com/developers/docs: webhook URLs, bot tokens
    Shape("Discord webhook", ("api/webhooks/",), r"api/webhooks/\d{10,25}/(?P<secret>[\w-]{20,})"),
    Shape(
        "Discord bot",
        (".",),
        _START + r"[MNO][A-Za-z0-9_-]{22,28}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,40}(?![\w-])",
        run=22,
    ),
    # core.telegram.org/bots: number, colon, 35 characters
    Shape("Telegram bot", (":AA",), r"(?<!\d)\d{8,10}:(?P<secret>AA[A-Za-z0-9_-]{33})"),
    # docs.aws.amazon.com/IAM: unique identifiers; Bedrock API keys start with ABSK
    _token("AWS access key", "AKIA ASIA ABIA ACCA", r"[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _token("AWS Bedrock", "ABSK", r"[A-Za-z0-9+/]{40,}={0,2}"),
    # cloud.google.com/docs/authentication: API keys, OAuth access and refresh tokens, client secrets
    _token("Google API key", "AIza", r"[A-Za-z0-9_-]{35}"),
    _token("Google access token", "ya29.", r"[A-Za-z0-9._-]{20,}"),
    Shape("Google refresh token", ("1//0",), r"(?<![\w/:-])1//0[A-Za-z0-9_-]{30,}"),
    _token("Google client secret", "GOCSPX-", r"[A-Za-z0-9_-]{20,}"),
    # docs.stripe.com/keys, /webhooks
    _token("Stripe", "sk_live_ sk_test_ rk_live_ rk_test_ whsec_", r"[A-Za-z0-9+/=]{16,}"),
    # developer.squareup.com: access tokens and application secrets
    _token("Square", "sq0atp- sq0csp- EAAA", r"[A-Za-z0-9_-]{22,}"),
    # shopify.dev: access tokens
    _token("Shopify", "shpat_ shpca_ shppa_ shpss_", r"[A-Fa-f0-9]{32,}"),
    # docs.sendgrid.com: API keys; mailchimp.com/developer; documentation.mailgun.com; brevo.com
    _token("SendGrid", "SG.", r"[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,}"),
    Shape("Mailchimp", ("-us",), r"(?<![A-Za-z0-9])[0-9a-f]{32}-us\d{1,2}(?!\w)"),
    _token("Mailgun", "key-", _HEX + r"{32}(?!\w)"),
    _token("Brevo", "xkeysib- xsmtpsib-", _HEX + r"{32,64}-[A-Za-z0-9]{8,}"),
    # twilio.com/docs/iam/api-keys
    _token("Twilio", "SK", _HEX + r"{32}(?!\w)"),
    # platform.openai.com; docs.anthropic.com: keys start with sk-; others' keys
    Shape("OpenAI, Anthropic", ("sk-",), _START + r"sk-(?=[A-Za-z_-]{0,60}\d)[A-Za-z0-9_-]{32,}"),
    _token("Hugging Face", "hf_ api_org_", r"[A-Za-z0-9]{20,}"),
    _token("Groq, xAI, Replicate, Perplexity", "gsk_ xai- r8_ pplx-", r"[A-Za-z0-9]{32,}"),
    # developer.hashicorp.com: Vault tokens, Terraform Cloud tokens
    _token("Vault", "hvs. hvb. hvr.", r"[A-Za-z0-9_-]{20,}"),
    Shape("Terraform Cloud", (".atlasv1.",), r"(?<!\w)\w{14}\.atlasv1\.[A-Za-z0-9_-]{40,}"),
    # support.atlassian.com: API tokens, Bitbucket access tokens and app passwords
    _token("Atlassian", "ATATT ATCTT ATBB", r"[A-Za-z0-9_=-]{20,}"),
    # docs.sonarsource.com: user, project and global tokens
    _token("SonarQube", "squ_ sqp_ sqa_", _HEX + r"{40}(?!\w)"),
    # docs.newrelic.com: API keys; grafana.com/docs: service account and cloud tokens; docs.dynatrace.com
    _token("New Relic", "NRAK- NRAA- NRRA- NRII- NRIQ- NRJS-", r"[A-Za-z0-9_-]{19,}"),
    _token("Grafana", "glsa_ glc_", r"[A-Za-z0-9_+/=-]{32,}"),
    _token("Dynatrace", "dt0c01. dt0s16. dt0s02.", r"[A-Z0-9]{24}\.[A-Z0-9]{64}"),
    # docs.sentry.io/account/auth-tokens; docs.datadoghq.com has no prefix: told by name
    _token("Sentry", "sntrys_ sntryu_ sntrya_ sntryi_", r"[A-Za-z0-9_+/=-]{32,}"),
    # learning.postman.com; linear.app/developers; developers.notion.com; airtable.com/developers; figma.com
    _token("Postman", "PMAK-", _HEX + r"{24}-[0-9a-f]{34}"),
    _token("Linear", "lin_api_ lin_oauth_", r"[A-Za-z0-9]{32,}"),
    _token("Notion", "ntn_ secret_", r"(?=[A-Za-z]{0,59}\d)[A-Za-z0-9]{40,60}(?!\w)"),
    _token("Airtable", "pat", r"[A-Za-z0-9]{14}\.[0-9a-f]{64}"),
    _token("Figma", "figd_", r"[A-Za-z0-9_-]{30,}"),
    # docs.digitalocean.com; planetscale.com/docs; docs.doppler.com; fly.io; netlify; supabase; heroku
    _token("DigitalOcean", "dop_v1_ doo_v1_ dor_v1_", _HEX + r"{64}"),
    _token("PlanetScale", "pscale_tkn_ pscale_pw_ pscale_oauth_", r"[A-Za-z0-9_.=-]{32,}"),
    _token("Doppler", "dp.pt. dp.st. dp.ct. dp.sa. dp.scim. dp.audit.", r"[A-Za-z0-9._-]{40,}"),
    _token("Fly.io", "fo1_ fm1_ fm2_ fm1r_ fm1a_", r"[A-Za-z0-9+/=_-]{40,}"),
    _token("Netlify, Supabase", "nfp_ nfc_ sbp_", r"[A-Za-z0-9]{36,}"),
    _token("Heroku", "HRKU-", r"[A-Za-z0-9_-]{36,}"),
    # pulumi.com/docs; infracost.io; docs.launchdarkly.com (server-side SDK and REST keys carry a UUID)
    _token("Pulumi, Infracost", "pul- ico-", r"[A-Za-z0-9]{32,40}(?!\w)"),
    _token("LaunchDarkly", "sdk- api- mob-", r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"),
    # buildkite.com/docs; circleci.com/docs; contentful.com; tailscale.com/kb; developer.1password.com; age
    _token("Buildkite", "bkua_ bkpt_ bkpat_ bkaj_", r"[A-Za-z0-9_-]{32,}"),
    _token("CircleCI", "CCIPAT_ CCIPRJ_", r"[A-Za-z0-9_-]{32,}"),
    _token("Contentful", "CFPAT-", r"[A-Za-z0-9_-]{40,}"),
    _token("Tailscale", "tskey-", r"[A-Za-z0-9-]{20,}"),
    _token("1Password", "ops_eyJ", r"[A-Za-z0-9+/=_-]{100,}"),
    Shape("age", ("AGE-SECRET-KEY-",), r"AGE-SECRET-KEY-1[0-9A-Z]{50,}"),
    # developers.facebook.com: access tokens; adafruit.io
    _token("Facebook", "EAA", r"(?=[A-Za-z]{0,100}\d)[A-Za-z0-9]{80,}"),
    _token("Adafruit", "aio_", r"[A-Za-z0-9]{28}(?!\w)"),
    # RFC 7519 and 7516: JSON web tokens, signed, unsigned or encrypted
    Shape(
        "JSON web token",
        ("eyJ", "eyA"),
        r"(?<![A-Za-z0-9_-])ey[JA][A-Za-z0-9_-]{8,}+={0,2}(?:\.[A-Za-z0-9_-]*+={0,2}){1,4}",
    ),
    # learn.microsoft.com/azure/devops: personal access tokens, 84 characters with AZDO, before 52 of base32
    Shape(
        "Azure DevOps", ("AZDO",), r"(?<![A-Za-z0-9])[A-Za-z0-9]{70,80}AZDO[A-Za-z0-9]{4,8}(?![A-Za-z0-9])"
    ),
    Shape(
        "Azure DevOps, old", (), r"(?<![A-Za-z0-9])(?=[a-z]{0,51}[2-7])[a-z2-7]{52}(?![A-Za-z0-9])", run=52
    ),
    # learn.microsoft.com/azure/storage, /cosmos-db: 64 bytes in base64 (as are sha512 file hashes: not those)
    Shape(
        "64-byte key", ("==",), rf"(?i)(?<![A-Za-z0-9+/])(?<!{HASH}[-:=\"'\s]{{0,5}})[A-Za-z0-9+/]{{86}}=="
    ),
    # RFC 7292: a PKCS #12 file in base64
    Shape("PKCS #12", ("MI",), r"(?<![A-Za-z0-9+/])MI[I-L][A-Za-z0-9+/]{3}IBAz[A-Za-z0-9+/=]{20,}"),
    # RFC 7468, 4880: a private key's body, broken into lines of 64 or 70 characters; the last ends in padding
    Shape(
        "line of a key",
        (),
        r"^\s{0,20}(?=\S{0,76}[a-z])(?=\S{0,76}[A-Z])(?=\S{0,76}[0-9+/])"
        r"(?P<secret>(?:[A-Za-z0-9+/]{4}){15,19}|[A-Za-z0-9+/]{70}|[A-Za-z0-9+/]{14,74}={1,2})\s{0,20}$",
        run=14,
    ),
)
