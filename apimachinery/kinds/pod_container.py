"""Containers of a pod: what runs, with which environment, resources, mounts, probes, hooks and rights."""

from __future__ import annotations

from typing import Annotated

from apimachinery.kinds.pod_volumes import ObjectFieldSelector, ResourceFieldSelector
from apimachinery.meta import Int32, Int64, IntOrString, QuantityString, Record, always, fresh, merge_on


class ContainerPort(Record, kw_only=True):
    """A port that the container listens on. containerPort informs; hostPort opens it on the node."""

    name: str = ""
    hostPort: Int32 | None = None
    containerPort: Int32 = always(0)
    protocol: str = ""
    hostIP: str = ""


class ConfigMapKeySelector(Record, kw_only=True):
    """A key of a ConfigMap."""

    name: str = ""
    key: str = always("")
    optional: bool | None = None


class SecretKeySelector(Record, kw_only=True):
    """A key of a Secret."""

    name: str = ""
    key: str = always("")
    optional: bool | None = None


class EnvVarSource(Record, kw_only=True):
    """Where a variable's value comes from; exactly one field is set."""

    fieldRef: ObjectFieldSelector | None = None
    resourceFieldRef: ResourceFieldSelector | None = None
    configMapKeyRef: ConfigMapKeySelector | None = None
    secretKeyRef: SecretKeySelector | None = None


class EnvVar(Record, kw_only=True):
    """An environment variable. `$(NAME)` in value refers to an earlier one."""

    name: str = always("")
    value: str = ""
    valueFrom: EnvVarSource | None = None


class ConfigMapEnvSource(Record, kw_only=True):
    """All keys of a ConfigMap."""

    name: str = ""
    optional: bool | None = None


class SecretEnvSource(Record, kw_only=True):
    """All keys of a Secret."""

    name: str = ""
    optional: bool | None = None


class EnvFromSource(Record, kw_only=True):
    """Many variables at once, each with the prefix."""

    prefix: str = ""
    configMapRef: ConfigMapEnvSource | None = None
    secretRef: SecretEnvSource | None = None


class ResourceClaim(Record, kw_only=True):
    """A claim of the pod that this container uses."""

    name: str = always("")
    request: str = ""


class ResourceRequirements(Record, kw_only=True):
    """What is asked for and at most given: maps of cpu, memory, ... to quantities."""

    limits: dict[str, QuantityString] = {}
    requests: dict[str, QuantityString] = {}
    claims: list[ResourceClaim] = []


class ContainerResizePolicy(Record, kw_only=True):
    """Whether a container restarts when a resource is resized."""

    resourceName: str = always("")
    restartPolicy: str = always("")


class VolumeMount(Record, kw_only=True):
    """A volume of the pod at a path of the container."""

    name: str = always("")
    readOnly: bool | None = None
    recursiveReadOnly: str | None = None
    mountPath: str = always("")
    subPath: str = ""
    mountPropagation: str | None = None
    subPathExpr: str = ""


class VolumeDevice(Record, kw_only=True):
    """A block volume at a path of the container."""

    name: str = always("")
    devicePath: str = always("")


class ExecAction(Record, kw_only=True):
    """A command in the container."""

    command: list[str] = []


class HTTPHeader(Record, kw_only=True):
    """A request header."""

    name: str = always("")
    value: str = always("")


class HTTPGetAction(Record, kw_only=True):
    """An HTTP GET; any status from 200 to 399 is success."""

    path: str = ""
    port: IntOrString = always(0)
    host: str = ""
    scheme: str = ""
    httpHeaders: list[HTTPHeader] = []


class TCPSocketAction(Record, kw_only=True):
    """A TCP connection."""

    port: IntOrString = always(0)
    host: str = ""


class GRPCAction(Record, kw_only=True):
    """A call of the gRPC health service."""

    port: Int32 = always(0)
    service: str | None = None


class SleepAction(Record, kw_only=True):
    """Waiting."""

    seconds: Int64 = always(0)


