"""The store: names, removal, pins, collection, and what is left after a kill at any moment."""

import json
import os
import subprocess
import sys
import textwrap
import threading

import pytest

from runtime.images import layers as layers_module
from runtime.images.archive import import_archive
from runtime.images.errors import Conflict, Exhausted, ImageError, InvalidContent, InvalidReference, NotFound
from runtime.images.store import ImageStore
from runtime.images.unpack import Limits
from tests.unit.images.parts import Picture, digest, directory, entry, layer, simple, stream

pytestmark = pytest.mark.root

BASE = layer(directory("bin/"), entry("bin/sh", b"shell"))


@pytest.fixture
def store(tmp_path):
    return ImageStore(tmp_path)


def add(store, picture, *names):
    return store.resolve(import_archive(store, stream(picture.layout(*names))).ids[0])


def on_disk(store):
    return list(store.content.digests()), store.layers.chains(), os.listdir(store.home / "ingest")


def test_resolve_by_every_name(store):
    picture = simple()
    image = add(store, picture, "example.com/app:v1")
    manifest = image.manifest
    names = [
        "example.com/app:v1",
        image.id,
        image.id.removeprefix("sha256:"),
        image.id[7:19],
        f"example.com/app@{manifest}",
        f"example.com/app:ignored@{manifest}",
    ]
    assert [store.resolve(name) for name in names] == [image] * len(names)
    for name in ("example.com/app", "app:v1", "", "no such thing!", image.id[7:10], "sha256:" + "0" * 64):
        assert store.resolve(name) is None
    assert image.id == picture.id
    assert image.references == ["example.com/app:v1"] and image.digests == [f"example.com/app@{manifest}"]
    assert (image.layers[0] / "etc/greeting").read_text() == "hello\n"
    assert image.size == len(layer(directory("etc/"), entry("etc/greeting", b"hello\n")))
    assert store.images() == [image]


def test_layers_are_lowest_first_and_shared(store):
    one = add(store, Picture(BASE, layer(entry("one"))), "one")
    two = add(store, Picture(BASE, layer(entry("two"))), "two")
    assert one.layers[0] == two.layers[0] and one.layers[1] != two.layers[1]
    assert os.listdir(one.layers[0]) == ["bin"] and os.listdir(one.layers[1]) == ["one"]
    store.remove("one")
    assert (two.layers[0] / "bin/sh").exists() and not one.layers[1].exists()
    store.remove("two")
    assert on_disk(store) == ([], [], [])


def test_the_same_layer_over_another_is_another(store):
    top = layer(entry("tmp/x"))
    plain = add(store, Picture(layer(directory("tmp/", mode=0o700)), top), "plain")
    sticky = add(store, Picture(layer(directory("tmp/", mode=0o1777)), top), "sticky")
    assert plain.layers[1] != sticky.layers[1]
    assert os.stat(sticky.layers[1] / "tmp").st_mode & 0o7777 == 0o1777
    assert os.stat(plain.layers[1] / "tmp").st_mode & 0o7777 == 0o700


def test_a_tag_moves(store):
    old = add(store, simple(b"old"), "app:v1")
    new = add(store, simple(b"new"), "app:v1")
    assert store.resolve("app:v1") == new
    assert store.resolve(old.id).references == [] and store.resolve(old.id).digests == old.digests


def test_tag_and_untag(store):
    image = add(store, simple(), "app:v1")
    assert store.tag("app:v1", "other:v2").references == ["docker.io/library/app:v1", "docker.io/library/other:v2"]
    assert store.resolve("other:v2").id == image.id
    assert store.untag("app:v1") and not store.untag("app:v1")
    assert store.resolve("app:v1") is None and store.resolve(image.id).references == ["docker.io/library/other:v2"]
    with pytest.raises(NotFound):
        store.tag("missing", "x")
    with pytest.raises(InvalidReference):
        store.tag(image.id, f"x@{image.id}")


def test_removing_any_tag_removes_the_image(store):
    image = add(store, simple(), "app:v1", "app:v2", "app:v3")
    assert len(image.references) == 3
    assert store.remove("app:v2")
    assert store.images() == [] and store.resolve("app:v1") is None
    assert not store.remove("app:v2")


def test_it_is_all_there_after_a_restart(store, tmp_path):
    image = add(store, simple(process={"Env": ["A=b"]}), "app:v1")
    again = ImageStore(tmp_path)
    assert again.images() == [image] and again.resolve("app:v1").config["config"]["Env"] == ["A=b"]


