"""Kubeconfig files: where the API server is and how to prove who we are.

`load_kubeconfig` reads one context into a `ClusterAccess`; inline data and files (relative to the kubeconfig) both
end as PEM bytes in memory. What would be ignored silently (exec plugins, auth providers, passwords, proxies,
impersonation) is refused by name. `write_kubeconfig` replaces a file at once, mode 0600. Which file to read is the
caller's decision.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

UNSUPPORTED_USER_FIELDS = (
    "exec",
    "auth-provider",
    "username",
    "password",
    "as",
    "as-uid",
    "as-groups",
    "as-user-extra",
)
UNSUPPORTED_CLUSTER_FIELDS = ("proxy-url",)


class KubeconfigError(ValueError):
    """The kubeconfig is missing, broken, or asks for something that is not supported; says which file."""


@dataclass(frozen=True, slots=True)
class ClusterAccess:
    """How to reach one API server. `ca`, `cert` and `key` are PEM; empty means not given.

    server: base URL without a trailing slash.  namespace: the context's, "" when it names none.
    """

    server: str
    ca: bytes = b""
    cert: bytes = b""
    key: bytes = field(default=b"", repr=False)
    token: str = field(default="", repr=False)
    namespace: str = ""
    insecure: bool = False
    server_name: str = ""

    def ssl_context(self) -> ssl.SSLContext | None:
        """A client context that trusts `ca` alone (the system's authorities without one); None for plain HTTP.

        Raises KubeconfigError for certificates that OpenSSL refuses.
        """
        if not self.server.startswith("https://"):
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # A connection that negotiated h2 could not be upgraded for exec.
        context.set_alpn_protocols(["http/1.1"])
        try:
            if self.insecure:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            elif self.ca:
                context.load_verify_locations(cadata=self.ca.decode("ascii"))
            else:
                context.load_default_certs()
            if self.cert:
                _load_cert_chain(context, self.cert + b"\n" + self.key)
        except (ssl.SSLError, UnicodeDecodeError) as error:
            raise KubeconfigError(f"certificates for {self.server}: {error}") from error
        return context


def _load_cert_chain(context: ssl.SSLContext, pem: bytes) -> None:
    # OpenSSL's door takes file names only; an anonymous memory file keeps the key off every disk.
    descriptor = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def load_kubeconfig(path: str | Path, context: str = "") -> ClusterAccess:
    """The access that `context` (default: current-context) of the file describes.

    Raises KubeconfigError, whose text names the file and the field.
    """
    path = Path(path)
    document = _read(path)
    name = context or document.get("current-context") or ""
    if not name:
        raise KubeconfigError(f"{path}: no current-context is set and none was asked for")
    chosen = _named(path, document, "contexts", "context", name)
    cluster = _named(path, document, "clusters", "cluster", str(chosen.get("cluster") or ""))
    user_name = str(chosen.get("user") or "")
    user = _named(path, document, "users", "user", user_name) if user_name else {}
    for section, values, unsupported in (
        ("user", user, UNSUPPORTED_USER_FIELDS),
        ("cluster", cluster, UNSUPPORTED_CLUSTER_FIELDS),
    ):
        for each in unsupported:
            if values.get(each):
                raise KubeconfigError(f"{path}: {section} field {each!r} is not supported")
    server = str(cluster.get("server") or "").rstrip("/")
    if not server.startswith(("https://", "http://")):
        raise KubeconfigError(f"{path}: server {server!r} is not an http or https address")
    cert, key = _material(path, user, "client-certificate"), _material(path, user, "client-key")
    if bool(cert) != bool(key):
        raise KubeconfigError(
            f"{path}: user {user_name!r} has one of client-certificate and client-key, both are needed"
        )
    return ClusterAccess(
        server=server,
        ca=_material(path, cluster, "certificate-authority"),
        cert=cert,
        key=key,
        token=_token(path, user),
        namespace=str(chosen.get("namespace") or ""),
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
        server_name=str(cluster.get("tls-server-name") or ""),
    )


def write_kubeconfig(path: str | Path, access: ClusterAccess, *, cluster: str = "pyctl", user: str = "admin") -> None:
    """Write a kubeconfig with one context `<user>@<cluster>`, everything inline, mode 0600."""
    import yaml

    described: dict[str, Any] = {"server": access.server}
    if access.ca:
        described["certificate-authority-data"] = _inline(access.ca)
    if access.insecure:
        described["insecure-skip-tls-verify"] = True
    if access.server_name:
        described["tls-server-name"] = access.server_name
    credentials: dict[str, Any] = {}
    if access.cert:
        credentials["client-certificate-data"] = _inline(access.cert)
        credentials["client-key-data"] = _inline(access.key)
    if access.token:
        credentials["token"] = access.token
    context = {"cluster": cluster, "user": user}
    if access.namespace:
        context["namespace"] = access.namespace
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": described}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": f"{user}@{cluster}", "context": context}],
        "current-context": f"{user}@{cluster}",
    }
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            yaml.safe_dump(document, file, sort_keys=False)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise KubeconfigError(f"kubeconfig {path} does not exist") from None
    except OSError as error:
        raise KubeconfigError(f"kubeconfig {path}: {error.strerror}") from error
    try:
        document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise KubeconfigError(f"kubeconfig {path}: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise KubeconfigError(f"kubeconfig {path}: not a mapping")
    return document


def _named(path: Path, document: dict[str, Any], section: str, key: str, name: str) -> dict[str, Any]:
    entries = document.get(section) or []
    if not isinstance(entries, list):
        raise KubeconfigError(f"{path}: {section} is not a list")
    for entry in entries:
        if isinstance(entry, dict) and entry.get("name") == name:
            value = entry.get(key) or {}
            if not isinstance(value, dict):
                raise KubeconfigError(f"{path}: {key} {name!r} is not a mapping")
            return value
    raise KubeconfigError(f"{path}: no {key} is named {name!r}")


def _material(path: Path, values: dict[str, Any], field_name: str) -> bytes:
    """PEM from `<field>-data` (which wins, as in Kubernetes) or from the file that `<field>` names."""
    if data := values.get(f"{field_name}-data"):
        try:
            return base64.b64decode(str(data), validate=True)
        except binascii.Error as error:
            raise KubeconfigError(f"{path}: {field_name}-data is not base64: {error}") from error
    if file := values.get(field_name):
        return _read_file(path, field_name, str(file))
    return b""


def _token(path: Path, user: dict[str, Any]) -> str:
    if user.get("token"):
        return str(user["token"])
    if file := user.get("tokenFile"):
        return _read_file(path, "tokenFile", str(file)).decode("ascii", "replace").strip()
    return ""


def _read_file(path: Path, field_name: str, file: str) -> bytes:
    target = path.parent / file
    try:
        return target.read_bytes()
    except OSError as error:
        raise KubeconfigError(f"{path}: {field_name} {target}: {error.strerror}") from error


def _inline(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
