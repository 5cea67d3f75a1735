"""Brings images in from archives: `docker save` (any age), OCI archives, and OCI layouts in a directory.

A tar stream is read once, from front to back, without a spool file: members go straight into the content store, and
what they were for is known when all have been seen. All images of an archive come in, or none; what no image needs goes
with the next collection. Compressed archives are recognised by their first bytes.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from runtime.images import tarstream
from runtime.images.compression import expand
from runtime.images.content import CHUNK_BYTES, Readable
from runtime.images.errors import Conflict, Exhausted, InvalidContent, InvalidReference
from runtime.images.manifest import (
    CONFIG_LIMIT_BYTES,
    OCI_CONFIG,
    Descriptor,
    Index,
    Manifest,
    choose,
    docker_archive_manifest,
    parse_document,
)
from runtime.images.reference import Reference, is_digest, parse
from runtime.images.store import ImageStore, Lease, Record
from runtime.images.tarstream import TarReader

MEMBERS_LIMIT = 100_000
INDEX_DEPTH_LIMIT = 3
# Names that tools give to an image of an OCI layout; the first is a whole reference, the second often only a tag.
CONTAINERD_NAME = "io.containerd.image.name"
OCI_NAME = "org.opencontainers.image.ref.name"


@dataclass
class Imported:
    """What an archive brought: references that resolve because of it, and ids, one for each image."""

    references: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)


@dataclass
class _Found:
    """An image of an archive: its manifest, the digest it was listed under, and what it is called."""

    manifest: str
    listed: str
    names: list[str]


class _DockerItem(msgspec.Struct):
    """One element of a docker archive's manifest.json."""

    Config: str
    Layers: list[str] | None = None
    RepoTags: list[str] | None = None


class Members:
    """The files of an archive by name, as digests of blobs in the store."""

    def __init__(self, store: ImageStore, lease: Lease) -> None:
        self._store = store
        self._lease = lease
        self._digests: dict[str, str] = {}
        self._links: dict[str, str] = {}

    def add(self, name: str, source: Readable, size: int) -> None:
        """Stores a file; one below blobs/ must have the digest that it is named after."""
        folder, _, hexadecimal = name.rpartition("/")
        digest = f"{folder.removeprefix('blobs/')}:{hexadecimal}" if folder.startswith("blobs/") else ""
        with self._store.content.writer(digest if is_digest(digest) else "", size) as writer:
            while data := source.read(CHUNK_BYTES):
                writer.write(data)
            # Leased before it is published, so that the collector never sees it without a lease.
            self._lease.keep(writer.digest())
            self._digests[name] = writer.commit()

    def add_link(self, name: str, target: str) -> None:
        self._links[name] = target

    def digest(self, name: str) -> str:
        """The blob of a file, also through links as old docker archives have them; "" if there is none."""
        name = posixpath.normpath(name)
        for _ in range(8):
            if (digest := self._digests.get(name)) is not None:
                return digest
            if (target := self._links.get(name)) is None:
                break
            name = target
        return ""

    def read(self, name: str) -> bytes | None:
        digest = self.digest(name)
        return self._store.content.read(digest, limit_bytes=CONFIG_LIMIT_BYTES) if digest else None


def import_archive(store: ImageStore, source: Readable, tag: str = "") -> Imported:
    """Imports all images of a tar stream; `tag` names the one image in place of the archive's own names.

    Raises InvalidContent, InvalidReference, Conflict (a tag for several images), Exhausted."""
    with store.lease() as lease:
        members = Members(store, lease)
        reader = TarReader(_capped(expand(source), store.limits.image_bytes))
        for count, entry in enumerate(reader):
            if count >= MEMBERS_LIMIT:
                raise Exhausted(f"archive has more than {MEMBERS_LIMIT} members")
            name = posixpath.normpath(entry.name.decode("utf-8", "replace"))
            link = entry.link.decode("utf-8", "replace")
            if entry.type == tarstream.FILE:
                members.add(name, reader, entry.size)
            elif entry.type == tarstream.SYMLINK:
                members.add_link(name, posixpath.normpath(posixpath.join(posixpath.dirname(name), link)))
            elif entry.type == tarstream.HARD_LINK:
                members.add_link(name, posixpath.normpath(link))
        return _import(store, lease, members, tag)


def import_directory(store: ImageStore, directory: Path, tag: str = "") -> Imported:
    """Imports all images of an OCI layout, or of an unpacked docker archive, in a directory; as `import_archive`."""
    with store.lease() as lease:
        members = Members(store, lease)
        for folder, _, names in os.walk(directory):
            for name in sorted(names):
                path = Path(folder, name)
                relative = path.relative_to(directory).as_posix()
                if path.is_symlink():
                    target = posixpath.join(posixpath.dirname(relative), os.readlink(path))
                    members.add_link(relative, posixpath.normpath(target))
                elif path.is_file():
                    with path.open("rb") as file:
                        members.add(relative, file, path.stat().st_size)
        return _import(store, lease, members, tag)