def test_pins_keep_layers_through_removal_and_restart(store, tmp_path):
    image = add(store, simple(), "app:v1")
    store.pin(image.id, "container-1")
    store.remove("app:v1")
    assert store.resolve("app:v1") is None and list(store.content.digests()) == []
    store = ImageStore(tmp_path)
    assert (image.layers[0] / "etc/greeting").exists()
    store.retain_pins(["container-1", "container-2"])
    store.collect()
    assert (image.layers[0] / "etc/greeting").exists()
    store.unpin("container-1")
    store.unpin("container-1")
    store.collect()
    assert on_disk(store) == ([], [], [])


def test_pins_of_unknown_owners_go(store):
    image = add(store, simple(), "app:v1")
    store.pin(image.id, "gone")
    store.remove("app:v1")
    store.retain_pins([])
    store.collect()
    assert store.layers.chains() == []


@pytest.mark.parametrize("owner", ["", "a/b", "..", ".hidden"])
def test_an_owner_is_a_plain_name(store, owner):
    with pytest.raises(Conflict):
        store.pin(add(store, simple(), "app").id, owner)


def test_pinning_what_is_not_there(store):
    with pytest.raises(NotFound):
        store.pin("sha256:" + "0" * 64, "c")


def test_a_pinned_image_comes_back_without_unpacking(store):
    picture = simple()
    image = add(store, picture, "app")
    store.pin(image.id, "c")
    store.remove("app")
    before = image.layers[0].stat().st_ino
    assert add(store, picture, "app").layers[0].stat().st_ino == before


def test_leases_keep_what_no_image_names_yet(store):
    with store.lease() as lease:
        name = store.content.put(b"early", keep=lease.keep)
        store.collect()
        assert store.content.has(name)
    store.collect()
    assert not store.content.has(name)


def test_collecting_while_blobs_come_in(store):
    """Whoever keeps a blob and then finds or writes it still has it afterwards, however the collector runs."""
    done = threading.Event()

    def collect():
        while not done.is_set():
            store.collect()

    collector = threading.Thread(target=collect)
    collector.start()
    try:
        for number in range(400):
            data = b"%d" % (number % 3)
            with store.lease() as lease:
                there = lease.keep(digest(data))
                if not there:
                    store.content.put(data, keep=lease.keep)
                assert store.content.read(digest(data), limit_bytes=10) == data
    finally:
        done.set()
        collector.join()


def test_readers_do_not_wait_for_writers(store):
    image = add(store, simple(), "app:v1")
    results = []

    def read():
        store.pin(image.id, "c")
        results.append((store.resolve("app:v1"), store.images()))
        store.unpin("c")

    with store.lock:
        reader = threading.Thread(target=read)
        reader.start()
        reader.join(10)
        assert results == [(image, [image])]


def test_a_pin_that_loses_against_a_removal(store, monkeypatch):
    image = add(store, simple(), "app:v1")
    write = store._pins.add

    def late(owner, chains):
        store.remove("app:v1")
        write(owner, chains)

    monkeypatch.setattr(store._pins, "add", late)
    with pytest.raises(NotFound):
        store.pin(image.id, "c")
    assert os.listdir(store.home / "pins") == []


def test_usage(store):
    assert store.usage().bytes == 0
    image = add(store, simple(), "app")
    usage = store.usage()
    assert usage.bytes > image.size and usage.inodes >= 5


def test_limits_on_the_whole_image(tmp_path):
    store = ImageStore(tmp_path, Limits(image_bytes=30_000))
    picture = Picture(*[layer(entry(f"f{number}", bytes(9000))) for number in range(4)])
    with pytest.raises(Exhausted, match="expands to more than 30000"):
        add(store, picture, "app")
    store.collect()
    assert store.images() == [] and on_disk(store) == ([], [], [])


def test_an_opaque_root_hides_the_layers_below(store):
    image = add(store, Picture(BASE, layer(entry(".wh..wh..opq"), entry("only"))), "app")
    assert [os.listdir(path) for path in image.layers] == [["only"]]


def test_a_config_of_another_image_is_refused(store):
    picture, other = simple(b"one"), simple(b"two")
    document = json.loads(picture.manifest)
    document["layers"] = json.loads(other.manifest)["layers"]
    forged = json.dumps(document).encode()
    with store.lease() as lease:
        for data in (*picture.blobs.values(), *other.blobs.values(), forged):
            name = store.content.put(data, keep=lease.keep)
        with pytest.raises(InvalidContent, match="configuration promises"):
            store.assemble(lease, name)
    store.collect()
    assert on_disk(store) == ([], [], [])


