"""Rules for the metadata of every object, on create and on update. Kubernetes' ValidateObjectMeta and
ValidateObjectMetaUpdate."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from apimachinery.causes import faulty, forbidden, invalid, required, too_long
from apimachinery.errors import Cause
from apimachinery.meta import ObjectMeta, OwnerReference
from apimachinery.names import Faults, dns_label_faults, label_key_faults, label_value_faults

_MOST_ANNOTATION_BYTES = 256 * 1024
_IMMUTABLE = "field is immutable"
_KEPT = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def validate(meta: ObjectMeta, *, namespaced: bool, name_faults: Callable[[str], Faults]) -> list[Cause]:
    """What is wrong with the metadata of an object that is about to be stored."""
    found: list[Cause] = []
    if meta.generateName:
        # The prefix of a name may end in a hyphen.
        prefix = meta.generateName[:-1] + "a" if meta.generateName.endswith("-") else meta.generateName
        found += faulty("metadata.generateName", meta.generateName, name_faults(prefix))
    if meta.name:
        found += faulty("metadata.name", meta.name, name_faults(meta.name))
    else:
        found.append(required("metadata.name", "name or generateName is required"))
    if namespaced and not meta.namespace:
        found.append(required("metadata.namespace"))
    elif namespaced:
        found += faulty("metadata.namespace", meta.namespace, dns_label_faults(meta.namespace))
    elif meta.namespace:
        found.append(forbidden("metadata.namespace", "not allowed on this type"))
    if meta.generation is not None and meta.generation < 0:
        found.append(invalid("metadata.generation", meta.generation, "must be greater than or equal to 0"))
    found += labels(meta.labels, "metadata.labels")
    found += _annotations(meta.annotations)
    found += _owners(meta.ownerReferences)
    for finalizer in meta.finalizers:
        found += faulty("metadata.finalizers", finalizer, label_key_faults(finalizer))
    return found


def validate_update(new: ObjectMeta, old: ObjectMeta) -> list[Cause]:
    """What an update of the metadata may not do. The registry has already filled in what the client left empty."""
    found = [
        invalid(f"metadata.{name}", getattr(new, name), _IMMUTABLE)
        for name in _KEPT
        if getattr(new, name) != getattr(old, name)
    ]
    if (new.generation or 0) < (old.generation or 0):
        found.append(invalid("metadata.generation", new.generation, "must not be decremented"))
    added = [finalizer for finalizer in new.finalizers if finalizer not in old.finalizers]
    if old.deletionTimestamp and added:
        why = "no new finalizers can be added if the object is being deleted, found new finalizers "
        found.append(forbidden("metadata.finalizers", why + ", ".join(f'"{finalizer}"' for finalizer in added)))
    return found


def labels(given: Mapping[str, str], path: str) -> list[Cause]:
    """Faults of keys and values of a label map: metadata.labels, nodeSelector, matchLabels."""
    found: list[Cause] = []
    for key, value in given.items():
        found += faulty(path, key, label_key_faults(key))
        found += faulty(path, value, label_value_faults(value))
    return found


def _annotations(given: Mapping[str, str]) -> list[Cause]:
    found: list[Cause] = []
    for key in given:
        found += faulty("metadata.annotations", key, label_key_faults(key.lower()))
    if sum(len(key) + len(value.encode()) for key, value in given.items()) > _MOST_ANNOTATION_BYTES:
        found.append(too_long("metadata.annotations", _MOST_ANNOTATION_BYTES))
    return found


def _owners(owners: list[OwnerReference]) -> list[Cause]:
    found: list[Cause] = []
    controllers: list[str] = []
    for owner in owners:
        for name in ("apiVersion", "kind", "name", "uid"):
            if not getattr(owner, name):
                text = "version" if name == "apiVersion" else name
                found.append(invalid(f"metadata.ownerReferences.{name}", "", f"{text} must not be empty"))
        if owner.controller:
            controllers.append(f"{owner.kind}/{owner.name}")
    if len(controllers) > 1:
        why = (
            f'Only one reference can have Controller set to true. Found "true" in references for {controllers[0]} and '
        )
        found.append(invalid("metadata.ownerReferences", controllers, why + controllers[1]))
    return found
