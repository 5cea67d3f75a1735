"""A Python of this host with its standard library, as part of an image.

It keeps its own path, because that is how it finds its library, wherever it was installed (a distribution, pyenv, a
build in /opt). Left out: tests, site-packages, ensurepip, IDLE, Tk (which would bring half of X11) and the static
library. Byte code that the host has is taken along, marked "unchecked" (PEP 552), since image files have no time stamp
that it could be checked against: without it each start of a container would compile the library again.
"""

from __future__ import annotations

import importlib.util
import os
import re
import struct
import sys
from pathlib import Path

from runtime.images.elf import closure
from runtime.images.errors import NotFound
from runtime.images.hosttree import HostTree

NAMES = ("python", "python3", f"python3.{sys.version_info.minor}")
_LEFT_OUT = {
    "test", "tests", "idlelib", "ensurepip", "site-packages", "dist-packages", "tkinter", "turtledemo", "turtle.py",
    "__pycache__", "idle_test",
}  # fmt: skip
_LEFT_OUT_PATTERN = re.compile(r"config-\d.*|_tkinter\..*|.*\.(?:a|o|exe)|_test.*\.so|_ctypes_test.*|xxlimited.*")
_BINARY = re.compile(r"python(\d\.\d+)")
_UNCHECKED_HASH = (0b01).to_bytes(4, "little")


def running_python() -> str:
    """The interpreter that runs us, outside of any virtual environment. Raises NotFound."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (os.path.join(sys.base_prefix, "bin", version), getattr(sys, "_base_executable", "")):
        if candidate and os.path.isfile(candidate):
            return os.path.realpath(candidate)
    raise NotFound(f"the Python that runs pyctl has no {version} in {sys.base_prefix}/bin")


def add_running_python(tree: HostTree) -> str:
    """Puts our own Python into the tree, also as /usr/local/bin/python3 and python; answers the latter path."""
    real = tree.add_runnable(running_python(), required=True)
    add_library(tree, real)
    tree.programs.append("/usr/local/bin/python3")
    for name in ("python3", "python"):
        path = f"/usr/local/bin/{name}"
        tree.entries.pop(path, None)
        tree.add_link(path, real)
    return "/usr/local/bin/python3"


def add_library(tree: HostTree, real: str) -> None:
    """The standard library that belongs to the interpreter at the real path `real`, if it is one."""
    match = _BINARY.fullmatch(os.path.basename(real))
    if match is None:
        return
    prefix = os.path.dirname(os.path.dirname(real))
    for library in ("lib", "lib64"):
        directory = os.path.join(prefix, library, f"python{match[1]}")
        if os.path.isdir(directory) and f"{directory}/os.py" not in tree.entries:
            _add_directory(tree, directory)


def _add_directory(tree: HostTree, directory: str) -> None:
    real = tree.add_path(directory)
    for entry in sorted(os.scandir(real), key=lambda entry: entry.name):
        if entry.name in _LEFT_OUT or _LEFT_OUT_PATTERN.fullmatch(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            _add_directory(tree, entry.path)
        elif entry.name.endswith(".so"):
            _add_extension(tree, entry.path)
        elif entry.is_file():
            tree.add_path(entry.path)
            if entry.name.endswith(".py") and not entry.is_symlink():
                _add_byte_code(tree, entry.path)


def _add_extension(tree: HostTree, path: str) -> None:
    """An extension module with its libraries; one that could not be loaded here is not loaded there either."""
    if missing := closure(path).missing:
        tree.warnings.append(f"{path} was left out: this host lacks {', '.join(missing)}")
        return
    tree.add_runnable(path, required=False)


def _add_byte_code(tree: HostTree, source: str) -> None:
    """Takes the host's byte code for a source file if it belongs to the file as it is now."""
    name, tag = os.path.basename(source).removesuffix(".py"), sys.implementation.cache_tag
    cached = os.path.join(os.path.dirname(source), "__pycache__", f"{name}.{tag}.pyc")
    try:
        code, text, status = Path(cached).read_bytes(), Path(source).read_bytes(), os.stat(source)
    except OSError:
        return
    stamp = struct.pack("<II", int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF)
    if code[:4] != importlib.util.MAGIC_NUMBER or code[4:8] != bytes(4) or code[8:16] != stamp:
        return
    header = importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH + importlib.util.source_hash(text)
    tree.add_file(cached, header + code[16:])
