"""What clients see of images and errors."""

from pathlib import Path

import grpc
import pytest

from runtime.images import errors
from runtime.images.service import CODES, describe, to_cri
from runtime.images.store import Image


def image(user=None, **config):
    process = {"User": user} if user is not None else None
    return Image(
        id="sha256:1",
        references=["a:1", "a:2"],
        digests=["a@sha256:2"],
        config={"config": process} | config,
        layers=(Path("/one"), Path("/two")),
        size=7,
        manifest="sha256:2",
        chains=("sha256:3", "sha256:4"),
    )


@pytest.mark.parametrize(
    "user, uid, username",
    [
        (None, None, ""),
        ("", None, ""),
        ("0", 0, ""),
        ("1002", 1002, ""),
        ("1003:1004", 1003, ""),
        ("www-data", None, "www-data"),
        ("www-data:1004", None, "www-data"),
        ("4294967296", 4294967296, ""),
        ("9" * 30, None, "9" * 30),
        ("²", None, "²"),
    ],
)
def test_user(user, uid, username):
    found = to_cri(image(user))
    assert (found.uid.value if found.HasField("uid") else None, found.username) == (uid, username)


def test_names_and_size():
    found = to_cri(image())
    assert (found.id, list(found.repo_tags), list(found.repo_digests), found.size) == (
        "sha256:1", ["a:1", "a:2"], ["a@sha256:2"], 7,
    )  # fmt: skip


def test_verbose():
    assert describe(image())["chainID"] == "sha256:4" and describe(image())["layers"] == ["/one", "/two"]


def test_every_error_has_a_code_and_none_says_that_the_runtime_is_gone():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ImageError)]
    assert set(kinds) - set(CODES) == {errors.ImageError}
    assert grpc.StatusCode.UNAVAILABLE not in CODES.values()
