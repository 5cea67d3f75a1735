"""Archives in and out: docker save of old and new, OCI archives, directories, compressed, and broken ones."""

import gzip
import json
import tarfile

import pytest
import zstandard

from runtime.images.archive import import_archive, import_directory
from runtime.images.errors import Conflict, Exhausted, InvalidContent, InvalidReference, NotFound
from runtime.images.save import save
from runtime.images.store import ImageStore
from runtime.images.unpack import Limits
from tests.unit.images.parts import (
    ARCHITECTURE,
    INDEX,
    MANIFEST,
    Picture,
    descriptor,
    digest,
    entry,
    layer,
    simple,
    stream,
    symlink,
)

pytestmark = pytest.mark.root


@pytest.fixture
def store(tmp_path):
    return ImageStore(tmp_path)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress])
@pytest.mark.parametrize("kind", ["layout", "docker"])
def test_import(store, kind, compress):
    picture = simple(compress=kind == "layout")
    imported = import_archive(store, stream(compress(getattr(picture, kind)("example.com/app:v1"))))
    assert imported.references == ["example.com/app:v1"] and imported.ids == [picture.id]
    image = store.resolve("example.com/app:v1")
    assert (image.layers[0] / "etc/greeting").read_text() == "hello\n"
    # A docker archive has no manifest of its own, so there is no digest that a registry would know.
    assert image.digests == ([f"example.com/app@{digest(picture.manifest)}"] if kind == "layout" else [])


def test_a_tag_replaces_the_names(store):
    imported = import_archive(store, stream(simple().docker("old:v1", "old:v2")), "new")
    assert imported.references == ["docker.io/library/new:latest"]
    assert store.resolve("old:v1") is None


def test_no_name_at_all(store):
    picture = simple()
    imported = import_archive(store, stream(picture.docker()))
    assert imported.references == [] and imported.ids == [picture.id]
    assert store.resolve(picture.id).references == []


def test_a_bare_tag_in_a_layout_names_nothing(store):
    picture = simple()
    named = descriptor(picture.manifest, MANIFEST, annotations={"org.opencontainers.image.ref.name": "latest"})
    archive = picture.layout(index={"schemaVersion": 2, "manifests": [named]})
    assert import_archive(store, stream(archive)).references == []


def test_several_images(store):
    one, two = simple(b"one"), simple(b"two")
    blobs = one.blobs | two.blobs
    one.blobs = blobs
    entries = [
        descriptor(picture.manifest, MANIFEST, annotations={"io.containerd.image.name": name})
        for picture, name in ((one, "a:1"), (two, "b:2"))
    ]
    archive = one.layout(index={"schemaVersion": 2, "manifests": entries})
    with pytest.raises(Conflict, match="2 images"):
        import_archive(store, stream(archive), "tag")
    assert store.images() == []
    imported = import_archive(store, stream(archive))
    assert imported.references == ["docker.io/library/a:1", "docker.io/library/b:2"]
    assert imported.ids == [one.id, two.id]


def test_all_or_none(store):
    one, two = simple(b"one"), simple(b"two")
    del two.blobs[digest(two.layers[0])]
    one.blobs |= two.blobs
    entries = [descriptor(picture.manifest, MANIFEST) for picture in (one, two)]
    with pytest.raises(NotFound, match="not in the store"):
        import_archive(store, stream(one.layout(index={"schemaVersion": 2, "manifests": entries})))
    assert store.images() == []
    store.collect()
    assert list(store.content.digests()) == [] == store.layers.chains()


def test_an_index_of_platforms(store):
    picture = simple()
    platforms = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [
                {"mediaType": MANIFEST, "digest": digest(b"gone"), "size": 4}
                | {"platform": {"os": "linux", "architecture": "pdp11"}},
                descriptor(picture.manifest, MANIFEST, platform={"os": "linux", "architecture": ARCHITECTURE}),
            ],
        }
    ).encode()
    picture.blobs[digest(platforms)] = platforms
    named = {"annotations": {"org.opencontainers.image.ref.name": "app:v1"}}
    top = {"schemaVersion": 2, "manifests": [descriptor(platforms, INDEX, **named)]}
    import_archive(store, stream(picture.layout(index=top)))
    assert store.resolve("app:v1").digests == [f"docker.io/library/app@{digest(platforms)}"]


def test_indexes_without_end(store):
    picture, inner = simple(), descriptor(b"", MANIFEST)
    for _ in range(5):
        document = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [inner]}).encode()
        picture.blobs[digest(document)] = document
        inner = descriptor(document, INDEX)
    with pytest.raises(InvalidContent, match="nests"):
        import_archive(store, stream(picture.layout(index={"schemaVersion": 2, "manifests": [inner]})))


