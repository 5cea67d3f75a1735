"""Tables: what kubectl shows."""

from typing import Any

import pytest

from apimachinery import codec, table
from apimachinery.kinds.pod import Pod
from apimachinery.scheme import SCHEME
from apimachinery.times import format_time, parse_time

CREATED = "2024-01-01T00:00:00Z"
NOW = parse_time(CREATED) + 300


def cells(kind: str, api_version: str = "v1", **fields: Any) -> list[Any]:
    known = SCHEME.by_kind(api_version, kind)
    assert known is not None
    fields["metadata"] = {"name": "a", "creationTimestamp": CREATED, **fields.get("metadata", {})}
    return table.cells(known, codec.to_object(known.type, fields), NOW)


def pod_cells(status: dict[str, Any], spec: dict[str, Any] | None = None, **metadata: Any) -> list[Any]:
    return cells("Pod", status=status, spec={"containers": [{"name": "c"}], **(spec or {})}, metadata=metadata)


def container(name: str = "c", restarts: int = 0, **state: Any) -> dict[str, Any]:
    last = state.pop("last", {})
    return {"name": name, "restartCount": restarts, "ready": "running" in state, "state": state, "lastState": last}


def test_a_running_pod() -> None:
    status = {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "containerStatuses": [container(running={})]}
    assert pod_cells(status, {"nodeName": "n"}) == [
        "a",
        "1/1",
        "Running",
        "0",
        "5m",
        "10.0.0.1",
        "n",
        "<none>",
        "<none>",
    ]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"phase": "Pending"}, "Pending"),
        ({"phase": "Failed", "reason": "Evicted"}, "Evicted"),
        (
            {"phase": "Pending", "containerStatuses": [container(waiting={"reason": "ContainerCreating"})]},
            "ContainerCreating",
        ),
        ({"phase": "Pending", "containerStatuses": [container(waiting={"reason": "ErrImagePull"})]}, "ErrImagePull"),
        (
            {"phase": "Running", "containerStatuses": [container(waiting={"reason": "CrashLoopBackOff"})]},
            "CrashLoopBackOff",
        ),
        (
            {"phase": "Succeeded", "containerStatuses": [container(terminated={"exitCode": 0, "reason": "Completed"})]},
            "Completed",
        ),
        ({"phase": "Failed", "containerStatuses": [container(terminated={"exitCode": 1, "reason": "Error"})]}, "Error"),
        ({"phase": "Failed", "containerStatuses": [container(terminated={"exitCode": 3})]}, "ExitCode:3"),
        ({"phase": "Failed", "containerStatuses": [container(terminated={"exitCode": 137, "signal": 9})]}, "Signal:9"),
        (
            {
                "phase": "Pending",
                "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}],
            },
            "SchedulingGated",
        ),
    ],
)
def test_the_status_of_a_pod(status: dict[str, Any], expected: str) -> None:
    assert pod_cells(status)[2] == expected


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([container("i", waiting={"reason": "PodInitializing"})], "Init:0/2"),
        ([container("i", terminated={"exitCode": 0}), container("j", running={})], "Init:1/2"),
        ([container("i", terminated={"exitCode": 1, "reason": "Error"})], "Init:Error"),
        ([container("i", terminated={"exitCode": 1})], "Init:ExitCode:1"),
        ([container("i", terminated={"exitCode": 1, "signal": 9})], "Init:Signal:9"),
        ([container("i", waiting={"reason": "CrashLoopBackOff"})], "Init:CrashLoopBackOff"),
    ],
)
def test_the_status_of_an_initializing_pod(states: list[dict[str, Any]], expected: str) -> None:
    spec = {"initContainers": [{"name": "i"}, {"name": "j"}]}
    assert pod_cells({"phase": "Pending", "initContainerStatuses": states}, spec)[2] == expected


def test_sidecars_count_as_containers() -> None:
    spec = {"initContainers": [{"name": "s", "restartPolicy": "Always"}]}
    side = {**container("s", running={}), "started": True}
    status = {"phase": "Running", "initContainerStatuses": [side], "containerStatuses": [container(running={})]}
    assert pod_cells(status, spec)[1:3] == ["2/2", "Running"]


def test_completed_beside_running() -> None:
    spec = {"containers": [{"name": "c"}, {"name": "d"}]}
    states = [container("c", terminated={"exitCode": 0, "reason": "Completed"}), container("d", running={})]
    status: dict[str, Any] = {"phase": "Running", "containerStatuses": states}
    assert pod_cells(status, spec)[1:3] == ["1/2", "NotReady"]
    status["conditions"] = [{"type": "Ready", "status": "True"}]
    assert pod_cells(status, spec)[2] == "Running"


