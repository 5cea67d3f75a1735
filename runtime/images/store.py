"""The images of this node: which there are, what they are called, which blobs and layers they need.

`index.json` (replaced atomically) holds the records; blobs and layers lie beside it under their digests. An image is
put together blob by blob under a `Lease`, which keeps the collector away, and appears in one step with `commit`; a
process that is killed before that leaves only what the next start sweeps up. Layers under running containers are
pinned, each pin a small file, so that removing an image never pulls a root file system from under a container.

Thread-safe. `resolve`, `images`, `pin` and `unpin` never wait for a lock, so an event loop may call them; all else
blocks on the disk and belongs in a thread. One process at a time owns `root`.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from runtime.images.content import ContentStore, Readable, replace_file
from runtime.images.errors import Exhausted, ImageError, InvalidContent, InvalidReference, NotFound
from runtime.images.layers import LayerInfo, LayerStore, chain_ids
from runtime.images.manifest import CONFIG_LIMIT_BYTES, MANIFEST_LIMIT_BYTES, Manifest, parse_config, parse_document
from runtime.images.pins import Pins
from runtime.images.reference import Reference, parse
from runtime.images.unpack import Limits

log = logging.getLogger(__name__)

ID_PREFIX_MIN = 4


@dataclass(frozen=True)
class Image:
    """An image that can be run.

    `id` is the digest of its configuration, `references` its tags, `digests` its `name@digest`s, `config` the
    configuration document (treat it as read-only), `layers` the unpacked layers, lowest first, `size` the bytes of the
    expanded layers."""

    id: str
    references: list[str]
    digests: list[str]
    config: dict[str, Any]
    layers: tuple[Path, ...]
    size: int
    manifest: str
    chains: tuple[str, ...]


class Record(msgspec.Struct):
    """What `index.json` says of an image. `manifest` is the newest of its manifests that is in the store."""

    id: str
    manifest: str
    references: list[str]
    digests: list[str]
    blobs: list[str]
    chains: list[str]
    diff_ids: list[str]
    layer_blobs: list[str]
    size: int


class IndexFile(msgspec.Struct):
    version: int
    images: dict[str, Record]


@dataclass(frozen=True)
class Usage:
    """Disk used by all images, from what was counted when they came in."""

    bytes: int
    inodes: int


class Lease:
    """Blobs and layers that the collector must leave alone until the `with` block ends."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self.blobs: set[str] = set()
        self.chains: set[str] = set()

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._store.release(self)

    def keep(self, digest: str) -> bool:
        """Keeps a blob from now on, and says whether it is there. Comes before a look at it, and before writing it."""
        with self._store.lock:
            self.blobs.add(digest)
            return self._store.content.has(digest)


