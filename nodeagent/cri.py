"""The seam to the container runtime: CRI v1 as plain async verbs over its own messages.

Engines: `grpc_cri.GrpcCRI` (any runtime on a Unix socket) and `hollow.cri.HollowCRI` (in memory, in virtual time).
Ids that come back are the runtime's; what they name lives until it is removed. Every verb raises `CRIError`;
`RuntimeAway` when nobody answers, which says nothing about whether the call was carried out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from pb.cri.v1 import api_pb2 as cri

# Labels and annotations by which containers are found again: the kubelet's own names.
POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"
RESTART_COUNT = "io.kubernetes.container.restartCount"
SPEC_HASH = "io.kubernetes.container.hash"
MESSAGE_PATH = "io.kubernetes.container.terminationMessagePath"
MESSAGE_POLICY = "io.kubernetes.container.terminationMessagePolicy"
GRACE_SECONDS = "io.kubernetes.pod.terminationGracePeriod"


class CRIError(Exception):
    """The runtime refused or failed. `code` is gRPC's name for it: NOT_FOUND, INVALID_ARGUMENT, ..."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class RuntimeAway(CRIError):
    """Nobody answers on the runtime's socket, or the connection broke during the call."""

    def __init__(self, message: str) -> None:
        super().__init__("UNAVAILABLE", message)


class PodSandboxes(Protocol):
    """The pods' surroundings: network, namespaces, cgroup. Made once a pod (and again when lost), stopped, removed."""

    async def run_pod_sandbox(self, config: cri.PodSandboxConfig, handler: str = "") -> str: ...

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        """Kills what is left in it. No error when it is stopped or gone already."""
        ...

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        """Removes its containers, too. No error when it is gone already."""
        ...

    async def pod_sandbox_status(self, sandbox_id: str) -> cri.PodSandboxStatus: ...

    async def list_pod_sandboxes(self, labels: dict[str, str] | None = None) -> list[cri.PodSandbox]: ...


class Containers(Protocol):
    """Created in a sandbox, started once, stopped, removed. An attempt is a container of its own."""

    async def create_container(
        self, sandbox_id: str, config: cri.ContainerConfig, sandbox_config: cri.PodSandboxConfig
    ) -> str: ...

    async def start_container(self, container_id: str) -> None: ...

    async def stop_container(self, container_id: str, grace_seconds: int) -> None:
        """Returns when it has ended: SIGTERM, and SIGKILL after the grace."""
        ...

    async def remove_container(self, container_id: str) -> None: ...

    async def container_status(self, container_id: str) -> cri.ContainerStatus: ...

    async def list_containers(self, labels: dict[str, str] | None = None) -> list[cri.Container]: ...

    def container_events(self) -> AsyncIterator[cri.ContainerEventResponse]:
        """Every start and stop from now on, until the connection breaks. UNIMPLEMENTED where there is no such thing."""
        ...

    async def reopen_container_log(self, container_id: str) -> None: ...

    async def exec_sync(self, container_id: str, command: list[str], timeout_seconds: int) -> cri.ExecSyncResponse: ...

    async def list_container_stats(self) -> list[cri.ContainerStats]: ...


class Streams(Protocol):
    """Each returns a URL that serves one session."""

    async def exec(self, request: cri.ExecRequest) -> str: ...

    async def attach(self, request: cri.AttachRequest) -> str: ...

    async def port_forward(self, request: cri.PortForwardRequest) -> str: ...


class Images(Protocol):
    """Images by reference; a pulled image is named by the reference that PullImage returns."""

    async def image_status(self, image: str) -> cri.Image | None:
        """None when it is not there."""
        ...

    async def pull_image(
        self, image: str, sandbox_config: cri.PodSandboxConfig, auth: cri.AuthConfig | None = None
    ) -> str: ...

    async def list_images(self) -> list[cri.Image]: ...

    async def remove_image(self, image: str) -> None: ...


class CRI(PodSandboxes, Containers, Streams, Images, Protocol):
    """A container runtime. Whoever made the engine closes it."""

    async def version(self) -> cri.VersionResponse: ...

    async def status(self) -> cri.RuntimeStatus: ...

    async def update_pod_cidr(self, cidr: str) -> None: ...

    async def close(self) -> None: ...
