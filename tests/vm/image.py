"""The disk, kernel and first file system of a test machine: Debian's cloud kernel and a small Debian root.

Owns building them and keeping them under $PYCTL_TEST_CACHE (default ~/.cache/pyctl-test-vm), in a folder named after a
hash of the recipe; the two recipes used last are kept. Needs root, the programs in `PROGRAMS`, and a Debian mirror the
first time ($PYCTL_TEST_MIRROR). The checkout is not part of the image: it goes in as a second disk, a plain tar
archive, so that an image outlives a change of the code. Leaves booting to `machine.py`, what runs inside to `guest.py`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import inspect
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass

CHECKOUT = pathlib.Path(__file__).parents[2]
MIRROR = os.environ.get("PYCTL_TEST_MIRROR", "http://deb.debian.org/debian")
SUITE = "bookworm"
PYTHON = "3.11"  # the suite's own
KERNEL = "linux-image-cloud-amd64"
PACKAGES = ("busybox-static", "iproute2", "kmod", "nftables", "procps", "python3")
TEST_LIBRARIES = ("hypothesis", "pytest", "pytest-asyncio")
# What the first file system must load before there is a disk and a line to us.
MODULES = ("virtio_pci", "virtio_blk", "virtio_console")

# Programs this needs on the host, and the Debian packages that bring them.
PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "debootstrap": "debootstrap",
    "mke2fs": "e2fsprogs",
    "unshare": "util-linux",
}

INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod /modules/$module; done
while [ ! -b /dev/vda ] || [ ! -b /dev/vdb ]; do sleep 0.05; done
mount -t ext4 -o rw,noatime /dev/vda /newroot || exec sh
mkdir -p /newroot/pyctl
tar -xf /dev/vdb -C /newroot/pyctl
mount --move /dev /newroot/dev
exec switch_root /newroot /usr/bin/python3 /pyctl/tests/vm/guest.py
"""


@dataclass(frozen=True)
class Image:
    """Files that QEMU needs. They are never written to after the build."""

    kernel: pathlib.Path
    initrd: pathlib.Path
    root: pathlib.Path


def missing_packages() -> list[str]:
    """Debian packages that are needed on this host and not there."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return [package for program, package in PROGRAMS.items() if not shutil.which(program, path=path)]


def libraries() -> list[str]:
    """The project's dependencies and test tools, each at the version that the running interpreter has."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[^\w.-]", line)[0] for line in project["dependencies"]]
    return [f"{name}=={importlib.metadata.version(name)}" for name in sorted({*names, *TEST_LIBRARIES})]


