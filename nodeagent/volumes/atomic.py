"""Replaces the files of a volume at once: a reader sees all of the old content or all of the new.

Kubernetes' layout: the files lie in a directory with a time in its name, `..data` points to it, and each visible name
is a link through `..data`. Owns that layout inside one directory; knows nothing of where content comes from.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DATA = "..data"
PATH_LIMIT, NAME_LIMIT = 4096, 255


@dataclass(frozen=True, slots=True)
class File:
    """Content and permission bits."""

    data: bytes
    mode: int = 0o644


def check_path(path: str) -> str:
    """A relative path that stays inside and does not collide with the layout. Raises ValueError."""
    parts = path.split("/")
    if not path or path.startswith("/") or len(path) > PATH_LIMIT:
        raise ValueError(f"invalid path {path!r}: must be relative and not empty")
    if ".." in parts or any(len(part) > NAME_LIMIT for part in parts) or parts[0].startswith(".."):
        raise ValueError(f"invalid path {path!r}: must not contain '..'")
    return os.path.normpath(path)


def write(directory: Path, files: Mapping[str, File], stamp: str, *, gid: int | None = None) -> bool:
    """Make `directory` hold just `files`. stamp: names this version. False when nothing had to change."""
    files = {check_path(path): file for path, file in files.items()}
    directory.mkdir(parents=True, exist_ok=True)
    current = _current(directory)
    if current is not None and _read(current) == dict(files) and _links(directory) == _tops(files):
        return False
    version = directory / f"..{stamp}"
    number = 0
    while version.exists():
        number += 1
        version = directory / f"..{stamp}.{number}"
    _fill(version, files, gid)
    pending = directory / "..data_tmp"
    with contextlib.suppress(FileNotFoundError):
        pending.unlink()
    pending.symlink_to(version.name)
    os.replace(pending, directory / DATA)
    for name in _tops(files) - _links(directory):
        (directory / name).symlink_to(f"{DATA}/{name}")
    for name in _links(directory) - _tops(files):
        (directory / name).unlink()
    if current is not None:
        shutil.rmtree(current, ignore_errors=True)
    return True


def _fill(version: Path, files: Mapping[str, File], gid: int | None) -> None:
    version.mkdir()
    version.chmod(0o755)
    for path, file in files.items():
        target = version / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.data)
        if gid is not None:
            os.chown(target, -1, gid)
        target.chmod(file.mode if gid is None else file.mode | 0o040)


def _current(directory: Path) -> Path | None:
    try:
        return directory / os.readlink(directory / DATA)
    except FileNotFoundError:
        return None


def _read(version: Path) -> dict[str, File]:
    found = {}
    for path in version.rglob("*"):
        if path.is_file():
            mode = path.stat().st_mode & 0o7777
            found[str(path.relative_to(version))] = File(path.read_bytes(), mode)
    return found


def _tops(files: Mapping[str, File]) -> set[str]:
    return {path.split("/")[0] for path in files}


def _links(directory: Path) -> set[str]:
    return {each.name for each in directory.iterdir() if not each.name.startswith("..")}
