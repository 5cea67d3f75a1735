"""Blobs on disk, each under its own digest: `<home>/blobs/<algorithm>/<hex>`.

Promises: a blob that can be opened here had the digest and the size that were asked for; it was written to `ingest/`,
verified while it streamed, fsync'ed, and only then renamed. Which blobs are still wanted is `store.py`'s business; so
is the fsync of the directory, once for all blobs of an image.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol

from runtime.images.errors import InvalidContent, NotFound
from runtime.images.reference import is_digest

CHUNK_BYTES = 1 << 18


class Readable(Protocol):
    """Anything with `read(n)` that answers at most n bytes, and b"" at the end."""

    def read(self, n: int, /) -> bytes: ...


class ContentStore:
    """The blobs below `home`, and the scratch space that lies on the same file system."""

    def __init__(self, home: Path) -> None:
        self._blobs = home / "blobs"
        self._ingest = home / "ingest"
        for directory in (home, self._blobs, self._ingest):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for algorithm in ("sha256", "sha512"):
            (self._blobs / algorithm).mkdir(mode=0o700, exist_ok=True)
        self._names = iter(range(1, 1 << 62))
        self._lock = threading.Lock()

    def path(self, digest: str) -> Path:
        if not is_digest(digest):
            raise InvalidContent(f"{digest!r} is not a digest that we support (sha256, sha512)")
        algorithm, _, hexadecimal = digest.partition(":")
        return self._blobs / algorithm / hexadecimal

    def has(self, digest: str) -> bool:
        return self.path(digest).exists()

    def size(self, digest: str) -> int:
        """Bytes. Raises NotFound."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise NotFound(f"blob {digest} is not in the store") from None

    def open(self, digest: str) -> BinaryIO:
        """The blob, for reading; the caller closes it. Raises NotFound."""
        try:
            return self.path(digest).open("rb", buffering=0)
        except FileNotFoundError:
            raise NotFound(f"blob {digest} is not in the store") from None

    def read(self, digest: str, *, limit_bytes: int) -> bytes:
        """The whole blob. Raises NotFound, or InvalidContent if it is larger than the limit."""
        if (size := self.size(digest)) > limit_bytes:
            raise InvalidContent(f"blob {digest} has {size} bytes; at most {limit_bytes} are accepted here")
        return self.path(digest).read_bytes()

    def writer(self, digest: str = "", size: int | None = None) -> BlobWriter:
        """A new blob; what is known of it beforehand is verified."""
        algorithm = self.path(digest).parent.name if digest else "sha256"
        return BlobWriter(self, self.scratch_name("blob"), algorithm, digest, size)

    def put(self, data: bytes, digest: str = "", *, keep: Callable[[str], object] = str) -> str:
        """Stores a small blob and answers its digest; `keep`, a lease's, is told of it before it is visible."""
        with self.writer(digest, len(data)) as writer:
            writer.write(data)
            keep(writer.digest())
            return writer.commit()

    def digests(self) -> Iterator[str]:
        for algorithm in ("sha256", "sha512"):
            for name in sorted(os.listdir(self._blobs / algorithm)):
                yield f"{algorithm}:{name}"

    def remove(self, digest: str) -> None:
        self.path(digest).unlink(missing_ok=True)

    def sync(self) -> None:
        """Makes the names of all blobs durable."""
        for algorithm in ("sha256", "sha512"):
            sync_directory(self._blobs / algorithm)

    def scratch_name(self, kind: str) -> Path:
        """A path in `ingest/` that nobody else has; whatever is made there is gone after the next start."""
        with self._lock:
            return self._ingest / f"{kind}-{os.getpid()}-{next(self._names)}"

    def clear_scratch(self) -> None:
        """Removes what a killed process left half done."""
        for entry in os.scandir(self._ingest):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)


class BlobWriter:
    """One blob on its way in. Leaving the `with` block without `commit` throws it away."""

    def __init__(self, store: ContentStore, scratch: Path, algorithm: str, digest: str, size: int | None) -> None:
        self._store = store
        self._scratch = scratch
        self._digest = digest
        self._size = size
        self._hash = hashlib.new(algorithm)
        self._fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.written = 0

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.abort()

    def write(self, data: bytes) -> None:
        """Raises InvalidContent as soon as there are more bytes than promised."""
        self.written += len(data)
        if self._size is not None and self.written > self._size:
            raise InvalidContent(f"blob {self._digest} is larger than the {self._size} bytes that were promised")
        self._hash.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def copy(self, source: Readable) -> None:
        """Writes all that `source` has."""
        while data := source.read(CHUNK_BYTES):
            self.write(data)

    def digest(self) -> str:
        """The digest of what was written so far."""
        return f"{self._hash.name}:{self._hash.hexdigest()}"

    def commit(self) -> str:
        """Verifies, makes durable and publishes; answers the digest. Raises InvalidContent."""
        if self._size is not None and self.written != self._size:
            raise InvalidContent(f"blob {self._digest} has {self.written} bytes, {self._size} were promised")
        found = self.digest()
        if self._digest and found != self._digest:
            raise InvalidContent(f"blob has digest {found}, {self._digest} was promised")
        target = self._store.path(found)
        if not target.exists():
            os.fsync(self._fd)
            os.rename(self._scratch, target)
        self.abort()
        return found

    def abort(self) -> None:
        """Forgets what was not published; harmless afterwards."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._scratch.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_file(path: Path, data: bytes) -> None:
    """Writes `path` so that it is the old or the new file at any moment, also after a power cut."""
    temporary = path.with_name(path.name + ".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, path)
    sync_directory(path.parent)


def digest_of(data: bytes) -> str:
    """The sha256 digest, as registries write it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
