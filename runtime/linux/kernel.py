"""The real kernel behind `runtime.linux.interface.Kernel`: ctypes and raw system calls, and no policy at all.

Everything that needs ctypes in the runtime lives here. The zygote imports this module before it forks, so that a
child finds every symbol already resolved and loads nothing after it has entered an image.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct

from runtime.linux import constants as c

_libc = ctypes.CDLL(None, use_errno=True)
# Held with the interpreter lock: a clone must not come back in a child that then has to fight for the lock.
_libc_locked = ctypes.PyDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_syscall_locked = _libc_locked.syscall
_syscall_locked.restype = ctypes.c_long
_before_fork = ctypes.pythonapi.PyOS_BeforeFork
_after_fork_parent = ctypes.pythonapi.PyOS_AfterFork_Parent
_after_fork_child = ctypes.pythonapi.PyOS_AfterFork_Child
for _hook in (_before_fork, _after_fork_parent, _after_fork_child):
    _hook.restype = None

_PER_MACHINE = {
    "x86_64": {"pivot_root": 155, "capget": 125, "capset": 126, "keyctl": 250, "bpf": 321},
    "aarch64": {"pivot_root": 41, "capget": 90, "capset": 91, "keyctl": 219, "bpf": 280},
}
# System calls since 5.1 have one number on every architecture.
NUMBERS = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "pidfd_open": 434,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
    **_PER_MACHINE.get(os.uname().machine, _PER_MACHINE["x86_64"]),
}
_CAPABILITY_VERSION_3 = 0x20080522
_BPF_PROG_LOAD, _BPF_PROG_ATTACH = 5, 8


def _fail(name: str, detail: str = "") -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{name}: {os.strerror(number)}" + (f": {detail}" if detail else ""))


def _call(name: str, *arguments: object, detail: str = "") -> int:
    result: int = _syscall(ctypes.c_long(NUMBERS[name]), *arguments)
    if result < 0:
        raise _fail(name, detail)
    return result


def _int(value: int) -> ctypes.c_long:
    return ctypes.c_long(value)


def _text(value: str) -> ctypes.c_char_p:
    return ctypes.c_char_p(value.encode("utf-8", "surrogateescape"))


def _complaint(context: int) -> str:
    """What the file system itself has to say about a failed configuration, if anything."""
    try:
        return ": " + os.read(context, 512).decode("utf-8", "replace").strip()
    except OSError:
        return ""


class RealKernel:
    """`Kernel` on this machine. Has no state."""

    def unshare(self, flags: int) -> None:
        if _libc.unshare(ctypes.c_int(flags)) != 0:
            raise _fail("unshare", hex(flags))

    def setns(self, fd: int, flags: int) -> None:
        if _libc.setns(ctypes.c_int(fd), ctypes.c_int(flags)) != 0:
            raise _fail("setns", hex(flags))

    def clone(self, flags: int, *, cgroup_fd: int = -1) -> int:
        """fork(2) with namespaces: 0 in the child, its pid in the parent. CLONE_PARENT leaves the exit signal alone."""
        exit_signal = 0 if flags & c.CLONE_PARENT else signal.SIGCHLD
        if cgroup_fd >= 0:
            flags |= c.CLONE_INTO_CGROUP
        arguments = struct.pack("=11Q", flags, 0, 0, 0, exit_signal, 0, 0, 0, 0, 0, max(cgroup_fd, 0))
        _before_fork()
        pid: int = _syscall_locked(
            ctypes.c_long(NUMBERS["clone3"]), ctypes.c_char_p(arguments), ctypes.c_size_t(len(arguments))
        )
        if pid == 0:
            _after_fork_child()
            return 0
        number = ctypes.get_errno()
        _after_fork_parent()
        if pid < 0:
            raise OSError(number, f"clone3: {os.strerror(number)}: {flags:#x}")
        return pid

    def mount(self, source: str, target: str, fstype: str, flags: int = 0, data: str = "") -> None:
        result = _libc.mount(
            _text(source), _text(target), _text(fstype), ctypes.c_ulong(flags), _text(data) if data else None
        )
        if result != 0:
            raise _fail("mount", f"{fstype or 'bind'} on {target}")

    def umount(self, target: str, flags: int = 0) -> None:
        if _libc.umount2(_text(target), ctypes.c_int(flags)) != 0:
            raise _fail("umount2", target)

    def pivot_root(self, new_root: str, put_old: str) -> None:
        _call("pivot_root", _text(new_root), _text(put_old), detail=new_root)

    def new_mount(self, fstype: str, options: list[tuple[str, str | None]], attributes: int = 0) -> int:
        """A detached mount of a new file system, its source named like its type. An option with None is a flag."""
        context = _call("fsopen", _text(fstype), _int(c.FSOPEN_CLOEXEC), detail=fstype)
        try:
            for key, value in [("source", fstype), *options]:
                command = c.FSCONFIG_SET_FLAG if value is None else c.FSCONFIG_SET_STRING
                text = None if value is None else _text(value)
                _call("fsconfig", _int(context), _int(command), _text(key), text, _int(0), detail=f"{fstype} {key}")
            _call("fsconfig", _int(context), _int(c.FSCONFIG_CMD_CREATE), None, None, _int(0), detail=fstype)
            return _call("fsmount", _int(context), _int(c.FSMOUNT_CLOEXEC), _int(attributes), detail=fstype)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}{_complaint(context)}") from None
        finally:
            os.close(context)

    def open_tree(self, dir_fd: int, path: str, flags: int) -> int:
        return _call("open_tree", _int(dir_fd), _text(path), _int(flags | c.OPEN_TREE_CLOEXEC), detail=path)

    def move_mount(self, from_fd: int, to_fd: int, to_path: str = "") -> None:
        flags = c.MOVE_MOUNT_F_EMPTY_PATH | (0 if to_path else c.MOVE_MOUNT_T_EMPTY_PATH)
        _call("move_mount", _int(from_fd), _text(""), _int(to_fd), _text(to_path), _int(flags), detail=to_path)

    def mount_setattr(
        self, dir_fd: int, path: str, flags: int, *, add: int = 0, clear: int = 0, propagation: int = 0
    ) -> None:
        attributes = struct.pack("=4Q", add, clear, propagation, 0)
        _call(
            "mount_setattr",
            _int(dir_fd),
            _text(path),
            _int(flags),
            ctypes.c_char_p(attributes),
            ctypes.c_size_t(len(attributes)),
            detail=path,
        )

    def openat2(self, dir_fd: int, path: str, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
        how = struct.pack("=3Q", flags | os.O_CLOEXEC, mode, resolve)
        return _call("openat2", _int(dir_fd), _text(path), ctypes.c_char_p(how), ctypes.c_size_t(len(how)), detail=path)

    def close_range(self, first: int, last: int, flags: int = 0) -> None:
        _call("close_range", ctypes.c_uint(first), ctypes.c_uint(last), ctypes.c_uint(flags))

    def prctl(self, option: int, arg2: int = 0, arg3: int = 0) -> int:
        result: int = _libc.prctl(
            ctypes.c_int(option), ctypes.c_ulong(arg2), ctypes.c_ulong(arg3), ctypes.c_ulong(0), ctypes.c_ulong(0)
        )
        if result < 0:
            raise _fail("prctl", str(option))
        return result

    def capset(self, *, effective: int, permitted: int, inheritable: int) -> None:
        low = 0xFFFFFFFF
        header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
        sets = (effective, permitted, inheritable)
        data = struct.pack("=6I", *(s & low for s in sets), *(s >> 32 for s in sets))
        _call("capset", ctypes.c_char_p(header), ctypes.c_char_p(data))

    def join_session_keyring(self, name: str) -> None:
        _call("keyctl", _int(c.KEYCTL_JOIN_SESSION_KEYRING), _text(name), _int(0), _int(0), _int(0))

    def pidfd_open(self, pid: int) -> int:
        return _call("pidfd_open", _int(pid), _int(0), detail=str(pid))

    def bpf_load(self, kind: int, program: bytes, license: str) -> int:
        """Load a program of the type `kind` (BPF_PROG_TYPE_*); it lives while attached or open."""
        code = ctypes.create_string_buffer(program, len(program))
        text = ctypes.create_string_buffer(license.encode())
        addresses = ctypes.addressof(code), ctypes.addressof(text)
        return self._bpf(_BPF_PROG_LOAD, struct.pack("=IIQQIIQ", kind, len(program) // 8, *addresses, 0, 0, 0))

    def bpf_attach(self, target_fd: int, program_fd: int, kind: int, flags: int) -> None:
        self._bpf(_BPF_PROG_ATTACH, struct.pack("=4I", target_fd, program_fd, kind, flags))

    def _bpf(self, command: int, attributes: bytes) -> int:
        buffer = ctypes.create_string_buffer(attributes, len(attributes))
        return _call("bpf", _int(command), buffer, ctypes.c_uint(len(attributes)))
