"""Where images of a registry come from: containerd's `certs.d/<registry>/hosts.toml`.

For each registry some hosts are tried in order: mirrors as the file lists them, then the registry itself, `server`.
Directories are looked up as `<host>_<port>_`, `<host>:<port>`, `_default`; the first that exists counts. Files are read
again for each pull, so that an edit needs no restart. What is written there and not understood is an error: a mirror
that silently does not apply costs an evening. Layout: containerd, docs/hosts.md.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from runtime.images.errors import ImageError
from runtime.images.reference import DEFAULT_REGISTRY

DOCKER_HOST = "registry-1.docker.io"
_KEYS = {"capabilities", "ca", "client", "skip_verify", "header", "override_path", "dial_timeout"}
_CAPABILITIES = {"pull", "resolve", "push"}
_NETLOC = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}


@dataclass(frozen=True)
class Host:
    """One place to ask. `base` is the URL up to and without `/<repository>/...`."""

    base: str
    upstream: bool
    capabilities: frozenset[str] = frozenset(_CAPABILITIES)
    headers: dict[str, str] = field(default_factory=dict)
    ca: tuple[Path, ...] = ()
    client: tuple[tuple[Path, Path], ...] = ()
    skip_verify: bool = False
    dial_timeout_seconds: float = 20.0

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return origin_of(self.base)

    @property
    def netloc(self) -> str:
        return urlsplit(self.base).netloc

    def tls(self, *, elsewhere: bool = False) -> ssl.SSLContext:
        """What to verify a server by; `elsewhere`, where a redirect leads, without client certificate and exemption."""
        context = ssl.create_default_context()
        try:
            for path in self.ca:
                context.load_verify_locations(path)
            if not elsewhere:
                for certificate, key in self.client:
                    context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise ImageError(f"registry {self.netloc}: cannot read its certificates: {error}") from None
        if self.skip_verify and not elsewhere:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def hosts_for(registry: str, directory: Path | None) -> list[Host]:
    """The hosts to try for a registry, in order; the last is the registry itself. Raises ImageError for a bad file."""
    folder = _folder(registry, directory)
    if folder is None:
        return [Host(_base(default_server(registry), False), upstream=True)]
    path = folder / "hosts.toml"
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return [Host(_base(default_server(registry), False), upstream=True, **_docker_files(folder))]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ImageError(f"{path}: {error}") from None
    tables = document.pop("host", {})
    server = document.pop("server", "") or default_server(registry)
    if not isinstance(tables, dict) or not isinstance(server, str):
        raise ImageError(f"{path}: `server` must be a URL and `host` a table of URLs")
    own = _host(path, server, document, upstream=True)
    hosts = [_host(path, url, table, upstream=False) for url, table in tables.items()]
    # A table for the registry itself says how to talk to it; then there is nothing else to try at the end.
    hosts = [replace(host, upstream=host.base == own.base) for host in hosts]
    return hosts if any(host.upstream for host in hosts) else [*hosts, own]


def default_server(registry: str) -> str:
    """The URL of a registry without configuration: plain HTTP on loopback, as all tools have it, else HTTPS."""
    host = DOCKER_HOST if registry == DEFAULT_REGISTRY else registry
    return f"{'http' if is_loopback(host) and not host.endswith(':443') else 'https'}://{host}"


def is_loopback(netloc: str) -> bool:
    """Whether a host, with or without port, is this machine."""
    name = urlsplit(f"//{netloc}").hostname or ""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL, the port always written."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def _folder(registry: str, directory: Path | None) -> Path | None:
    if directory is None:
        return None
    host, colon, port = registry.rpartition(":")
    names = [f"{host}_{port}_"] if colon else []
    for name in (*names, registry, "_default"):
        if (directory / name).is_dir():
            return directory / name
    return None


def _host(path: Path, url: str, table: object, *, upstream: bool) -> Host:
    if not isinstance(table, dict):
        raise ImageError(f"{path}: host {url!r} is not a table")
    if unknown := sorted(set(table) - _KEYS):
        raise ImageError(f"{path}: host {url!r}: unknown key {unknown[0]!r}; there are {', '.join(sorted(_KEYS))}")
    capabilities = table.get("capabilities", sorted(_CAPABILITIES))
    if not isinstance(capabilities, list) or not set(map(str, capabilities)) <= _CAPABILITIES:
        raise ImageError(f"{path}: host {url!r}: capabilities must be among {', '.join(sorted(_CAPABILITIES))}")
    skip_verify, override = table.get("skip_verify", False), table.get("override_path", False)
    if not isinstance(skip_verify, bool) or not isinstance(override, bool):
        raise ImageError(f"{path}: host {url!r}: skip_verify and override_path are true or false")
    try:
        base = _base(url, override)
    except ValueError as error:
        raise ImageError(f"{path}: host {url!r}: {error}") from None
    return Host(
        base=base,
        upstream=upstream,
        capabilities=frozenset(capabilities),
        headers=_headers(path, url, table.get("header", {})),
        ca=tuple(path.parent / name for name in _strings(path, url, table.get("ca", []))),
        client=_client(path, url, table.get("client", [])),
        skip_verify=skip_verify,
        dial_timeout_seconds=_seconds(path, url, table.get("dial_timeout", "20s")),
    )


def _base(url: str, override_path: bool) -> str:
    """`/v2` is appended as containerd does it, unless the path is the operator's own."""
    if "://" not in url:
        url = f"{'http' if is_loopback(url.split('/', 1)[0]) else 'https'}://{url}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not _NETLOC.fullmatch(parts.netloc) or parts.query or parts.fragment:
        raise ValueError("not a URL of the form http[s]://host[:port][/path]")
    path = parts.path.rstrip("/")
    if not override_path and not path.endswith("/v2"):
        path += "/v2"
    return f"{parts.scheme}://{parts.netloc}{path}"


def _docker_files(folder: Path) -> dict[str, Any]:
    """The older layout of docker: `*.crt` to trust, `*.cert` with `*.key` to show."""
    client = tuple((path, path.with_suffix(".key")) for path in sorted(folder.glob("*.cert")))
    return {"ca": tuple(sorted(folder.glob("*.crt"))), "client": client}


def _headers(path: Path, url: str, table: object) -> dict[str, str]:
    if not isinstance(table, dict):
        raise ImageError(f"{path}: host {url!r}: header is not a table")
    return {str(name): ", ".join(_strings(path, url, value)) for name, value in table.items()}


def _strings(path: Path, url: str, value: object) -> list[str]:
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) for item in items):
        raise ImageError(f"{path}: host {url!r}: {value!r} is not a string or a list of strings")
    return list(items)


def _client(path: Path, url: str, value: object) -> tuple[tuple[Path, Path], ...]:
    """One file with certificate and key, several of them, or pairs."""
    pairs = []
    for item in value if isinstance(value, list) else [value]:
        names = _strings(path, url, item)
        if len(names) not in (1, 2):
            raise ImageError(f"{path}: host {url!r}: client {value!r} is not a list of [certificate, key]")
        pairs.append((path.parent / names[0], path.parent / names[-1]))
    return tuple(pairs)


def _seconds(path: Path, url: str, value: object) -> float:
    for unit, factor in _UNITS.items():
        if isinstance(value, str) and value.endswith(unit):
            try:
                return float(value.removesuffix(unit)) * factor
            except ValueError:
                break
    raise ImageError(f'{path}: host {url!r}: dial_timeout {value!r} is not a duration such as "5s"')
