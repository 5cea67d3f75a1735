"""What Kubernetes fills into a pod."""

from typing import Any

import pytest

from apimachinery import codec, table
from apimachinery.kinds import pod_defaults
from apimachinery.kinds.pod import KIND, Pod


def defaulted(spec: dict[str, Any]) -> Pod:
    pod = codec.to_object(Pod, {"metadata": {"name": "a", "namespace": "d"}, "spec": spec})
    KIND.default(pod)
    return pod


def test_the_usual_pod() -> None:
    pod = defaulted(
        {
            "containers": [
                {
                    "name": "a",
                    "image": "nginx",
                    "ports": [{"containerPort": 80}],
                    "readinessProbe": {"httpGet": {"port": 80}},
                    "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                    "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}},
                }
            ],
            "volumes": [
                {"name": "v"},
                {"name": "c", "configMap": {"name": "x"}},
                {"name": "h", "hostPath": {"path": "/"}},
            ],
        }
    )
    assert codec.to_dict(pod)["spec"] == {
        "volumes": [
            {"name": "v", "emptyDir": {}},
            {"name": "c", "configMap": {"name": "x", "defaultMode": 420}},
            {"name": "h", "hostPath": {"path": "/", "type": ""}},
        ],
        "containers": [
            {
                "name": "a",
                "image": "nginx",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "env": [{"name": "N", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}],
                "resources": {
                    "limits": {"cpu": "1", "memory": "1Gi"},
                    "requests": {"cpu": "100m", "memory": "1Gi"},
                },
                "readinessProbe": {
                    "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
                    "timeoutSeconds": 1,
                    "periodSeconds": 10,
                    "successThreshold": 1,
                    "failureThreshold": 3,
                },
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
                "imagePullPolicy": "Always",
            }
        ],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        "schedulerName": "default-scheduler",
        "enableServiceLinks": True,
    }


def test_defaulting_twice_changes_nothing() -> None:
    pod = defaulted({"containers": [{"name": "a", "image": "b"}], "volumes": [{"name": "v"}], "hostNetwork": True})
    before = codec.to_dict(pod)
    KIND.default(pod)
    assert codec.to_dict(pod) == before


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1", "IfNotPresent"),
        ("localhost:5000/nginx", "Always"),
        ("localhost:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:abc", "IfNotPresent"),
        ("nginx:latest@sha256:abc", "Always"),
    ],
)
def test_pull_policy_goes_by_the_tag(image: str, policy: str) -> None:
    assert pod_defaults.default_pull_policy(image) == policy


def test_ports_on_the_host_network_are_host_ports() -> None:
    pod = defaulted(
        {"hostNetwork": True, "containers": [{"name": "a", "image": "b", "ports": [{"containerPort": 80}]}]}
    )
    assert pod.spec.containers[0].ports[0].hostPort == 80


def test_resources_are_rounded_to_thousandths() -> None:
    pod = defaulted({"containers": [{"name": "a", "image": "b", "resources": {"requests": {"cpu": "1500u"}}}]})
    assert pod.spec.containers[0].resources.requests == {"cpu": "2m"}


def test_the_deprecated_name_of_the_service_account_follows() -> None:
    assert defaulted({"serviceAccount": "x"}).spec.serviceAccountName == "x"
    assert defaulted({"serviceAccountName": "x"}).spec.serviceAccount == "x"


def test_projected_volumes() -> None:
    sources = [
        {"serviceAccountToken": {"path": "t"}},
        {"downwardAPI": {"items": [{"path": "p", "fieldRef": {"fieldPath": "x"}}]}},
    ]
    volume = defaulted({"volumes": [{"name": "v", "projected": {"sources": sources}}]}).spec.volumes[0]
    assert volume.projected is not None
    assert volume.projected.defaultMode == 0o644
    assert codec.to_dict(volume.projected)["sources"] == [
        {"serviceAccountToken": {"expirationSeconds": 3600, "path": "t"}},
        {"downwardAPI": {"items": [{"path": "p", "fieldRef": {"apiVersion": "v1", "fieldPath": "x"}}]}},
    ]


def test_admission() -> None:
    pod = defaulted({"containers": [{"name": "a", "image": "b"}]})
    pod_defaults.admit(pod)
    pod_defaults.admit(pod)
    assert (pod.spec.priority, pod.spec.preemptionPolicy, pod.spec.serviceAccountName) == (
        0,
        "PreemptLowerPriority",
        "default",
    )
    assert [(t.key, t.effect, t.tolerationSeconds) for t in pod.spec.tolerations] == [
        ("node.kubernetes.io/not-ready", "NoExecute", 300),
        ("node.kubernetes.io/unreachable", "NoExecute", 300),
    ]
    own = defaulted({"tolerations": [{"operator": "Exists"}], "priorityClassName": "system-node-critical"})
    pod_defaults.admit(own)
    assert (len(own.spec.tolerations), own.spec.priority) == (1, 2000001000)


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ([{}], "BestEffort"),
        ([{"requests": {"cpu": "1"}}], "Burstable"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}}], "Guaranteed"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}], "Burstable"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}}, {}], "Burstable"),
        ([{"limits": {"cpu": "1"}}], "Burstable"),
        ([{"limits": {"example.com/gpu": "1"}}], "BestEffort"),
    ],
)
def test_quality_of_service(resources: list[dict[str, Any]], expected: str) -> None:
    containers = [{"name": f"c{n}", "image": "b", "resources": given} for n, given in enumerate(resources)]
    pod = defaulted({"containers": containers})
    KIND.prepare_create(pod)
    assert pod.status.conditions == []
    assert (pod.status.phase, pod.status.qosClass) == ("Pending", expected)


def test_a_gated_pod_says_so_from_the_beginning() -> None:
    pod = defaulted({"containers": [{"name": "c"}], "schedulingGates": [{"name": "g"}]})
    KIND.prepare_create(pod)
    (condition,) = pod.status.conditions
    assert (condition.type, condition.status, condition.reason) == ("PodScheduled", "False", "SchedulingGated")
    assert "SchedulingGated" in table.cells(KIND, pod, 0.0)
