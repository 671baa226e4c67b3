"""What a message shows of a connection: its name, its address, its application, tenant or subscription."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triage.domain import Connection, Match

GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# Shared by every connection of a type, so they tell none apart.
_COMMON = {
    "",
    "api.bitbucket.org",
    "api.github.com",
    "bitbucket.org",
    "dev.azure.com",
    "docker.io",
    "github.com",
    "management.azure.com",
    "pkgs.dev.azure.com",
}
_BY_ADDRESS = ("external", "githubenterprise", "sonar")  # types that are told apart by the server they open
_MANY_NAMES = ("pkgs.visualstudio.com", "pkgs.dev.azure.com")  # one feed goes by either
_DOCUMENTATION = ("aka.ms", "docs.", "go.microsoft.com", "learn.microsoft.com")
_HUB = re.compile(r"^(?:index|registry-1|registry|auth)\.docker\.io$")
_REGISTRY_KEYS = ("loginserver", "registry")


def shown(connection: Connection, match: Match) -> set[str]:
    """Return what a message shows that belongs to a connection, in lower case; empty when nothing does."""
    text = match.excerpt.lower()
    said = {word.lower() for word in GUID.findall(text)}
    said |= {host(word) for word in re.findall(r"[\w-]+(?:\.[\w-]+)+", text)}
    said |= {value.lower() for value in match.captures.values() if value and value != "***"}
    found = (_ids(connection) | _hosts(connection)) & said
    address = _address(connection)
    if "/" in address and re.search(rf"(?<![\w.-]){re.escape(address)}(?![\w-])", text):
        found.add(address)
    if is_named(connection, match):
        found.add(connection.name.lower())
    return found


def described(connection: Connection, signs: set[str]) -> str:
    """Return signs of a connection as a reason repeats them: what each is, where a GUID does not tell."""
    told = {
        connection.parameters.get("tenantid", "").lower(): "the tenant",
        connection.parameters.get("serviceprincipalid", "").lower(): "the application",
        connection.data.get("subscriptionid", "").lower(): "the subscription",
        connection.name.lower(): "its name",
    }
    return ", ".join(f"{told[each]} {each}" if told.get(each) else each for each in sorted(signs)[:3])


def is_named(connection: Connection, match: Match) -> bool:
    """Return True when a message calls a connection by its name, as such or in quotes."""
    name = re.escape(connection.name.lower())
    told = rf"(?:connection|endpoint)s?:? ['\"]?{name}(?![\w-])|['\"]{name}['\"]"
    return match.captures.get("connection", "").lower() == connection.name.lower() or bool(
        re.search(told, match.excerpt.lower())
    )


def strongest(connections: list[Connection], match: Match) -> list[tuple[Connection, set[str]]]:
    """Return the connections that a message shows most clearly: those whose longest sign is unmatched.

    Of two feeds on one host only the one whose whole address is shown remains.
    """
    found = [(each, shown(each, match)) for each in connections]
    found = [(each, signs) for each, signs in found if signs]
    if len(found) > 1:
        common = set.intersection(*(signs for _, signs in found))
        apart = [(each, signs - common) for each, signs in found if signs - common]
        found = apart or found
    return found


def application(match: Match) -> str:
    """Return the Entra application that a message is about, "" when it is masked or not told."""
    given = match.captures.get("app_id", "")
    return given.lower() if GUID.fullmatch(given) else ""


def application_of(connection: Connection) -> str:
    """Return the Entra application of a connection, "" when it has none."""
    return connection.parameters.get("serviceprincipalid", "").lower()


def contradicts(connection: Connection, match: Match) -> bool:
    """Return True when a message is about another application or registry than the connection's.

    The agent masks what belongs to the connections of a job, so that an id in plain sight is seldom theirs.
    """
    asked, own = application(match), application_of(connection)
    if asked and own and asked != own:
        return True
    tenant, own_tenant = match.captures.get("tenant_id", ""), connection.parameters.get("tenantid", "")
    if GUID.fullmatch(tenant) and own_tenant and tenant.lower() != own_tenant.lower():
        return True
    if _is_elsewhere(connection, match):
        return True
    registry = host(match.captures.get("registry", ""))
    owned = {host(connection.parameters.get(key, "")) for key in _REGISTRY_KEYS} - {""}
    return connection.type == "dockerregistry" and "." in registry and bool(owned) and registry not in owned


def _is_elsewhere(connection: Connection, match: Match) -> bool:
    """Return True when a feed's message shows addresses, and none is on the connection's host."""
    if not connection.type.startswith(_BY_ADDRESS):
        return False
    seen = {host(each) for each in re.findall(r"https?://[\w.-]+", match.excerpt)}
    seen = {each for each in seen if not each.startswith(_DOCUMENTATION)}
    own = _hosts(connection)
    many = any(each.endswith(_MANY_NAMES) for each in own)
    return bool(seen and own) and not many and not seen & own


def host(address: str) -> str:
    """Return the host of an address, Docker Hub's many as one."""
    name = re.sub(r"^[a-z+]+://|[/:].*$", "", address.strip().lower())
    return "docker.io" if _HUB.match(name) else name


def _ids(connection: Connection) -> set[str]:
    keys = ("tenantid", "serviceprincipalid")
    values = [connection.parameters.get(key, "") for key in keys]
    values += [connection.data.get(key, "") for key in ("subscriptionid", "subscriptionname", "registryid")]
    return {value.lower() for value in values if value}


def _hosts(connection: Connection) -> set[str]:
    addresses = [*(connection.parameters.get(key, "") for key in _REGISTRY_KEYS), connection.server_url]
    hub = {"docker.io"} if connection.type == "dockerregistry" else set()
    return {host(each) for each in addresses} - (_COMMON - hub)


def _address(connection: Connection) -> str:
    return re.sub(r"^[a-z+]+://", "", connection.server_url.strip().lower()).rstrip("/")
