"""Names of images, normalised as docker and containerd do.

`busybox` is `docker.io/library/busybox:latest`; the part before the first slash is a registry only if it looks like a
host (a dot, a colon, `localhost`, or a capital letter). With a digest the tag is dropped, since the digest decides.
Grammar: the `reference` package of github.com/distribution/reference.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from runtime.images.errors import InvalidReference

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"
NAME_LIMIT = 255

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_BARE_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Reference:
    """A normalised reference; exactly one of `tag` and `digest` is set."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Registry and repository: `docker.io/library/busybox`."""
        return f"{self.registry}/{self.repository}"

    @property
    def target(self) -> str:
        """What a registry is asked for: the digest, or else the tag."""
        return self.digest or self.tag

    def with_digest(self, digest: str) -> Reference:
        return Reference(self.registry, self.repository, digest=digest)

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"


def is_digest(text: str) -> bool:
    """Whether `text` is `sha256:<64 hex>` or `sha512:<128 hex>`, lower case."""
    return _DIGEST.fullmatch(text) is not None


def parse(text: str) -> Reference:
    """The reference that `text` means. Raises InvalidReference with the reason."""
    if not text:
        raise InvalidReference("image reference is empty")
    rest, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise InvalidReference(f"image reference {text!r}: {digest!r} is not a sha256 or sha512 digest")
    if _BARE_ID.fullmatch(rest):
        raise InvalidReference(f"image reference {text!r}: 64 hexadecimal digits are an image id, not a name")
    registry, repository = _split_registry(rest)
    repository, colon, tag = repository.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise InvalidReference(f"image reference {text!r}: {tag!r} is not a tag")
    if not _REGISTRY.fullmatch(registry):
        raise InvalidReference(f"image reference {text!r}: {registry!r} is not a registry host")
    if not _REPOSITORY.fullmatch(repository):
        hint = "repository names are lower case" if repository.lower() != repository else "not a repository name"
        raise InvalidReference(f"image reference {text!r}: {repository!r}: {hint}")
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = f"library/{repository}"
    if len(registry) + 1 + len(repository) > NAME_LIMIT:
        raise InvalidReference(f"image reference {text[:40]!r}...: the name is longer than {NAME_LIMIT} characters")
    if digest:
        return Reference(registry, repository, digest=digest)
    return Reference(registry, repository, tag=tag or DEFAULT_TAG)


def _split_registry(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first.lower() != first):
        return (DEFAULT_REGISTRY if first == f"index.{DEFAULT_REGISTRY}" else first), rest
    return DEFAULT_REGISTRY, text
