"""What every pod gets on its way in: a service account, a priority, and tolerations for a node that is briefly away."""

from __future__ import annotations

from typing import Any

from apimachinery.kinds.pod import KIND as POD
from apimachinery.kinds.pod import Pod, Toleration
from apimachinery.kinds.serviceaccount import KIND as SERVICE_ACCOUNT
from apiserver.cacher.cacher import Cacher

from .chain import Attributes, Plugin

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
TOLERATED_SECONDS = 300

# Built-in priority classes; there are no others until the kind is served.
PRIORITIES = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}


def _is_new_pod(attributes: Attributes) -> bool:
    return attributes.kind is POD and attributes.operation == "CREATE"


class ServiceAccount(Plugin):
    """Names the service account `default`, and refuses one that does not exist. No token is mounted yet."""

    def __init__(self, cacher: Cacher) -> None:
        self._cacher = cacher

    async def mutate(self, attributes: Attributes, obj: Any, old: Any | None) -> None:
        if not _is_new_pod(attributes):
            return
        pod: Pod = obj
        pod.spec.serviceAccountName = pod.spec.serviceAccountName or pod.spec.serviceAccount or "default"
        pod.spec.serviceAccount = pod.spec.serviceAccountName
        found = self._cacher.of(SERVICE_ACCOUNT).get(attributes.namespace, pod.spec.serviceAccountName)
        # `default` comes with the namespace, a moment later: nobody has to wait for it, since nothing hangs on it yet.
        if found is None and pod.spec.serviceAccountName != "default":
            name = f"{attributes.namespace}/{pod.spec.serviceAccountName}"
            raise attributes.forbidden(
                f'error looking up service account {name}: serviceaccount "{pod.spec.serviceAccountName}" not found'
            )
        if found is not None and not pod.spec.imagePullSecrets and b'"imagePullSecrets"' in found.data:
            pod.spec.imagePullSecrets = found.decode().imagePullSecrets


class Priority(Plugin):
    """Turns priorityClassName into a number; 0 and PreemptLowerPriority without one."""

    async def mutate(self, attributes: Attributes, obj: Any, old: Any | None) -> None:
        if not _is_new_pod(attributes):
            return
        spec = obj.spec
        if spec.priorityClassName and spec.priorityClassName not in PRIORITIES:
            raise attributes.forbidden(f"no PriorityClass with name {spec.priorityClassName} was found")
        priority = PRIORITIES.get(spec.priorityClassName, 0)
        if spec.priority is not None and spec.priority != priority:
            raise attributes.forbidden(
                f"the integer value of priority ({spec.priority}) must not be provided in pod spec; "
                f"priority admission controller computed {priority} from the given PriorityClass name"
            )
        spec.priority = priority
        spec.preemptionPolicy = spec.preemptionPolicy or "PreemptLowerPriority"


class DefaultTolerations(Plugin):
    """A node that is not ready or not reachable keeps its pods for five minutes, unless the pod says otherwise."""

    async def mutate(self, attributes: Attributes, obj: Any, old: Any | None) -> None:
        if not _is_new_pod(attributes):
            return
        tolerations: list[Toleration] = obj.spec.tolerations
        for key in (NOT_READY, UNREACHABLE):
            if not any(_covers(toleration, key) for toleration in tolerations):
                tolerations.append(
                    Toleration(key=key, operator="Exists", effect="NoExecute", tolerationSeconds=TOLERATED_SECONDS)
                )


def _covers(toleration: Toleration, key: str) -> bool:
    return toleration.key in (key, "") and toleration.effect in ("NoExecute", "")
