"""Device rules as a BPF program of type CGROUP_DEVICE, assembled by hand; the filter of cgroup v2.

`assemble` is pure. The kernel calls the program with {access_type, major, minor}; access_type holds the type in its low
half (1 block, 2 char) and the access in its high half (1 mknod, 2 read, 4 write). Later rules win, so they are tested
last to first, and the first that fits decides.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path

from runtime.cgroups.interface import DeviceRule
from runtime.linux.interface import Kernel

_TYPE_CGROUP_DEVICE, _ATTACH_DEVICE = 15, 6
_ALLOW_MULTI = 2
_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}

_LOAD_WORD, _MOVE, _MOVE_VALUE, _AND_VALUE, _SHIFT_RIGHT = 0x61, 0xBC, 0xB4, 0x54, 0x74
_JUMP_NOT_EQUAL, _JUMP_NOT_EQUAL_REGISTER, _EXIT = 0x56, 0x5E, 0x95


def _instruction(code: int, destination: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("<BBhi", code, source << 4 | destination, offset, value)


def assemble(rules: Sequence[DeviceRule]) -> bytes:
    """The program. Registers: r2 type, r3 access, r4 major, r5 minor, r6 scratch."""
    program = [
        _instruction(_LOAD_WORD, 2, 1, 0),
        _instruction(_MOVE, 3, 2),
        _instruction(_AND_VALUE, 2, value=0xFFFF),
        _instruction(_SHIFT_RIGHT, 3, value=16),
        _instruction(_LOAD_WORD, 4, 1, 4),
        _instruction(_LOAD_WORD, 5, 1, 8),
    ]
    for rule in reversed(rules):
        program += _rule(rule)
        if rule.type == "a":
            break  # decides all; the kernel refuses a program with instructions behind it that nothing reaches
    else:
        program += [_instruction(_MOVE_VALUE, 0, value=0), _instruction(_EXIT)]
    return b"".join(program)


def _rule(rule: DeviceRule) -> list[bytes]:
    """Tests that jump behind the rule, then its verdict."""
    tests: list[list[bytes]] = []
    if rule.type != "a":
        tests.append([_instruction(_JUMP_NOT_EQUAL, 2, value=_TYPES[rule.type])])
    access = sum(_ACCESS[letter] for letter in rule.access)
    if access != 7 and rule.type != "a":
        masked = [_instruction(_MOVE, 6, 3), _instruction(_AND_VALUE, 6, value=access)]
        tests.append([*masked, _instruction(_JUMP_NOT_EQUAL_REGISTER, 6, 3)])
    for register, number in ((4, rule.major), (5, rule.minor)):
        if number >= 0 and rule.type != "a":
            tests.append([_instruction(_JUMP_NOT_EQUAL, register, value=number)])
    verdict = [_instruction(_MOVE_VALUE, 0, value=int(rule.allow)), _instruction(_EXIT)]
    out: list[bytes] = []
    remaining = sum(map(len, tests)) + len(verdict)
    for test in tests:
        remaining -= len(test)
        code, registers, _, value = struct.unpack("<BBhi", test[-1])
        out += [*test[:-1], struct.pack("<BBhi", code, registers, remaining, value)]
    return out + verdict


def attach_filter(kernel: Kernel, directory: Path, rules: Sequence[DeviceRule]) -> None:
    """Load and attach. Every attached program must allow an access, so a group is filtered once, when it is made."""
    loaded = kernel.bpf_load(_TYPE_CGROUP_DEVICE, assemble(rules), "Apache-2.0")
    group = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        kernel.bpf_attach(group, loaded, _ATTACH_DEVICE, _ALLOW_MULTI)
    finally:
        os.close(group)
        os.close(loaded)
