"""Blobs: nothing is published before digest and size match."""

import hashlib
import os

import pytest

from runtime.images.content import ContentStore, replace_file
from runtime.images.errors import InvalidContent, NotFound
from tests.unit.images.parts import digest

DATA = b"some bytes" * 1000


@pytest.fixture
def content(tmp_path):
    return ContentStore(tmp_path / "images")


def scratch(tmp_path):
    return os.listdir(tmp_path / "images" / "ingest")


def test_round_trip(content, tmp_path):
    assert content.put(DATA) == digest(DATA)
    assert content.has(digest(DATA)) and content.size(digest(DATA)) == len(DATA)
    with content.open(digest(DATA)) as blob:
        assert blob.read() == DATA
    assert content.read(digest(DATA), limit_bytes=len(DATA)) == DATA
    assert list(content.digests()) == [digest(DATA)]
    assert scratch(tmp_path) == []
    assert (tmp_path / "images" / "blobs" / "sha256" / digest(DATA)[7:]).read_bytes() == DATA


def test_sha512(content):
    name = "sha512:" + hashlib.sha512(DATA).hexdigest()
    assert content.put(DATA, name) == name
    assert content.has(name)


@pytest.mark.parametrize(
    "promised, size, match",
    [
        (digest(b"other"), len(DATA), "was promised"),
        (digest(DATA), len(DATA) + 1, "were promised"),
        (digest(DATA), len(DATA) - 1, "larger than"),
    ],
)
def test_wrong_bytes_are_not_published(content, tmp_path, promised, size, match):
    with pytest.raises(InvalidContent, match=match):
        with content.writer(promised, size) as writer:
            writer.write(DATA)
            writer.commit()
    assert list(content.digests()) == []
    assert scratch(tmp_path) == []


def test_leaving_without_commit_forgets(content, tmp_path):
    with content.writer() as writer:
        writer.write(DATA)
        assert scratch(tmp_path) != []
    assert scratch(tmp_path) == [] and list(content.digests()) == []


def test_committing_what_is_there_keeps_the_old_file(content):
    content.put(DATA)
    before = content.path(digest(DATA)).stat().st_ino
    content.put(DATA)
    assert content.path(digest(DATA)).stat().st_ino == before


def test_missing(content):
    for ask in (content.size, content.open):
        with pytest.raises(NotFound):
            ask(digest(b"nothing"))
    content.remove(digest(b"nothing"))


@pytest.mark.parametrize("name", ["sha256:../../etc/passwd", "md5:" + "a" * 32, "", "sha256:" + "A" * 64])
def test_a_digest_is_never_a_path(content, name):
    with pytest.raises(InvalidContent):
        content.path(name)


def test_read_has_a_limit(content):
    content.put(DATA)
    with pytest.raises(InvalidContent, match="at most"):
        content.read(digest(DATA), limit_bytes=len(DATA) - 1)


def test_a_killed_process_leaves_nothing_behind(content, tmp_path):
    with content.writer() as writer:
        writer.write(DATA)
        (content.scratch_name("layer") / "fs").mkdir(parents=True)
        again = ContentStore(tmp_path / "images")
        again.clear_scratch()
        assert scratch(tmp_path) == []


def test_replace_file(tmp_path):
    path = tmp_path / "file"
    replace_file(path, b"one")
    replace_file(path, b"two")
    assert path.read_bytes() == b"two" and os.listdir(tmp_path) == ["file"]
