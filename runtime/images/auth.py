"""Credentials and tokens for registries.

Credentials come from the CRI's AuthConfig and are shown to the registry that they are for and to the token server which
that registry names, over HTTPS (or plain HTTP where the registry itself is on loopback) and to nobody else: not to
mirrors, not to where a redirect leads. Protocol: distribution's token authentication.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

import msgspec

from runtime.images.errors import ImageError, Unauthorized
from runtime.images.hosts import Host, is_loopback
from runtime.images.reference import Reference

TOKEN_LIMIT_BYTES = 1 << 20
CLIENT_ID = "pyctl"
_PARAMETER = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


@dataclass(frozen=True)
class Credentials:
    """What somebody may show to a registry; all empty: nothing. `repr` keeps the secrets."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""
    server: str = ""

    def __bool__(self) -> bool:
        return bool(self.username or self.identity_token or self.registry_token)

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r}, server={self.server!r}, ...)"

    def usable_at(self, host: Host, reference: Reference) -> bool:
        """Whether this host may see them: the registry itself, over a line that nobody can listen to."""
        if not self or not host.upstream:
            return False
        if not host.base.startswith("https://") and not is_loopback(host.netloc):
            return False
        meant = urlsplit(self.server if "://" in self.server else f"//{self.server}").netloc
        # Docker's own configuration calls its registry https://index.docker.io/v1/.
        meant = {"index.docker.io": "docker.io", "registry-1.docker.io": "docker.io"}.get(meant, meant)
        return not meant or meant in (reference.registry, host.netloc)

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


def credentials(
    username: str = "",
    password: str = "",
    auth: str = "",
    server: str = "",
    identity_token: str = "",
    registry_token: str = "",
) -> Credentials:
    """From the fields of the CRI's AuthConfig. Raises ImageError if `auth` is not base64 of user:password."""
    if auth and not username:
        try:
            username, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            colon = ""
        if not colon:
            raise ImageError("credentials for the registry: `auth` is not base64 of user:password")
        password = password.rstrip("\0")
    return Credentials(username, password, identity_token, registry_token, server)


@dataclass(frozen=True)
class Challenge:
    """One way in that a 401 answer offers."""

    scheme: str
    parameters: dict[str, str]


def parse_challenges(headers: list[str]) -> list[Challenge]:
    """The challenges of WWW-Authenticate headers, each of which may hold several."""
    found = []
    for header in headers:
        for scheme, rest in re.findall(r"(?i)(?:^|,\s*)(bearer|basic)\b(.*?)(?=,\s*(?:bearer|basic)\b|$)", header):
            parameters = {}
            for name, quoted, plain in _PARAMETER.findall(rest):
                parameters[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted else plain
            found.append(Challenge(scheme.lower(), parameters))
    return found


@dataclass(frozen=True)
class TokenRequest:
    """How to ask a token server: GET, or POST with a form."""

    url: str
    headers: dict[str, str]
    form: dict[str, str] | None = None


def token_request(challenge: Challenge, host: Host, repository: str, shown: Credentials | None) -> TokenRequest:
    """The request for a token that may pull; `shown`: credentials, if this host may see any. Raises Unauthorized."""
    realm = challenge.parameters.get("realm", "")
    parts = urlsplit(realm)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Unauthorized(f"registry {host.netloc} names no usable token server ({realm!r})")
    service = challenge.parameters.get("service", "")
    scope = challenge.parameters.get("scope") or f"repository:{repository}:pull"
    private = parts.scheme == "https" or (is_loopback(parts.netloc) and is_loopback(host.netloc))
    if shown and not private:
        raise Unauthorized(f"registry {host.netloc} wants credentials sent to {realm!r}, over an open line")
    if shown and shown.identity_token:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": shown.identity_token,
            "service": service,
            "scope": scope,
            "client_id": CLIENT_ID,
        }
        return TokenRequest(realm, {}, form)
    query = [(name, value) for name, value in (("service", service), ("scope", scope)) if value]
    headers = {}
    if shown and shown.username:
        query.append(("account", shown.username))
        headers["Authorization"] = shown.basic
    return TokenRequest(realm + ("&" if parts.query else "?") + urlencode(query), headers)


def token_of(data: bytes) -> str:
    """The token in a token server's answer. Raises Unauthorized."""
    try:
        answer = msgspec.json.decode(data, type=dict[str, object])
    except (msgspec.DecodeError, msgspec.ValidationError):
        answer = {}
    token = answer.get("token") or answer.get("access_token")
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
        raise Unauthorized("token server gave no token")
    return token
