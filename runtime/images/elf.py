"""Which files a dynamically linked program needs, as its loader would find them; nothing is executed.

Search order of ld.so(8): RPATH of the object and of those that loaded it (unless it has a RUNPATH), RUNPATH, the
directories of /etc/ld.so.conf, the built-in ones. `LD_LIBRARY_PATH` and hardware-specific directories are left out: the
plain library beside them always exists. musl: RPATH, then its path file.
"""

from __future__ import annotations

import glob
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

MAGIC = b"\x7fELF"
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 1, 5, 15, 29
_SEGMENTS_LIMIT = 1024
_DYNAMIC_LIMIT = 4096
_STRING_LIMIT = 4096


@dataclass(frozen=True)
class Kind:
    """What must agree between a program and its libraries: word size in bits, byte order, machine."""

    bits: int
    order: str
    machine: int


@dataclass(frozen=True)
class Elf:
    """The dynamic part of an ELF file; a static one has no interpreter and needs nothing."""

    kind: Kind
    interpreter: str = ""
    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()


@dataclass
class Closure:
    """Files found for a program, by the absolute path under which its loader opens them, and names not found."""

    files: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    directories: set[str] = field(default_factory=set)


def parse_elf(path: str | Path) -> Elf | None:
    """The ELF headers of a file, or None if it is none (or is broken)."""
    try:
        with open(path, "rb") as file:
            return _parse(lambda offset, size: _at(file.fileno(), offset, size))
    except (OSError, OverflowError, struct.error, ValueError):
        return None


def closure(path: str) -> Closure:
    """All libraries that the ELF file at `path` links, recursively, and its loader."""
    result = Closure()
    root = parse_elf(path)
    if root is None:
        return result
    seen: set[str] = set()
    loader = root.interpreter
    if loader:
        result.files.append(loader)
        seen.add(os.path.basename(loader))
    queue: list[tuple[Elf, str, tuple[str, ...]]] = [(root, path, ())]
    for elf, origin, inherited in queue:
        own = _expand(elf.rpath, origin) if not elf.runpath else ()
        rpaths = own + inherited
        for name in elf.needed:
            if os.path.basename(name) in seen:
                continue
            seen.add(os.path.basename(name))
            searched = rpaths + _expand(elf.runpath, origin)
            found = _find(name, searched, root.kind, loader)
            if found is None:
                result.missing.append(name)
                continue
            file, directory = found
            result.files.append(file)
            if directory:
                result.directories.add(directory)
            library = parse_elf(file)
            if library is not None:
                queue.append((library, file, rpaths))
    return result


def default_directories(kind: Kind, loader: str = "") -> tuple[str, ...]:
    """Where a loader looks without being told; in the image, too."""
    if os.path.basename(loader).startswith("ld-musl"):
        return ("/lib", "/usr/local/lib", "/usr/lib")
    triplet = {62: "x86_64-linux-gnu", 183: "aarch64-linux-gnu", 40: "arm-linux-gnueabihf", 3: "i386-linux-gnu"}
    directories = ["/lib64", "/usr/lib64"] if kind.bits == 64 else []
    if (name := triplet.get(kind.machine)) is not None:
        directories = [f"/lib/{name}", f"/usr/lib/{name}", *directories]
    return (*directories, "/lib", "/usr/lib")


def configured_directories(path: str = "/etc/ld.so.conf") -> Iterator[str]:
    """The directories of ld.so.conf(5), with what it includes."""
    try:
        lines = Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        words = line.partition("#")[0].split()
        if words[:1] == ["include"]:
            for pattern in words[1:]:
                for name in sorted(glob.glob(os.path.join(os.path.dirname(path), pattern))):
                    if name != path:
                        yield from configured_directories(name)
        else:
            yield from (word for word in words if word.startswith("/"))


