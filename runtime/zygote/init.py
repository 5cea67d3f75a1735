"""What the processes of a pod do between fork and execve, in kernel order.

`starter` is the first half: it joins the cgroups (the dear step, done ahead of time where possible), then clones the
real process with the shim as its parent and ends. `container` builds the root and waits at the gate; `execution` joins
a running container. None of them loads a file once it has entered an image. They talk to the shim over one socket,
close-on-exec: an `error` is told in words, and its end without one means that the program runs.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import stat

from runtime.linux import constants as c
from runtime.zygote import privileges, protocol, rootfs, users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from runtime.linux.interface import Kernel
    from runtime.zygote.protocol import Message

_PTMX = os.makedev(5, 2)


def close_all_but(kernel: Kernel, keep: list[int]) -> None:
    """Close every descriptor above stderr that is not in `keep`."""
    first = 3
    for fd in sorted(set(keep)):
        if fd > first:
            kernel.close_range(first, fd - 1)
        first = max(first, fd + 1)
    kernel.close_range(first, 2**32 - 1)


def starter(kernel: Kernel, channel: socket.socket, procs: list[int]) -> NoReturn:
    """Join the cgroups behind `procs`, then wait for one order: be cloned into a container or an exec of one."""
    status = 1
    try:
        close_all_but(kernel, [channel.fileno(), *procs])
        for fd in procs:
            os.write(fd, b"0")
            os.close(fd)
        order = protocol.Receiver(channel).next()
        if order is not None:
            _clone(kernel, channel, *order)
        status = 0
    except Exception as error:
        _report(channel, {"error": _text(error)})
    finally:
        os._exit(status)


def _clone(kernel: Kernel, channel: socket.socket, spec: Message, fds: list[int]) -> None:
    named = _named(spec["fds"], fds)
    flags = c.CLONE_PARENT
    _raise_oom_score(spec["oomScoreAdj"])
    if "target" in named:
        kernel.setns(named["target"][0], spec["join"])
    if spec["op"] == "container":
        flags |= c.CLONE_NEWNS
        if spec["pid"] == "container":
            flags |= c.CLONE_NEWPID
    cgroup = named.get("cgroup2", [-1])[0]
    pid = kernel.clone(flags, cgroup_fd=cgroup)
    if pid == 0:
        status = 1
        try:
            (container if spec["op"] == "container" else execution)(kernel, channel, spec, named)
        except Exception as error:
            _report(channel, {"error": _text(error)})
        finally:
            os._exit(status)
    protocol.send(channel, {"pid": pid})


def container(kernel: Kernel, channel: socket.socket, spec: Message, named: dict[str, list[int]]) -> None:
    """The first process of a container: everything up to the gate, the gate, and the program."""
    os.umask(0)
    kernel.unshare(c.CLONE_NEWCGROUP)
    root_fd = named["rootfs"][0]
    kernel.move_mount(root_fd, c.AT_FDCWD, "/rootfs")
    root = rootfs.Root(kernel, root_fd)
    proc_device = rootfs.mount_kernel_files(root, spec)
    dev = rootfs.mount_devices(root, spec, named.get("shm", [-1])[0])
    rootfs.mount_volumes(root, spec["mounts"], named.get("mount", []), proc_device)
    terminal = _open_terminal(kernel, root, dev) if spec["tty"] else None
    rootfs.mask(root, spec["maskedPaths"], dev)
    rootfs.make_read_only(root, spec["readonlyPaths"])
    identity = _identify(root, spec["user"])
    os.close(root.directory(spec["cwd"]))
    null = _open_null(dev)
    rootfs.enter(kernel, root_fd, read_only=spec["readonlyRootfs"])
    if spec["newKeyring"]:
        _new_keyring(kernel, spec["id"])
    os.setsid()
    _set_standard_streams(named, terminal, null, identity)
    close_all_but(kernel, [channel.fileno(), *(terminal[:1] if terminal else ())])
    created = {"uid": identity.uid, "gid": identity.gid, "groups": identity.groups, "home": identity.home}
    protocol.send(channel, {"created": created}, [terminal[0]] if terminal else [])
    if terminal:
        os.close(terminal[0])
    rootfs.forget_old_root(kernel)
    if protocol.Receiver(channel).next() is None:
        return
    _run(kernel, channel, spec, identity)


def execution(kernel: Kernel, channel: socket.socket, spec: Message, named: dict[str, list[int]]) -> None:
    """One more process in a running container; its namespaces were joined by `_clone`, but for this one: with
    `nsdelegate`, as systemd mounts cgroup v2, nobody gets into a group from inside a namespace that he is not below."""
    kernel.setns(named["target"][0], c.CLONE_NEWCGROUP)
    os.umask(0)
    os.setsid()
    who = spec["user"]
    identity = users.Identity(who["uid"], who["gid"], who["groups"], who["home"])
    terminal = None
    if spec["tty"]:
        master = os.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC)
        terminal = _peer(master)
    null = os.open("/dev/null", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    if os.fstat(null).st_rdev != os.makedev(1, 3):
        raise OSError(1, "/dev/null of the container is not the null device")
    if spec["newKeyring"]:
        _new_keyring(kernel, spec["id"])
    _set_standard_streams(named, terminal, null, identity)
    close_all_but(kernel, [channel.fileno(), *(terminal[:1] if terminal else ())])
    protocol.send(channel, {"created": {}}, [terminal[0]] if terminal else [])
    if terminal:
        os.close(terminal[0])
    _run(kernel, channel, spec, identity)


def pod_init(kernel: Kernel, channel: socket.socket) -> NoReturn:
    """PID 1 of a PID namespace that the containers of a pod share: reaps, and ends when it is told to."""
    close_all_but(kernel, [])
    channel.detach()
    # It is in no container's cgroup, so nobody else would end it if the shim were killed.
    kernel.prctl(c.PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD, signal.SIGTERM])
    while signal.sigwait([signal.SIGCHLD, signal.SIGTERM]) == signal.SIGCHLD:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
    os._exit(0)


def _run(kernel: Kernel, channel: socket.socket, spec: Message, identity: users.Identity) -> None:
    env: list[str] = spec["env"]
    if not any(entry.startswith("HOME=") for entry in env):
        env = [*env, f"HOME={identity.home}"]
    privileges.reset_inherited()
    privileges.set_limits(spec["rlimits"])
    privileges.enter_directory(spec["cwd"])
    privileges.drop(kernel, spec, identity)
    try:
        privileges.execute(spec["args"], env)
    except privileges.ExecError as error:
        _report(channel, {"error": str(error)})
    os._exit(127)


def _identify(root: rootfs.Root, user: Message) -> users.Identity:
    def read(path: str) -> bytes:
        try:
            fd = root.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            return b""
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise users.UserError(f"{path} of the image is not a file")
            return os.pread(fd, users.MAX_BYTES + 1, 0)
        finally:
            os.close(fd)

    return users.resolve(user["user"], user["group"], user["groups"], merge=user["merge"], read=read)


def _open_terminal(kernel: Kernel, root: rootfs.Root, dev: int) -> tuple[int, int]:
    """A pseudo terminal of the container's own devpts, also bound on /dev/console."""
    master = kernel.openat2(dev, "pts/ptmx", os.O_RDWR | os.O_NOCTTY, resolve=c.RESOLVE_NO_SYMLINKS)
    pair = _peer(master)
    os.close(os.open("console", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600, dir_fd=dev))
    kernel_fd = kernel.open_tree(pair[1], "", c.OPEN_TREE_CLONE | c.AT_EMPTY_PATH)
    kernel.move_mount(kernel_fd, dev, "console")
    os.close(kernel_fd)
    return pair


