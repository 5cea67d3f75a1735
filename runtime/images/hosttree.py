"""Collects files of this host into the tree of an image: each at its own path, with all that it needs to run.

A path is taken apart at symbolic links, which stay links (`/bin -> usr/bin`, alternatives, library versions). Programs
bring the libraries they link and their loader, scripts their interpreter. Owners become root, directories 0755 (so that
a program below /root serves any user), files 0755 or 0644 with set-user-id kept where root owns the file.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field

from runtime.images.elf import MAGIC, closure, default_directories, parse_elf
from runtime.images.errors import InvalidReference, NotFound

LINKS_LIMIT = 40
LOADER_CACHE = "/etc/ld.so.cache"
STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class HostEntry:
    """One entry of the image. A file has a `source` on the host, or `data`; a link has a `link`; else a directory."""

    mode: int
    source: str = ""
    data: bytes | None = None
    link: str = ""


@dataclass
class HostTree:
    """What was collected: absolute paths, and what was left out or is worth a word."""

    entries: dict[str, HostEntry] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    programs: list[str] = field(default_factory=list)

    def add_program(self, name: str) -> str:
        """A program by name (looked up in PATH) or path, ready to run; answers its path. Raises NotFound."""
        path = find_program(name)
        if path not in self.programs:
            self.programs.append(path)
            self.add_runnable(path, required=True)
        return path

    def add_runnable(self, path: str, *, required: bool) -> str:
        """A file and what it needs; answers its real path. Without `required`, what is missing is only a warning."""
        real = self.add_path(path)
        head = _head(real)
        if head.startswith(MAGIC):
            self._add_libraries(real, required=required)
        elif head.startswith(b"#!"):
            self._add_interpreter(real, head)
        return real

    def add_path(self, path: str) -> str:
        """The file or directory (without its contents) at an absolute path, with the links on the way; answers where
        the path really leads. Raises NotFound."""
        pending = list(reversed(path.split("/")))
        real = ""
        links = 0
        while pending:
            name = pending.pop()
            if name in ("", "."):
                continue
            if name == "..":
                real = os.path.dirname(real).rstrip("/")
                continue
            here = f"{real}/{name}"
            try:
                status = os.lstat(here)
            except OSError as error:
                raise NotFound(f"{path}: {here}: {(error.strerror or '').lower()}") from None
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if links > LINKS_LIMIT:
                    raise NotFound(f"{path}: more than {LINKS_LIMIT} symbolic links")
                target = os.readlink(here)
                self.entries[here] = HostEntry(0o777, link=target)
                pending.extend(reversed(target.split("/")))
                real = "" if target.startswith("/") else real
            elif stat.S_ISDIR(status.st_mode):
                self.entries.setdefault(here, HostEntry(0o755))
                real = here
            elif stat.S_ISREG(status.st_mode):
                self.entries.setdefault(here, HostEntry(_file_mode(status), source=here))
                real = here
            else:
                raise NotFound(f"{path}: {here} is a device, socket or pipe")
        return real or "/"

    def add_tree(self, path: str) -> None:
        """A directory with all that is in it, programs there with their libraries; devices and the like are skipped."""
        real = self.add_path(path)
        if not os.path.isdir(real):
            self.add_runnable(real, required=False)
            return
        for folder, folders, names in os.walk(real):
            for name in sorted((*folders, *names)):
                inner = os.path.join(folder, name)
                mode = os.lstat(inner).st_mode
                if stat.S_ISLNK(mode):
                    self.entries[inner] = HostEntry(0o777, link=os.readlink(inner))
                elif stat.S_ISDIR(mode):
                    self.add_path(inner)
                elif stat.S_ISREG(mode):
                    self.add_runnable(inner, required=False)
                else:
                    self.skipped.append(inner)

    def add_file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """A file of our own making, unless the host's is there already."""
        self._add_parents(path)
        self.entries.setdefault(path, HostEntry(mode, data=data))

    def add_link(self, path: str, target: str) -> None:
        self._add_parents(path)
        self.entries.setdefault(path, HostEntry(0o777, link=target))

    def add_directory(self, path: str, mode: int = 0o755) -> None:
        self._add_parents(path)
        self.entries[path] = HostEntry(mode)

    def add_merged_directories(self) -> None:
        """The links that a host with a merged /usr has at the root, so that /bin/sh is found there, too."""
        for path in ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"):
            if os.path.islink(path) and os.path.isdir(path):
                self.add_path(path)

    def has_library(self, prefix: str) -> bool:
        return any(os.path.basename(path).startswith(prefix) for path in self.entries)

    def _add_parents(self, path: str) -> None:
        parent = os.path.dirname(path)
        while parent != "/":
            self.entries.setdefault(parent, HostEntry(0o755))
            parent = os.path.dirname(parent)

    def _add_libraries(self, path: str, *, required: bool) -> None:
        found = closure(path)
        if found.missing:
            message = f"{path} links {', '.join(found.missing)}, which this host does not have"
            if required:
                raise NotFound(message)
            self.warnings.append(message)
        for file in found.files:
            self.add_path(file)
        if found.directories and os.path.exists(LOADER_CACHE):
            # Only the cache tells the loader of directories that are neither built in nor in the program itself.
            self.add_path(LOADER_CACHE)
        self._add_loaded_later(path)

    def _add_loaded_later(self, path: str) -> None:
        """What glibc opens by name while a program runs: for ending threads, and for users and hosts by name."""
        elf = parse_elf(path)
        if elf is None or not elf.interpreter or "musl" in elf.interpreter:
            return
        for directory in default_directories(elf.kind, elf.interpreter):
            for name in ("libgcc_s.so.1", "libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"):
                file = os.path.join(directory, name)
                library = parse_elf(file)
                if library is not None and library.kind == elf.kind and not self.has_library(name):
                    self.add_path(file)

    def _add_interpreter(self, path: str, head: bytes) -> None:
        words = head[2:].split(b"\n", 1)[0].decode("utf-8", "replace").split()
        if not words:
            raise NotFound(f"{path} is a script without an interpreter")
        try:
            self.add_runnable(find_program(words[0]), required=True)
            if os.path.basename(words[0]) == "env":
                name = next((word for word in words[1:] if not word.startswith("-") and "=" not in word), "")
                if name:
                    self.add_runnable(find_program(name), required=True)
        except NotFound as error:
            raise NotFound(f"{path} is a script: {error}") from None


