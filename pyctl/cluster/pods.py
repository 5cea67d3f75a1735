"""The pods on this host as the runtime knows them, over its CRI socket: only what `down` needs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from pb.cri.v1 import api_pb2 as cri
from pb.cri.v1 import api_pb2_grpc
from pyctl.failure import Failure

# What the runtime may need on top of the grace that the containers get.
EXTRA_SECONDS = 15.0
# Where the node agent writes down the pod's own grace, as the kubelet does.
GRACE_SECONDS = "io.kubernetes.pod.terminationGracePeriod"


def stop_all(socket: Path, grace_seconds: int) -> int:
    """Stop and remove every pod, each with its own grace but at most this one, all at the same time; how many there
    were. Raises Failure if the runtime does not do it."""
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        runtime = api_pb2_grpc.RuntimeServiceStub(channel)  # type: ignore[no-untyped-call]
        try:
            containers = runtime.ListContainers(cri.ListContainersRequest(), timeout=EXTRA_SECONDS).containers
            sandboxes = runtime.ListPodSandbox(cri.ListPodSandboxRequest(), timeout=EXTRA_SECONDS).items
            limit = grace_seconds + EXTRA_SECONDS

            def stop(container: cri.Container) -> None:
                grace = min(grace_seconds, int(container.annotations.get(GRACE_SECONDS, grace_seconds)))
                runtime.StopContainer(cri.StopContainerRequest(container_id=container.id, timeout=grace), timeout=limit)

            def remove(sandbox_id: str) -> None:
                runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=sandbox_id), timeout=limit)
                runtime.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox_id), timeout=limit)

            running = [each for each in containers if each.state == cri.CONTAINER_RUNNING]
            with ThreadPoolExecutor(max_workers=32) as pool:
                list(pool.map(stop, running))
                list(pool.map(remove, [each.id for each in sandboxes]))
        except grpc.RpcError as error:
            raise Failure(f"the runtime could not end the pods: {error.details()} ({error.code().name})") from error
        return len(sandboxes)
