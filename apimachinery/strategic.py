"""Strategic merge patch: what `kubectl apply`, `edit` and `set` send for built-in kinds.

Maps merge, null deletes, lists of structs with a merge key merge element by element, lists of scalars with strategy
`merge` merge as sets, all other lists are replaced. Directives: `$patch` (delete, replace, merge),
`$setElementOrder/<list>`, `$deleteFromPrimitiveList/<list>`, `$retainKeys`. The rules, also of order, are those of
k8s.io/apimachinery/pkg/util/strategicpatch; merge keys come from the annotations of the structs."""

from __future__ import annotations

from typing import Any

from apimachinery.errors import BadRequest
from apimachinery.kind import Kind
from apimachinery.shapes import ListShape, MapShape, Shape, StructShape, shape_of

_PATCH = "$patch"
_RETAIN = "$retainKeys"
_ORDER = "$setElementOrder/"
_DELETE = "$deleteFromPrimitiveList/"

Map = dict[str, Any]


def strategic_merge(doc: Map, patch: Any, kind: Kind | type[Any]) -> Map:
    """The document after the patch. BadRequest for a malformed patch; neither argument is changed."""
    if not isinstance(patch, dict):
        raise BadRequest("error decoding patch: a strategic merge patch is an object")
    shape = shape_of(kind.type if isinstance(kind, Kind) else kind)
    return _merge_map(doc, patch, shape)


def _merge_map(doc: Map, patch: Map, shape: Shape | None) -> Map:
    directive = patch.get(_PATCH)
    if directive == "replace":
        return _plain({key: value for key, value in patch.items() if key != _PATCH})
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise BadRequest(f"unknown patch type: {directive!r}")
    found = _retained(dict(doc), patch)
    done = _ordered_lists(found, patch, shape)
    for key, value in patch.items():
        if key in done or key in (_PATCH, _RETAIN) or key.startswith(_ORDER):
            continue
        if key.startswith(_DELETE):
            _delete_primitives(found, key.removeprefix(_DELETE), value)
        elif key.startswith("$"):
            raise BadRequest(f'unknown directive "{key}" in a strategic merge patch')
        elif value is None:
            found.pop(key, None)
        else:
            found[key] = _merge_value(found.get(key), value, *_field(shape, key))
    return found


def _field(shape: Shape | None, key: str) -> tuple[Shape | None, tuple[str, ...]]:
    """Shape and patch strategies of a field; None for one that is not known (the decoder will say so)."""
    if isinstance(shape, StructShape) and key in shape.fields:
        known = shape.fields[key]
        return known.shape, known.strategies
    return (shape.value, ()) if isinstance(shape, MapShape) else (None, ())


def _merge_value(old: Any, new: Any, shape: Shape | None, strategies: tuple[str, ...]) -> Any:
    if isinstance(new, dict):
        if "replace" in strategies:
            return _plain(new)
        # Merging into nothing drops nulls and carries out the directives of what is new.
        return _merge_map(old if isinstance(old, dict) else {}, new, shape)
    if isinstance(new, list):
        return _merge_list(old if isinstance(old, list) else [], new, shape, strategies)
    return new


def _merge_list(old: list[Any], new: list[Any], shape: Shape | None, strategies: tuple[str, ...]) -> list[Any]:
    if "merge" not in strategies or not isinstance(shape, ListShape):
        return _without_directives(new)
    if not shape.merge_key:
        if any(isinstance(item, dict | list) for item in new):
            raise BadRequest(f"a strategic merge patch has an object in a list of scalars: {new}")
        merged = list(dict.fromkeys([*old, *new]))
        return _in_order(merged, new, old, "")
    key = shape.merge_key
    old, new, replaced = _list_directives(old, new, key)
    if replaced:
        return [_merge_value({}, item, shape.item, ()) for item in new]
    merged = list(old)
    for item in new:
        place = _find(merged, item[key], key)
        if place is None:
            merged.append(_merge_map({}, item, shape.item))
        else:
            merged[place] = _merge_map(merged[place], item, shape.item)
    return _in_order(merged, new, old, key)


def _list_directives(old: list[Any], new: list[Any], key: str) -> tuple[list[Any], list[Any], bool]:
    """Carries out the elements `{$patch: delete, key: value}` and `{$patch: replace}` of a patch."""
    kept: list[Any] = []
    replaced = False
    for item in new:
        if not isinstance(item, dict):
            raise BadRequest(f"a strategic merge patch has {item!r} in a list of objects")
        directive = item.get(_PATCH)
        if directive == "replace":
            replaced = True
        elif directive == "delete":
            gone = _key_of(item, key, 'the directive "$patch: delete"')
            old = [element for element in old if _key(element, key) != gone]
        elif directive in (None, "merge"):
            _key_of(item, key, "a strategic merge patch")
            kept.append(item)
        else:
            raise BadRequest(f"unknown patch type: {directive!r}")
    return old, kept, replaced