def find_program(name: str) -> str:
    """The absolute path of a program. Raises NotFound, naming where was searched."""
    if "/" in name:
        if not name.startswith("/"):
            raise InvalidReference(f"program {name!r}: give a name, or an absolute path")
        if not os.path.exists(name):
            raise NotFound(f"program {name!r} is not on this host")
        if not os.path.isfile(name) or not os.stat(name).st_mode & 0o111:
            raise NotFound(f"program {name!r} is not an executable file")
        return os.path.normpath(name)
    if not name:
        raise InvalidReference("program '' has no name")
    search = os.environ.get("PATH") or STANDARD_PATH
    # The daemon's PATH may be short; the system's own directories always count.
    for directory in dict.fromkeys([*search.split(":"), *STANDARD_PATH.split(":")]):
        path = os.path.join(directory, name)
        if os.path.basename(directory) == "shims":
            continue  # pyenv, rbenv, asdf: scripts that ask their manager, which is not in the image
        if directory.startswith("/") and os.path.isfile(path) and os.stat(path).st_mode & 0o111:
            return path
    raise NotFound(f"program {name!r} is not on this host (searched {search})")


def _head(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(256)
    except OSError:
        return b""


def _file_mode(status: os.stat_result) -> int:
    mode = 0o755 if status.st_mode & 0o111 else 0o644
    if status.st_uid == 0 and status.st_mode & stat.S_ISUID:
        mode |= stat.S_ISUID
    if status.st_uid == 0 and status.st_gid == 0 and status.st_mode & stat.S_ISGID:
        mode |= stat.S_ISGID
    return mode
