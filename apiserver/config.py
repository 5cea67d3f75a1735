"""What the API server can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Config:
    """Settings of one API server. Certificates that are not given are made in `<data_dir>/pki`, by an authority of the
    server's own, and a kubeconfig for the administrator is written to `<data_dir>/kubeconfig`."""

    data_dir: Path = Path("pyctl-apiserver")
    # "memory", "sqlite" (in the data directory) or "sqlite:PATH".
    store: str = "sqlite"
    host: str = "127.0.0.1"
    port: int = 6443
    # More names and addresses for a certificate that the server makes itself.
    hosts: tuple[str, ...] = ()
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    # Who signs the certificates of clients and of node agents.
    client_ca: Path | None = None
    # What the server shows to node agents.
    kubelet_certificate: Path | None = None
    kubelet_key: Path | None = None
    max_in_flight: int = 400
    log_level: str = "info"
    # For uids and generated names; "" takes one from the operating system.
    seed: str = field(default="")
