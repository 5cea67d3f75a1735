"""The zygote: one thread, few imports, forks shims and nothing else.

It holds no state but its socket to the daemon and ends when that closes; the shims it has forked live on, adopted by
the machine's init. Its mount namespace is an empty read-only root with /proc, so that a child copies next to nothing
and no mount of the host is kept alive by it.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys

from runtime.linux import constants as c
from runtime.linux.kernel import RealKernel
from runtime.zygote import protocol, shim

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.zygote.protocol import Message


def seal() -> None:
    """Make everything that this process sees read-only, in a mount namespace of its own."""
    kernel = RealKernel()
    kernel.unshare(c.CLONE_NEWNS)
    kernel.mount_setattr(c.AT_FDCWD, "/", c.AT_RECURSIVE, propagation=c.MS_PRIVATE)
    kernel.mount_setattr(c.AT_FDCWD, "/", c.AT_RECURSIVE, add=c.MOUNT_ATTR_RDONLY)


def shrink() -> None:
    """Leave the host's mounts behind: an empty tmpfs with /proc, /rootfs and /shm becomes the root."""
    kernel = RealKernel()
    proc = kernel.open_tree(c.AT_FDCWD, "/proc", c.OPEN_TREE_CLONE)
    kernel.mount_setattr(proc, "", c.AT_EMPTY_PATH, clear=c.MOUNT_ATTR_RDONLY)
    root = kernel.new_mount("tmpfs", [("mode", "0755"), ("size", "64k")], c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NODEV)
    for name in ("proc", "rootfs", "shm"):
        os.mkdir(name, 0o755, dir_fd=root)
    # Any directory that every machine has will do to hang the new root on for a moment.
    kernel.move_mount(root, c.AT_FDCWD, "/proc")
    os.fchdir(root)
    kernel.move_mount(proc, root, "proc")
    kernel.pivot_root(".", ".")
    kernel.umount(".", c.MNT_DETACH)
    os.chdir("/")
    kernel.mount_setattr(c.AT_FDCWD, "/", 0, add=c.MOUNT_ATTR_RDONLY)
    os.close(proc)
    os.close(root)


def serve(socket_fd: int) -> int:
    os.set_inheritable(socket_fd, False)
    daemon = socket.socket(fileno=socket_fd)
    shrink()
    # From here on nothing may be loaded from a disk: in a child, the disk could be an image.
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    RealKernel().prctl(c.PR_SET_DUMPABLE, 0)
    gc.disable()
    gc.collect()
    gc.freeze()
    try:
        protocol.send(daemon, {"event": "hello", "version": protocol.VERSION, "pid": os.getpid()})
        frames = protocol.Receiver(daemon)
        while (request := frames.next()) is not None:
            message, fds = request
            answer = _spawn(daemon, message, fds)
            for fd in fds:
                os.close(fd)
            protocol.send(daemon, answer)
    except ConnectionError:
        # The daemon died in the middle of a sentence.
        pass
    return 0


def _spawn(daemon: socket.socket, message: Message, fds: list[int]) -> Message:
    """Fork one shim. Descriptors: the sandbox's directory, its listening socket, the daemon's first connection."""
    try:
        pid = os.fork()
    except OSError as error:
        return {"id": message["id"], "error": f"fork: {os.strerror(error.errno or 0)}"}
    if pid == 0:
        status = 1
        try:
            daemon.close()
            directory, listener, connection = fds
            status = shim.main(message, directory, listener, connection)
        finally:
            os._exit(status)
    return {"id": message["id"], "pid": pid}
