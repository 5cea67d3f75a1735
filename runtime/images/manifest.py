"""Manifests, indexes and configurations as plain data: OCI, and Docker's schema 2.

Decides only: what a document is, which platform of an index fits this machine, whether a configuration is well formed.
A document that could be read as two different things is refused (CVE-2021-41190).
Formats: github.com/opencontainers/image-spec and distribution's "image manifest version 2, schema 2".
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from runtime.images.compression import compression_of
from runtime.images.errors import InvalidContent, NotFound
from runtime.images.reference import is_digest

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_V1 = "application/vnd.docker.distribution.manifest.v1"

MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEX_TYPES = (OCI_INDEX, DOCKER_LIST)
_CONFIG_TYPES = (OCI_CONFIG, DOCKER_CONFIG)
MANIFEST_LIMIT_BYTES = 4 << 20
CONFIG_LIMIT_BYTES = 8 << 20
LAYERS_LIMIT = 500

# The kernel's name of the machine: (GOARCH, variants that run here, best first).
_MACHINES = {
    "x86_64": ("amd64", ("", "v1")),
    "aarch64": ("arm64", ("", "v8")),
    "armv7l": ("arm", ("v7", "v6", "v5", "")),
    "armv6l": ("arm", ("v6", "v5", "")),
    "i686": ("386", ("",)),
}


class Platform(msgspec.Struct, frozen=True):
    architecture: str = ""
    os: str = ""
    variant: str = ""


class Descriptor(msgspec.Struct, rename={"media_type": "mediaType"}, omit_defaults=True):
    """Names a blob by type, digest and size."""

    media_type: str = ""
    digest: str = ""
    size: int = 0
    annotations: dict[str, str] | None = None
    platform: Platform | None = None


class Manifest(msgspec.Struct, rename={"schema_version": "schemaVersion", "media_type": "mediaType"}):
    """One image: its configuration, and its layers, lowest first."""

    config: Descriptor
    layers: list[Descriptor]
    schema_version: int = 2
    media_type: str = ""


class Index(msgspec.Struct, rename={"schema_version": "schemaVersion", "media_type": "mediaType"}):
    """Manifests to choose from."""

    manifests: list[Descriptor]
    schema_version: int = 2
    media_type: str = ""


class _Process(msgspec.Struct):
    """The part of a configuration that the rest of the runtime reads; here only to check its types."""

    User: str | None = None
    Env: list[str] | None = None
    Entrypoint: list[str] | None = None
    Cmd: list[str] | None = None
    WorkingDir: str | None = None
    StopSignal: str | None = None
    Volumes: dict[str, Any] | None = None
    Labels: dict[str, str] | None = None
    ExposedPorts: dict[str, Any] | None = None


class _RootFs(msgspec.Struct):
    diff_ids: list[str] | None = None
    type: str = "layers"


class _Config(msgspec.Struct):
    rootfs: _RootFs
    architecture: str = ""
    os: str = ""
    variant: str = ""
    config: _Process | None = None


@dataclass(frozen=True)
class ImageConfig:
    """A configuration that was checked: the document, and the digests of the expanded layers, lowest first."""

    document: dict[str, Any]
    diff_ids: tuple[str, ...]
    platform: Platform


def host_machine() -> str:
    return os.uname().machine


def host_platform(machine: str = "") -> Platform:
    """What images for this machine call themselves."""
    architecture, variants = _machine(machine or host_machine())
    return Platform(architecture, "linux", variants[0])


def parse_document(data: bytes, media_type: str = "") -> Manifest | Index:
    """The manifest or index in `data`; `media_type` is what the sender called it. Raises InvalidContent."""
    if len(data) > MANIFEST_LIMIT_BYTES:
        raise InvalidContent(f"manifest of {len(data)} bytes; at most {MANIFEST_LIMIT_BYTES} are accepted")
    try:
        raw = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidContent(f"manifest is not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise InvalidContent("manifest is not a JSON object")
    claimed = raw.get("mediaType") or media_type
    if str(claimed).startswith(DOCKER_V1) or raw.get("schemaVersion") == 1:
        raise InvalidContent("manifest is of Docker's schema 1, which is not supported: push the image again")
    is_index, is_manifest = "manifests" in raw, "layers" in raw or "config" in raw
    if is_index == is_manifest:
        raise InvalidContent("manifest has both `manifests` and `layers`, or neither: it could mean two things")
    allowed = INDEX_TYPES if is_index else MANIFEST_TYPES
    for claim in (raw.get("mediaType"), media_type):
        if claim and claim in (*INDEX_TYPES, *MANIFEST_TYPES) and claim not in allowed:
            raise InvalidContent(f"manifest calls itself {claim!r} and is something else")
    if raw.get("mediaType") and raw["mediaType"] not in allowed:
        raise InvalidContent(f"manifest is of the unknown type {raw['mediaType']!r}")
    document: Manifest | Index
    try:
        document = msgspec.convert(raw, Index) if is_index else msgspec.convert(raw, Manifest)
    except msgspec.ValidationError as error:
        raise InvalidContent(f"manifest is malformed: {error}") from None
    _check(document)
    return document


def choose(index: Index, machine: str = "") -> Descriptor:
    """The manifest of an index that fits this machine best. Raises NotFound, naming what there is."""
    architecture, variants = _machine(machine or host_machine())
    named = [entry for entry in index.manifests if entry.platform is not None]
    for variant in variants:
        for entry in named:
            if entry.platform == Platform(architecture, "linux", variant):
                return entry
    if not named and len(index.manifests) == 1:
        return index.manifests[0]
    offered = sorted({show_platform(entry.platform) for entry in named if entry.platform and entry.platform.os})
    raise NotFound(
        f"no image for linux/{architecture} in the index; it offers {', '.join(offered) or 'no platform at all'}"
    )


def parse_config(data: bytes, layers: int, machine: str = "") -> ImageConfig:
    """The configuration of an image of that many layers. Raises InvalidContent, also for another platform."""
    try:
        document = msgspec.json.decode(data)
        config = msgspec.convert(document, _Config)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidContent(f"image configuration is malformed: {error}") from None
    diff_ids = tuple(config.rootfs.diff_ids or ())
    for diff_id in diff_ids:
        if not is_digest(diff_id) or not diff_id.startswith("sha256:"):
            raise InvalidContent(f"image configuration names a layer {diff_id!r}, which is not a sha256 digest")
    if len(diff_ids) != layers:
        raise InvalidContent(f"image configuration names {len(diff_ids)} layers, the manifest {layers}")
    platform = Platform(config.architecture, config.os, config.variant)
    architecture, _ = _machine(machine or host_machine())
    if (platform.os and platform.os != "linux") or (platform.architecture and platform.architecture != architecture):
        raise InvalidContent(f"image is for {show_platform(platform)}, this machine is linux/{architecture}")
    return ImageConfig(document, diff_ids, platform)


def docker_archive_manifest(config: Descriptor, layers: Sequence[tuple[Descriptor, bytes]]) -> bytes:
    """The manifest that a docker archive does not have; beside each layer its first bytes."""
    document = Manifest(
        Descriptor(OCI_CONFIG, config.digest, config.size),
        [Descriptor(layer_type(head), layer.digest, layer.size) for layer, head in layers],
        media_type=OCI_MANIFEST,
    )
    return msgspec.json.encode(document)


def layer_type(head: bytes) -> str:
    """The media type of a layer that begins like this."""
    compression = compression_of(head)
    return f"{OCI_LAYER}+{compression}" if compression else OCI_LAYER


def show_platform(platform: Platform) -> str:
    return "/".join(part for part in (platform.os or "?", platform.architecture or "?", platform.variant) if part)


def _machine(machine: str) -> tuple[str, tuple[str, ...]]:
    return _MACHINES.get(machine, (machine, ("",)))


def _check(document: Manifest | Index) -> None:
    if isinstance(document, Index):
        descriptors = document.manifests
    else:
        descriptors = [document.config, *document.layers]
        if document.config.media_type not in _CONFIG_TYPES:
            raise InvalidContent(f"manifest is of an artifact ({document.config.media_type!r}), not of an image")
        for layer in document.layers:
            # Docker's "foreign" layers and encrypted ones: what they need is not in the registry.
            if not layer.media_type.startswith((OCI_LAYER, DOCKER_LAYER)) or layer.media_type.endswith("+encrypted"):
                raise InvalidContent(f"layer {layer.digest} has the type {layer.media_type!r}, which is not supported")
        if len(document.layers) > LAYERS_LIMIT:
            raise InvalidContent(f"image has {len(document.layers)} layers; at most {LAYERS_LIMIT} are accepted")
    for descriptor in descriptors:
        if not is_digest(descriptor.digest):
            raise InvalidContent(f"manifest names {descriptor.digest[:100]!r}, which is not a digest")
        if descriptor.size < 0:
            raise InvalidContent(f"manifest gives {descriptor.digest} a size of {descriptor.size}")
