"""Manifests and configurations: what is accepted, what could mean two things, which platform fits."""

import json

import pytest

from runtime.images.errors import InvalidContent, NotFound
from runtime.images.layers import chain_ids
from runtime.images.manifest import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Index,
    Manifest,
    choose,
    layer_type,
    parse_config,
    parse_document,
)
from tests.unit.images.parts import CONFIG, INDEX, LAYER, MANIFEST, digest, simple

A, B = digest(b"a"), digest(b"b")


def manifest(**changes):
    document = {
        "schemaVersion": 2,
        "config": {"mediaType": CONFIG, "digest": A, "size": 1},
        "layers": [{"mediaType": LAYER, "digest": B, "size": 2}],
    }
    return {key: value for key, value in (document | changes).items() if value is not None}


def index(*platforms, **changes):
    manifests = []
    for number, platform in enumerate(platforms):
        item = {"mediaType": MANIFEST, "digest": digest(b"%d" % number), "size": number}
        manifests.append(item | ({"platform": platform} if platform is not None else {}))
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests} | changes


def parse(document, media_type=""):
    return parse_document(json.dumps(document).encode(), media_type)


def platform(architecture, variant="", os="linux"):
    return {"architecture": architecture, "os": os} | ({"variant": variant} if variant else {})


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, DOCKER_MANIFEST, ""])
def test_manifest(media_type):
    found = parse(manifest(mediaType=media_type or None), media_type)
    assert isinstance(found, Manifest) and found.config.digest == A and [item.size for item in found.layers] == [2]


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST])
def test_index(media_type):
    assert isinstance(parse(index(platform("amd64"), mediaType=media_type), media_type), Index)


def test_no_layers_at_all():
    assert parse(manifest(layers=[])).layers == []


REFUSED = {
    "both": (manifest(manifests=[]), "", "two things"),
    "index with a config": (index() | {"config": {}}, "", "two things"),
    "neither": ({"schemaVersion": 2}, "", "two things"),
    "index called a manifest": (index(), OCI_MANIFEST, "something else"),
    "manifest called an index": (manifest(), OCI_INDEX, "something else"),
    "manifest that calls itself an index": (manifest(mediaType=OCI_INDEX), "", "something else"),
    "unknown type": (manifest(mediaType="text/plain"), "", "unknown type"),
    "schema 1": ({"schemaVersion": 1, "fsLayers": []}, "", "schema 1"),
    "schema 1 by type": (manifest(), "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema 1"),
    "list": ([1], "", "object"),
    "number as layers": (manifest(layers=3), "", "malformed"),
    "bad digest": (manifest(layers=[{"mediaType": LAYER, "digest": "sha256:../x", "size": 1}]), "", "not a digest"),
    "negative size": (manifest(layers=[{"mediaType": LAYER, "digest": A, "size": -1}]), "", "size of -1"),
    "artifact": (manifest(config={"mediaType": "application/x", "digest": A, "size": 1}), "", "artifact"),
    "foreign layer": (
        manifest(layers=[{"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "digest": A}]),
        "",
        "not supported",
    ),
    "encrypted layer": (manifest(layers=[{"mediaType": LAYER + "+encrypted", "digest": A}]), "", "not supported"),
    "many layers": (manifest(layers=[{"mediaType": LAYER, "digest": A}] * 501), "", "501 layers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    document, media_type, match = REFUSED[name]
    with pytest.raises(InvalidContent, match=match):
        parse(document, media_type)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff", b"[" * 100_000, b" " * (5 << 20)], ids=lambda data: str(len(data))
)
def test_not_even_json(data):
    with pytest.raises(InvalidContent):
        parse_document(data)


CHOICES = [
    ("x86_64", [platform("arm64"), platform("amd64")], 1),
    ("x86_64", [platform("amd64", "v3"), platform("amd64")], 1),
    ("x86_64", [platform("amd64", os="windows"), platform("amd64", "v1")], 1),
    ("aarch64", [platform("arm", "v7"), platform("arm64", "v8")], 1),
    ("armv7l", [platform("arm", "v5"), platform("arm", "v6"), platform("arm64")], 1),
    ("riscv64", [platform("amd64"), platform("riscv64")], 1),
    ("x86_64", [None], 0),
    ("x86_64", [platform("unknown", os="unknown"), platform("amd64")], 1),
]


@pytest.mark.parametrize("machine, platforms, expected", CHOICES)
def test_choice(machine, platforms, expected):
    assert choose(parse(index(*platforms)), machine).size == expected


def test_no_choice_says_what_there_is():
    with pytest.raises(NotFound, match="linux/amd64 in the index; it offers linux/arm/v7, windows/amd64"):
        choose(parse(index(platform("arm", "v7"), platform("amd64", os="windows"))), "x86_64")
    with pytest.raises(NotFound, match="no platform at all"):
        choose(parse(index()), "x86_64")


def test_config():
    picture = simple(process={"User": "1000", "Env": ["A=b"]})
    found = parse_config(picture.config, 1)
    assert found.document["config"]["User"] == "1000" and len(found.diff_ids) == 1


BAD_CONFIGS = {
    "layers": ({"rootfs": {"diff_ids": []}}, "names 0 layers, the manifest 1"),
    "platform": ({"architecture": "pdp11", "rootfs": {"diff_ids": [A]}}, "image is for .*/pdp11"),
    "windows": ({"os": "windows", "rootfs": {"diff_ids": [A]}}, "image is for windows"),
    "no rootfs": ({}, "malformed"),
    "diff id": ({"rootfs": {"diff_ids": ["sha256:x"]}}, "not a sha256"),
    "env": ({"rootfs": {"diff_ids": [A]}, "config": {"Env": "A=b"}}, "malformed"),
    "user": ({"rootfs": {"diff_ids": [A]}, "config": {"User": 3}}, "malformed"),
}


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_bad_config(name):
    document, match = BAD_CONFIGS[name]
    with pytest.raises(InvalidContent, match=match):
        parse_config(json.dumps(document).encode(), 1)


def test_chain_ids():
    # The example values follow from the formula in the image specification's config.md.
    first, second = chain_ids([A, B])
    assert first == A and second == digest(f"{A} {B}".encode())
    assert chain_ids([A, B, A])[2] == digest(f"{second} {A}".encode())
    assert chain_ids([]) == []


def test_layer_types():
    assert layer_type(b"\x1f\x8b\x08") == LAYER + "+gzip" and layer_type(b"etc/") == LAYER
