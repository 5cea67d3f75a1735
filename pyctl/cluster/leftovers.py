"""What bears a cluster's name on this host: the proof that `down` has left nothing, or the list of what it has."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pyctl.cluster.layout import Layout

CGROUPS = Path("/sys/fs/cgroup")


def find(layout: Layout, proc: Path = Path("/proc"), cgroups: Path = CGROUPS) -> list[str]:
    """Everything of ours that is still there, each in words."""
    return [
        *_processes(layout, proc),
        *_mounts(layout, proc),
        *(f"link {each.name}" for each in sorted(Path("/sys/class/net").glob(f"{layout.name}*"))),
        *_tables(layout),
        *(f"cgroup {each}" for each in _groups(layout, cgroups)),
    ]


def _processes(layout: Layout, proc: Path) -> Iterator[str]:
    data = os.fsencode(layout.data)
    for each in sorted(proc.iterdir()):
        if not each.name.isdigit() or int(each.name) == os.getpid():
            continue
        try:
            groups = (each / "cgroup").read_text()
            arguments = (each / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        supervised = b"pyctl.cluster.daemon" in arguments and data in arguments
        contained = any(layout.name in line.rpartition(":")[2].split("/") for line in groups.splitlines())
        if supervised or contained:
            yield f"process {each.name} ({b' '.join(arguments).decode(errors='replace').strip()[:60]})"


def _mounts(layout: Layout, proc: Path) -> Iterator[str]:
    for line in (proc / "self/mountinfo").read_text().splitlines():
        place = line.split()[4].encode().decode("unicode_escape")
        for ours in (layout.data, layout.run):
            if place.startswith(f"{ours}/"):
                yield f"mount {place}"


def _tables(layout: Layout) -> Iterator[str]:
    program = shutil.which("nft", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        return
    listed = subprocess.run([program, "list", "tables"], capture_output=True, text=True, check=False).stdout
    for line in listed.splitlines():
        if layout.name in line.split():
            yield f"nftables {line.strip()}"


def _groups(layout: Layout, root: Path) -> list[Path]:
    """Our groups in every hierarchy: at the top, or one level below it."""
    found: set[Path] = set()
    for pattern in (layout.name, f"*/{layout.name}", f"*/*/{layout.name}"):
        found.update(each for each in root.glob(pattern) if each.is_dir())
    return sorted(found)
