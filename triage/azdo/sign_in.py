"""Who triage is to Azure DevOps: a token, or an Entra identity whose bearer tokens are renewed in time."""

from __future__ import annotations

import re
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from msrest.authentication import Authentication, BasicAuthentication
from requests.auth import AuthBase

from triage.errors import AccessRefused, RetryLater, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    import requests

    from triage.config import Credential

# Azure DevOps itself, as Entra knows it (azure-devops.md 10.1).
SCOPE = "499b84ac-1321-427f-aa17-267ca6975798/.default"
_EARLY_SECONDS = 300.0  # azure-identity fetches anew below this, too
_KNOWN_AUTHORITIES = (
    ".microsoftonline.com",
    ".microsoftonline.us",
    ".chinacloudapi.cn",
    ".partner.microsoftonline.cn",
)
_TEXT_MAX = 300
_PASSING = re.compile(r"AADSTS(?:90033|50196|90006)\b|temporarily_unavailable|HTTP Error: (?:429|5\d\d)")
# What Entra's commonest refusals mean for the person who set triage up.
_REMEDIES = {
    "AADSTS7000222": "The client secret has expired: create a new one for the application in Entra and set "
    "{setting}.client_secret.",
    "AADSTS7000215": "The client secret is wrong; {setting}.client_secret must be the secret's value, "
    "not its ID.",
    "AADSTS700016": "The tenant has no such application: check {setting}.client_id and {setting}.tenant_id.",
    "AADSTS90002": "There is no such tenant: check {setting}.tenant_id.",
    "AADSTS900023": "There is no such tenant: check {setting}.tenant_id.",
    "AADSTS700027": "Entra does not know the certificate: upload the one in {setting}.certificate_file to "
    "the application, or check this machine's clock.",
    "AADSTS700024": "The assertion is not valid at this time: check this machine's clock.",
    "AADSTS53003": "A conditional access policy blocks the sign-in: exclude triage's identity from it.",
}
_FEDERATION = re.compile(r"AADSTS(?:70021|700211|700212|700213|700223|700238)\b")


class SignIn:
    """One credential, shared by all threads; what it sends changes when its token is renewed."""

    def __init__(self, kind: str, setting: str, *, token: str = "", source: Any = None) -> None:
        self.kind = kind  # the setting `auth`
        self.setting = setting  # azure_devops, azure_devops.writer or service_bus.credential
        self._token = token
        self._source = source  # a credential of azure-identity
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[str, float]] = {}  # by scope: a bearer token, and when it ends

    @property
    def is_entra(self) -> bool:
        """True when bearer tokens are fetched, False for a token that a person made."""
        return self._source is not None

    @property
    def expires_at(self) -> datetime | None:
        """Return when the present bearer token ends, None for a token or before the first request."""
        kept = self._kept.get(SCOPE)
        return datetime.fromtimestamp(kept[1], UTC) if kept else None

    @property
    def advice(self) -> str:
        """Return what a person should check when Azure DevOps refuses the credential."""
        if not self.is_entra:
            variable = f"TRIAGE_{self.setting.replace('.', '__').upper()}__TOKEN"
            return (
                f"Check {self.setting}.token ({variable}): it may have expired or lack a scope; "
                "deploy/README.md lists the scopes."
            )
        return (
            f"triage signs in by {self.kind} ({self.setting}.auth): add that identity to the organisation "
            "with a Basic licence and give it the rights that deploy/README.md lists."
        )

    def authentication(self) -> Authentication:
        """Return what the SDK's clients sign their requests with."""
        if not self.is_entra:
            return BasicAuthentication("", self._token)
        return _Bearer(self.bearer)

    def bearer(self, scope: str = SCOPE) -> str:
        """Return a bearer token, as `token` does."""
        return self.token(scope)[0]

    def token(self, scope: str) -> tuple[str, float]:
        """Return a bearer token that is good for some minutes, and when it ends; fetches one when needed.

        Raises AccessRefused, naming the credential and what to do, or RetryLater when Entra is away.
        A token that still holds survives a failed renewal.
        """
        with self._lock:
            kept, expires = self._kept.get(scope, ("", 0.0))
            left = expires - time.time()
            if left > _EARLY_SECONDS:
                return kept, expires
            try:
                token = self._source.get_token_info(scope)
            except Exception as error:  # noqa: BLE001 - azure-identity raises more than its documentation names
                if left > 0:
                    return kept, expires
                raise self._explained(error) from None
            self._kept[scope] = str(token.token), float(token.expires_on)
            return self._kept[scope]

    def _explained(self, error: Exception) -> AccessRefused | RetryLater:
        message = re.sub(r"\s+", " ", str(error))
        if _is_passing(error, message):
            remedy = self._remedy("") if self.kind == "managed-identity" else "It is tried again."
            return RetryLater(
                f"Entra could not be asked for a token ({self.kind}): {message[:_TEXT_MAX]}. {remedy}"
            )
        return AccessRefused(
            f"Entra refuses triage's {self.kind} ({self.setting}.auth): {self._remedy(message)} "
            f"Entra says: {_told(message)}"
        )

    def _remedy(self, message: str) -> str:
        for code, remedy in _REMEDIES.items():
            if re.search(rf"{code}\b", message):
                return remedy.format(setting=self.setting)
        if _FEDERATION.search(message):
            return (
                "The application trusts no such workload: compare the issuer, subject and audience of its "
                "federated credential in Entra with those of the workload's token."
            )
        return {
            "managed-identity": "Assign a managed identity to where triage runs; a user-assigned one needs "
            f"its {self.setting}.client_id.",
            "workload-identity": f"Check {self.setting}.tenant_id, .client_id and .federated_token_file.",
            "azure-cli": "Run `az login` as the user who runs triage.",
        }.get(self.kind, f"Check {self.setting}.tenant_id, .client_id and its secret or certificate.")


