"""A `Kernel` that only writes down what it was asked, for tests of order and arguments.

`calls` holds (verb, positional arguments, keyword arguments). A verb named in `failing` raises the OSError given there
once its call is recorded. Descriptors it returns are real (of /dev/null), so that callers may close them.
"""

from __future__ import annotations

import os
from typing import Any


class Recorder:
    def __init__(self, failing: dict[str, int] | None = None) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.failing = failing or {}

    def names(self) -> list[str]:
        return [name for name, _, _ in self.calls]

    def _record(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> None:
        self.calls.append((name, args, kwargs or {}))
        if name in self.failing:
            raise OSError(self.failing[name], f"{name}: {os.strerror(self.failing[name])}")

    def _open(self) -> int:
        return os.open("/dev/null", os.O_RDONLY)

    def unshare(self, flags: int) -> None:
        self._record("unshare", (flags,))

    def setns(self, fd: int, flags: int) -> None:
        self._record("setns", (fd, flags))

    def clone(self, flags: int, *, cgroup_fd: int = -1) -> int:
        self._record("clone", (flags,), {"cgroup_fd": cgroup_fd})
        return 0

    def mount(self, source: str, target: str, fstype: str, flags: int = 0, data: str = "") -> None:
        self._record("mount", (source, target, fstype, flags, data))

    def umount(self, target: str, flags: int = 0) -> None:
        self._record("umount", (target, flags))

    def pivot_root(self, new_root: str, put_old: str) -> None:
        self._record("pivot_root", (new_root, put_old))

    def new_mount(self, fstype: str, options: list[tuple[str, str | None]], attributes: int = 0) -> int:
        self._record("new_mount", (fstype, options, attributes))
        return self._open()

    def open_tree(self, dir_fd: int, path: str, flags: int) -> int:
        self._record("open_tree", (dir_fd, path, flags))
        return self._open()

    def move_mount(self, from_fd: int, to_fd: int, to_path: str = "") -> None:
        self._record("move_mount", (from_fd, to_fd, to_path))

    def mount_setattr(
        self, dir_fd: int, path: str, flags: int, *, add: int = 0, clear: int = 0, propagation: int = 0
    ) -> None:
        self._record("mount_setattr", (dir_fd, path, flags), {"add": add, "clear": clear, "propagation": propagation})

    def openat2(self, dir_fd: int, path: str, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
        self._record("openat2", (dir_fd, path, flags), {"mode": mode, "resolve": resolve})
        return self._open()

    def close_range(self, first: int, last: int, flags: int = 0) -> None:
        self._record("close_range", (first, last, flags))

    def prctl(self, option: int, arg2: int = 0, arg3: int = 0) -> int:
        self._record("prctl", (option, arg2, arg3))
        return 0

    def capset(self, *, effective: int, permitted: int, inheritable: int) -> None:
        self._record("capset", (effective, permitted, inheritable))

    def join_session_keyring(self, name: str) -> None:
        self._record("join_session_keyring", (name,))

    def pidfd_open(self, pid: int) -> int:
        self._record("pidfd_open", (pid,))
        return self._open()

    def bpf_load(self, kind: int, program: bytes, license: str) -> int:
        self._record("bpf_load", (kind, program, license))
        return self._open()

    def bpf_attach(self, target_fd: int, program_fd: int, kind: int, flags: int) -> None:
        self._record("bpf_attach", (target_fd, program_fd, kind, flags))
