"""Pods for the tests of the agent, in a few words."""

from __future__ import annotations

from typing import Any

from apimachinery.kinds.pod import Container, Pod, PodSpec
from apimachinery.meta import ObjectMeta

NOW = 1_735_689_600.0


def container(name: str = "c", **fields: Any) -> Container:
    return Container(name=name, image=fields.pop("image", "busybox:1"), **fields)


def pod(*containers: Container, name: str = "p", inits: tuple[Container, ...] = (), **spec: Any) -> Pod:
    return Pod(
        metadata=ObjectMeta(name=name, namespace="default", uid=f"uid-{name}"),
        spec=PodSpec(containers=list(containers) or [container()], initContainers=list(inits), nodeName="n1", **spec),
    )
