"""Clears away what is left on the node of a pod that the API server no longer has."""

from __future__ import annotations

import logging

from nodeagent.cri import GRACE_SECONDS, POD_UID, CRIError
from nodeagent.podworker.worker import Services
from pb.cri.v1 import api_pb2 as cri

log = logging.getLogger(__name__)

MAX_GRACE_SECONDS = 30


async def remove_orphan(services: Services, uid: str) -> None:
    """Stop its containers, with the grace they were given, and remove everything. What fails is tried at the next
    list."""
    runtime = services.runtime
    try:
        for container in await runtime.list_containers({POD_UID: uid}):
            if container.state == cri.CONTAINER_RUNNING:
                grace = min(int(container.annotations.get(GRACE_SECONDS, "0") or 0), MAX_GRACE_SECONDS)
                await runtime.stop_container(container.id, grace)
        for sandbox in await runtime.list_pod_sandboxes({POD_UID: uid}):
            log.info("removing sandbox of pod %s/%s, which is gone", sandbox.metadata.namespace, sandbox.metadata.name)
            await runtime.stop_pod_sandbox(sandbox.id)
            await runtime.remove_pod_sandbox(sandbox.id)
            meta = sandbox.metadata
            await services.logs.remove_of(meta.namespace, meta.name, meta.uid)
        await services.volumes.remove(uid)
        services.cgroups.remove(uid)
    except (CRIError, OSError) as error:
        log.warning("what is left of pod %s cannot be removed yet: %s", uid, error)
