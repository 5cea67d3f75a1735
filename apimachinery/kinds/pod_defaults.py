"""What Kubernetes 1.33 fills into a pod that the user left open, at decode time and at admission."""

from __future__ import annotations

from collections.abc import Iterable

from apimachinery.kinds.pod_affinity import Toleration
from apimachinery.kinds.pod_container import Container, HTTPGetAction, LifecycleHandler, Probe
from apimachinery.kinds.pod_spec import Pod, PodSecurityContext, PodSpec
from apimachinery.kinds.pod_status import PodCondition, PodIP, PodStatus
from apimachinery.kinds.pod_volumes import (
    SOURCES,
    EmptyDirVolumeSource,
    ObjectFieldSelector,
    Volume,
)
from apimachinery.quantity import from_milli, milli

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
DEFAULT_FILE_MODE = 0o644
_TOLERATION_SECONDS = 300
_TOKEN_SECONDS = 3600


def default(pod: Pod) -> None:
    """Completes a decoded pod, in place. Doing it twice changes nothing."""
    spec = pod.spec
    spec.restartPolicy = spec.restartPolicy or "Always"
    spec.dnsPolicy = spec.dnsPolicy or "ClusterFirst"
    spec.schedulerName = spec.schedulerName or "default-scheduler"
    if spec.terminationGracePeriodSeconds is None:
        spec.terminationGracePeriodSeconds = 30
    if spec.securityContext is None:
        spec.securityContext = PodSecurityContext()
    if spec.enableServiceLinks is None:
        spec.enableServiceLinks = True
    spec.serviceAccountName = spec.serviceAccountName or spec.serviceAccount
    spec.serviceAccount = spec.serviceAccountName
    for volume in spec.volumes:
        _volume(volume)
    for container in all_containers(spec):
        _container(container)
    for container in (*spec.initContainers, *spec.containers):
        _requests(container)
        if spec.hostNetwork:
            for port in container.ports:
                port.hostPort = port.hostPort or port.containerPort
    spec.overhead = _rounded(spec.overhead)
    status = pod.status
    if status.podIP and not status.podIPs:
        status.podIPs = [PodIP(ip=status.podIP)]
    elif status.podIPs and not status.podIP:
        status.podIP = status.podIPs[0].ip


def prepare_create(pod: Pod) -> None:
    """A new pod is Pending, whatever its creator says."""
    pod.status = PodStatus(phase="Pending", qosClass=qos_class(pod.spec))
    if pod.spec.schedulingGates:
        # Said here, since the scheduler does not look at the pod while a gate is closed.
        why = "Scheduling is blocked due to non-empty scheduling gates"
        pod.status.conditions = [
            PodCondition(type="PodScheduled", status="False", reason="SchedulingGated", message=why)
        ]


def admit(pod: Pod) -> None:
    """What the admission plugins Priority, DefaultTolerationSeconds and ServiceAccount set on every new pod."""
    spec = pod.spec
    if not spec.serviceAccountName:
        spec.serviceAccountName = spec.serviceAccount = "default"
    if spec.priority is None:
        spec.priority = {"system-cluster-critical": 2000000000, "system-node-critical": 2000001000}.get(
            spec.priorityClassName, 0
        )
    if spec.preemptionPolicy is None:
        spec.preemptionPolicy = "PreemptLowerPriority"
    for key in (NOT_READY, UNREACHABLE):
        tolerated = any(
            toleration.key in (key, "") and toleration.effect in ("NoExecute", "") for toleration in spec.tolerations
        )
        if not tolerated:
            spec.tolerations.append(
                Toleration(key=key, operator="Exists", effect="NoExecute", tolerationSeconds=_TOLERATION_SECONDS)
            )


def qos_class(spec: PodSpec) -> str:
    """Guaranteed when every container has limits for cpu and memory that equal its requests, BestEffort when none has
    either, else Burstable."""
    anything = False
    guaranteed = True
    for container in (*spec.initContainers, *spec.containers):
        limits, requests = container.resources.limits, container.resources.requests
        for resource in ("cpu", "memory"):
            limit, request = milli(limits.get(resource, "")), milli(requests.get(resource, ""))
            anything = anything or limit > 0 or request > 0
            guaranteed = guaranteed and limit > 0 and request in (0, limit)
    if not anything:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def all_containers(spec: PodSpec) -> Iterable[Container]:
    """Init, main and ephemeral containers, in this order."""
    return (*spec.initContainers, *spec.containers, *spec.ephemeralContainers)


