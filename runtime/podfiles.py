"""The files that a pod's containers find in /etc: hosts, hostname and resolv.conf."""

from __future__ import annotations

from pathlib import Path

from pb.cri.v1 import api_pb2 as cri
from runtime.errors import InvalidArgument

NAMES = ("hosts", "hostname", "resolv.conf")


def checked_hostname(name: str) -> str:
    if len(name) > 64 or any(ord(ch) <= 32 or ord(ch) == 127 for ch in name):
        raise InvalidArgument(f"hostname {name!r}: at most 64 printable characters")
    return name


def resolv_conf(dns: cri.DNSConfig) -> str:
    lines = [f"search {' '.join(dns.searches)}"] if dns.searches else []
    lines += [f"nameserver {server}" for server in dns.servers]
    lines += [f"options {' '.join(dns.options)}"] if dns.options else []
    text = "\n".join(lines) + "\n"
    if any(ord(ch) < 32 and ch != "\n" for ch in text) or text.count("\n") > len(lines):
        raise InvalidArgument("dns_config holds control characters")
    return text


def hosts(hostname: str, address: str) -> str:
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    if address:
        lines.append(f"{address}\t{hostname}")
    return "\n".join(lines) + "\n"


def write(directory: Path, config: cri.PodSandboxConfig, hostname: str, address: str, *, host_network: bool) -> None:
    """Write the three files; a pod on the node's network sees the node's own names."""
    (directory / "hostname").write_text(hostname + "\n")
    node_hosts = Path("/etc/hosts")
    if host_network and node_hosts.exists():
        (directory / "hosts").write_bytes(node_hosts.read_bytes())
    else:
        (directory / "hosts").write_text(hosts(hostname, address))
    if config.HasField("dns_config") and (config.dns_config.servers or config.dns_config.searches):
        (directory / "resolv.conf").write_text(resolv_conf(config.dns_config))
    else:
        node = Path("/etc/resolv.conf")
        (directory / "resolv.conf").write_bytes(node.read_bytes() if node.exists() else b"")
    for name in NAMES:
        (directory / name).chmod(0o644)