def _key_of(item: Map, key: str, who: str) -> Any:
    if key not in item:
        raise BadRequest(f"{who} has an element without the merge key {key!r}: {item}")
    return item[key]


def _ordered_lists(found: Map, patch: Map, shape: Shape | None) -> set[str]:
    """Merges and orders the lists that have a `$setElementOrder`, and returns their names."""
    done: set[str] = set()
    for directive, order in patch.items():
        if not directive.startswith(_ORDER):
            continue
        name = directive.removeprefix(_ORDER)
        if not isinstance(order, list):
            raise BadRequest(f'"{directive}" must be a list')
        field, strategies = _field(shape, name)
        key = field.merge_key if isinstance(field, ListShape) else ""
        given = patch.get(name)
        old = found.get(name) or []
        if name in patch and given is None:
            continue  # null deletes the list, whatever its order
        if not old and not given:
            continue
        _check_order(given or [], order, key, directive)
        # Primitives are deleted first, so that the order is that of what remains.
        if (gone := patch.get(_DELETE + name)) is not None:
            _delete_primitives(found, name, gone)
            old = found.get(name) or []
        merged = _merge_list(old, given, field, strategies) if given else list(old)
        found[name] = _in_order(merged, order, old, key)
        done |= {name, _DELETE + name}
    return done


def _check_order(given: list[Any], order: list[Any], key: str, directive: str) -> None:
    """What the patch brings must stand in the same order in the directive."""
    places = [_find(order, _key(item, key), key) for item in given if not (isinstance(item, dict) and _PATCH in item)]
    if None in places or places != sorted(place for place in places if place is not None):
        raise BadRequest(f'the order of the list in the patch does not match "{directive}": {order}')


def _in_order(merged: list[Any], order: list[Any], old: list[Any], key: str) -> list[Any]:
    """Sorts the elements that `order` names by it, and puts the others between them as near as possible to where they
    were among the old ones."""
    listed = sorted((item for item in merged if _place(order, item, key) >= 0), key=lambda i: _place(order, i, key))
    others = [item for item in merged if _place(order, item, key) < 0]
    others.sort(key=lambda item: _place(old, item, key))
    found: list[Any] = []
    left = right = 0
    while left < len(others) and right < len(listed):
        mine, theirs = _place(old, others[left], key), _place(old, listed[right], key)
        if 0 <= mine < theirs:
            found.append(others[left])
            left += 1
        else:
            found.append(listed[right])
            right += 1
    return found + others[left:] + listed[right:]


def _place(items: list[Any], item: Any, key: str) -> int:
    place = _find(items, _key(item, key), key)
    return -1 if place is None else place


def _find(items: list[Any], wanted: Any, key: str) -> int | None:
    return next((index for index, item in enumerate(items) if _key(item, key) == wanted), None)


def _key(item: Any, key: str) -> Any:
    return item.get(key) if key and isinstance(item, dict) else item


def _retained(found: Map, patch: Map) -> Map:
    keys = patch.get(_RETAIN)
    if keys is None:
        return found
    if not isinstance(keys, list):
        raise BadRequest(f'"{_RETAIN}" must be a list')
    extra = [key for key, value in patch.items() if not key.startswith("$") and value is not None and key not in keys]
    if extra:
        raise BadRequest(f'"{_RETAIN}" must name every key of the patch; it lacks {", ".join(extra)}')
    return {key: value for key, value in found.items() if key in keys}


def _delete_primitives(found: Map, name: str, gone: Any) -> None:
    if not isinstance(gone, list):
        raise BadRequest(f'"{_DELETE}{name}" must be a list')
    if isinstance(found.get(name), list):
        found[name] = [item for item in found[name] if item not in gone]


def _plain(value: Map) -> Map:
    """New content, as it will stand: without nulls and directives."""
    return {
        key: _plain(item) if isinstance(item, dict) else _without_directives(item) if isinstance(item, list) else item
        for key, item in value.items()
        if item is not None and not key.startswith("$")
    }


def _without_directives(items: list[Any]) -> list[Any]:
    return [
        _plain(item) if isinstance(item, dict) else item
        for item in items
        if not (isinstance(item, dict) and item.get(_PATCH) in ("delete", "replace"))
    ]