def recipe() -> str:
    """The hash that names an image: all that decides its content, but for the mirror's state on the day."""
    steps = [inspect.getsource(step) for step in (_build, _initrd)]
    parts = [SUITE, PYTHON, KERNEL, PACKAGES, MODULES, INIT, libraries(), steps]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def get(cache: pathlib.Path | None = None) -> Image:
    """The image of the present recipe; built now, in a minute or two, when the cache lacks it."""
    cache = cache or pathlib.Path(os.environ.get("PYCTL_TEST_CACHE") or pathlib.Path.home() / ".cache/pyctl-test-vm")
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / recipe()
    image = Image(folder / "vmlinuz", folder / "initrd", folder / "root.ext4")
    with _locked(cache / "lock"):
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(prefix="build-", dir=cache) as scratch:
                built = pathlib.Path(scratch, "image")
                built.mkdir()
                _build(built, pathlib.Path(scratch, "root"))
                built.rename(folder)
        os.utime(folder)
        known = [entry for entry in cache.iterdir() if re.fullmatch("[0-9a-f]{16}", entry.name)]
        for old in sorted(known, key=lambda entry: entry.stat().st_mtime)[:-2]:
            shutil.rmtree(old)
    return image


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(image: pathlib.Path, root: pathlib.Path) -> None:
    _call("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(root), MIRROR)
    # The kernel comes through the new root's own apt, since the host may be another distribution.
    _call("chroot", str(root), "apt-get", "update", "-qq")
    facts = _call("chroot", str(root), "apt-cache", "show", "--no-all-versions", KERNEL)
    found = re.search(r"^Depends: (linux-image-[^ ,]+)", facts, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"package {KERNEL} names no kernel: {facts}")
    # Unpacked aside: over the root it would replace the link /lib by a folder.
    _call("chroot", str(root), "sh", "-ec", f"cd /tmp; apt-get download -qq {found[1]}; dpkg-deb -x linux-*.deb kernel")
    version = found[1].removeprefix("linux-image-")
    shutil.copytree(root / "tmp/kernel/lib/modules", root / "usr/lib/modules", dirs_exist_ok=True)
    _call("chroot", str(root), "depmod", version)
    shutil.copyfile(root / f"tmp/kernel/boot/vmlinuz-{version}", image / "vmlinuz")
    (image / "initrd").write_bytes(_initrd(root, version))

    site = f"usr/local/lib/python{PYTHON}/dist-packages"
    platforms = [f"--platform={name}_x86_64" for name in ("manylinux2014", "manylinux_2_28")]
    wheels = [f"--python-version={PYTHON}", "--implementation=cp", "--only-binary=:all:", "--no-compile", *platforms]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--root-user-action=ignore"]
    _call(*pip, f"--target={root / site}", *wheels, *libraries())
    (root / site / "pyctl-checkout.pth").write_text("/pyctl\n")
    _call("chroot", str(root), "python3", "-m", "compileall", "-q", f"/{site}")

    # What is large and unused, and what debootstrap copied from the host.
    for path in ("tmp", "var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"):
        shutil.rmtree(root / path)
        (root / path).mkdir()
    (root / "tmp").chmod(0o1777)
    (root / "etc/hostname").write_text("pyctl-test\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n127.0.1.1 pyctl-test\n::1 localhost\n")
    (root / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
    # No journal: the disk is thrown away after each run.
    options = ["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-L", "root"]
    _call("mke2fs", *options, "-d", str(root), str(image / "root.ext4"), "4G")


def _initrd(root: pathlib.Path, version: str) -> bytes:
    """A cpio archive of busybox, the modules and INIT; the kernel takes it uncompressed."""
    archive = Cpio()
    for folder in ("bin", "dev", "modules", "newroot"):
        archive.add(folder, 0o40755, b"")
    archive.add("bin/busybox", 0o100755, (root / "bin/busybox").read_bytes())
    archive.add("init", 0o100755, INIT.encode())
    # In the order in which they must be loaded: `insmod /lib/modules/.../virtio.ko `, once each.
    plan = _call("chroot", str(root), "modprobe", "-S", version, "-a", "--show-depends", *MODULES)
    order = list(dict.fromkeys(line.split()[1] for line in plan.splitlines() if line.startswith("insmod ")))
    for module in order:
        archive.add(f"modules/{pathlib.Path(module).name}", 0o100644, (root / module.lstrip("/")).read_bytes())
    names = " ".join(pathlib.Path(module).name for module in order)
    archive.add("modules/order", 0o100644, names.encode())
    return archive.finish()


class Cpio:
    """Writes the "newc" format of the kernel's Documentation/driver-api/early-userspace/buffer-format.rst."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._entries = 0

    def add(self, name: str, mode: int, content: bytes) -> None:
        self._entries += 1
        path = name.encode() + b"\0"
        #         ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        fields = (self._entries, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
        self._parts += [_padded(head), _padded(content)]

    def finish(self) -> bytes:
        self.add("TRAILER!!!", 0, b"")
        return b"".join(self._parts)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def pack_checkout(path: pathlib.Path, checkout: pathlib.Path = CHECKOUT) -> None:
    """Writes the checkout as a tar archive: all but folders of tools (hidden, caches, build output)."""

    def wanted(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        name = pathlib.PurePath(entry.name).name
        if name == "__pycache__" or name.endswith(".egg-info") or (name.startswith(".") and entry.name != "."):
            return None
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        return entry

    with tarfile.open(path, "w") as archive:
        archive.add(checkout, ".", filter=wanted)


def _call(*command: str) -> str:
    """Runs a program in its own mount namespace, so that what debootstrap mounts cannot stay behind; returns stdout."""
    env = {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        ["nice", "-n", "10", "unshare", "--mount", *command], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        output = (done.stdout + done.stderr)[-2000:]
        raise RuntimeError(f"building the test machine: {' '.join(command)} exited {done.returncode}\n{output}")
    return done.stdout
