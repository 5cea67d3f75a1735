"""Shared libraries, against the loader of this host itself."""

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.images import elf
from runtime.images.elf import closure, configured_directories, parse_elf

PROGRAMS = [path for name in ("ls", "bash", "git", "perl", "openssl", "tar") if (path := shutil.which(name))]


def by_loader(path):
    """What ld.so itself resolves, without running the program."""
    loader = parse_elf(path).interpreter
    lines = subprocess.run([loader, "--list", path], capture_output=True, text=True, check=True).stdout.splitlines()
    return {os.path.realpath(line.split("=>")[1].split()[0]) for line in lines if "=>" in line}


@pytest.mark.parametrize("path", [*PROGRAMS, os.path.realpath(sys.executable)])
def test_same_as_the_loader(path):
    found = closure(path)
    assert found.missing == []
    assert found.files[0] == parse_elf(path).interpreter
    assert {os.path.realpath(file) for file in found.files[1:]} - {os.path.realpath(found.files[0])} == by_loader(path)


def test_not_elf(tmp_path):
    path = tmp_path / "script"
    for data in (b"#!/bin/sh\n", b"", b"\x7fELF", b"\x7fELF\x02\x01" + b"\xff" * 200, b"\x7fELF\x09\x09" + bytes(200)):
        path.write_bytes(data)
        assert parse_elf(path) is None and closure(str(path)).files == []


def test_broken_headers_never_hang(tmp_path):
    real = Path(PROGRAMS[0]).read_bytes()[:4096]
    path = tmp_path / "broken"
    for at in range(16, 200, 3):
        path.write_bytes(real[:at] + b"\xff\xff\xff" + real[at + 3 :])
        parse_elf(path)


def test_a_library_that_is_missing(tmp_path):
    name = b"libc.so.6\0"
    data = Path(PROGRAMS[0]).read_bytes().replace(name, b"libx.so.6\0")
    path = tmp_path / "program"
    path.write_bytes(data)
    assert "libx.so.6" in closure(str(path)).missing


def test_32_bits_and_big_endian(tmp_path):
    """A hand-made 32-bit big-endian object with one needed library and a RUNPATH."""
    strings = b"\0libfoo.so\0$ORIGIN/lib\0"
    dynamic = b"".join(struct.pack(">II", *pair) for pair in ((5, 0x1000 + 200), (1, 1), (29, 11), (0, 0)))
    header = b"\x7fELF\x01\x02\x01" + bytes(9) + struct.pack(">HHIIIIIHHH", 3, 20, 1, 0, 52, 0, 0, 52, 32, 2)
    load = struct.pack(">IIIIIIII", 1, 0, 0x1000, 0, 400, 400, 5, 0)
    second = struct.pack(">IIIIIIII", 2, 160, 0x1000 + 160, 0, len(dynamic), len(dynamic), 6, 0)
    data = (header.ljust(52, b"\0") + load + second).ljust(160, b"\0") + dynamic
    path = tmp_path / "object"
    path.write_bytes(data.ljust(200, b"\0") + strings + bytes(300))
    found = parse_elf(path)
    assert (found.kind.bits, found.kind.order, found.kind.machine) == (32, ">", 20)
    assert found.needed == ("libfoo.so",) and found.runpath == ("$ORIGIN/lib",)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libfoo.so").write_bytes(path.read_bytes())
    assert closure(str(path)).files == [str(tmp_path / "lib" / "libfoo.so")]


def test_ld_so_conf(tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "b.conf").write_text("/b\n")
    (tmp_path / "conf.d" / "a.conf").write_text("/a # comment\n/a2\n")
    (tmp_path / "ld.so.conf").write_text("/first\ninclude conf.d/*.conf\nrelative\n")
    found = list(configured_directories(str(tmp_path / "ld.so.conf")))
    assert found == ["/first", "/a", "/a2", "/b"]


def test_a_directory_that_only_the_cache_knows(tmp_path, monkeypatch):
    bash = shutil.which("bash")
    name = next(name for name in parse_elf(bash).needed if not name.startswith("libc."))
    odd = name[:3] + "X" + name[4:]
    program = tmp_path / "program"
    program.write_bytes(Path(bash).read_bytes().replace(name.encode() + b"\0", odd.encode() + b"\0"))
    (tmp_path / "odd").mkdir()
    found = next(file for file in closure(bash).files if os.path.basename(file) == name)
    shutil.copy(found, tmp_path / "odd" / odd)
    assert closure(str(program)).missing == [odd]
    monkeypatch.setattr(elf, "configured_directories", lambda: iter([str(tmp_path / "odd")]))
    again = closure(str(program))
    assert again.missing == [] and again.directories == {str(tmp_path / "odd")}
