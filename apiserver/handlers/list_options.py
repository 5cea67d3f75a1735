"""The query of lists and watches: selectors, revisions, paging. Refuses the combinations that Kubernetes refuses."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import msgspec

from apimachinery import fields, labels
from apimachinery.causes import forbidden, invalid, not_supported
from apimachinery.errors import BadRequest, Cause, Invalid
from apimachinery.kind import Kind
from apiserver.cacher.resource import ResourceCache
from apiserver.cacher.watcher import Selection
from componentbase.http import Query

from .bodies import whole_number

EXACT = "Exact"
NOT_OLDER_THAN = "NotOlderThan"
TOKEN_VERSION = "meta.k8s.io/v1"
# In a token: go on at the newest revision, since the old one is compacted.
INCONSISTENT = -1


@dataclass(frozen=True, slots=True)
class ListOptions:
    """`revision` None: not given. `send_initial_events` None: not given."""

    label_selector: labels.Selector
    field_selector: fields.FieldSelector
    revision: int | None = None
    match: str = ""
    limit: int = 0
    token: str = ""
    timeout_seconds: int = 0
    bookmarks: bool = False
    send_initial_events: bool | None = None

    def selection(self, cache: ResourceCache, namespace: str) -> Selection:
        """The range of keys and the selectors. A list by name reads one key only."""
        prefix = cache.layout.range(namespace)
        name = self.field_selector.exact("metadata.name")
        if name and (namespace or not cache.kind.namespaced):
            prefix = cache.layout.key(namespace, name)
        return Selection(prefix, self.label_selector, self.field_selector)


def parse(kind: Kind, query: Query, *, watch: bool) -> ListOptions:
    """BadRequest for what cannot be read, Invalid for what contradicts itself."""
    given = dict(reversed(query))
    options = ListOptions(
        label_selector=_labels(given.get("labelSelector", "")),
        field_selector=_fields(kind, given.get("fieldSelector", "")),
        revision=parse_revision(given.get("resourceVersion", "")),
        match=given.get("resourceVersionMatch", ""),
        # Below 0 there is no limit, as in Kubernetes.
        limit=max(0, whole_number("limit", given.get("limit") or "0")),
        token=given.get("continue", ""),
        timeout_seconds=whole_number("timeoutSeconds", given.get("timeoutSeconds") or "0"),
        bookmarks=_flag(given.get("allowWatchBookmarks")) or False,
        send_initial_events=_flag(given.get("sendInitialEvents")),
    )
    causes = _watch_faults(options) if watch else _list_faults(options)
    if causes:
        raise Invalid("ListOptions", "", causes, group="meta.k8s.io")
    if options.token and options.revision:
        raise BadRequest("specifying resource version is not allowed when using continue")
    return options


def parse_revision(text: str) -> int | None:
    """A resourceVersion; None when it is not given."""
    if not text:
        return None
    # More digits than a 64-bit number has are no revision of any store.
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise Invalid(
            "ListOptions", "", [invalid("resourceVersion", text, "must be a whole number")], group="meta.k8s.io"
        )
    return int(text)


def _flag(text: str | None) -> bool | None:
    return None if text is None else text in ("true", "1", "True")


def _labels(text: str) -> labels.Selector:
    try:
        return labels.parse(text)
    except ValueError as error:
        raise BadRequest(f'unable to parse requirement: invalid label selector "{text}": {error}') from None


def _fields(kind: Kind, text: str) -> fields.FieldSelector:
    try:
        selector = fields.parse(text)
    except ValueError as error:
        raise BadRequest(str(error)) from None
    if unknown := selector.unknown(kind.field_labels):
        raise BadRequest(f'field label "{unknown[0]}" not supported for {kind.kind}')
    return selector


def _list_faults(options: ListOptions) -> list[Cause]:
    causes: list[Cause] = []
    if options.send_initial_events is not None:
        causes.append(forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    if options.match:
        if options.revision is None:
            causes.append(
                forbidden(
                    "resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided"
                )
            )
        if options.token:
            causes.append(
                forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided")
            )
        if options.match not in (EXACT, NOT_OLDER_THAN):
            causes.append(not_supported("resourceVersionMatch", options.match, (EXACT, NOT_OLDER_THAN, "")))
        if options.match == EXACT and options.revision == 0:
            causes.append(
                forbidden("resourceVersionMatch", 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"')
            )
    return causes


def _watch_faults(options: ListOptions) -> list[Cause]:
    causes: list[Cause] = []
    if options.send_initial_events is not None:
        if not options.match:
            why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            causes.append(forbidden("resourceVersionMatch", why))
        elif options.match != NOT_OLDER_THAN:
            causes.append(not_supported("resourceVersionMatch", options.match, (NOT_OLDER_THAN,)))
    elif options.match:
        why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        causes.append(forbidden("resourceVersionMatch", why))
    if options.token:
        causes.append(forbidden("continue", "continue is forbidden for watch"))
    return causes


class _Token(msgspec.Struct):
    v: str
    rv: int
    start: str


def encode_token(revision: int, start: str, prefix: str) -> str:
    """Where the next page begins: base64url of {v, rv, start}; `start` relative to the range."""
    data = msgspec.json.encode(_Token(TOKEN_VERSION, revision, start.removeprefix(prefix)))
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode_token(token: str, prefix: str) -> tuple[int, str]:
    """(revision, key) of a token. BadRequest when it is not one of ours."""
    try:
        data: Any = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        found = msgspec.json.decode(data, type=_Token)
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise BadRequest(f"continue key is not valid: {error}") from None
    if found.v != TOKEN_VERSION or found.rv < INCONSISTENT or found.rv == 0 or not found.start:
        raise BadRequest(f"continue key is not valid: version {found.v}, revision {found.rv}")
    return found.rv, prefix + found.start
