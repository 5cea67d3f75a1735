"""Builds an image from programs of this host, so that a machine without any network can run its first pod.

One layer, not compressed (nobody downloads it, and the digest then depends on no compressor), in sorted order, owned by
root, with all times zero: the same host and the same request give the same image id. `hosttree.py` says what belongs to
a program, `hostpython.py` what belongs to Python.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from runtime.images import hostpython
from runtime.images.content import CHUNK_BYTES, BlobWriter
from runtime.images.errors import InvalidContent, InvalidReference
from runtime.images.hosttree import STANDARD_PATH, HostEntry, HostTree
from runtime.images.manifest import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor, Manifest, host_platform
from runtime.images.reference import parse
from runtime.images.store import Image, ImageStore

EPOCH = "1970-01-01T00:00:00Z"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_HOST_CERTIFICATES = (CERTIFICATES, "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem", "/etc/ssl/ca-bundle.pem")
_TLS_LIBRARIES = ("libssl.so", "libgnutls.so", "libnss3.so")
_ETC = {
    "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "/etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
}
# Mount points and places that programs take for granted, with their modes.
_DIRECTORIES = {
    "/dev": 0o755, "/etc": 0o755, "/proc": 0o755, "/root": 0o755, "/run": 0o755, "/sys": 0o755, "/tmp": 0o1777,
    "/var": 0o755, "/var/tmp": 0o1777,
}  # fmt: skip


@dataclass
class Built:
    """The finished image; `size`: unpacked bytes; `skipped`: paths left out; `warnings`: for people."""

    image: Image
    reference: str
    size: int
    skipped: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def build_from_host(
    store: ImageStore,
    programs: Sequence[str],
    tag: str,
    *,
    extra: Sequence[str] = (),
    env: Sequence[str] = (),
    entrypoint: Sequence[str] = (),
) -> Built:
    """Makes an image of programs (names, or absolute paths; `python` is the one that runs us) and stores it as `tag`.

    `extra`: absolute paths, copied with all that is below; `env`: NAME=value; `entrypoint`: else the first program is
    the command. Raises NotFound for a program that is missing, InvalidReference for a bad request."""
    reference = parse(tag)
    if not reference.tag:
        raise InvalidReference(f"{tag!r} names a digest; an image that is built needs a tag")
    for item in env:
        if not item.partition("=")[0] or "=" not in item:
            raise InvalidReference(f"environment {item!r} is not NAME=value")
    tree, paths = collect(programs, extra)
    with store.lease() as lease, store.content.writer() as writer:
        write_layer(tree, writer)
        size, layer = writer.written, writer.digest()
        lease.keep(layer)
        writer.commit()
        config = msgspec.json.encode(_config(tree, layer, paths, env, entrypoint), order="deterministic")
        config_digest = store.content.put(config, keep=lease.keep)
        manifest = Manifest(
            Descriptor(OCI_CONFIG, config_digest, len(config)),
            [Descriptor(OCI_LAYER, layer, size)],
            media_type=OCI_MANIFEST,
        )
        record = store.assemble(lease, store.content.put(msgspec.json.encode(manifest), keep=lease.keep))
        record.references = [str(reference)]
        image = store.commit([record])[0]
    return Built(image, str(reference), image.size, sorted(tree.skipped), tree.warnings)


def collect(programs: Sequence[str], extra: Sequence[str] = ()) -> tuple[HostTree, list[str]]:
    """The tree of an image with these programs, and the path of each. Raises NotFound."""
    if not programs:
        raise InvalidReference("an image from the host needs at least one program")
    tree = HostTree()
    paths = []
    for name in programs:
        if name in hostpython.NAMES:
            paths.append(hostpython.add_running_python(tree))
        else:
            paths.append(tree.add_program(name))
    for path in extra:
        if not path.startswith("/"):
            raise InvalidReference(f"extra path {path!r} is not absolute")
        tree.add_tree(os.path.normpath(path))
    for path in [path for path, entry in tree.entries.items() if entry.source]:
        # A script may have brought a Python, which is useless without its library.
        hostpython.add_library(tree, path)
    tree.add_merged_directories()
    for path, text in _ETC.items():
        tree.add_file(path, text.encode())
    for path, mode in _DIRECTORIES.items():
        if tree.entries.get(path) is None or not tree.entries[path].link:
            tree.add_directory(path, mode)
    if any(tree.has_library(name) for name in _TLS_LIBRARIES):
        found = next((path for path in _HOST_CERTIFICATES if os.path.isfile(path)), None)
        if found is not None:
            tree.add_file(CERTIFICATES, Path(found).read_bytes())
    return tree, paths


def write_layer(tree: HostTree, writer: BlobWriter) -> None:
    """The tree as a tar stream. Raises InvalidContent if a file changes meanwhile."""
    for path in sorted(tree.entries):
        entry = tree.entries[path]
        info = tarfile.TarInfo(path.lstrip("/"))
        info.mode = entry.mode
        if entry.link:
            info.type, info.linkname = tarfile.SYMTYPE, entry.link
            writer.write(_header(info))
        elif entry.data is not None:
            info.size = len(entry.data)
            writer.write(_header(info) + entry.data + bytes(-info.size % tarfile.BLOCKSIZE))
        elif entry.source:
            _write_file(info, entry, writer)
        else:
            info.type = tarfile.DIRTYPE
            writer.write(_header(info))
    writer.write(bytes(2 * tarfile.BLOCKSIZE))


def _write_file(info: tarfile.TarInfo, entry: HostEntry, writer: BlobWriter) -> None:
    with open(entry.source, "rb") as file:
        info.size = os.fstat(file.fileno()).st_size
        writer.write(_header(info))
        left = info.size
        while left and (data := file.read(min(left, CHUNK_BYTES))):
            writer.write(data)
            left -= len(data)
        if left:
            raise InvalidContent(f"{entry.source} became shorter while it was read; try again")
    writer.write(bytes(-info.size % tarfile.BLOCKSIZE))


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _config(
    tree: HostTree, layer: str, paths: Sequence[str], env: Sequence[str], entrypoint: Sequence[str]
) -> dict[str, object]:
    directories = dict.fromkeys([*STANDARD_PATH.split(":"), *(os.path.dirname(path) for path in paths)])
    variables = {"PATH": ":".join(directories)}
    if CERTIFICATES in tree.entries:
        # Distributions build OpenSSL with other default places than the one all of them have.
        variables["SSL_CERT_FILE"] = CERTIFICATES
    variables |= dict(item.split("=", 1) for item in env)
    process: dict[str, object] = {"Env": [f"{name}={value}" for name, value in variables.items()]}
    if entrypoint:
        process["Entrypoint"] = list(entrypoint)
    else:
        process["Cmd"] = [paths[0]]
    platform = host_platform()
    document: dict[str, object] = {
        "created": EPOCH,
        "architecture": platform.architecture,
        "os": platform.os,
        "config": process,
        "rootfs": {"type": "layers", "diff_ids": [layer]},
        "history": [{"created": EPOCH, "created_by": "pyctl image build --from-host " + " ".join(paths)}],
    }
    return document | ({"variant": platform.variant} if platform.variant else {})