def _import(store: ImageStore, lease: Lease, members: Members, tag: str) -> Imported:
    found = _found(store, lease, members)
    if tag:
        if len({image.manifest for image in found}) > 1:
            raise Conflict(f"archive has {len(found)} images, so that {tag!r} cannot name it")
        found = [_Found(found[0].manifest, found[0].listed, [tag])]
    records: list[Record] = []
    imported = Imported()
    for image in found:
        record = store.assemble(lease, image.manifest)
        references = [parse(name) for name in image.names]
        record.references = [str(reference) for reference in references if reference.tag]
        if image.listed:
            record.digests = sorted({str(reference.with_digest(image.listed)) for reference in references})
        records.append(record)
        imported.references += [name for name in record.references if name not in imported.references]
        imported.ids += [record.id] if record.id not in imported.ids else []
    store.commit(records)
    return imported


def _found(store: ImageStore, lease: Lease, members: Members) -> list[_Found]:
    docker = members.read("manifest.json")
    items = _docker_items(docker) if docker is not None else []
    index = members.read("index.json")
    if index is not None:
        document = parse_document(index)
        if not isinstance(document, Index) or not document.manifests:
            raise InvalidContent("index.json of the archive names no image")
        # Newer docker archives are both: the layout has the true manifests, manifest.json sometimes the better names.
        tags = {members.digest(item.Config): item.RepoTags or [] for item in items}
        return [_from_layout(store, entry, tags) for entry in document.manifests]
    if not items:
        raise InvalidContent("archive is neither a docker archive (manifest.json) nor an OCI layout (index.json)")
    return [_from_docker(store, lease, members, item) for item in items]


def _from_layout(store: ImageStore, entry: Descriptor, tags: dict[str, list[str]]) -> _Found:
    chosen = entry
    for _ in range(INDEX_DEPTH_LIMIT):
        data = _blob(store, chosen)
        document = parse_document(data, chosen.media_type)
        if isinstance(document, Manifest):
            names = _layout_names(entry.annotations or {}) or tags.get(document.config.digest, [])
            return _Found(chosen.digest, entry.digest, names)
        chosen = choose(document)
    raise InvalidContent(f"archive nests indexes more than {INDEX_DEPTH_LIMIT} deep")


def _layout_names(annotations: dict[str, str]) -> list[str]:
    if name := annotations.get(CONTAINERD_NAME):
        return [str(_reference(name))]
    name = annotations.get(OCI_NAME, "")
    # A bare word is a tag without the name of a repository, which names nothing.
    return [str(_reference(name))] if ":" in name or "/" in name else []


def _from_docker(store: ImageStore, lease: Lease, members: Members, item: _DockerItem) -> _Found:
    config, layers = members.digest(item.Config), [members.digest(name) for name in item.Layers or []]
    if not config or "" in layers:
        missing = item.Config if not config else (item.Layers or [])[layers.index("")]
        raise InvalidContent(f"docker archive lacks {missing!r}, which its manifest.json names")
    described = []
    for digest in layers:
        with store.content.open(digest) as blob:
            described.append((Descriptor(digest=digest, size=store.content.size(digest)), blob.read(16)))
    manifest = docker_archive_manifest(Descriptor(OCI_CONFIG, config, store.content.size(config)), described)
    digest = store.content.put(manifest, keep=lease.keep)
    return _Found(digest, "", [str(_reference(name)) for name in item.RepoTags or []])


def _docker_items(data: bytes) -> list[_DockerItem]:
    try:
        return msgspec.json.decode(data, type=list[_DockerItem])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise InvalidContent(f"manifest.json of the archive is malformed: {error}") from None


def _blob(store: ImageStore, descriptor: Descriptor) -> bytes:
    if not store.content.has(descriptor.digest):
        raise InvalidContent(f"archive lacks the blob {descriptor.digest}, which its index names")
    return store.content.read(descriptor.digest, limit_bytes=CONFIG_LIMIT_BYTES)


def _reference(name: str) -> Reference:
    try:
        return parse(name)
    except InvalidReference as error:
        raise InvalidContent(f"archive has an image without a usable name: {error}") from None


def _capped(chunks: Iterator[bytes], limit_bytes: int) -> Iterator[bytes]:
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > limit_bytes:
            raise Exhausted(f"archive expands to more than {limit_bytes} bytes")
        yield chunk