def default_pull_policy(image: str) -> str:
    """Always for the tag `latest`, also when it goes without saying; IfNotPresent for other tags and for digests."""
    name, _, digest = image.partition("@")
    _, colon, tag = name.rpartition("/")[2].partition(":")
    if not colon:
        tag = "" if digest else "latest"
    return "Always" if tag == "latest" else "IfNotPresent"


def _container(container: Container) -> None:
    container.imagePullPolicy = container.imagePullPolicy or default_pull_policy(container.image)
    container.terminationMessagePath = container.terminationMessagePath or "/dev/termination-log"
    container.terminationMessagePolicy = container.terminationMessagePolicy or "File"
    for port in container.ports:
        port.protocol = port.protocol or "TCP"
    for variable in container.env:
        if variable.valueFrom is not None:
            _field_ref(variable.valueFrom.fieldRef)
    resources = container.resources
    resources.limits = _rounded(resources.limits)
    resources.requests = _rounded(resources.requests)
    for probe in (container.livenessProbe, container.readinessProbe, container.startupProbe):
        if probe is not None:
            _probe(probe)
    if container.lifecycle is not None:
        for handler in (container.lifecycle.postStart, container.lifecycle.preStop):
            _handler(handler)


def _requests(container: Container) -> None:
    resources = container.resources
    for resource, limit in resources.limits.items():
        resources.requests.setdefault(resource, limit)


def _probe(probe: Probe) -> None:
    probe.timeoutSeconds = probe.timeoutSeconds or 1
    probe.periodSeconds = probe.periodSeconds or 10
    probe.successThreshold = probe.successThreshold or 1
    probe.failureThreshold = probe.failureThreshold or 3
    _http_get(probe.httpGet)
    if probe.grpc is not None and probe.grpc.service is None:
        probe.grpc.service = ""


def _handler(handler: LifecycleHandler | None) -> None:
    if handler is not None:
        _http_get(handler.httpGet)


def _http_get(action: HTTPGetAction | None) -> None:
    if action is not None:
        action.path = action.path or "/"
        action.scheme = action.scheme or "HTTP"


def _field_ref(selector: ObjectFieldSelector | None) -> None:
    if selector is not None:
        selector.apiVersion = selector.apiVersion or "v1"


def _rounded(resources: dict[str, str]) -> dict[str, str]:
    """Nothing finer than a thousandth is kept of a resource."""
    if not any(text.endswith(("n", "u")) for text in resources.values()):
        return resources
    return {name: from_milli(milli(text)) if text.endswith(("n", "u")) else text for name, text in resources.items()}


def _volume(volume: Volume) -> None:
    if all(getattr(volume, source) is None for source in SOURCES):
        volume.emptyDir = EmptyDirVolumeSource()
    for files in (volume.secret, volume.configMap, volume.downwardAPI, volume.projected):
        if files is not None and files.defaultMode is None:
            files.defaultMode = DEFAULT_FILE_MODE
    if volume.hostPath is not None and volume.hostPath.type is None:
        volume.hostPath.type = ""
    if volume.downwardAPI is not None:
        for item in volume.downwardAPI.items:
            _field_ref(item.fieldRef)
    if volume.projected is not None:
        for source in volume.projected.sources:
            if source.serviceAccountToken is not None and source.serviceAccountToken.expirationSeconds is None:
                source.serviceAccountToken.expirationSeconds = _TOKEN_SECONDS
            for item in source.downwardAPI.items if source.downwardAPI is not None else ():
                _field_ref(item.fieldRef)
    if volume.ephemeral is not None and volume.ephemeral.volumeClaimTemplate is not None:
        claim = volume.ephemeral.volumeClaimTemplate.spec
        claim.volumeMode = claim.volumeMode or "Filesystem"
    if volume.image is not None and not volume.image.pullPolicy:
        volume.image.pullPolicy = default_pull_policy(volume.image.reference)
    _external_volume(volume)


def _external_volume(volume: Volume) -> None:
    if volume.iscsi is not None:
        volume.iscsi.iscsiInterface = volume.iscsi.iscsiInterface or "default"
    if volume.rbd is not None:
        volume.rbd.pool = volume.rbd.pool or "rbd"
        volume.rbd.user = volume.rbd.user or "admin"
        volume.rbd.keyring = volume.rbd.keyring or "/etc/ceph/keyring"
    if volume.azureDisk is not None:
        disk = volume.azureDisk
        disk.cachingMode = disk.cachingMode or "ReadWrite"
        disk.kind = disk.kind or "Shared"
        disk.fsType = disk.fsType or "ext4"
        disk.readOnly = bool(disk.readOnly)
    if volume.scaleIO is not None:
        volume.scaleIO.storageMode = volume.scaleIO.storageMode or "ThinProvisioned"
        volume.scaleIO.fsType = volume.scaleIO.fsType or "xfs"
