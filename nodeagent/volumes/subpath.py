"""A path inside a volume, opened so that nobody can lead it out of there.

The volume's content belongs to the pod, which may plant symbolic links and swap them at any moment. So the path is
resolved once, checked to lie inside, walked again component by component without following any link, and what was
opened is bind-mounted through its descriptor to a place that only the agent can write to. The runtime gets that
place.
"""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path


class SubPathError(Exception):
    """The subPath cannot be used."""


def open_inside(root: Path, relative: str, *, make: bool) -> int:
    """A descriptor (O_PATH) of `relative` below `root`; with `make`, missing directories are made, with root's mode.

    The caller closes it. Raises SubPathError when the path leads outside or cannot be opened.
    """
    if relative.startswith("/") or ".." in relative.split("/"):
        raise SubPathError(f"subPath {relative!r} must be relative and must not contain '..'")
    base = os.path.realpath(root)
    target = os.path.realpath(os.path.join(base, relative))
    if target != base and not target.startswith(base + "/"):
        raise SubPathError(f"subPath {relative!r} leads out of the volume")
    parts = os.path.relpath(target, base).split("/") if target != base else []
    descriptor = os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode) if make else None
    try:
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            following = _step(descriptor, part, last=last, mode=mode)
            os.close(descriptor)
            descriptor = following
    except OSError as error:
        os.close(descriptor)
        raise SubPathError(f"subPath {relative!r}: {error.strerror}") from error
    return descriptor


def _step(parent: int, name: str, *, last: bool, mode: int | None) -> int:
    """One component further; with `mode`, a directory that is missing is made."""
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=parent)
    except FileNotFoundError:
        if mode is None:
            raise
        os.mkdir(name, 0o700, dir_fd=parent)
        descriptor = os.open(name, flags, dir_fd=parent)
        os.chmod(f"/proc/self/fd/{descriptor}", mode)
    found = os.fstat(descriptor).st_mode
    if stat.S_ISLNK(found) or not (last or stat.S_ISDIR(found)):
        # A link where none was a moment ago: somebody plays with the path.
        os.close(descriptor)
        raise NotADirectoryError(20, "not a directory")
    return descriptor


async def bind(descriptor: int, target: Path) -> None:
    """Bind-mount what the descriptor has open to `target`, which is made as a file or a directory to match."""
    _make_target(stat.S_ISDIR(os.fstat(descriptor).st_mode), target)
    # Without --no-canonicalize mount(8) would resolve the descriptor to a path, and the path could be swapped.
    await mount("--no-canonicalize", "--bind", f"/proc/{os.getpid()}/fd/{descriptor}", str(target))


def _make_target(directory: bool, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if directory:
        target.mkdir(exist_ok=True)
    else:
        target.touch()


async def mount(*arguments: str) -> None:
    """Run mount(8). Raises OSError with what it said."""
    await _run("mount", *arguments)


async def unmount(target: Path) -> None:
    """Detach a mount. Raises OSError with what umount(8) said."""
    await _run("umount", "--lazy", str(target))


def is_mounted(target: Path) -> bool:
    """Is something mounted on just this path?"""
    return str(target) in mounts_below(target)


def mounts_below(directory: Path) -> list[str]:
    """Mount points at or below `directory`, deepest first."""
    prefix = str(directory)
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = (
            line.split(" ")[4]
            .replace("\\040", " ")
            .replace("\\011", "\t")
            .replace("\\012", "\n")
            .replace("\\134", "\\")
        )
        if point == prefix or point.startswith(prefix + "/"):
            found.append(point)
    return found[::-1]


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    if process.returncode:
        raise OSError(process.returncode, errors.decode(errors="replace").strip() or f"{command[0]} failed")
