"""A played Entra: it issues bearer tokens for a played organisation and refuses in the service's own words.

Over TLS, as azure-identity insists, it is the authority that service principals and federated workloads
ask; over plain http it is the machine's managed identity endpoint (IMDS, and that of App Service).
"""

from __future__ import annotations

import ipaddress
import json
import secrets
import ssl
import threading
import time
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from triage.sandbox import graph
from triage.sandbox.tokens import Token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from triage.sandbox.organisation import Organisation

RESOURCE = "499b84ac-1321-427f-aa17-267ca6975798"  # Azure DevOps
SERVICE_BUS = "https://servicebus.azure.net"
_IDENTITY_HEADER = "played-identity-header"


@dataclass
class Application:
    """An application that can sign in, by whatever of these it has."""

    client_id: str
    tenant_id: str
    secrets: dict[str, datetime] = field(default_factory=dict)  # value: when it expires
    certificates: list[x509.Certificate] = field(default_factory=list)
    workload_tokens: set[str] = field(default_factory=set)  # federated: tokens that are trusted
    is_managed_identity: bool = False
    rights: frozenset[str] | None = None  # in Azure DevOps, as Organisation.rights
    graph_roles: frozenset[str] = frozenset()  # what an administrator has consented to


@dataclass
class Authority:
    """The played Entra's state: change it between requests."""

    organisation: Organisation
    applications: dict[str, Application] = field(default_factory=dict)  # by client id
    lifetime_seconds: float = 3600.0
    away: int = 0  # answer so many requests with 503
    issued: list[str] = field(default_factory=list)
    bus_tokens: dict[str, float] = field(default_factory=dict)  # for a Service Bus, and when they end
    url: str = ""  # of the authority
    identity_url: str = ""  # of the managed identity endpoint
    ca_file: str = ""  # what to trust: REQUESTS_CA_BUNDLE
    lock: threading.Lock = field(default_factory=threading.Lock)
    graph: graph.Directory = field(default_factory=graph.Directory)  # at the authority's address, too

    def add(self, **more: Any) -> Application:
        """Add an application and return it."""
        made = Application(str(uuid.uuid4()), str(uuid.uuid4()), **more)
        self.applications[made.client_id] = made
        return made

    def app_service(self) -> dict[str, str]:
        """Return the environment in which an App Service finds its managed identity."""
        return {
            "IDENTITY_ENDPOINT": f"{self.identity_url}/msi/token",
            "IDENTITY_HEADER": _IDENTITY_HEADER,
        }

    def issue(self, application: Application, resource: str = RESOURCE) -> dict[str, Any]:
        """Return an answer with a new token, which the played organisation, Graph or Service Bus then takes."""
        now = time.time()
        claims = {
            "aud": resource,
            "iss": f"https://sts.windows.net/{application.tenant_id}/",
            "exp": int(now + self.lifetime_seconds),
            "appid": application.client_id,
            "idtyp": "app",
            "uti": secrets.token_urlsafe(8),
        }
        bearer = jwt.encode(claims, "played" * 8)
        name = f"application {application.client_id[:8]}"
        if resource == SERVICE_BUS:
            self.bus_tokens[bearer] = now + self.lifetime_seconds
            return {"token_type": "Bearer", "access_token": bearer, "expires_in": int(self.lifetime_seconds)}
        if resource != RESOURCE:
            self.graph.tokens[bearer] = application.graph_roles
            return {"token_type": "Bearer", "access_token": bearer, "expires_in": int(self.lifetime_seconds)}
        with self.lock:
            self.issued.append(bearer)
            self.organisation.tokens[bearer] = Token(
                "entra",
                expires_at=now + self.lifetime_seconds,
                caller={
                    "id": application.client_id,
                    "displayName": name,
                    "uniqueName": application.client_id,
                    "descriptor": f"aadsp.{application.client_id.replace('-', '')}",
                },
                rights=application.rights,
            )
        return {"token_type": "Bearer", "access_token": bearer, "expires_in": int(self.lifetime_seconds)}


class _Refused(Exception):  # noqa: N818 - what Entra says
    def __init__(self, code: int, words: str, *, error: str = "invalid_client", status: int = 401) -> None:
        super().__init__(words)
        self.status = status
        self.body = {
            "error": error,
            "error_description": f"AADSTS{code}: {words} Trace ID: {uuid.uuid4()} Correlation ID: "
            f"{uuid.uuid4()} Timestamp: {datetime.now(UTC):%Y-%m-%d %H:%M:%SZ}",
            "error_codes": [code],
        }


def _token(authority: Authority, tenant: str, form: dict[str, str]) -> dict[str, Any]:
    """Answer POST /{tenant}/oauth2/v2.0/token with the client credentials grant."""
    application = authority.applications.get(form.get("client_id", ""))
    if application is None or application.tenant_id != tenant:
        raise _Refused(
            700016,
            f"Application with identifier '{form.get('client_id')}' was not found in the directory '{tenant}'. "
            "This can happen if the application has not been installed by the administrator of the tenant.",
            error="unauthorized_client",
            status=400,
        )
    resource = form.get("scope", "").split(" ")[0].removesuffix("/.default")
    if resource not in {RESOURCE, SERVICE_BUS, authority.url}:
        raise _Refused(70011, "The provided value for the input parameter 'scope' is not valid.", status=400)
    if "client_assertion" in form:
        _check_assertion(application, form["client_assertion"])
    else:
        _check_secret(application, form.get("client_secret", ""))
    return authority.issue(application, resource)


