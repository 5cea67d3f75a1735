"""Unpacks one layer into a directory that overlayfs can use as it is.

The layer is hostile until proven otherwise: names with `..` are refused, symbolic links are resolved inside the tree
(`tree.py`), device nodes are refused (below `dev/`, which every container covers with its own, they are left out),
hard links reach only files of the same layer, extended attributes that mean something to the kernel or to overlayfs are
dropped, bytes and entries are capped, and at the end the expanded bytes must have the promised digest. The caller gives
an empty directory and throws it away after an error.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runtime.images import tarstream
from runtime.images.compression import expand
from runtime.images.content import CHUNK_BYTES, Readable
from runtime.images.errors import Exhausted, ImageError, InvalidContent
from runtime.images.tarstream import Entry, TarReader
from runtime.images.tree import Parts, Tree

WHITEOUT = b".wh."
OPAQUE_WHITEOUT = b".wh..wh..opq"
# Other names of this kind are bookkeeping of the old aufs driver.
WHITEOUT_META = b".wh..wh."
ID_LIMIT = (1 << 32) - 2
# What ext4 with 256-byte inodes and xfs with bigtime can both hold.
MTIME_MAX_NS = 15_032_385_535 * 1_000_000_000
FREE_SPACE_CHECK_BYTES = 64 << 20


@dataclass(frozen=True)
class Limits:
    """How much one image may make us write."""

    layer_bytes: int = 32 << 30
    image_bytes: int = 128 << 30
    layer_entries: int = 2_000_000
    # Unpacking stops when the file system has less than this left.
    free_bytes: int = 256 << 20


@dataclass
class Unpacked:
    """What a layer turned out to be. `size`: expanded bytes; `skipped`: device nodes below dev/ that were left out."""

    diff_id: str
    size: int = 0
    entries: int = 0
    opaque: bool = False
    skipped: list[str] = field(default_factory=list)


def unpack(
    source: Readable, target: Path, *, diff_id: str = "", lowers: Sequence[Path] = (), limits: Limits | None = None
) -> Unpacked:
    """Fills the empty directory `target`. `lowers`: the layers below, lowest first, for directories that this layer
    uses and does not describe. Raises InvalidContent, Exhausted."""
    limits = limits or Limits()
    result = Unpacked(diff_id)
    digest = hashlib.sha256()
    reader = TarReader(_metered(expand(source), target, digest.update, result, limits))
    tree = Tree(target, lowers)
    try:
        _Extractor(tree, reader, result).run(limits.layer_entries)
        reader.drain()
        result.opaque = tree.is_opaque()
    finally:
        tree.close()
    result.diff_id = f"sha256:{digest.hexdigest()}"
    if diff_id and result.diff_id != diff_id:
        raise InvalidContent(f"layer expands to {result.diff_id}, the image's configuration promises {diff_id}")
    return result


def _metered(
    chunks: Iterator[bytes], target: Path, update: Callable[[bytes], None], result: Unpacked, limits: Limits
) -> Iterator[bytes]:
    """Hashes and counts what passes, and stops when it is too much."""
    next_check = 0
    for chunk in chunks:
        result.size += len(chunk)
        if result.size > limits.layer_bytes:
            raise Exhausted(f"layer expands to more than {limits.layer_bytes} bytes")
        if result.size >= next_check:
            status = os.statvfs(target)
            if (free := status.f_bavail * status.f_frsize) < limits.free_bytes:
                raise Exhausted(f"only {free} bytes are free on the file system of the images")
            next_check = result.size + FREE_SPACE_CHECK_BYTES
        update(chunk)
        yield chunk


class _Extractor:
    """Applies the entries of one layer to a tree."""

    def __init__(self, tree: Tree, reader: TarReader, result: Unpacked) -> None:
        self._tree = tree
        self._reader = reader
        self._result = result
        self._directory_times: dict[Parts, int] = {}
        self._act = {
            tarstream.FILE: self._file,
            tarstream.DIRECTORY: self._directory,
            tarstream.SYMLINK: self._symlink,
            tarstream.HARD_LINK: self._hard_link,
            tarstream.CHARACTER: self._node,
            tarstream.BLOCK_DEVICE: self._node,
            tarstream.FIFO: self._node,
        }

    def run(self, entries_limit: int) -> None:
        for entry in self._reader:
            self._result.entries += 1
            if self._result.entries > entries_limit:
                raise Exhausted(f"layer has more than {entries_limit} entries")
            try:
                self._apply(entry, split_name(entry.name))
            except InvalidContent as error:
                raise InvalidContent(f"layer entry {entry.text!r}: {error}") from None
            except ImageError:
                raise
            except (OSError, OverflowError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                raise InvalidContent(f"layer entry {entry.text!r}: {reason}") from error
        self._tree.set_times(self._directory_times)

    def _apply(self, entry: Entry, parts: Parts) -> None:
        if not parts:
            if entry.type != tarstream.DIRECTORY:
                raise InvalidContent("the root of a layer can only be a directory")
            root = self._tree.directory(())
            self._describe(root.fd, entry)
            self._directory_times[()] = _mtime(entry)
            return
        for name in parts[:-1]:
            if name.startswith(WHITEOUT):
                if name.startswith(WHITEOUT_META):
                    return
                raise InvalidContent("a whiteout cannot be a directory")
        if entry.uid > ID_LIMIT or entry.gid > ID_LIMIT:
            raise InvalidContent(f"owner {entry.uid}:{entry.gid} is not a user and group")
        if parts[-1].startswith(WHITEOUT):
            self._whiteout(parts)
        else:
            self._act[entry.type](entry, parts)

    def _whiteout(self, parts: Parts) -> None:
        name = parts[-1]
        if name == OPAQUE_WHITEOUT:
            self._tree.make_opaque(self._tree.directory(parts[:-1]))
        elif not name.startswith(WHITEOUT_META):
            hidden = name[len(WHITEOUT) :]
            if hidden in (b"", b".", b".."):
                raise InvalidContent("a whiteout must name a file")
            self._tree.whiteout(self._tree.directory(parts[:-1]), hidden)

    def _file(self, entry: Entry, parts: Parts) -> None:
        fd = self._tree.create_file(self._tree.directory(parts[:-1]), parts[-1])
        try:
            while data := self._reader.read(CHUNK_BYTES):
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
            self._describe(fd, entry)
            os.utime(fd, ns=(_mtime(entry), _mtime(entry)))
        finally:
            os.close(fd)

    def _directory(self, entry: Entry, parts: Parts) -> None:
        directory = self._tree.create_directory(self._tree.directory(parts[:-1]), parts[-1])
        self._describe(directory.fd, entry)
        self._directory_times[directory.real] = _mtime(entry)

    def _symlink(self, entry: Entry, parts: Parts) -> None:
        if not entry.link:
            raise InvalidContent("a symbolic link without a target")
        at = self._tree.directory(parts[:-1])
        self._tree.remove(at, parts[-1])
        os.symlink(entry.link, parts[-1], dir_fd=at.fd)
        os.chown(parts[-1], entry.uid, entry.gid, dir_fd=at.fd, follow_symlinks=False)
        os.utime(parts[-1], ns=(_mtime(entry), _mtime(entry)), dir_fd=at.fd, follow_symlinks=False)

    def _hard_link(self, entry: Entry, parts: Parts) -> None:
        # The header's mode and owner are ignored: they are the other name's already, or an attempt to change them.
        target = split_name(entry.link)
        if not target:
            raise InvalidContent("a hard link without a target")
        self._tree.create_link(self._tree.directory(parts[:-1]), parts[-1], target)

    def _node(self, entry: Entry, parts: Parts) -> None:
        if entry.type == tarstream.CHARACTER and entry.device == (0, 0):
            self._tree.whiteout(self._tree.directory(parts[:-1]), parts[-1])
        elif parts[0] == b"dev":
            self._result.skipped.append(entry.text)
        else:
            raise InvalidContent("device nodes and pipes are not allowed in a layer")

    def _describe(self, fd: int, entry: Entry) -> None:
        """Owner before mode before attributes: each of them resets what follows."""
        os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode & 0o7777)
        for name, value in entry.xattrs.items():
            if _xattr_allowed(name):
                os.setxattr(fd, name, value)


def split_name(name: bytes) -> Parts:
    """The components of a name, relative to the layer's root; () is the root. Raises InvalidContent for `..`."""
    parts = tuple(part for part in name.split(b"/") if part not in (b"", b"."))
    if b".." in parts:
        raise InvalidContent(f"the path {name[:200]!r} leads upwards")
    return parts


def _xattr_allowed(name: bytes) -> bool:
    """`trusted.overlay.*` would forge redirects, `security.*` labels and signatures, `system.*` access lists."""
    return name == b"security.capability" or (name.startswith(b"user.") and not name.startswith(b"user.overlay."))


def _mtime(entry: Entry) -> int:
    return max(0, min(entry.mtime_ns, MTIME_MAX_NS))
