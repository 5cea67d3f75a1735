"""What every pod gets on its way in: a service account, a priority, and tolerations for a node that is briefly away.

The values are `Kind.admit`'s, which is pure; what needs a look at other objects, or refuses, is here.
"""

from __future__ import annotations

from typing import Any

from apimachinery.kinds.pod import KIND as POD
from apimachinery.kinds.pod import Pod
from apimachinery.kinds.serviceaccount import KIND as SERVICE_ACCOUNT
from apiserver.cacher.cacher import Cacher

from .chain import Attributes, Plugin

# The built-in priority classes; there are no others until the kind is served.
PRIORITY_CLASSES = ("system-node-critical", "system-cluster-critical")


class BuiltIn(Plugin):
    """Sets what the kind itself says that every new object gets."""

    async def mutate(self, attributes: Attributes, obj: Any, old: Any | None) -> None:
        if attributes.operation == "CREATE":
            attributes.kind.admit(obj)


class ServiceAccount(Plugin):
    """Refuses a service account that does not exist, and takes over its pull secrets. No token is mounted yet."""

    def __init__(self, cacher: Cacher) -> None:
        self._cacher = cacher

    async def mutate(self, attributes: Attributes, obj: Any, old: Any | None) -> None:
        if attributes.kind is not POD or attributes.operation != "CREATE":
            return
        pod: Pod = obj
        name = pod.spec.serviceAccountName or pod.spec.serviceAccount or "default"
        found = self._cacher.of(SERVICE_ACCOUNT).get(attributes.namespace, name)
        # `default` comes with the namespace, a moment later: nobody has to wait for it, since nothing hangs on it yet.
        if found is None and name != "default":
            raise attributes.forbidden(
                f'error looking up service account {attributes.namespace}/{name}: serviceaccount "{name}" not found'
            )
        if found is not None and not pod.spec.imagePullSecrets and b'"imagePullSecrets"' in found.data:
            pod.spec.imagePullSecrets = found.decode().imagePullSecrets


class Priority(Plugin):
    """Refuses priority classes that there are not, and numbers that do not come from one."""

    async def mutate(self, attributes: Attributes, obj: Any, old: Any | None) -> None:
        if attributes.kind is not POD or attributes.operation != "CREATE":
            return
        spec = obj.spec
        if spec.priorityClassName and spec.priorityClassName not in PRIORITY_CLASSES:
            raise attributes.forbidden(f"no PriorityClass with name {spec.priorityClassName} was found")
        if spec.priority is None:
            return
        given, spec.priority = spec.priority, None
        attributes.kind.admit(obj)
        if given != spec.priority:
            raise attributes.forbidden(
                f"the integer value of priority ({given}) must not be provided in pod spec; "
                f"priority admission controller computed {spec.priority} from the given PriorityClass name"
            )
