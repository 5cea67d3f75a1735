"""Builds a container's root, in the container's own mount namespace, before it is pivoted into.

Everything is done through descriptors: sources came as detached mounts made by the daemon, targets are resolved inside
the root by openat2(RESOLVE_IN_ROOT), missing mount points are made with mkdirat on verified parents. An image or volume
can therefore redirect a mount only within its own root. /proc, /sys and /dev of an image must be real directories.
"""

from __future__ import annotations

import errno
import os
import stat

from runtime.linux import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.linux.interface import Kernel
    from runtime.zygote.protocol import Message

_SAFE = c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NODEV | c.MOUNT_ATTR_NOEXEC
_IN_ROOT = c.RESOLVE_IN_ROOT | c.RESOLVE_NO_MAGICLINKS
_MAX_LINKS = 40

NODES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
)


class Root:
    """The root under construction. `fd` is the root mount itself and stays the caller's."""

    def __init__(self, kernel: Kernel, fd: int) -> None:
        self.kernel = kernel
        self.fd = fd

    def open(self, path: str, flags: int = os.O_PATH) -> int:
        """Open an existing path, symlinks resolved as the container would see them."""
        return self.kernel.openat2(self.fd, path.lstrip("/") or ".", flags, resolve=_IN_ROOT)

    def directory(self, path: str, links: int = 0) -> int:
        """Open a directory, making what is missing of it with mode 0755."""
        try:
            return self.open(path, os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            pass
        parent_path, name = _split(path)
        parent = self.directory(parent_path, links)
        try:
            try:
                os.mkdir(name, 0o755, dir_fd=parent)
            except FileExistsError:
                # Only a link that points nowhere can be both missing and there: make what it points to.
                return self.directory(self._target(parent, parent_path, name, links), links + 1)
            return self.kernel.openat2(parent, name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        finally:
            os.close(parent)

    def file(self, path: str, links: int = 0) -> int:
        """Open a file as a mount point, making it empty if it is missing."""
        try:
            return self.open(path)
        except FileNotFoundError:
            pass
        parent_path, name = _split(path)
        parent = self.directory(parent_path, links)
        try:
            flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_WRONLY
            try:
                os.close(os.open(name, flags, 0o644, dir_fd=parent))
            except FileExistsError:
                return self.file(self._target(parent, parent_path, name, links), links + 1)
            return self.kernel.openat2(parent, name, os.O_PATH | os.O_NOFOLLOW)
        finally:
            os.close(parent)

    def _target(self, parent: int, parent_path: str, name: str, links: int) -> str:
        if links >= _MAX_LINKS:
            raise OSError(errno.ELOOP, "too many symbolic links", f"{parent_path}/{name}")
        link = os.readlink(name, dir_fd=parent)
        return link if link.startswith("/") else f"{parent_path}/{link}"

    def real_directory(self, name: str) -> int:
        """A top-level directory that may not be a link (CVE-2019-19921, CVE-2026-41579)."""
        try:
            os.mkdir(name, 0o755, dir_fd=self.fd)
        except FileExistsError:
            pass
        try:
            return self.kernel.openat2(
                self.fd,
                name,
                os.O_PATH | os.O_DIRECTORY,
                resolve=c.RESOLVE_BENEATH | c.RESOLVE_NO_SYMLINKS | c.RESOLVE_NO_XDEV,
            )
        except OSError as error:
            raise OSError(error.errno, f"/{name} of the image is not a real directory") from None

    def attach(self, mount_fd: int, target_fd: int) -> None:
        """Move a detached mount onto an open target; closes both."""
        try:
            self.kernel.move_mount(mount_fd, target_fd)
        finally:
            os.close(mount_fd)
            os.close(target_fd)


def _split(path: str) -> tuple[str, str]:
    parent, _, name = ("/" + path.strip("/")).rpartition("/")
    if name in ("", ".", ".."):
        raise OSError(errno.EINVAL, "not a usable mount point", path)
    return parent or "/", name


def mount_kernel_files(root: Root, spec: Message) -> int:
    """/proc, /sys with cgroups; returns the device number of /proc, on which nobody may mount."""
    kernel = root.kernel
    root.attach(kernel.new_mount("proc", [], _SAFE), root.real_directory("proc"))
    read_only = 0 if spec["privileged"] else c.MOUNT_ATTR_RDONLY
    root.attach(kernel.new_mount("sysfs", [], _SAFE | read_only), root.real_directory("sys"))
    _mount_cgroups(root, spec["cgroupMounts"], _SAFE | read_only)
    proc = root.open("/proc")
    device = os.fstat(proc).st_dev
    os.close(proc)
    return device


def _mount_cgroups(root: Root, mounts: list[Message], attributes: int) -> None:
    kernel = root.kernel
    if not mounts:
        return
    try:
        target = root.open("/sys/fs/cgroup", os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    if len(mounts) == 1 and mounts[0]["type"] == "cgroup2":
        root.attach(kernel.new_mount("cgroup2", [], attributes), target)
        return
    tmpfs = kernel.new_mount("tmpfs", [("mode", "0755"), ("size", "64k")], _SAFE)
    kernel.move_mount(tmpfs, target)
    os.close(target)
    for mount in mounts:
        os.mkdir(mount["name"], 0o755, dir_fd=tmpfs)
        options = [(key, value) for key, value in mount["options"]]
        inner = kernel.new_mount(mount["type"], options, attributes)
        kernel.move_mount(inner, tmpfs, mount["name"])
        os.close(inner)
    kernel.mount_setattr(tmpfs, "", c.AT_EMPTY_PATH, add=attributes & c.MOUNT_ATTR_RDONLY)
    os.close(tmpfs)


def mount_devices(root: Root, spec: Message, shm_fd: int) -> int:
    """/dev with its nodes, links, pts, mqueue and shm. Returns a descriptor of /dev."""
    kernel = root.kernel
    dev = kernel.new_mount("tmpfs", [("mode", "0755"), ("size", "65536k")], c.MOUNT_ATTR_NOSUID)
    target = root.real_directory("dev")
    kernel.move_mount(dev, target)
    os.close(target)
    for name, major, minor in NODES:
        os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(major, minor), dir_fd=dev)
    for name, link in LINKS:
        os.symlink(link, name, dir_fd=dev)
    for name in ("pts", "mqueue", "shm"):
        os.mkdir(name, 0o755, dir_fd=dev)
    pts_options: list[tuple[str, str | None]] = [("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")]
    _attach_in(root, dev, "pts", kernel.new_mount("devpts", pts_options, c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NOEXEC))
    _attach_in(root, dev, "mqueue", kernel.new_mount("mqueue", [], _SAFE))
    if shm_fd < 0:
        shm_fd = kernel.open_tree(c.AT_FDCWD, "/shm", c.OPEN_TREE_CLONE)
    _attach_in(root, dev, "shm", shm_fd)
    for device in spec["devices"]:
        _make_node(root, dev, device)
    return dev


def _attach_in(root: Root, directory_fd: int, name: str, mount_fd: int) -> None:
    try:
        root.kernel.move_mount(mount_fd, directory_fd, name)
    finally:
        os.close(mount_fd)


def _make_node(root: Root, dev: int, device: Message) -> None:
    """A device that the request named, below /dev or anywhere else in the root."""
    parent_path, name = _split(device["path"])
    parent = root.directory(parent_path)
    try:
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            pass
        kind = stat.S_IFBLK if device["type"] == "b" else stat.S_IFCHR
        os.mknod(name, kind | device["mode"], os.makedev(device["major"], device["minor"]), dir_fd=parent)
        os.chown(name, device["uid"], device["gid"], dir_fd=parent, follow_symlinks=False)
    finally:
        os.close(parent)


def mount_volumes(root: Root, mounts: list[Message], fds: list[int], proc_device: int) -> None:
    """The request's mounts, in its order. Each detached mount already carries read-only and propagation."""
    for mount, fd in zip(mounts, fds, strict=True):
        target = root.directory(mount["target"]) if mount["directory"] else root.file(mount["target"])
        if os.fstat(target).st_dev == proc_device:
            os.close(target)
            raise OSError(errno.EPERM, "mounts inside of /proc are refused", mount["target"])
        root.attach(fd, target)


def mask(root: Root, paths: list[str], dev: int) -> None:
    """Hide files behind our own /dev/null and directories behind empty read-only file systems."""
    kernel = root.kernel
    for path in paths:
        try:
            target = root.open(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISDIR(os.fstat(target).st_mode):
            root.attach(kernel.new_mount("tmpfs", [("size", "0")], _SAFE | c.MOUNT_ATTR_RDONLY), target)
        else:
            null = kernel.open_tree(dev, "null", c.OPEN_TREE_CLONE)
            status = os.fstat(null)
            if not stat.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(1, 3):
                raise OSError(errno.EPERM, "/dev/null is not the null device")
            root.attach(null, target)


def make_read_only(root: Root, paths: list[str]) -> None:
    kernel = root.kernel
    for path in paths:
        try:
            target = root.open(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        tree = kernel.open_tree(target, "", c.OPEN_TREE_CLONE | c.AT_RECURSIVE | c.AT_EMPTY_PATH)
        kernel.mount_setattr(tree, "", c.AT_EMPTY_PATH | c.AT_RECURSIVE, add=c.MOUNT_ATTR_RDONLY)
        root.attach(tree, target)


def enter(kernel: Kernel, root_fd: int, *, read_only: bool) -> None:
    """Make it the root of this process. The working directory is the old root until `forget_old_root`."""
    if read_only:
        kernel.mount_setattr(root_fd, "", c.AT_EMPTY_PATH, add=c.MOUNT_ATTR_RDONLY)
    os.fchdir(root_fd)
    kernel.pivot_root(".", ".")


def forget_old_root(kernel: Kernel) -> None:
    """Detach what was the root before. The kernel may take milliseconds for it, so it is done beside other work."""
    kernel.umount(".", c.MNT_DETACH)
    os.chdir("/")
