"""References normalise as docker and containerd have them; what cannot be a name says why."""

import pytest

from runtime.images.errors import InvalidReference
from runtime.images.reference import parse

D = "sha256:" + "a" * 64

GOOD = {
    "busybox": "docker.io/library/busybox:latest",
    "busybox:1.36": "docker.io/library/busybox:1.36",
    "user/app": "docker.io/user/app:latest",
    "docker.io/busybox": "docker.io/library/busybox:latest",
    "index.docker.io/user/app:v1": "docker.io/user/app:v1",
    "localhost/app": "localhost/app:latest",
    "localhost:5000/app": "localhost:5000/app:latest",
    "127.0.0.1:5000/a/b/c:Tag_1.x-y": "127.0.0.1:5000/a/b/c:Tag_1.x-y",
    "[::1]:5000/app": "[::1]:5000/app:latest",
    "registry.k8s.io/pause:3.9": "registry.k8s.io/pause:3.9",
    "Registry/app": "Registry/app:latest",
    f"busybox@{D}": f"docker.io/library/busybox@{D}",
    f"busybox:1.36@{D}": f"docker.io/library/busybox@{D}",
    "a__b/c-d.e--f": "docker.io/a__b/c-d.e--f:latest",
    f"app@sha512:{'0' * 128}": f"docker.io/library/app@sha512:{'0' * 128}",
}

BAD = {
    "": "empty",
    "BusyBox": "lower case",
    "user/App": "lower case",
    "app:": "not a tag",
    "app:-x": "not a tag",
    f"app:{'t' * 129}": "not a tag",
    "app@sha256:abc": "not a sha256",
    f"app@sha256:{'A' * 64}": "not a sha256",
    "app@": "not a sha256",
    f"app@md5:{'a' * 32}": "not a sha256",
    "a" * 64: "image id",
    "a//b": "not a repository",
    "/app": "not a repository",
    "app/": "not a repository",
    "-app": "not a repository",
    "a___b": "not a repository",
    "host.:5000x/app": "not a registry host",
    "ho st.x/app": "not a registry host",
    "app name": "not a repository",
    "x/" + "y" * 260: "longer than 255",
    "../etc/passwd": "not a registry host",
    "app\n": "not a repository",
}


@pytest.mark.parametrize("text", GOOD)
def test_normalised(text):
    assert str(parse(text)) == GOOD[text]
    assert str(parse(GOOD[text])) == GOOD[text]


@pytest.mark.parametrize("text", BAD, ids=lambda text: text[:20])
def test_refused(text):
    with pytest.raises(InvalidReference, match=BAD[text]):
        parse(text)


def test_what_a_registry_is_asked_for():
    assert parse("app:v1").target == "v1"
    assert parse(f"app:v1@{D}").target == D
    assert str(parse("app:v1").with_digest(D)) == f"docker.io/library/app@{D}"
