"""A directory tree that is being written as root, reached only by file descriptors.

Every path is walked from the root, one component at a time, without letting the kernel follow a symbolic link: links
are read and resolved here, inside the root, as a chroot would. So nothing outside is ever opened, whatever the layer
says. Whiteouts are made as overlayfs wants them in a lower directory (character device 0:0, `trusted.overlay.opaque`).
Nobody else may write to the tree meanwhile: it lies in a 0700 directory of ours.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from runtime.images.errors import InvalidContent

Parts = tuple[bytes, ...]

OPAQUE = b"trusted.overlay.opaque"
LINKS_LIMIT = 40
DEPTH_LIMIT = 255
OPEN_LIMIT = 128
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Directory(NamedTuple):
    """An open directory; the tree owns the descriptor, which is valid until the next call to the tree."""

    fd: int
    real: Parts


class Tree:
    """The tree below `root`, an existing directory. `lowers`: the layers below, lowest first."""

    def __init__(self, root: Path, lowers: Sequence[Path] = ()) -> None:
        self._lowers = tuple(reversed(lowers))
        self._root = Directory(os.open(root, _DIRECTORY), ())
        self._open: dict[Parts, int] = {}

    def close(self) -> None:
        self._close_all()
        os.close(self._root.fd)

    def directory(self, parts: Parts, *, create: bool = True) -> Directory:
        """The directory at `parts`, links resolved inside the root; what is missing is made like in the layer below.

        Raises InvalidContent where something else is in the way, FileNotFoundError if `create` is false."""
        if (fd := self._open.get(parts)) is not None:
            return Directory(fd, parts)
        here = self._root
        pending = list(reversed(parts))
        links = 0
        while pending:
            name = pending.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                here = self._reopen(here.real[:-1])
                continue
            real = (*here.real, name)
            if len(real) > DEPTH_LIMIT:
                raise InvalidContent(f"{show(parts)!r} is more than {DEPTH_LIMIT} directories deep")
            fd = self._open.get(real)
            if fd is None:
                self._trim(here)
                entered = self._enter(here, name, create)
                if isinstance(entered, bytes):
                    links += 1
                    if links > LINKS_LIMIT:
                        raise InvalidContent(f"{show(parts)!r} leads through more than {LINKS_LIMIT} symbolic links")
                    here = self._root if entered.startswith(b"/") else here
                    pending.extend(reversed(entered.split(b"/")))
                    continue
                fd = self._open[real] = entered
            here = Directory(fd, real)
        return here

    def remove(self, at: Directory, name: bytes) -> None:
        """Removes what is at `name`, of whatever type, if there is anything."""
        try:
            os.unlink(name, dir_fd=at.fd)
        except FileNotFoundError:
            return
        except IsADirectoryError:
            gone = (*at.real, name)
            for real in [real for real in self._open if real[: len(gone)] == gone]:
                os.close(self._open.pop(real))
            shutil.rmtree(name, dir_fd=at.fd)

    def create_file(self, at: Directory, name: bytes) -> int:
        """A new empty file in place of whatever was there; the caller closes the descriptor."""
        self.remove(at, name)
        return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=at.fd)

    def create_directory(self, at: Directory, name: bytes) -> Directory:
        """The directory `name`, new or as it was; anything else there is replaced."""
        status = lstat(at, name)
        replaced = status is not None and not stat.S_ISDIR(status.st_mode)
        if replaced:
            self.remove(at, name)
        if status is None or replaced:
            os.mkdir(name, 0o700, dir_fd=at.fd)
        real = (*at.real, name)
        fd = self._open.get(real)
        if fd is None:
            fd = self._open[real] = os.open(name, _DIRECTORY, dir_fd=at.fd)
        directory = Directory(fd, real)
        if replaced and status is not None and is_whiteout(status):
            # What the whiteout hid must stay hidden below the new directory.
            self.make_opaque(directory)
        return directory

    def create_link(self, at: Directory, name: bytes, target: Parts) -> None:
        """A hard link to a file or symbolic link of this tree. Raises InvalidContent for any other target."""
        try:
            source = self.directory(target[:-1], create=False)
            status = lstat(source, target[-1])
        except FileNotFoundError:
            status = None
        if status is None or not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
            raise InvalidContent(f"hard link to {show(target)!r}, which is not a file of the same layer")
        if (source.real, target[-1]) == (at.real, name):
            return
        source_fd = os.dup(source.fd)
        try:
            at = self._reopen(at.real)  # looking up the source may have closed it
            self.remove(at, name)
            os.link(target[-1], name, src_dir_fd=source_fd, dst_dir_fd=at.fd, follow_symlinks=False)
        finally:
            os.close(source_fd)

    def whiteout(self, at: Directory, name: bytes) -> None:
        """Hides `name` of the layers below; what this layer itself has there stays."""
        status = lstat(at, name)
        if status is None:
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=at.fd)
        elif stat.S_ISDIR(status.st_mode):
            self.make_opaque(self.create_directory(at, name))

    def make_opaque(self, directory: Directory) -> None:
        """Hides all that the layers below have in this directory."""
        os.setxattr(directory.fd, OPAQUE, b"y")

    def is_opaque(self) -> bool:
        """Whether the root itself hides all layers below, which overlayfs does not look at."""
        return OPAQUE.decode() in os.listxattr(self._root.fd)

    def set_times(self, times_ns: dict[Parts, int]) -> None:
        """Modification times of directories, once nothing more is written to them."""
        for real, mtime_ns in times_ns.items():
            try:
                directory = self._reopen(real)
            except OSError:
                continue  # replaced by something else later in the layer
            os.utime(directory.fd, ns=(mtime_ns, mtime_ns))

    def _enter(self, here: Directory, name: bytes, create: bool) -> int | bytes:
        """A descriptor of the directory `name`, or the target if it is a symbolic link."""
        try:
            return os.open(name, _DIRECTORY, dir_fd=here.fd)
        except FileNotFoundError:
            if not create:
                raise
        except NotADirectoryError:
            status = os.lstat(name, dir_fd=here.fd)
            if stat.S_ISLNK(status.st_mode):
                return os.readlink(name, dir_fd=here.fd)
            if not create:
                raise FileNotFoundError(name) from None
            if is_whiteout(status):
                made = self.create_directory(here, name)
                os.fchmod(made.fd, 0o755)
                return made.fd
            raise InvalidContent(f"{show((*here.real, name))!r} is a file, and used as a directory") from None
        os.mkdir(name, 0o755, dir_fd=here.fd)
        fd = os.open(name, _DIRECTORY, dir_fd=here.fd)
        status_below = self._below((*here.real, name))
        if status_below is not None:
            os.fchown(fd, status_below.st_uid, status_below.st_gid)
        os.fchmod(fd, stat.S_IMODE(status_below.st_mode) if status_below is not None else 0o755)
        return fd

    def _below(self, real: Parts) -> os.stat_result | None:
        """What the layers below have at `real`, if that is a directory."""
        for lower in self._lowers:
            fd = os.open(lower, _DIRECTORY)
            try:
                for name in real:
                    inner = os.open(name, _DIRECTORY, dir_fd=fd)
                    os.close(fd)
                    fd = inner
                return os.fstat(fd)
            except FileNotFoundError:
                continue
            except OSError:
                return None  # a file, a link or a whiteout there: nothing to inherit
            finally:
                os.close(fd)
        return None

    def _reopen(self, real: Parts) -> Directory:
        here = self._root
        for depth in range(1, len(real) + 1):
            part = real[:depth]
            fd = self._open.get(part)
            if fd is None:
                fd = self._open[part] = os.open(part[-1], _DIRECTORY, dir_fd=here.fd)
            here = Directory(fd, part)
        return here

    def _trim(self, keep: Directory) -> None:
        """Bounds the number of open descriptors; only `keep` stays for certain."""
        if len(self._open) > OPEN_LIMIT:
            kept = self._open.pop(keep.real, None)
            self._close_all()
            if kept is not None:
                self._open[keep.real] = kept

    def _close_all(self) -> None:
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()


def lstat(at: Directory, name: bytes) -> os.stat_result | None:
    try:
        return os.lstat(name, dir_fd=at.fd)
    except FileNotFoundError:
        return None


def is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def show(parts: Parts) -> str:
    """A path for people."""
    return b"/".join(parts)[:200].decode("utf-8", "backslashreplace")