def test_a_deleted_pod_is_terminating_until_it_has_ended() -> None:
    assert pod_cells({"phase": "Running"}, deletionTimestamp=CREATED)[2] == "Terminating"
    assert pod_cells({"phase": "Succeeded"}, deletionTimestamp=CREATED)[2] == "Succeeded"
    assert pod_cells({"phase": "Running", "reason": "NodeLost"}, deletionTimestamp=CREATED)[2] == "Unknown"


def test_restarts_tell_when() -> None:
    last = {"terminated": {"exitCode": 1, "finishedAt": format_time(NOW - 180)}}
    states = [container("c", restarts=2, running={}, last=last)]
    assert pod_cells({"phase": "Running", "containerStatuses": states})[3] == "2 (3m ago)"
    assert pod_cells({"phase": "Running", "containerStatuses": [container(restarts=2, running={})]})[3] == "2"


def test_readiness_gates() -> None:
    spec = {"readinessGates": [{"conditionType": "x"}, {"conditionType": "y"}]}
    assert pod_cells({"conditions": [{"type": "x", "status": "True"}]}, spec)[8] == "1/2"


def test_nodes() -> None:
    status = {
        "conditions": [{"type": "Ready", "status": "True"}],
        "addresses": [{"type": "InternalIP", "address": "1.2.3.4"}],
        "nodeInfo": {"kubeletVersion": "v1", "osImage": "Debian"},
    }
    labels = {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "edge"}
    assert cells("Node", status=status, metadata={"labels": labels}, spec={"unschedulable": True}) == [
        *("a", "Ready,SchedulingDisabled", "edge,worker", "5m", "v1"),
        *("1.2.3.4", "<none>", "Debian", "<unknown>", "<unknown>"),
    ]
    assert cells("Node")[1:3] == ["Unknown", "<none>"]
    assert cells("Node", status={"conditions": [{"type": "Ready", "status": "Unknown"}]})[1] == "NotReady"


def test_the_small_kinds() -> None:
    assert cells("Namespace", status={"phase": "Active"}) == ["a", "Active", "5m"]
    assert cells("ConfigMap", data={"a": "b"}, binaryData={"c": "aGk="}) == ["a", 2, "5m"]
    assert cells("Secret", type="Opaque", data={"a": "aGk="}) == ["a", "Opaque", 1, "5m"]
    assert cells("ServiceAccount") == ["a", 0, "5m"]
    assert cells("Lease", "coordination.k8s.io/v1", spec={"holderIdentity": "n"}) == ["a", "n", "5m"]
    assert cells("ConfigMap", metadata={"creationTimestamp": ""})[2] == "<unknown>"


def test_events() -> None:
    event: dict[str, Any] = {
        "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{c}"},
        "reason": "Pulled",
        "message": " done \n",
        "type": "Normal",
        "source": {"component": "agent", "host": "n"},
        "firstTimestamp": CREATED,
        "lastTimestamp": format_time(NOW - 60),
        "count": 3,
    }
    assert cells("Event", **event) == [
        "60s", "Normal", "Pulled", "pod/p", "spec.containers{c}", "agent, n", "done", "5m", 3, "a",
    ]  # fmt: skip
    newer = {
        "eventTime": "2024-01-01T00:04:00.000000Z",
        "reportingComponent": "sched",
        "involvedObject": {"kind": "Node"},
    }
    assert cells("Event", **newer)[0:9:2] == ["60s", "", "", "", 1]
    series = {**newer, "series": {"count": 7, "lastObservedTime": "2024-01-01T00:04:50.000000Z"}}
    assert (cells("Event", **series)[0], cells("Event", **series)[8]) == ("10s", 7)


def test_every_kind_has_as_many_cells_as_columns() -> None:
    for kind in SCHEME.kinds:
        assert len(table.cells(kind, kind.type(), NOW)) == len(kind.columns), kind.kind
        assert any(column.format == "name" for column in kind.columns)


def test_tables_and_what_rows_hold() -> None:
    pod = codec.to_object(Pod, {"metadata": {"name": "a", "resourceVersion": "7"}})
    kind = SCHEME.of(pod)
    whole = table.table(kind, [pod], NOW, metadata={"resourceVersion": "9"})
    assert (whole["kind"], whole["apiVersion"], whole["metadata"]) == (
        "Table",
        "meta.k8s.io/v1",
        {"resourceVersion": "9"},
    )
    assert whole["columnDefinitions"][0]["format"] == "name"
    assert whole["rows"][0]["object"] == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"name": "a", "resourceVersion": "7"},
    }
    assert table.row(kind, pod, NOW, include="Object")["object"]["kind"] == "Pod"
    assert "object" not in table.row(kind, pod, NOW, include="None")
    assert table.table(kind, [], NOW, columns=False)["columnDefinitions"] is None
    with pytest.raises(ValueError, match="Everything"):
        table.table(kind, [], NOW, include="Everything")  # type: ignore[arg-type]
