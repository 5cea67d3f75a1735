"""What can go wrong with images, one class for each answer that a caller gives.

`service.py` translates these to gRPC codes, once. Texts are lower case, name the value, and are meant for the person
whose pod does not start: the node agent shows them beside `ErrImagePull`.
"""

from __future__ import annotations


class ImageError(Exception):
    """Base of all errors of this package."""


class InvalidReference(ImageError):
    """The name of an image cannot be one."""


class InvalidContent(ImageError):
    """Bytes are not what their digest, size, media type or format promised, or break a safety rule."""


class NotFound(ImageError):
    """The image, blob or program is not there."""


class Unauthorized(ImageError):
    """The registry wants credentials, or other ones."""


class Unavailable(ImageError):
    """A registry cannot be reached, or fails: trying again later may help."""


class Conflict(ImageError):
    """The request does not fit what is there: a tag for an archive of several images, an image too many."""


class Exhausted(ImageError):
    """A limit on bytes, entries or free space was met."""
