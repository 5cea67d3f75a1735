"""Makes a file durable without stopping the event loop: `fdatasync` started here, finished by a callback.

A thread would do, but for the interpreter lock: beside a busy event loop, which lets go of it for microseconds at a
time, a thread may wait tens of milliseconds to get it back (`bench/store_writes.py`). So the kernel does it by itself:
asynchronous I/O (`io_submit`, IOCB_CMD_FDSYNC, Linux 4.18), reported through an eventfd, which the loop watches like a
socket. Where that is not to be had the thread serves.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

Done = Callable[[OSError | None], None]

# io_setup, io_submit, io_getevents, io_destroy: from the kernel's system call tables.
SYSCALLS = {"x86_64": (206, 209, 208, 207), "aarch64": (0, 2, 4, 1)}
IOCB_CMD_FDSYNC = 3
IOCB_FLAG_RESFD = 1


class DiskSync(Protocol):
    """One `start` at a time; `done` is called on the loop. `close` after the last one has reported."""

    def start(self, descriptor: int, done: Done) -> None: ...

    def close(self) -> None: ...


def disk_sync(loop: asyncio.AbstractEventLoop) -> DiskSync:
    """The best that this machine has."""
    try:
        return KernelSync(loop)
    except (OSError, KeyError, AttributeError):
        return ThreadSync(loop)


class ThreadSync:
    """fdatasync in one thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store-sync")

    def start(self, descriptor: int, done: Done) -> None:
        def report(future: asyncio.Future[None]) -> None:
            error = future.exception()
            done(error if isinstance(error, OSError) else None)

        self._loop.run_in_executor(self._thread, os.fdatasync, descriptor).add_done_callback(report)

    def close(self) -> None:
        self._thread.shutdown()


class _ControlBlock(ctypes.Structure):
    """struct iocb of linux/aio_abi.h, little endian."""

    _fields_ = [
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_uint32),
        ("opcode", ctypes.c_uint16),
        ("priority", ctypes.c_int16),
        ("descriptor", ctypes.c_uint32),
        ("buffer", ctypes.c_uint64),
        ("count", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("result_descriptor", ctypes.c_uint32),
    ]


class _Completion(ctypes.Structure):
    """struct io_event."""

    _fields_ = [
        ("data", ctypes.c_uint64),
        ("control_block", ctypes.c_uint64),
        ("result", ctypes.c_int64),
        ("result2", ctypes.c_int64),
    ]


class KernelSync:
    """fdatasync by the kernel's asynchronous I/O. Raises OSError or KeyError where there is none."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._setup, self._submit, self._events, self._destroy = SYSCALLS[platform.machine()]
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._context = ctypes.c_ulong(0)
        self._call(self._setup, 4, ctypes.byref(self._context))
        self._loop = loop
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._block = _ControlBlock(opcode=IOCB_CMD_FDSYNC, flags=IOCB_FLAG_RESFD, result_descriptor=self._eventfd)
        self._blocks = (ctypes.POINTER(_ControlBlock) * 1)(ctypes.pointer(self._block))
        self._completion = _Completion()
        self._done: Done | None = None
        loop.add_reader(self._eventfd, self._report)

    def start(self, descriptor: int, done: Done) -> None:
        assert self._done is None, "one sync at a time"
        self._block.descriptor = descriptor
        self._done = done
        try:
            self._call(self._submit, self._context, 1, self._blocks)
        except OSError as error:
            self._done = None
            if error.errno not in (errno.EINVAL, errno.EAGAIN, errno.ENOSYS):
                raise
            # A file system that cannot: wait for it here.
            os.fdatasync(descriptor)
            self._loop.call_soon(done, None)

    def close(self) -> None:
        self._loop.remove_reader(self._eventfd)
        self._call(self._destroy, self._context)
        os.close(self._eventfd)

    def _report(self) -> None:
        os.read(self._eventfd, 8)
        self._call(self._events, self._context, 1, 1, ctypes.byref(self._completion), None)
        done, self._done = self._done, None
        result = self._completion.result
        if done is not None:
            done(OSError(-result, os.strerror(-result)) if result < 0 else None)

    def _call(self, number: int, *arguments: object) -> int:
        result = int(self._libc.syscall(number, *arguments))
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result