def test_layers_that_are_links_in_the_archive(store):
    """What `docker save` wrote for layers that two images share."""
    picture = simple(compress=False)
    config = picture.id[7:] + ".json"
    manifest = json.dumps([{"Config": config, "RepoTags": ["a:1"], "Layers": ["b/layer.tar"]}]).encode()
    archive = layer(
        entry("a/layer.tar", picture.layers[0]),
        symlink("b/layer.tar", "../a/layer.tar"),
        entry(config, picture.config),
        entry("manifest.json", manifest),
    )
    import_archive(store, stream(archive))
    assert store.resolve("a:1").id == picture.id


def test_a_directory(store, tmp_path):
    picture = simple()
    with tarfile.open(fileobj=stream(picture.layout("app:v1"))) as archive:
        archive.extractall(tmp_path / "layout", filter="data")
    imported = import_directory(store, tmp_path / "layout")
    assert imported.references == ["docker.io/library/app:v1"] and store.resolve("app:v1").id == picture.id


BROKEN = {
    "empty": (b"", "neither"),
    "not an archive": (b"hello world " * 100, "checksum"),
    "another archive": (layer(entry("readme")), "neither"),
    "broken index": (layer(entry("index.json", b"{")), "JSON"),
    "index of nothing": (layer(entry("index.json", b'{"schemaVersion":2,"manifests":[]}')), "no image"),
    "broken manifest.json": (layer(entry("manifest.json", b'[{"Config": 1}]')), "malformed"),
    "config is missing": (layer(entry("manifest.json", b'[{"Config": "c", "Layers": []}]')), "lacks 'c'"),
    "layer is missing": (
        layer(entry("c", b"{}"), entry("manifest.json", b'[{"Config": "c", "Layers": ["l"]}]')),
        "lacks 'l'",
    ),
    "path leads out": (
        layer(entry("manifest.json", b'[{"Config": "../../etc/passwd", "Layers": []}]')),
        "lacks",
    ),
    "links without end": (
        layer(symlink("c", "d"), symlink("d", "c"), entry("manifest.json", b'[{"Config": "c"}]')),
        "lacks 'c'",
    ),
    "blob under another name": (layer(entry("blobs/sha256/" + "0" * 64, b"x")), "was promised"),
    "blob cut": (simple().layout("a")[:-2600], ""),
    "bad name": (simple().layout("A/B:c:d"), "usable name"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken(store, name):
    data, match = BROKEN[name]
    with pytest.raises(InvalidContent, match=match or None):
        import_archive(store, stream(data))
    store.collect()
    assert store.images() == [] and list(store.content.digests()) == []


def test_a_bad_tag(store):
    with pytest.raises(InvalidReference):
        import_archive(store, stream(simple().layout("a")), "Bad Tag")


def test_a_bomb(tmp_path):
    store = ImageStore(tmp_path, Limits(image_bytes=1 << 20))
    with pytest.raises(Exhausted):
        import_archive(store, stream(gzip.compress(layer(entry("big", bytes(1 << 22))))))


# Out again.


def export(store, *names):
    return b"".join(save(store, names))


def test_save_and_import_again(store, tmp_path):
    picture = simple()
    import_archive(store, stream(picture.layout("app:v1", "app:v2")))
    archive = export(store, "app:v1")
    assert archive == export(store, "app:v1")
    other = ImageStore(tmp_path / "other")
    assert import_archive(other, stream(archive)).references == ["docker.io/library/app:v1"]
    assert other.resolve("app:v1").id == picture.id and other.resolve("app:v1").digests


def test_a_saved_archive_is_a_docker_archive_too(store, tmp_path):
    picture = simple(compress=False)
    import_archive(store, stream(picture.docker("app:v1")))
    with tarfile.open(fileobj=stream(export(store, "app:v1"))) as archive:
        members = {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}
    del members["index.json"], members["oci-layout"]
    docker = layer(*[entry(name, data) for name, data in members.items()])
    other = ImageStore(tmp_path / "other")
    assert import_archive(other, stream(docker)).ids == [picture.id]


def test_save_by_id_has_all_tags_and_no_image_twice(store):
    picture = simple()
    import_archive(store, stream(picture.layout("app:v1", "app:v2")))
    with tarfile.open(fileobj=stream(export(store, picture.id, "app:v1"))) as archive:
        (docker,) = json.load(archive.extractfile("manifest.json"))
        assert docker["RepoTags"] == ["docker.io/library/app:v1", "docker.io/library/app:v2"]
        assert len(archive.getnames()) == len(set(archive.getnames()))


def test_saving_what_is_missing(store):
    import_archive(store, stream(simple().layout("app")))
    with pytest.raises(NotFound, match="'gone'"):
        save(store, ["app", "gone"])


def test_two_images_of_one_layer(store, tmp_path):
    shared = layer(entry("shared"))
    one, two = Picture(shared, process={"User": "1"}), Picture(shared, process={"User": "2"})
    import_archive(store, stream(one.layout("one")))
    import_archive(store, stream(two.layout("two")))
    other = ImageStore(tmp_path / "other")
    assert import_archive(other, stream(export(store, "one", "two"))).ids == [one.id, two.id]