def _check_secret(application: Application, secret: str) -> None:
    expires = application.secrets.get(secret)
    if expires is None:
        raise _Refused(
            7000215,
            "Invalid client secret provided. Ensure the secret being sent in the request is the client secret "
            f"value, not the client secret ID, for a secret added to app '{application.client_id}'.",
        )
    if expires <= datetime.now(UTC):
        raise _Refused(
            7000222,
            f"The provided client secret keys for app '{application.client_id}' are expired. Visit the Azure "
            "portal to create new keys for your app: https://aka.ms/NewClientSecret, or consider using "
            "certificate credentials for added security: https://aka.ms/certCreds.",
        )


def _check_assertion(application: Application, assertion: str) -> None:
    if assertion in application.workload_tokens:
        return
    for certificate in application.certificates:
        try:
            jwt.decode(
                assertion,
                certificate.public_key(),  # type: ignore[arg-type]
                algorithms=["PS256", "RS256"],
                options={"verify_aud": False},
            )
        except jwt.InvalidTokenError:
            continue
        return
    try:
        jwt.get_unverified_header(assertion)
    except jwt.InvalidTokenError:
        raise _Refused(50027, "JWT token is invalid or malformed.", error="invalid_request") from None
    if "x5t" in (header := jwt.get_unverified_header(assertion)) or "x5t#S256" in header:
        raise _Refused(
            700027,
            "The certificate with identifier used to sign the client assertion is not registered on "
            f"application '{application.client_id}'. [Reason - The key was not found.]",
        )
    raise _Refused(
        700213,
        "No matching federated identity record found for presented assertion subject. Check your federated "
        "identity credential Subject, Audience and Issuer against the presented assertion.",
    )


class _Handler(BaseHTTPRequestHandler):
    authority: Authority

    def do_POST(self) -> None:
        """Answer the token endpoint."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        form = {key: values[0] for key, values in parse_qs(body).items()}
        tenant, _, rest = urlsplit(self.path).path.strip("/").partition("/")
        if self._is_away():
            return
        if rest != "oauth2/v2.0/token":
            self._reply(404, {"error": "not_found"})
            return
        try:
            self._reply(200, _token(self.authority, tenant, form))
        except _Refused as refused:
            self._reply(refused.status, refused.body)

    def do_GET(self) -> None:
        """Answer what the authority knows of itself, or the machine's managed identity."""
        path = urlsplit(self.path).path
        query = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        if self._is_away():
            return
        if path.startswith("/v1.0/"):
            status, said, headers = graph.answer(
                self.authority.graph, self.headers.get("Authorization", ""), unquote(self.path)
            )
            self._reply(status, said, headers)
        elif path.endswith("/.well-known/openid-configuration"):
            base = f"{self.authority.url}/{path.strip('/').split('/')[0]}"
            self._reply(
                200,
                {
                    "issuer": f"{base}/v2.0",
                    "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                    "token_endpoint": f"{base}/oauth2/v2.0/token",
                },
            )
        elif path == "/msi/token":
            self._identity(query, proven=self.headers.get("X-IDENTITY-HEADER") == _IDENTITY_HEADER)
        elif path == "/metadata/identity/oauth2/token":
            self._identity(query, proven=self.headers.get("Metadata") == "true")
        else:
            self._reply(404, {"error": "not_found"})

    def _identity(self, query: dict[str, str], *, proven: bool) -> None:
        wanted, resource = query.get("client_id"), query.get("resource", "")
        found = next(
            (
                each
                for each in self.authority.applications.values()
                if each.is_managed_identity and wanted in {None, each.client_id}
            ),
            None,
        )
        if not proven:
            self._reply(401, {"error": "unauthorized", "error_description": "The header is missing."})
        elif found is None or resource not in {RESOURCE, SERVICE_BUS}:
            self._reply(400, {"error": "invalid_request", "error_description": "Identity not found"})
        else:
            self._issued(found, resource)

    def _issued(self, found: Application, resource: str) -> None:
        made = self.authority.issue(found, resource)
        end = str(int(time.time() + self.authority.lifetime_seconds))
        self._reply(
            200, {**made, "expires_on": end, "expires_in": str(made["expires_in"]), "resource": resource}
        )

    def _is_away(self) -> bool:
        with self.authority.lock:
            away = self.authority.away > 0
            self.authority.away -= away
        if away:
            self._reply(503, {"error": "temporarily_unavailable"})
        return away

    def _reply(self, status: int, said: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


def certificate(name: str, *more: str, days: float = 1) -> tuple[x509.Certificate, bytes]:
    """Return a certificate of its own for hosts or an application, and its PEM file with the private key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1) + min(timedelta(0), timedelta(days=days)))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(
            x509.SubjectAlternativeName([_alternative(each) for each in (name, *more)]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made, pem


def _alternative(name: str) -> x509.GeneralName:
    """Return a name as a certificate has it: clients compare an address with addresses only."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@contextmanager
def serve(organisation: Organisation, folder: Path) -> Iterator[Authority]:
    """Play Entra for a played organisation until the `with` ends; `folder` takes the certificate."""
    authority = Authority(organisation)
    made, pem = certificate("localhost")
    (folder / "entra.pem").write_bytes(pem)
    (folder / "entra-ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    handler = type("Handler", (_Handler,), {"authority": authority})
    with ExitStack() as stack:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(folder / "entra.pem")
        secure = stack.enter_context(_served(handler, tls))
        plain = stack.enter_context(_served(handler, None))
        authority.url = f"https://localhost:{secure}"
        authority.identity_url = f"http://127.0.0.1:{plain}"
        authority.ca_file = str(folder / "entra-ca.pem")
        yield authority


@contextmanager
def _served(handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
