"""What `apply` sends: the difference between what was applied last, what is wanted now, and what lives on the server.

As kubectl's client-side apply: fields that the last file had and the new one has not are deleted; fields that only the
server has stay. With a shape (kinds that we know) the outcome is a strategic merge patch: lists with a merge key are
patched element by element, with `$patch: delete` for those that are gone and `$setElementOrder`; lists of scalars that
merge as a set get `$deleteFromPrimitiveList`. Without one it is a JSON merge patch, in which a list is replaced whole.
`$retainKeys` is never sent: a field that only the server has set survives even where the file now has one that
excludes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyctl.api import Document

if TYPE_CHECKING:
    from apimachinery.shapes import Shape

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def three_way(last: Document, new: Document, live: Document, shape: Shape | None = None) -> Document:
    """The patch that turns `live` into what `new` wants; empty if there is nothing to do."""
    patch: Document = {}
    for key, wanted in new.items():
        if wanted is None:
            if live.get(key) is not None:
                patch[key] = None
        elif key not in live:
            patch[key] = wanted
        else:
            patch.update(_field(key, last.get(key), wanted, live[key], _below(shape, key)))
    for key in last:
        if key not in new and key in live:
            patch[key] = None
    return patch


def _field(key: str, last: Any, wanted: Any, live: Any, shape: Shape | None) -> Document:
    """What the patch says of one field that both the file and the server have."""
    if isinstance(wanted, dict) and isinstance(live, dict):
        below = three_way(last if isinstance(last, dict) else {}, wanted, live, shape)
        return {key: below} if below else {}
    if isinstance(wanted, list) and isinstance(live, list) and _merges(shape):
        before = last if isinstance(last, list) else []
        merge_key = getattr(shape, "merge_key", "")
        if not merge_key:
            return _set(key, before, wanted, live)
        if all(isinstance(each, dict) and merge_key in each for each in (*before, *wanted, *live)):
            return _elements(key, merge_key, before, wanted, live, getattr(shape, "item", None))
    return {} if _same(wanted, live) else {key: wanted}


def _elements(
    key: str, merge_key: str, last: list[Document], wanted: list[Document], live: list[Document], shape: Shape | None
) -> Document:
    old, there = ({each[merge_key]: each for each in items} for items in (last, live))
    changes: list[Document] = []
    for element in wanted:
        name = element[merge_key]
        if name not in there:
            changes.append(element)
            continue
        below = three_way(old.get(name, {}), element, there[name], shape)
        if below:
            changes.append({**below, merge_key: name})
    names = [each[merge_key] for each in wanted]
    gone = [{"$patch": "delete", merge_key: name} for name in old if name not in names and name in there]
    reordered = [name for name in names if name in there] != [name for name in there if name in names]
    if not (changes or gone or reordered):
        return {}
    order = {f"$setElementOrder/{key}": [{merge_key: name} for name in names]}
    return {**order, key: changes + gone} if changes or gone else order


def _set(key: str, last: list[Any], wanted: list[Any], live: list[Any]) -> Document:
    patch: Document = {}
    missing = [each for each in wanted if each not in live]
    gone = [each for each in last if each not in wanted and each in live]
    if missing:
        patch[key] = missing
    if gone:
        patch[f"$deleteFromPrimitiveList/{key}"] = gone
    if patch:
        patch[f"$setElementOrder/{key}"] = wanted
    return patch


def _merges(shape: Shape | None) -> bool:
    return "merge" in getattr(shape, "strategies", ())


def _below(shape: Shape | None, key: str) -> Shape | None:
    fields = getattr(shape, "fields", None)
    if fields is not None:
        return fields[key].shape if key in fields else None
    value: Shape | None = getattr(shape, "value", None)
    return value


def _same(left: Any, right: Any) -> bool:
    # 1 == True in Python, and not in JSON.
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right)
