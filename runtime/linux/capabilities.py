"""Capability names and the masks made of them; pure.

The default set is the 14 of Docker and containerd. `ALL` means every capability that this process itself holds, because
a privileged container cannot be given what its maker lacks (CAP_SYS_RESOURCE on some machines).
"""

from __future__ import annotations

_NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)
NUMBERS = {name: number for number, name in enumerate(_NAMES.split(" "))}
_DEFAULT = (
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL "
    "AUDIT_WRITE"
)
DEFAULT = _DEFAULT.split(" ")


def mask(names: list[str]) -> int:
    """A bit mask of names, with or without `CAP_`; unknown ones raise ValueError."""
    result = 0
    for name in names:
        short = name.upper().removeprefix("CAP_")
        if short not in NUMBERS:
            raise ValueError(f"unknown capability {name!r}")
        result |= 1 << NUMBERS[short]
    return result


def select(add: list[str], drop: list[str], held: int) -> int:
    """The set for a container: the defaults or ALL, emptied by a dropped ALL, then names added, then names dropped."""
    everything = {"ALL", "CAP_ALL"}
    result = held if everything & {name.upper() for name in add} else mask(DEFAULT)
    if everything & {name.upper() for name in drop}:
        result = 0
    result |= mask([name for name in add if name.upper() not in everything])
    result &= ~mask([name for name in drop if name.upper() not in everything])
    return result & held


def held(status: str) -> int:
    """The permitted mask of a process, from the text of its /proc/PID/status."""
    for line in status.splitlines():
        if line.startswith("CapPrm:"):
            return int(line.split()[1], 16)
    return 0
