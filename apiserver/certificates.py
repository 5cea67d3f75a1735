"""Which certificates the server uses: those it is given, or its own, made below the data directory.

With an authority of its own it also issues a certificate for the administrator and writes a kubeconfig, so that
`python -m apiserver` alone is a working API server.
"""

from __future__ import annotations

import base64
import json
import socket
from dataclasses import dataclass
from pathlib import Path

from componentbase import tls

from .config import Config

ADMIN = ("admin", ("system:masters",))
KUBELET_CLIENT = ("kube-apiserver-kubelet-client", ("system:masters",))
LOCAL_NAMES = ("localhost", "127.0.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc")


class Unusable(Exception):
    """The server cannot start as it was told to; the text says why."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """Paths of what TLS needs. `kubelet` and `admin` are None when there is nothing to show or to write."""

    server: tls.KeyPair
    client_ca: Path
    kubelet: tls.KeyPair | None
    admin: tls.KeyPair | None = None
    kubeconfig: Path | None = None
    host: str = "127.0.0.1"

    def write_kubeconfig(self, port: int) -> None:
        """The administrator's, with everything in it."""
        if self.kubeconfig is None or self.admin is None:
            return
        host = f"[{self.host}]" if ":" in self.host else self.host
        cluster = {"server": f"https://{host}:{port}", "certificate-authority-data": _data(self.client_ca)}
        user = {
            "client-certificate-data": _data(self.admin.certificate),
            "client-key-data": _data(self.admin.key),
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "pyctl", "cluster": cluster}],
            "users": [{"name": "admin", "user": user}],
            "contexts": [{"name": "pyctl", "context": {"cluster": "pyctl", "user": "admin"}}],
            "current-context": "pyctl",
        }
        # JSON is YAML.
        tls.write_private(self.kubeconfig, json.dumps(config, indent=2).encode() + b"\n")


def certificates(config: Config) -> Certificates:
    """What is given, or what is made. Unusable when only a part is given or a file is missing."""
    given = (config.tls_certificate, config.tls_key, config.client_ca)
    if not any(given):
        return _own(config)
    if config.tls_certificate is None or config.tls_key is None or config.client_ca is None:
        raise Unusable("--tls-certificate, --tls-key and --client-ca belong together: give all three or none")
    kubelet = None
    if config.kubelet_certificate is not None and config.kubelet_key is not None:
        kubelet = tls.KeyPair(config.kubelet_certificate, config.kubelet_key)
    found = Certificates(tls.KeyPair(config.tls_certificate, config.tls_key), config.client_ca, kubelet)
    for path in (found.server.certificate, found.server.key, found.client_ca):
        if not path.is_file():
            raise Unusable(f"{path}: no such certificate or key file")
    return found


def _own(config: Config) -> Certificates:
    try:
        authority = tls.Authority.load_or_create(config.data_dir / "pki")
    except (ValueError, OSError) as error:
        raise Unusable(str(error)) from error
    hosts = (*LOCAL_NAMES, socket.gethostname().lower(), *config.hosts)
    if config.host not in ("0.0.0.0", "::", *hosts):
        hosts = (*hosts, config.host)
    server = authority.issue("apiserver", common_name="kube-apiserver", hosts=hosts, server=True)
    admin = authority.issue("admin", common_name=ADMIN[0], organizations=ADMIN[1], client=True)
    kubelet = authority.issue(
        "kubelet-client", common_name=KUBELET_CLIENT[0], organizations=KUBELET_CLIENT[1], client=True
    )
    host = config.host if config.host not in ("0.0.0.0", "::") else "127.0.0.1"
    return Certificates(server, authority.certificate_path, kubelet, admin, config.data_dir / "kubeconfig", host)


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