class _Bearer(Authentication):
    """Asks for the token at every request; what msrest offers is handed one token for good."""

    def __init__(self, token: Callable[[], str]) -> None:
        self._current = token

    def signed_session(self, session: requests.Session | None = None) -> requests.Session:
        signed: requests.Session = super().signed_session(session)
        signed.auth = Header(self._current())  # as `auth`: a header would yield to a .netrc of the machine
        return signed


class Header(AuthBase):
    """Signs a request with a bearer token."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign it."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def with_token(token: str, setting: str = "azure_devops") -> SignIn:
    """Return the credential that a token is."""
    return SignIn("token", setting, token=token)


def from_settings(section: Credential, setting: str = "azure_devops") -> SignIn:
    """Return the credential that a section of the settings describes. Asks nobody yet.

    Raises UsageError when something is missing or a certificate cannot be read.
    """
    if problem := section.problem(setting):
        raise UsageError(problem)
    if section.auth == "token":
        return with_token(section.token.get_secret_value() if section.token else "", setting)
    try:
        return SignIn(section.auth, setting, source=_source(section, setting))
    except ValueError as error:  # what azure-identity says when something is missing or malformed
        raise UsageError(f"{setting}.auth = {section.auth!r}: {error}") from None


def expires_on(section: Credential) -> date | None:
    """Return the day on which a credential ends: its certificate's, else the one that a person has set.

    Raises OSError or ValueError when the certificate's file cannot be read.
    """
    if section.certificate_file is None:
        return section.expires_on
    from cryptography import x509  # noqa: PLC0415 - few set-ups have one
    from cryptography.hazmat.primitives.serialization import pkcs12  # noqa: PLC0415

    data = section.certificate_file.read_bytes()
    if b"-----BEGIN CERTIFICATE-----" in data:
        return x509.load_pem_x509_certificate(data).not_valid_after_utc.date()
    password = section.certificate_password
    _, found, _ = pkcs12.load_key_and_certificates(
        data, password.get_secret_value().encode() if password else None
    )
    if found is None:
        raise ValueError("it holds no certificate")
    return found.not_valid_after_utc.date()


def _source(section: Credential, setting: str) -> Any:
    import azure.identity as entra  # noqa: PLC0415 - takes a third of a second, and few commands need it

    client_id = section.client_id or None
    if section.auth == "managed-identity":
        return entra.ManagedIdentityCredential(client_id=client_id, retry_total=3, retry_status=3)
    if section.auth == "azure-cli":
        return entra.AzureCliCredential(tenant_id=section.tenant_id)
    host = section.authority.removeprefix("https://").split("/", 1)[0].split(":", 1)[0]
    there: dict[str, Any] = {
        "authority": section.authority,
        # Otherwise Microsoft's own host would be asked whether the authority is one of its own.
        "disable_instance_discovery": not f".{host}".endswith(_KNOWN_AUTHORITIES),
        "connection_timeout": 10,
        "read_timeout": 20,
        "retry_total": 2,
    }
    if section.auth == "workload-identity":
        return entra.WorkloadIdentityCredential(
            tenant_id=section.tenant_id or None,
            client_id=client_id,
            token_file_path=str(section.federated_token_file) if section.federated_token_file else None,
            **there,
        )
    if section.client_secret:
        secret = section.client_secret.get_secret_value()
        return entra.ClientSecretCredential(section.tenant_id, section.client_id, secret, **there)
    password = section.certificate_password
    try:
        return entra.CertificateCredential(
            section.tenant_id,
            section.client_id,
            str(section.certificate_file),
            password=password.get_secret_value() if password else None,
            **there,
        )
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(
            f"{setting}.certificate_file: {section.certificate_file} cannot be used: {error}. It must be a "
            "PEM or PKCS#12 file with the certificate and its private key."
        ) from None


def _is_passing(error: BaseException | None, message: str) -> bool:
    """Return True when Entra was not reached or was busy, so that nothing is said about the credential."""
    from azure.core.exceptions import ServiceRequestError, ServiceResponseError  # noqa: PLC0415 - see _source

    seen = 0
    while error is not None and seen < 10:  # noqa: PLR2004 - a chain of causes is short, and may not end
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, (ServiceRequestError, ServiceResponseError)) or (
            isinstance(status, int) and (status >= 500 or status == 429)  # noqa: PLR2004
        ):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return bool(_PASSING.search(message))


def _told(message: str) -> str:
    """Return Entra's own sentence, without trace ids and help links."""
    found = re.search(r"AADSTS\d+:.*?(?= Trace ID:| Visit | To troubleshoot|$)", message)
    return (found[0] if found else message)[:_TEXT_MAX].rstrip()