def _find(name: str, searched: tuple[str, ...], kind: Kind, loader: str) -> tuple[str, str] | None:
    """The path of a library, and its directory if that is one which only the host's loader cache knows."""
    if "/" in name:
        return (name, "") if _fits(name, kind) else None
    builtin = default_directories(kind, loader)
    for directory in (*searched, *builtin):
        if _fits(file := os.path.join(directory, name), kind):
            return file, ""
    for directory in configured_directories():
        if _fits(file := os.path.join(directory, name), kind):
            return file, directory
    return None


def _fits(path: str, kind: Kind) -> bool:
    elf = parse_elf(path)
    return elf is not None and elf.kind == kind


def _expand(entries: tuple[str, ...], origin: str) -> tuple[str, ...]:
    """`$ORIGIN` is the directory of the file itself, links resolved."""
    here = os.path.dirname(os.path.realpath(origin))
    replaced = (entry.replace("${ORIGIN}", here).replace("$ORIGIN", here) for entry in entries)
    return tuple(os.path.normpath(entry) for entry in replaced if entry.startswith("/"))


def _at(fd: int, offset: int, size: int) -> bytes:
    data = os.pread(fd, size, offset)
    if len(data) != size:
        raise ValueError("file is cut short")
    return data


def _parse(read: Callable[[int, int], bytes]) -> Elf | None:
    ident = read(0, 16)
    if ident[:4] != MAGIC or ident[4] not in (1, 2) or ident[5] not in (1, 2):
        return None
    bits, order = 32 * ident[4], "<" if ident[5] == 1 else ">"
    header = struct.unpack(order + ("HHIQQQIHHH" if bits == 64 else "HHIIIIIHHH"), read(16, 42 if bits == 64 else 30))
    kind = Kind(bits, order, header[1])
    table, entry_size, count = header[4], header[8], header[9]
    if count > _SEGMENTS_LIMIT:
        raise ValueError("too many segments")
    loads: list[tuple[int, int, int]] = []
    interpreter, dynamic = "", (0, 0)
    for number in range(count):
        raw = read(table + number * entry_size, 56 if bits == 64 else 32)
        fields = struct.unpack(order + ("IIQQQQQQ" if bits == 64 else "IIIIIIII"), raw)
        if bits == 64:
            segment, _, offset, address, _, size, *_ = fields
        else:
            segment, offset, address, _, size, *_ = fields
        if segment == _PT_LOAD:
            loads.append((address, offset, size))
        elif segment == _PT_INTERP:
            interpreter = read(offset, min(size, _STRING_LIMIT)).split(b"\0", 1)[0].decode()
        elif segment == _PT_DYNAMIC:
            dynamic = (offset, size)
    return _dynamic(read, kind, interpreter, dynamic, loads)


def _dynamic(
    read: Callable[[int, int], bytes],
    kind: Kind,
    interpreter: str,
    dynamic: tuple[int, int],
    loads: list[tuple[int, int, int]],
) -> Elf:
    word = kind.bits // 8
    offset, size = dynamic
    tags: list[tuple[int, int]] = []
    for number in range(min(size // (2 * word), _DYNAMIC_LIMIT)):
        raw = read(offset + number * 2 * word, 2 * word)
        tag, value = struct.unpack(kind.order + ("QQ" if word == 8 else "II"), raw)
        if tag == 0:
            break
        tags.append((tag, value))
    strings = next((value for tag, value in tags if tag == _DT_STRTAB), 0)
    base = next((at + strings - start for start, at, length in loads if start <= strings < start + length), 0)

    def text(value: int) -> str:
        collected = b""
        while b"\0" not in collected and len(collected) < _STRING_LIMIT:
            collected += read(base + value + len(collected), 1)
        return collected.split(b"\0", 1)[0].decode()

    def paths(wanted: int) -> tuple[str, ...]:
        return tuple(part for tag, value in tags if tag == wanted for part in text(value).split(":") if part)

    return Elf(
        kind=kind,
        interpreter=interpreter,
        needed=tuple(text(value) for tag, value in tags if tag == _DT_NEEDED),
        rpath=paths(_DT_RPATH),
        runpath=paths(_DT_RUNPATH),
    )
