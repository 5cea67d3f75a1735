"""`/stats/summary`: what containers use, in the kubelet's format, as far as the runtime tells."""

from __future__ import annotations

from typing import Any

from apimachinery.times import format_time
from nodeagent.agent import Agent
from nodeagent.cri import CONTAINER_NAME, POD_UID
from pb.cri.v1 import api_pb2 as cri

NANO = 1_000_000_000
Json = dict[str, Any]


async def summary(agent: Agent, now: float) -> Json:
    """Raises CRIError."""
    by_pod: dict[str, list[cri.ContainerStats]] = {}
    for each in await agent.runtime.list_container_stats():
        by_pod.setdefault(each.attributes.labels.get(POD_UID, ""), []).append(each)
    pods = []
    for uid, worker in agent.workers.items():
        meta = worker.pod.metadata
        pods.append(
            {
                "podRef": {"name": meta.name, "namespace": meta.namespace, "uid": uid},
                "startTime": format_time(worker.machine.started_at),
                "containers": [_container(each, now) for each in by_pod.get(uid, [])],
            }
        )
    return {"node": {"nodeName": agent.identity.name}, "pods": pods}


def _container(stats: cri.ContainerStats, now: float) -> Json:
    found: Json = {"name": stats.attributes.labels.get(CONTAINER_NAME, stats.attributes.metadata.name)}
    if stats.HasField("cpu"):
        cpu = stats.cpu
        found["cpu"] = {"time": _time(cpu.timestamp, now), "usageCoreNanoSeconds": cpu.usage_core_nano_seconds.value}
        if cpu.HasField("usage_nano_cores"):
            found["cpu"]["usageNanoCores"] = cpu.usage_nano_cores.value
    if stats.HasField("memory"):
        memory = stats.memory
        found["memory"] = {
            "time": _time(memory.timestamp, now),
            "workingSetBytes": memory.working_set_bytes.value,
            "usageBytes": memory.usage_bytes.value,
            "rssBytes": memory.rss_bytes.value,
        }
    if stats.HasField("writable_layer"):
        layer = stats.writable_layer
        found["rootfs"] = {"time": _time(layer.timestamp, now), "usedBytes": layer.used_bytes.value}
    return found


def _time(nanos: int, now: float) -> str:
    return format_time(nanos / NANO if nanos else now)
