"""What a pod asks for: Kubernetes' sums over containers, init containers, sidecars and overhead."""

from __future__ import annotations

from apimachinery.kinds.pod_container import ResourceRequirements
from tests.unit.scheduler.builders import container, info

MEBIBYTE = 1024.0 * 1024.0


def test_containers_add_up() -> None:
    found = info(containers=[container("a", cpu="100m", memory="1Mi"), container("b", cpu="1")])
    assert found.requests == {"cpu": 1100.0, "memory": MEBIBYTE, "pids": 2.0, "pods": 1.0}
    assert list(found.requests) == sorted(found.requests)


def test_init_containers_count_one_by_one_beside_earlier_sidecars() -> None:
    found = info(
        containers=[container("main", cpu="100m")],
        initContainers=[
            container("first", cpu="500m"),
            container("sidecar", cpu="200m", restart="Always"),
            container("second", cpu="400m"),
        ],
    )
    assert found.requests["cpu"] == 600.0  # second beside the sidecar; afterwards 300
    assert found.requests["pids"] == 2.0


def test_overhead_is_on_top() -> None:
    found = info(cpu="100m", overhead={"cpu": "50m", "memory": "1Mi", "pids": "7"})
    assert found.requests == {"cpu": 150.0, "memory": MEBIBYTE, "pids": 7.0, "pods": 1.0}
    assert found.nonzero_cpu == 150.0
    assert found.nonzero_memory == 201 * MEBIBYTE


def test_pod_level_requests_stand_for_the_sum() -> None:
    found = info(cpu="100m", resources=ResourceRequirements(requests={"cpu": "2"}))
    assert found.requests["cpu"] == found.nonzero_cpu == 2000.0


def test_who_asks_for_nothing_is_scored_with_a_default_and_a_zero_is_a_zero() -> None:
    found = info(containers=[container("a"), container("b", cpu="0", memory="0")])
    assert (found.nonzero_cpu, found.nonzero_memory) == (100.0, 200 * MEBIBYTE)
    assert "cpu" not in found.requests


def test_host_ports_are_sorted_with_their_defaults() -> None:
    found = info(containers=[container("a", host_port=90), container("b", host_port=80)])
    assert found.host_ports == (("0.0.0.0", "TCP", 80), ("0.0.0.0", "TCP", 90))
