"""podman as a peer, on a root of its own, where limits cannot be raised; nothing of it is left afterwards."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
PARENT = "libpod_parent"


def runc_without_rlimits(folder: Path) -> Path:
    """runc that leaves resource limits alone: podman always raises them, which needs CAP_SYS_RESOURCE."""
    path = folder / "runc-without-rlimits"
    path.write_text(
        "#!/bin/sh\n"
        'b=; n=; for a in "$@"; do [ -n "$n" ] && b=$a; n=; [ "$a" = --bundle ] && n=1; done\n'
        """[ -z "$b" ] || sed -i 's/"rlimits":\\[[^]]*\\]/"rlimits":[]/' "$b/config.json"\n"""
        'exec runc "$@"\n'
    )
    path.chmod(0o755)
    return path


def _parents() -> set[Path]:
    return set(CGROUPS.glob(f"*/{PARENT}")) | set(CGROUPS.glob(PARENT))


@contextlib.contextmanager
def podman() -> Iterator[list[str]]:
    """The beginning of a podman command line. Raises FileNotFoundError naming what is missing."""
    for program in ("podman", "runc"):
        if shutil.which(program) is None:
            raise FileNotFoundError(f"{program} is not installed")
    before = _parents()
    folder = Path(tempfile.mkdtemp(prefix="pyctl-bench-podman-"))
    base = ["podman", "--root", f"{folder}/root", "--runroot", f"{folder}/run", "--cgroup-manager=cgroupfs"]
    base.append(f"--runtime={runc_without_rlimits(folder)}")
    try:
        yield base
    finally:
        subprocess.run([*base, "pod", "rm", "-fa", "-t", "0"], capture_output=True)
        subprocess.run([*base, "rm", "-fa", "-t", "0"], capture_output=True)
        subprocess.run(["umount", f"{folder}/root/overlay"], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
        for top in _parents() - before:
            for path in [*sorted(top.rglob("*/"), reverse=True), top]:
                with contextlib.suppress(OSError):
                    path.rmdir()
