"""The last steps before a workload runs: clean up what Python and the runtime left, then give privileges away.

Order is the kernel's: bounding set while CAP_SETPCAP is there, groups, gid, uid with capabilities kept, then the final
capability sets, then no_new_privs. Used for a container's first process and for every exec alike.
"""

from __future__ import annotations

import errno
import os
import resource
import signal

from runtime.linux import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.linux.interface import Kernel
    from runtime.zygote.protocol import Message
    from runtime.zygote.users import Identity

LAST_CAPABILITY = 40


class ExecError(Exception):
    """The workload's program cannot be executed."""


def reset_all_signals() -> None:
    """Default actions for all, whatever the daemon's parent had ignored. Once per shim; execve does the rest."""
    for number in range(1, 65):
        if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33):
            signal.signal(number, signal.SIG_DFL)


def reset_inherited() -> None:
    """Signals, mask and umask as a program expects them. What a shim ignores for itself must not be inherited."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.umask(0o022)


def raise_oom_score(fd: int, wanted: int) -> None:
    """Write max(own, wanted): lowering needs CAP_SYS_RESOURCE, which not every machine gives its root."""
    own = int(os.pread(fd, 16, 0))
    os.write(fd, str(max(own, wanted)).encode())


def set_limits(limits: list[list[int]]) -> None:
    """[number, soft, hard] each, clamped to the hard limit that we have."""
    for number, soft, hard in limits:
        own_hard = resource.getrlimit(number)[1]
        if own_hard != resource.RLIM_INFINITY:
            hard = own_hard if hard == resource.RLIM_INFINITY else min(hard, own_hard)
        if hard != resource.RLIM_INFINITY and (soft == resource.RLIM_INFINITY or soft > hard):
            soft = hard
        resource.setrlimit(number, (soft, hard))


def drop(kernel: Kernel, spec: Message, identity: Identity) -> None:
    """Become `identity` with the capabilities in spec["capabilities"] (a mask) and nothing inheritable."""
    mask: int = spec["capabilities"]
    ambient: int = spec.get("ambient", 0) & mask
    for number in range(LAST_CAPABILITY + 1):
        if not mask >> number & 1 and kernel.prctl(c.PR_CAPBSET_READ, number) == 1:
            kernel.prctl(c.PR_CAPBSET_DROP, number)
    kernel.prctl(c.PR_SET_KEEPCAPS, 1)
    os.setgroups(identity.groups)
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    kernel.prctl(c.PR_SET_KEEPCAPS, 0)
    kernel.capset(effective=mask, permitted=mask, inheritable=ambient)
    kernel.prctl(c.PR_CAP_AMBIENT, c.PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(LAST_CAPABILITY + 1):
        if ambient >> number & 1:
            kernel.prctl(c.PR_CAP_AMBIENT, c.PR_CAP_AMBIENT_RAISE, number)
    if spec["noNewPrivs"]:
        kernel.prctl(c.PR_SET_NO_NEW_PRIVS, 1)


def enter_directory(cwd: str) -> None:
    """chdir, refusing a directory that lies outside the root (a leaked descriptor, CVE-2024-21626)."""
    os.chdir(cwd)
    if not os.getcwd().startswith("/"):
        raise OSError(errno.EPERM, "working directory is outside of the container", cwd)


def execute(args: list[str], env: list[str]) -> None:
    """execve with the lookup of a shell, or ExecError in the words that users of other runtimes know."""
    environment = {}
    for entry in env:
        key, _, value = entry.partition("=")
        environment[key] = value
    program = args[0]
    path = _find(program, environment.get("PATH", ""))
    try:
        os.execve(path, args, environment)
    except OSError as error:
        raise ExecError(f'exec: "{program}": {_reason(error)}') from None


def _find(program: str, search: str) -> str:
    if "/" in program:
        try:
            os.stat(program)
        except OSError as error:
            raise ExecError(f'exec: "{program}": stat {program}: {_reason(error)}') from None
        return program
    for directory in search.split(":"):
        candidate = f"{directory or '.'}/{program}"
        try:
            status = os.stat(candidate)
        except OSError:
            continue
        if status.st_mode & 0o170000 == 0o100000 and status.st_mode & 0o111:
            return candidate
    raise ExecError(f'exec: "{program}": executable file not found in $PATH')


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()