def _peer(master: int) -> tuple[int, int]:
    if os.fstat(master).st_rdev != _PTMX:
        raise OSError(1, "/dev/pts/ptmx of the container is not a terminal multiplexer")
    fcntl.ioctl(master, c.TIOCSPTLCK, b"\0\0\0\0")
    slave = fcntl.ioctl(master, c.TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    return master, slave


def _open_null(dev: int) -> int:
    return os.open("null", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dev)


def _set_standard_streams(
    named: dict[str, list[int]], terminal: tuple[int, int] | None, null: int, identity: users.Identity
) -> None:
    """Put streams on 0, 1, 2 and give them to the user, who may want to open /dev/stdout again."""
    if terminal:
        slave = terminal[1]
        os.fchown(slave, identity.uid, -1)
        for number in (0, 1, 2):
            os.dup2(slave, number)
        fcntl.ioctl(0, c.TIOCSCTTY, 0)
        os.close(slave)
    else:
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            fd = named.get(name, [null])[0]
            if fd != null:
                os.fchown(fd, identity.uid, -1)
            os.dup2(fd, number)
    os.close(null)


def _new_keyring(kernel: Kernel, name: str) -> None:
    try:
        kernel.join_session_keyring(f"_ses.{name}")
    except OSError:
        # A kernel without keys, or a quota: the container then has no keyring to share either.
        pass


def _named(names: list[str], fds: list[int]) -> dict[str, list[int]]:
    named: dict[str, list[int]] = {}
    for name, fd in zip(names, fds, strict=True):
        named.setdefault(name, []).append(fd)
    return named


def _report(channel: socket.socket, message: Message) -> None:
    try:
        protocol.send(channel, message)
    except OSError:
        pass


def _raise_oom_score(wanted: int) -> None:
    """Set the score that the clone inherits, while /proc is still the host's own (CVE-2025-52881)."""
    fd = os.open("/proc/self/oom_score_adj", os.O_RDWR)
    privileges.raise_oom_score(fd, wanted)
    os.close(fd)


def _text(error: Exception) -> str:
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}"
    return str(error) or type(error).__name__
