"""Writes images as one archive that is an OCI layout and a docker archive at once, so that every tool can load it.

The output is deterministic: the same images give the same bytes.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence

import msgspec

from runtime.images.archive import CONTAINERD_NAME, OCI_NAME
from runtime.images.content import CHUNK_BYTES
from runtime.images.errors import InvalidReference, NotFound
from runtime.images.manifest import MANIFEST_LIMIT_BYTES, OCI_INDEX, OCI_MANIFEST, Descriptor, Manifest, parse_document
from runtime.images.reference import parse
from runtime.images.store import Image, ImageStore


def save(store: ImageStore, names: Sequence[str]) -> Iterator[bytes]:
    """Chunks of a tar stream. Raises NotFound before the first chunk if an image is missing."""
    wanted: dict[str, tuple[Image, list[str]]] = {}
    for name in names:
        image = store.resolve(name)
        if image is None:
            raise NotFound(f"image {name!r} is not on this node")
        references = wanted.setdefault(image.id, (image, []))[1]
        # Asked for by one tag, the archive has that tag; asked for by id or digest, it has all.
        asked = [tag for tag in image.references if tag == _normal(name)] or image.references
        references += [tag for tag in asked if tag not in references]
    return _write(store, list(wanted.values()))


def _write(store: ImageStore, images: list[tuple[Image, list[str]]]) -> Iterator[bytes]:
    with store.lease() as lease:
        entries: list[Descriptor] = []
        docker: list[dict[str, object]] = []
        blobs: set[str] = set()
        for image, references in images:
            data = store.content.read(image.manifest, limit_bytes=MANIFEST_LIMIT_BYTES)
            manifest = parse_document(data)
            assert isinstance(manifest, Manifest)
            needed = [image.manifest, manifest.config.digest, *(layer.digest for layer in manifest.layers)]
            if not all(lease.keep(digest) for digest in needed):
                raise NotFound(f"image {image.id} was removed meanwhile")
            blobs.update(needed)
            for reference in references or [""]:
                annotations = {CONTAINERD_NAME: reference, OCI_NAME: reference} if reference else None
                media_type = manifest.media_type or OCI_MANIFEST
                entries.append(Descriptor(media_type, image.manifest, len(data), annotations))
            docker.append(
                {
                    "Config": _place(manifest.config.digest),
                    "RepoTags": references,
                    "Layers": [_place(layer.digest) for layer in manifest.layers],
                }
            )
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        yield from _member("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        yield from _member("index.json", msgspec.json.encode(index))
        yield from _member("manifest.json", msgspec.json.encode(docker))
        for digest in sorted(blobs):
            size = store.content.size(digest)
            yield _header(_place(digest), size)
            with store.content.open(digest) as blob:
                while chunk := blob.read(CHUNK_BYTES):
                    yield chunk
            yield bytes(-size % tarfile.BLOCKSIZE)
        yield bytes(2 * tarfile.BLOCKSIZE)


def _normal(name: str) -> str:
    try:
        return str(parse(name))
    except InvalidReference:
        return name


def _place(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _member(name: str, data: bytes) -> Iterator[bytes]:
    yield _header(name, len(data))
    yield data + bytes(-len(data) % tarfile.BLOCKSIZE)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT)
