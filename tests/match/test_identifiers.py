"""What tells which credential, whose and where must survive beside a secret."""

from __future__ import annotations

import base64
from random import Random

import pytest

from tests.match import planted
from triage.match import redact

CHANCE = Random("identifiers")


def guid() -> str:
    return "-".join(planted.some(CHANCE, planted.HEX, count) for count in (8, 4, 4, 4, 12))


def digits(count: int) -> str:
    return "".join(CHANCE.choices("0123456789", k=count))


SHA1 = planted.some(CHANCE, planted.HEX, 40)
SHA256 = planted.some(CHANCE, planted.HEX, 64)
SHA256_BASE64 = base64.b64encode(bytes.fromhex(SHA256)).decode().rstrip("=")
FINGERPRINT = ":".join(SHA1[at : at + 2] for at in range(0, 40, 2)).upper()
RESOURCE = f"/subscriptions/{guid()}/resourceGroups/rg-shop-prod/providers/Microsoft.Web/sites/shop-api"

# An identifier, and a sentence that holds it at `{}`.
SENTENCES = [
    ("open /tmp/awsjwt", "could not read web identity token: {}: no such file or directory"),
    ("YES", "ERROR 1045 (28000): Access denied for user 'shop'@'10.0.0.4' (using password: {})"),
    ("missing a value", 'Error: You defined "--token", but it\'s missing a value'),
    (
        "gitlab.contoso.example",
        "fatal: Authentication failed for 'https://gitlab-ci-token:***@{}/web.git/'",
    ),
    # tenants, applications, people
    (guid(), "AADSTS700016: Application with identifier '{}' was not found in the directory 'Contoso'."),
    (guid(), "AADSTS90002: Tenant '{}' not found. Check to make sure you have the correct tenant ID."),
    (guid(), "AADSTS7000222: The provided client secret keys for app '{}' are expired."),
    (guid(), "AADSTS50034: The user account does not exist in the {} directory."),
    (guid(), "az login --service-principal -u {} -p *** --tenant contoso.example"),
    (guid(), "az login --service-principal --username {} --password *** --allow-no-subscriptions"),
    (guid(), "client_id={}&grant_type=client_credentials&scope=https%3A%2F%2Fmanagement.example%2F.default"),
    (guid(), '{{"appId": "{}", "displayName": "shop-deploy"}}'),
    (guid(), "ARM_CLIENT_ID={} ARM_CLIENT_SECRET=***"),
    (guid(), "ARM_TENANT_ID: {}"),
    (guid(), "The client '{}' does not have authorization to perform action 'Microsoft.Web/sites/write'."),
    (guid(), "object id: {}, key id: unknown"),
    (guid(), "POST https://login.microsoftonline.com/{}/oauth2/v2.0/token returned 401"),
    ("contoso.onmicrosoft.com", "AADSTS50059: No tenant-identifying information found for {}."),
    ("robot@contoso.example", "Login failed for user '{}'."),
    ("CONTOSO\\svc-deploy", "Logon failure for account {}: the password of this account has expired."),
    ("svc_build_2024", "ORA-28001: the password has expired for user {}"),
    ("arn:aws:iam::123456789012:user/deploy-bot", "User: {} is not authorized to perform: ecr:GetToken"),
    ("arn:aws:sts::123456789012:assumed-role/Deploy/run-17", "AccessDenied for {}"),
    ("deploy@shop-prod-1234.iam.gserviceaccount.com", "invalid_grant: account {} not found"),
    ("system:serviceaccount:shop:deployer", 'secrets is forbidden: User "{}" cannot list resource "secrets"'),
    # Azure DevOps
    (guid(), "Service connection with ID {} could not be found."),
    (guid(), "##[error]The endpoint '{}' has an expired secret"),
    (guid(), "adminservices?resourceId={} : update the service connection"),
    ("prod-azure-rm", "Could not fetch access token for Azure. Verify the service connection {} is valid."),
    ("contoso", "TF400813: The user is not authorized: https://dev.azure.com/{}/"),
    ("contoso/Shop", "https://dev.azure.com/{}/_settings/adminservices"),
    ("contoso/Shop/_git/shop-web", "fatal: Authentication failed for 'https://dev.azure.com/{}/'"),
    ("contoso", "fatal: could not read Password for 'https://{}@dev.azure.com': terminal prompts disabled"),
    ("vssps.dev.azure.com", "Unable to reach https://{}/contoso/_apis/token: 401"),
    ("shop-feed@Local", "Unable to load the service index for feed {}."),
    ("https://pkgs.dev.azure.com/contoso/_packaging/shop/nuget/v3/index.json", "401 for source {}."),
    (
        "https://pkgs.dev.azure.com/contoso/_packaging/shop/npm/registry/",
        "npm ERR! 401 Unauthorized - GET {}",
    ),
    ("Build.Repository.Uri", "The variable {} has no value."),
    ("AzureKeyVault@2", "The task {} failed with a 403."),
    # subscriptions and resources
    (guid(), "The subscription '{}' could not be found."),
    (guid(), "ERROR: The subscription of '{}' doesn't exist in cloud 'AzureCloud'."),
    (RESOURCE, "does not have authorization over scope '{}' or the scope is invalid"),
    ("rg-shop-prod", "Resource group '{}' could not be found."),
    ("shop-kv-prod", "Caller is not authorized on https://{}.vault.azure.net/secrets/feed-token"),
    ("feed-token", "SecretNotFound: A secret with (name/id) {} was not found in this key vault"),
    ("shopstorage01", "AuthenticationFailed on https://{}.blob.core.windows.net/releases?restype=container"),
    ("2026-11-20T03:00:00Z", "Signature not valid in the specified time frame: Expiry [{}]"),
    ("se=2026-01-01T00%3A00%3A00Z", "403 for https://shop.blob.example/c?sv=2024-11-04&{}&sp=rl&sig=***"),
    ("sv=2024-11-04", "403 for https://shop.blob.example/c?{}&sp=rl&sig=***"),
    # hosts, registries, packages, versions
    ("shopacr.azurecr.io", "unauthorized: authentication required on https://{}/v2/"),
    ("shopacr.azurecr.io/web/frontend:1.24.0-rc.3", "denied: requested access to {} is denied"),
    ("registry-1.docker.io", "Error response from daemon: Get https://{}/v2/: unauthorized: expired token"),
    ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "no basic auth credentials for {}"),
    ("ghcr.io/contoso/shop-web", "failed to authorize {}: 403 Forbidden"),
    ("sqlprod01.database.windows.net", "Login failed; Server=tcp:{},1433;User ID=robot;Password=***;"),
    ("db-7.internal.contoso.example:5432", "password authentication failed for user robot at {}"),
    ("10.24.117.8", "Host key verification failed for {}"),
    ("git.contoso.example", "Permission denied (publickey) on {}"),
    ("https://sonar.contoso.example/api/authentication/validate", "Not authorized: GET {}"),
    ("@contoso/shop-components@4.17.21-beta.2", "npm ERR! 404 '{}' is not in this registry"),
    ("Contoso.Shop.Client.13.0.3-preview.20261121.4", "Forbidden: cannot push {}.nupkg"),
    ("com.contoso:shop-client:jar:2.11.0-20261121.030000-7", "Could not transfer artifact {}: 401"),
    ("kubernetes-admin@shop-aks-prod", "error: the context {} has expired credentials"),
    # fingerprints, digests, commits, runs
    (SHA1.upper(), "No certificate with thumbprint {} was found in the store."),
    (FINGERPRINT, "x509: certificate {} has expired or is not yet valid"),
    ("SHA256:" + SHA256_BASE64, "ED25519 key fingerprint is {}."),
    ("sha256:" + SHA256, "manifest unknown: shop/web@{}"),
    (SHA256, "checksum mismatch: wanted {}"),
    ("sha512-" + base64.b64encode(CHANCE.randbytes(64)).decode(), '"integrity": "{}"'),
    (SHA1, "HEAD is now at {}"),
    (SHA1[:8], "Merge commit {} into main"),
    (SHA1, "https://github.example/contoso/shop/commit/{}"),
    (f"refs/pull/{digits(4)}/merge", "Checking out {}"),
    (digits(7), "https://dev.azure.com/contoso/Shop/_build/results?buildId={}&view=logs"),
    (guid(), "ActivityId: {}, Timestamp: 2026-11-21 03:00:00Z"),
    (guid(), "x-ms-correlation-request-id: {}"),
    (guid(), "RequestId:{}\\nTime:2026-11-21T03:00:00.1234567Z"),
    (digits(4) + "-11-21T03:00:00.1234567Z", "token expired on {}"),
    ("0x80070005", "Access is denied. (Exception from HRESULT: {} (E_ACCESSDENIED))"),
    ("MSB3073", "error {}: The command exited with code 1."),
    ("AADSTS700082", "{}: The refresh token has expired due to inactivity."),
    ("CN=shop-deploy, O=Contoso", 'The certificate "{}" expired on 2026-11-20.'),
    ("serial number 4A:00:00:01:9F", "The certificate with {} is revoked."),
]


def test_there_are_enough_identifiers() -> None:
    assert len(SENTENCES) >= 60


@pytest.mark.parametrize(("identifier", "sentence"), SENTENCES)
def test_an_identifier_survives(identifier: str, sentence: str) -> None:
    text = sentence.format(identifier)
    assert redact.mask(text) == text


@pytest.mark.parametrize(("identifier", "sentence"), SENTENCES)
def test_an_identifier_survives_beside_a_secret(identifier: str, sentence: str) -> None:
    secret = planted.some(Random(identifier), planted.LETTERS, 16)
    masked = redact.mask(f"{sentence.format(identifier)} (password={secret})")
    assert identifier in masked
    assert secret not in masked
