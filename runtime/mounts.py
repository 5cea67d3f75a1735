"""Opens what a container mounts as detached trees, shaped (read-only, propagation) before the container has them.

The daemon does this because it lives in the host's mount namespace; the child only has to move the trees to targets
resolved inside its root.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pb.cri.v1 import api_pb2 as cri
from runtime.errors import Failed, InvalidArgument
from runtime.linux import constants as c
from runtime.linux.interface import Kernel
from runtime.podfiles import NAMES


class Opened:
    """Detached trees and their targets, in mount order. Use as a context manager: it closes the trees."""

    def __init__(self) -> None:
        self.orders: list[dict[str, Any]] = []
        self.fds: list[int] = []

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()


def open_all(
    kernel: Kernel, requested: Sequence[cri.Mount], pod_directory: Path, *, read_only_root: bool, privileged: bool
) -> Opened:
    """The pod's own files in /etc, unless the request mounts there, then the request's mounts, shallow ones first."""
    opened = Opened()
    try:
        targets = {os.path.normpath(mount.container_path) for mount in requested}
        for name in NAMES:
            if f"/etc/{name}" not in targets:
                _open(kernel, opened, str(pod_directory / name), f"/etc/{name}", read_only=read_only_root)
        for mount in sorted(requested, key=lambda mount: os.path.normpath(mount.container_path).count("/")):
            _open_request(kernel, opened, mount, privileged=privileged)
    except BaseException:
        opened.__exit__()
        raise
    return opened


def _open_request(kernel: Kernel, opened: Opened, mount: cri.Mount, *, privileged: bool) -> None:
    if not mount.container_path.startswith("/"):
        raise InvalidArgument(f"mount target {mount.container_path!r} is not an absolute path")
    if os.path.normpath(mount.container_path).strip("/") == "":
        raise InvalidArgument(f"mount target {mount.container_path!r} is the root of the container, which is its image")
    if not mount.host_path.startswith("/"):
        raise InvalidArgument(f"mount source {mount.host_path!r} is not an absolute path")
    source = os.path.realpath(mount.host_path)
    try:
        if not os.path.exists(source):
            os.makedirs(source, 0o755)
    except OSError as error:
        raise Failed(f"mount source {mount.host_path}: {error.strerror}") from None
    if mount.propagation == cri.MountPropagation.PROPAGATION_BIDIRECTIONAL:
        if not privileged:
            raise InvalidArgument(f"{mount.container_path}: bidirectional propagation needs a privileged container")
        propagation = c.MS_SHARED
        _require(source, "shared:", "is not on a shared mount")
    elif mount.propagation == cri.MountPropagation.PROPAGATION_HOST_TO_CONTAINER:
        propagation = c.MS_SLAVE
    else:
        propagation = c.MS_PRIVATE
    _open(
        kernel,
        opened,
        source,
        mount.container_path,
        read_only=mount.readonly,
        recursive=mount.recursive_read_only,
        propagation=propagation,
    )


def _open(
    kernel: Kernel,
    opened: Opened,
    source: str,
    target: str,
    *,
    read_only: bool,
    recursive: bool = False,
    propagation: int = c.MS_PRIVATE,
) -> None:
    try:
        tree = kernel.open_tree(c.AT_FDCWD, source, c.OPEN_TREE_CLONE | c.AT_RECURSIVE)
    except OSError as error:
        raise Failed(f"mount source {source}: {error.strerror}") from None
    opened.fds.append(tree)
    if propagation != c.MS_SHARED:
        kernel.mount_setattr(tree, "", c.AT_EMPTY_PATH | c.AT_RECURSIVE, propagation=propagation)
    if read_only:
        flags = c.AT_EMPTY_PATH | (c.AT_RECURSIVE if recursive else 0)
        kernel.mount_setattr(tree, "", flags, add=c.MOUNT_ATTR_RDONLY)
    directory = stat.S_ISDIR(os.fstat(tree).st_mode)
    opened.orders.append({"target": target, "directory": directory})


def _require(source: str, tag: str, complaint: str) -> None:
    """Check the propagation of the mount that holds `source`, the last of the longest matches."""
    best, optional = "", ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.partition(" - ")[0].split()
        point = fields[4]
        inside = source == point or source.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, optional = point, " ".join(fields[6:])
    if tag not in optional:
        raise InvalidArgument(f"{source} {complaint}")


def devices(requested: Sequence[cri.Device], *, privileged: bool) -> list[dict[str, Any]]:
    """Nodes to make: the request's, and for a privileged container all that the host has."""
    found: dict[str, dict[str, Any]] = {}
    if privileged:
        for inner, _, names in os.walk("/dev"):
            if inner.startswith(("/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/hugepages")):
                continue
            for name in names:
                path = os.path.join(inner, name)
                if path not in ("/dev/console", "/dev/ptmx"):
                    _add_device(found, path, path, "rwm")
    for device in requested:
        source = os.path.realpath(device.host_path)
        access = device.permissions or "rwm"
        if set(access) - set("rwm"):
            raise InvalidArgument(f"device permissions {access!r}: only r, w and m")
        if os.path.isdir(source):
            for inner, _, names in os.walk(source):
                for name in names:
                    path = os.path.join(inner, name)
                    _add_device(found, path, device.container_path + path[len(source) :], access)
        elif not _add_device(found, source, device.container_path or device.host_path, access):
            raise InvalidArgument(f"{device.host_path} is not a device")
    return list(found.values())


def _add_device(found: dict[str, dict[str, Any]], source: str, target: str, access: str) -> bool:
    try:
        status = os.stat(source, follow_symlinks=False)
    except OSError:
        return False
    kind = "b" if stat.S_ISBLK(status.st_mode) else "c" if stat.S_ISCHR(status.st_mode) else ""
    if kind:
        found[target] = {
            "path": target,
            "type": kind,
            "major": os.major(status.st_rdev),
            "minor": os.minor(status.st_rdev),
            "mode": stat.S_IMODE(status.st_mode),
            "uid": status.st_uid,
            "gid": status.st_gid,
            "access": access,
        }
    return bool(kind)