class ImageStore:
    """The images below `root/images`. Opening it sweeps up after a process that was killed."""

    def __init__(self, root: Path, limits: Limits | None = None) -> None:
        self.home = root / "images"
        self.limits = limits or Limits()
        self.content = ContentStore(self.home)
        self.layers = LayerStore(self.home, self.content)
        self._pins = Pins(self.home / "pins")
        # Held by whoever changes which blobs and layers are wanted; `collect` holds it from first look to last removal.
        self.lock = threading.RLock()
        self._unpacking: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._leases: set[Lease] = set()
        # Replaced, never changed, so that readers need no lock.
        self._records: dict[str, Record] = {}
        self._images: dict[str, tuple[Record, Image]] = {}
        self._load()
        self.content.clear_scratch()
        self._repair()
        self.collect()

    def images(self) -> list[Image]:
        """All images, by id."""
        records = self._records
        return [image for key in sorted(records) if (image := self._image(records[key])) is not None]

    def resolve(self, name: str) -> Image | None:
        """The image that a reference, an id, or the unique beginning of an id means."""
        record = _find(self._records, name)
        return None if record is None else self._image(record)

    def lease(self) -> Lease:
        lease = Lease(self)
        self._leases.add(lease)
        return lease

    def release(self, lease: Lease) -> None:
        self._leases.discard(lease)

    def ensure_layer(self, lease: Lease, diff_ids: Sequence[str], depth: int, blob: str) -> LayerInfo:
        """Has the layer `diff_ids[depth]` unpacked, over those before it, from `blob`. Raises InvalidContent."""
        chains = chain_ids(diff_ids[: depth + 1])
        with self.lock:
            lease.chains.update(chains)
            gate = self._unpacking[chains[-1]]
        with gate:
            if self.layers.has(chains[-1]):
                return self.layers.info(chains[-1])
            lowers = [self.layers.path(chain) for chain in chains[:-1]]
            with self.content.open(blob) as source:
                readable: Readable = source
                return self.layers.create(chains[-1], diff_ids[depth], readable, lowers, self.limits)

    def assemble(self, lease: Lease, manifest_digest: str) -> Record:
        """The record, yet without names, of an image whose blobs are all in the store; unpacks what is missing.

        Raises InvalidContent where manifest, configuration and layers do not fit together."""
        manifest = parse_document(self.content.read(manifest_digest, limit_bytes=MANIFEST_LIMIT_BYTES))
        if not isinstance(manifest, Manifest):
            raise InvalidContent(f"{manifest_digest} is an index of images, not an image")
        for descriptor in (manifest.config, *manifest.layers):
            if (found := self.content.size(descriptor.digest)) != descriptor.size:
                raise InvalidContent(f"blob {descriptor.digest} has {found} bytes, the manifest says {descriptor.size}")
        data = self.content.read(manifest.config.digest, limit_bytes=CONFIG_LIMIT_BYTES)
        config = parse_config(data, len(manifest.layers))
        size = 0
        for depth, layer in enumerate(manifest.layers):
            size += self.ensure_layer(lease, config.diff_ids, depth, layer.digest).size
            if size > self.limits.image_bytes:
                raise Exhausted(f"image expands to more than {self.limits.image_bytes} bytes")
        layer_blobs = [layer.digest for layer in manifest.layers]
        return Record(
            id=manifest.config.digest,
            manifest=manifest_digest,
            references=[],
            digests=[],
            blobs=sorted({manifest_digest, manifest.config.digest, *layer_blobs}),
            chains=chain_ids(config.diff_ids),
            diff_ids=list(config.diff_ids),
            layer_blobs=layer_blobs,
            size=size,
        )

    def commit(self, records: Iterable[Record]) -> list[Image]:
        """Makes images visible, all at once; a tag moves to the image that brings it."""
        with self.lock:
            self.content.sync()
            changed = dict(self._records)
            ids = []
            for record in records:
                known = changed.get(record.id)
                if known is not None:
                    record = msgspec.structs.replace(
                        record,
                        references=_union(known.references, record.references),
                        digests=_union(known.digests, record.digests),
                        blobs=_union(known.blobs, record.blobs),
                    )
                changed = {key: _without(other, record.references) for key, other in changed.items()}
                changed[record.id] = record
                ids.append(record.id)
            self._replace(changed)
            return [image for key in ids if (image := self._image(changed[key])) is not None]

    def tag(self, name: str, reference: str) -> Image:
        """Gives an image one more tag. Raises NotFound, InvalidReference."""
        wanted = parse(reference)
        if not wanted.tag:
            raise InvalidReference(f"{reference!r} names a digest; a tag is needed")
        with self.lock:
            record = _find(self._records, name)
            if record is None:
                raise NotFound(f"image {name!r} is not on this node")
            return self.commit([msgspec.structs.replace(record, references=[*record.references, str(wanted)])])[0]

    def untag(self, reference: str) -> bool:
        """Takes one tag away; the image stays, if need be without a name. Answers whether there was such a tag."""
        wanted = str(parse(reference))
        with self.lock:
            if not any(wanted in record.references for record in self._records.values()):
                return False
            self._replace({key: _without(record, [wanted]) for key, record in self._records.items()})
            return True

    def remove(self, name: str) -> bool:
        """Removes the image that `name` means, with all its names, as the CRI wants. Answers whether it was there."""
        with self.lock:
            record = _find(self._records, name)
            if record is None:
                return False
            self._replace({key: other for key, other in self._records.items() if key != record.id})
        self.collect()
        return True

    def pin(self, image_id: str, owner: str) -> None:
        """Keeps the layers of an image for `owner`, a container's id, across removal and restarts; cheap."""
        record = self._records.get(image_id)
        if record is not None:
            self._pins.add(owner, record.chains)
            # Looked at again after the pin is written: an earlier removal may have missed it, a later one does not.
            if self._records.get(image_id) is not None:
                return
            self._pins.remove(owner)
        raise NotFound(f"image {image_id!r} is not on this node")

    def unpin(self, owner: str) -> None:
        """Forgets a pin; harmless if there is none. The layers go with the next removal or start."""
        self._pins.remove(owner)

    def retain_pins(self, owners: Iterable[str]) -> None:
        """Forgets the pins of all other owners: what a start calls once it knows its containers."""
        self._pins.retain(set(owners))

    def usage(self) -> Usage:
        with self.lock:
            blobs = [self.content.size(digest) for digest in self.content.digests()]
            layers = [self.layers.info(chain) for chain in self.layers.chains()]
        return Usage(
            sum(blobs) + sum(layer.size for layer in layers), len(blobs) + sum(layer.entries for layer in layers)
        )

    def settle(self) -> None:
        """Writes the layers to disk for good. Slow on a busy disk: call it after an image came in, not before."""
        with self.lock:
            unsettled = [chain for chain in self.layers.chains() if self.layers.info(chain).boot]
        if unsettled:
            os.sync()
            for chain in unsettled:
                with self.lock:
                    if self.layers.has(chain):
                        self.layers.settle(chain)

    def collect(self) -> None:
        """Removes blobs and layers that no image, lease or pin needs."""
        with self.lock:
            blobs = {digest for record in self._records.values() for digest in record.blobs}
            chains = {chain for record in self._records.values() for chain in record.chains} | self._pins.chains()
            for lease in list(self._leases):
                blobs |= lease.blobs
                chains |= lease.chains
            for digest in list(self.content.digests()):
                if digest not in blobs:
                    self.content.remove(digest)
            trash = [self.layers.discard(chain) for chain in self.layers.chains() if chain not in chains]
        for path in trash:
            shutil.rmtree(path, ignore_errors=True)

    def _load(self) -> None:
        path = self.home / "index.json"
        try:
            index = msgspec.json.decode(path.read_bytes(), type=IndexFile)
        except FileNotFoundError:
            return
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise ImageError(f"{path} is not an index of images ({error}); move it away to start with none") from None
        if index.version != 1:
            raise ImageError(f"{path} has version {index.version}; this pyctl reads version 1")
        self._records = index.images

    def _repair(self) -> None:
        """Unpacks again what a power cut may have damaged; drops images whose blobs are gone."""
        for chain in self.layers.chains():
            if not self.layers.trusted(chain):
                shutil.rmtree(self.layers.discard(chain))
        kept = dict(self._records)
        for record in self._records.values():
            try:
                with self.lease() as lease:
                    for depth, chain in enumerate(record.chains):
                        if not self.layers.has(chain):
                            self.ensure_layer(lease, record.diff_ids, depth, record.layer_blobs[depth])
                    for digest in record.blobs:
                        self.content.size(digest)
            except ImageError as error:
                log.warning("image %s %s is damaged and was dropped: %s", record.id, record.references, error)
                del kept[record.id]
        if len(kept) != len(self._records):
            self._replace(kept)

    def _replace(self, records: dict[str, Record]) -> None:
        replace_file(self.home / "index.json", msgspec.json.encode(IndexFile(1, records)))
        self._records = records
        for key in list(self._images):
            if key not in records:
                self._images.pop(key, None)

    def _image(self, record: Record) -> Image | None:
        """What a record says, or None if the image is being removed right now."""
        known = self._images.get(record.id)
        if known is not None and known[0] is record:
            return known[1]
        try:
            data = self.content.read(record.id, limit_bytes=CONFIG_LIMIT_BYTES)
            # overlayfs does not look whether the root of a layer is opaque, so layers below such a one are left out.
            opaque = [depth for depth, chain in enumerate(record.chains) if self.layers.info(chain).opaque]
        except (NotFound, FileNotFoundError):
            return None
        visible = record.chains[max(opaque, default=0) :]
        image = Image(
            id=record.id,
            references=list(record.references),
            digests=list(record.digests),
            config=msgspec.json.decode(data, type=dict[str, Any]),
            layers=tuple(self.layers.path(chain) for chain in visible),
            size=record.size,
            manifest=record.manifest,
            chains=tuple(record.chains),
        )
        self._images[record.id] = (record, image)
        return image


def _find(records: dict[str, Record], name: str) -> Record | None:
    if record := records.get(name) or records.get(f"sha256:{name}"):
        return record
    try:
        wanted: Reference | None = parse(name)
    except InvalidReference:
        wanted = None
    if wanted is not None:
        for record in records.values():
            if str(wanted) in (record.digests if wanted.digest else record.references):
                return record
    prefix = name.removeprefix("sha256:")
    if len(prefix) >= ID_PREFIX_MIN:
        found = [key for key in records if key.startswith(f"sha256:{prefix}")]
        if len(found) == 1:
            return records[found[0]]
    return None


def _union(first: list[str], second: list[str]) -> list[str]:
    return [*first, *(item for item in second if item not in first)]


def _without(record: Record, references: list[str]) -> Record:
    kept = [reference for reference in record.references if reference not in references]
    return record if len(kept) == len(record.references) else msgspec.structs.replace(record, references=kept)
