"""Parts of images for tests: tar entries byte by byte (honest and hostile), layers, manifests, archives."""

import builtins
import gzip
import hashlib
import io
import json
import os

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
ARCHITECTURE = MACHINES.get(os.uname().machine, os.uname().machine)
END = bytes(1024)


def octal(value: int | bytes, width: int) -> bytes:
    """A number field; what octal cannot hold is base 256, also negative. Bytes are put there as they are."""
    if isinstance(value, bytes):
        return value
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    return (0x80 if value >= 0 else 0xFF).to_bytes(1, "big") + value.to_bytes(width - 1, "big", signed=True)


def entry(
    name, data=b"", *, type=b"0", mode=0o644, uid=0, gid=0, link=b"", mtime=0, device=(0, 0), size=None, pax=None, sum=0
):
    """One entry with its data. `pax`: records that go before it; `sum`: what to add to the right checksum."""
    name, link = (text.encode() if isinstance(text, str) else text for text in (name, link))
    before = b""
    if len(name) > 100:
        pax, name = {"path": name} | (pax or {}), name[:100]
    if pax:
        before = entry("pax", records(pax), type=b"x")
    header = bytearray(512)
    for at, value in (
        (0, name),
        (100, octal(mode, 8)),
        (108, octal(uid, 8)),
        (116, octal(gid, 8)),
        (124, octal(len(data) if size is None else size, 12)),
        (136, octal(mtime, 12)),
        (156, type),
        (157, link),
        (257, b"ustar\x0000"),
        (329, octal(device[0], 8)),
        (337, octal(device[1], 8)),
    ):
        header[at : at + len(value)] = value
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % (builtins.sum(header) + sum)
    return before + bytes(header) + data + bytes(-len(data) % 512)


def records(values) -> bytes:
    lines = b""
    for key, value in values.items():
        key, value = (text.encode() if isinstance(text, str) else text for text in (key, value))
        rest = b" " + key + b"=" + value + b"\n"
        length = len(rest) + 1
        while len(str(length)) + len(rest) != length:
            length = len(str(length)) + len(rest)
        lines += str(length).encode() + rest
    return lines


def directory(name, mode=0o755, **more):
    return entry(name, type=b"5", mode=mode, **more)


def symlink(name, link, **more):
    return entry(name, type=b"2", mode=0o777, link=link, **more)


def hardlink(name, link, **more):
    return entry(name, type=b"1", link=link, **more)


def layer(*entries) -> bytes:
    return b"".join(entries) + END


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def descriptor(data: bytes, media_type: str, **more) -> dict:
    return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}


class Picture:
    """A whole image: its blobs by digest, and the bytes of manifest and configuration."""

    def __init__(self, *layers: bytes, process=None, compress=True, architecture=ARCHITECTURE, media_type=MANIFEST):
        self.blobs = {}
        self.layers = [gzip.compress(data, mtime=0) if compress else data for data in layers]
        self.config = json.dumps(
            {
                "architecture": architecture,
                "os": "linux",
                "config": process or {},
                "rootfs": {"type": "layers", "diff_ids": [digest(data) for data in layers]},
            }
        ).encode()
        suffix = "+gzip" if compress else ""
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": media_type,
                "config": descriptor(self.config, CONFIG),
                "layers": [descriptor(data, LAYER + suffix) for data in self.layers],
            }
        ).encode()
        for data in (*self.layers, self.config, self.manifest):
            self.blobs[digest(data)] = data

    @property
    def id(self) -> str:
        return digest(self.config)

    def layout(self, *names: str, index=None) -> bytes:
        """An OCI archive; each name, with a tag, is an annotation of the index."""
        names = [name if ":" in name else f"{name}:latest" for name in names]
        entries = [
            descriptor(self.manifest, MANIFEST, annotations={"org.opencontainers.image.ref.name": name})
            for name in names
        ] or [descriptor(self.manifest, MANIFEST)]
        index = json.dumps(index or {"schemaVersion": 2, "manifests": entries}).encode()
        members = [entry("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'), entry("index.json", index)]
        members += [entry("blobs/" + name.replace(":", "/"), data) for name, data in self.blobs.items()]
        return layer(*members)

    def docker(self, *tags: str) -> bytes:
        """A docker archive of the old kind, the manifest last."""
        names = [f"{number}/layer.tar" for number in range(len(self.layers))]
        config = self.id.removeprefix("sha256:") + ".json"
        manifest = json.dumps([{"Config": config, "RepoTags": list(tags) or None, "Layers": names}]).encode()
        members = [entry(name, data) for name, data in zip(names, self.layers, strict=True)]
        return layer(*members, entry(config, self.config), entry("manifest.json", manifest))


def simple(text=b"hello\n", **more) -> Picture:
    return Picture(layer(directory("etc/"), entry("etc/greeting", text)), **more)


def stream(data: bytes) -> io.BytesIO:
    return io.BytesIO(data)