def test_sizes_in_the_manifest_must_be_true(store):
    picture = simple()
    document = json.loads(picture.manifest)
    document["layers"][0]["size"] += 1
    with store.lease() as lease:
        for data in (*picture.blobs.values(), json.dumps(document).encode()):
            name = store.content.put(data, keep=lease.keep)
        with pytest.raises(InvalidContent, match="the manifest says"):
            store.assemble(lease, name)


def test_unpacking_at_once_from_many_threads(store):
    picture = Picture(layer(*[entry(f"f{number}", b"x" * 100) for number in range(200)]))
    archive = picture.layout("app")
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(import_archive(store, stream(archive)).ids)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[picture.id]] * 4 and len(store.images()) == 1 and os.listdir(store.home / "ingest") == []


def test_removal_while_another_image_with_the_same_layer_comes_in(store):
    for _ in range(10):
        add(store, Picture(BASE, layer(entry("one"))), "one")
        remover = threading.Thread(target=store.remove, args=("one",))
        remover.start()
        image = add(store, Picture(BASE, layer(entry("two"))), "two")
        remover.join()
        assert (image.layers[0] / "bin/sh").exists() and (image.layers[1] / "two").exists()
        store.remove("two")


# Kill, power cut, damage.

KILLED = """
    import os, signal, sys
    from runtime.images import unpack as module
    from runtime.images.archive import import_archive
    from runtime.images.store import ImageStore
    from tests.unit.images.parts import Picture, entry, layer, stream

    apply, count = module._Extractor._apply, 0
    def counting(self, *arguments):
        global count
        count += 1
        if count > 50:
            os.kill(os.getpid(), signal.SIGKILL)
        return apply(self, *arguments)
    module._Extractor._apply = counting
    picture = Picture(layer(*[entry(f"f{n}", b"x" * 5000) for n in range(20)]),
                      layer(*[entry(f"g{n}", b"x" * 5000) for n in range(100)]))
    import_archive(ImageStore(__import__("pathlib").Path(sys.argv[1])), stream(picture.layout("app")))
"""


def test_killed_in_the_middle_of_a_layer(tmp_path):
    code = textwrap.dedent(KILLED)
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    home = tmp_path / "images"
    assert len(os.listdir(home / "ingest")) == 1 and len(os.listdir(home / "layers")) == 1
    store = ImageStore(tmp_path)
    assert store.images() == [] and on_disk(store) == ([], [], [])
    assert store.usage().inodes == 0


def test_layers_of_an_earlier_boot_are_unpacked_again(store, tmp_path, monkeypatch):
    image = add(store, simple(), "app")
    other = add(store, simple(b"settled"), "settled")
    store.layers.settle(other.chains[0])
    (image.layers[0] / "etc/greeting").write_text("")  # what a power cut leaves of a file that was not synced
    before = other.layers[0].stat().st_ino
    fake = tmp_path / "boot_id"
    fake.write_text("another boot\n")
    monkeypatch.setattr(layers_module, "_BOOT_ID", fake)
    again = ImageStore(tmp_path)
    assert (again.resolve("app").layers[0] / "etc/greeting").read_text() == "hello\n"
    assert other.layers[0].stat().st_ino == before


def test_settling_marks_all_layers(store):
    image = add(store, simple(), "app")
    assert store.layers.info(image.chains[0]).boot != ""
    store.settle()
    assert store.layers.info(image.chains[0]).boot == ""


def test_a_lost_layer_is_unpacked_again(store, tmp_path):
    image = add(store, Picture(BASE, layer(entry("one"))), "app")
    store.layers.discard(image.chains[0])
    assert (ImageStore(tmp_path).resolve("app").layers[0] / "bin/sh").exists()


def test_an_image_with_a_lost_blob_is_dropped(store, tmp_path):
    image = add(store, simple(), "app")
    store.content.remove(image.id)
    assert ImageStore(tmp_path).images() == []


def test_a_broken_index_is_not_overwritten(store, tmp_path):
    add(store, simple(), "app")
    path = store.home / "index.json"
    for text in ("{", "[]", '{"version": 99, "images": {}}'):
        path.write_text(text)
        with pytest.raises(ImageError, match=r"index\.json"):
            ImageStore(tmp_path)
        assert path.read_text() == text
