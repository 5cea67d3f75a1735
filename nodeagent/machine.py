"""What the machine is: names and versions for the Node's nodeInfo. Reads files below a root, so that tests bring
their own."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts that stay while the machine is up."""

    machine_id: str
    system_uuid: str
    boot_id: str
    kernel: str
    os_image: str
    architecture: str


def read_machine(root: Path) -> Machine:
    """From /etc, /proc and /sys below `root`; what is not there is empty."""
    name = os.uname()
    return Machine(
        machine_id=_text(root / "etc/machine-id"),
        system_uuid=_text(root / "sys/class/dmi/id/product_uuid") or _text(root / "etc/machine-id"),
        boot_id=_text(root / "proc/sys/kernel/random/boot_id"),
        kernel=name.release,
        os_image=os_image(_text(root / "etc/os-release")),
        architecture=ARCHITECTURES.get(name.machine, name.machine),
    )


def os_image(text: str) -> str:
    """PRETTY_NAME of an os-release file, "Linux" without one."""
    for line in text.splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip("\"'")
    return "Linux"


def primary_ip(toward: str) -> str:
    """The address of this machine that packets to the host `toward` carry; nothing is sent."""
    try:
        family, _, _, _, address = socket.getaddrinfo(toward, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