class Probe(Record, kw_only=True):
    """A check that the agent repeats; exactly one action is set."""

    exec: ExecAction | None = None
    httpGet: HTTPGetAction | None = None
    tcpSocket: TCPSocketAction | None = None
    grpc: GRPCAction | None = None
    initialDelaySeconds: Int32 | None = None
    timeoutSeconds: Int32 | None = None
    periodSeconds: Int32 | None = None
    successThreshold: Int32 | None = None
    failureThreshold: Int32 | None = None
    terminationGracePeriodSeconds: Int64 | None = None


class LifecycleHandler(Record, kw_only=True):
    """What a hook does; exactly one action is set."""

    exec: ExecAction | None = None
    httpGet: HTTPGetAction | None = None
    tcpSocket: TCPSocketAction | None = None
    sleep: SleepAction | None = None


class Lifecycle(Record, kw_only=True):
    """Hooks after the start and before the stop."""

    postStart: LifecycleHandler | None = None
    preStop: LifecycleHandler | None = None
    stopSignal: str | None = None


class Capabilities(Record, kw_only=True):
    """Kernel capabilities on top of, or taken from, the default set."""

    add: list[str] = []
    drop: list[str] = []


class SELinuxOptions(Record, kw_only=True):
    """SELinux labels."""

    user: str = ""
    role: str = ""
    type: str = ""
    level: str = ""


class WindowsSecurityContextOptions(Record, kw_only=True):
    """Settings of Windows containers."""

    gmsaCredentialSpecName: str | None = None
    gmsaCredentialSpec: str | None = None
    runAsUserName: str | None = None
    hostProcess: bool | None = None


class SeccompProfile(Record, kw_only=True):
    """type: RuntimeDefault, Unconfined or Localhost (with localhostProfile)."""

    type: str = always("")
    localhostProfile: str | None = None


class AppArmorProfile(Record, kw_only=True):
    """type: RuntimeDefault, Unconfined or Localhost (with localhostProfile)."""

    type: str = always("")
    localhostProfile: str | None = None


class SecurityContext(Record, kw_only=True):
    """Rights of one container; goes before the pod's."""

    capabilities: Capabilities | None = None
    privileged: bool | None = None
    seLinuxOptions: SELinuxOptions | None = None
    windowsOptions: WindowsSecurityContextOptions | None = None
    runAsUser: Int64 | None = None
    runAsGroup: Int64 | None = None
    runAsNonRoot: bool | None = None
    readOnlyRootFilesystem: bool | None = None
    allowPrivilegeEscalation: bool | None = None
    procMount: str | None = None
    seccompProfile: SeccompProfile | None = None
    appArmorProfile: AppArmorProfile | None = None


class Container(Record, kw_only=True):
    """One program of a pod."""

    name: str = always("")
    image: str = ""
    command: list[str] = []
    args: list[str] = []
    workingDir: str = ""
    ports: Annotated[list[ContainerPort], merge_on("containerPort")] = []
    envFrom: list[EnvFromSource] = []
    env: Annotated[list[EnvVar], merge_on("name")] = []
    resources: ResourceRequirements = fresh(ResourceRequirements)
    resizePolicy: list[ContainerResizePolicy] = []
    restartPolicy: str | None = None
    volumeMounts: Annotated[list[VolumeMount], merge_on("mountPath")] = []
    volumeDevices: Annotated[list[VolumeDevice], merge_on("devicePath")] = []
    livenessProbe: Probe | None = None
    readinessProbe: Probe | None = None
    startupProbe: Probe | None = None
    lifecycle: Lifecycle | None = None
    terminationMessagePath: str = ""
    terminationMessagePolicy: str = ""
    imagePullPolicy: str = ""
    securityContext: SecurityContext | None = None
    stdin: bool | None = None
    stdinOnce: bool | None = None
    tty: bool | None = None


class EphemeralContainer(Container, kw_only=True):
    """A container that is added to a running pod, for a look around."""

    targetContainerName: str = ""
