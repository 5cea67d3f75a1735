"""The three patches: RFC 6902 (json), RFC 7386 (merge) and Kubernetes' strategic merge, on JSON-like data.

None of the functions changes its arguments. A malformed patch is a BadRequest, one that does not fit the object an
Invalid. The strategic merge is in `strategic`."""

from __future__ import annotations

from typing import Any

import jsonpatch
import jsonpointer
import msgspec

from apimachinery.errors import BadRequest, Cause, Invalid, RequestEntityTooLarge, UnsupportedMediaType
from apimachinery.kind import Kind
from apimachinery.strategic import strategic_merge

__all__ = ["JSON_PATCH", "MERGE_PATCH", "STRATEGIC_PATCH", "apply", "json_patch", "merge_patch", "strategic_merge"]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"

_MOST_OPERATIONS = 10_000
_MOST_COPIED_BYTES = 3 * 1024 * 1024
_OPERATIONS = ("add", "remove", "replace", "move", "copy", "test")
_MISFITS = (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError, KeyError, ValueError)
_REJECTED = "the server rejected our request due to an error in our request"


def apply(content_type: str, doc: dict[str, Any], patch: Any, kind: Kind | type[Any] | None = None) -> dict[str, Any]:
    """The document after a patch of this media type. `kind` is needed for the strategic one; without it that is a
    415."""
    media = content_type.partition(";")[0].strip().lower()
    if media == JSON_PATCH:
        return json_patch(doc, patch)
    if media == MERGE_PATCH:
        return merge_patch(doc, patch)
    if media == STRATEGIC_PATCH and kind is not None:
        return strategic_merge(doc, patch, kind)
    known = [JSON_PATCH, MERGE_PATCH] + ([STRATEGIC_PATCH] if kind is not None else [])
    raise UnsupportedMediaType(
        "the body of the request was in an unknown format - accepted media types include: " + ", ".join(known)
    )


def json_patch(doc: dict[str, Any], operations: Any) -> dict[str, Any]:
    """RFC 6902. A test that fails or a path that is not there is Invalid (422)."""
    if not isinstance(operations, list) or not all(isinstance(operation, dict) for operation in operations):
        raise BadRequest(f"error decoding patch: a JSON patch is a list of operations, got {_shown(operations)}")
    if len(operations) > _MOST_OPERATIONS:
        why = f"The allowed maximum operations in a JSON patch is {_MOST_OPERATIONS}, got {len(operations)}"
        raise RequestEntityTooLarge(why)
    found: Any = _copy(doc)
    copied = 0
    for index, operation in enumerate(operations):
        if operation.get("op") not in _OPERATIONS:
            raise _rejected(index, operation, f"unexpected kind: {_shown(operation.get('op'))}")
        try:
            if operation["op"] == "copy":  # a few hundred copies of copies would fill the memory
                copied += len(msgspec.json.encode(jsonpointer.resolve_pointer(found, operation.get("from", ""))))
                if copied > _MOST_COPIED_BYTES:
                    raise RequestEntityTooLarge(f"a JSON patch may copy at most {_MOST_COPIED_BYTES} bytes")
            found = jsonpatch.JsonPatch([operation]).apply(found, in_place=True)
        except (
            jsonpatch.JsonPatchException,
            jsonpointer.JsonPointerException,
            TypeError,
            KeyError,
            ValueError,
        ) as error:
            raise _rejected(index, operation, str(error)) from None
    if not isinstance(found, dict):
        raise BadRequest(f"the patch makes the object a {type(found).__name__}")
    return found


def _rejected(index: int, operation: dict[str, Any], why: str) -> Invalid:
    place = f"operation {index} ({operation.get('op')} {operation.get('path')})"
    cause = Cause(reason="UnexpectedServerResponse", message=f"{place}: {why}")
    return Invalid("", "", [cause], message=f"{_REJECTED}: {place}: {why}")


def merge_patch(doc: dict[str, Any], patch: Any) -> dict[str, Any]:
    """RFC 7386: null deletes, maps merge, everything else replaces."""
    if not isinstance(patch, dict):
        raise BadRequest(f"error decoding patch: a merge patch is an object, got {_shown(patch)}")
    merged: dict[str, Any] = _merged(doc, patch)
    return merged


def _merged(doc: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return _copy(patch)
    found = dict(doc) if isinstance(doc, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = _merged(found.get(key), value)
    return found


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 80 else text[:77] + "..."
