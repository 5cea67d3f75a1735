"""Validation of pods: Kubernetes' field paths, reasons and words."""

from typing import Any

import pytest

from apimachinery import codec
from apimachinery.kinds.pod import KIND, Pod


def make(spec: dict[str, Any] | None = None, container: dict[str, Any] | None = None, **metadata: Any) -> Pod:
    body = {
        "metadata": {"name": "a", "namespace": "d", **metadata},
        "spec": {"containers": [{"name": "c", "image": "i", **(container or {})}], **(spec or {})},
    }
    pod = codec.to_object(Pod, body)
    KIND.default(pod)
    return pod


def faults(pod: Pod) -> list[str]:
    return [f"{cause.field}: {cause.message}" for cause in KIND.causes_on_create(pod)]


def test_good_pods_have_no_faults() -> None:
    container = {
        "ports": [{"name": "http", "containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}],
        "env": [
            {"name": "A.b-c", "value": "x"},
            {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app.io/x']"}}},
            {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
            {"name": "D", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k.x"}}},
        ],
        "envFrom": [{"prefix": "P_", "secretRef": {"name": "s"}}],
        "resources": {"limits": {"cpu": "1", "example.com/gpu": "2", "hugepages-2Mi": "4Mi"}},
        "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "a/b"}],
        "livenessProbe": {"exec": {"command": ["true"]}},
        "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
        "securityContext": {"runAsUser": 0, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    spec = {
        "volumes": [
            {"name": "v"},
            {"name": "s", "secret": {"secretName": "s", "defaultMode": 0o400, "items": [{"key": "k", "path": "a/k"}]}},
            {"name": "d", "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        ],
        "initContainers": [{"name": "i", "image": "i"}, {"name": "side", "image": "i", "restartPolicy": "Always"}],
        "tolerations": [{"operator": "Exists"}, {"key": "k", "effect": "NoExecute", "tolerationSeconds": 5}],
        "dnsConfig": {
            "nameservers": ["10.0.0.1", "fd00::1"],
            "searches": ["a.b.", "_x.y"],
            "options": [{"name": "ndots"}],
        },
        "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a.b"]}],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
    }
    assert faults(make(spec, container)) == []


PATH = "spec.containers[0]"


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({"image": ""}, [f"{PATH}.image: Required value"]),
        ({"image": " x"}, [f'{PATH}.image: Invalid value: " x": must not have leading or trailing whitespace']),
        ({"name": ""}, [f"{PATH}.name: Required value"]),
        (
            {"imagePullPolicy": "Sometimes"},
            [
                f'{PATH}.imagePullPolicy: Unsupported value: "Sometimes": '
                'supported values: "Always", "IfNotPresent", "Never"'
            ],
        ),
        ({"ports": [{}]}, [f"{PATH}.ports[0].containerPort: Required value"]),
        (
            {"ports": [{"containerPort": 70000}]},
            [f"{PATH}.ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"],
        ),
        (
            {"ports": [{"name": "a", "containerPort": 1}, {"name": "a", "containerPort": 2}]},
            [f'{PATH}.ports[1].name: Duplicate value: "a"'],
        ),
        (
            {"ports": [{"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 9}]},
            [f'{PATH}.ports[1].hostPort: Duplicate value: "TCP//9"'],
        ),
        (
            {"ports": [{"containerPort": 1, "protocol": "ICMP"}]},
            [f'{PATH}.ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"'],
        ),
        ({"env": [{"value": "x"}]}, [f"{PATH}.env[0].name: Required value"]),
        (
            {"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
            [f'{PATH}.env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty'],
        ),
        (
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}}]},
            [f"{PATH}.env[0].valueFrom.secretKeyRef.key: Required value"],
        ),
        (
            {"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}},
            [f'{PATH}.resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1'],
        ),
        (
            {"resources": {"requests": {"cpu": "-1"}}},
            [f'{PATH}.resources.requests.cpu: Invalid value: "-1": must be greater than or equal to 0'],
        ),
        (
            {"resources": {"limits": {"example.com/gpu": "500m"}}},
            [
                f'{PATH}.resources.limits[example.com/gpu]: Invalid value: "500m": must be an integer',
                f'{PATH}.resources.requests[example.com/gpu]: Invalid value: "500m": must be an integer',
            ],
        ),
        ({"livenessProbe": {}}, [f"{PATH}.livenessProbe: Required value: must specify a handler type"]),
        (
            {"livenessProbe": {"tcpSocket": {"port": 1}, "successThreshold": 2}},
            [f"{PATH}.livenessProbe.successThreshold: Invalid value: 2: must be 1"],
        ),
        (
            {"readinessProbe": {"tcpSocket": {"port": 0}}},
            [f"{PATH}.readinessProbe.tcpSocket.port: Invalid value: 0: must be between 1 and 65535, inclusive"],
        ),
        ({"restartPolicy": "Always"}, [f"{PATH}.restartPolicy: Forbidden: may not be set for non-init containers"]),
        (
            {"volumeMounts": [{"name": "nope", "mountPath": "/a"}]},
            [f'{PATH}.volumeMounts[0].name: Not found: "nope"'],
        ),
        (
            {"securityContext": {"runAsUser": -1}},
            [f"{PATH}.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive"],
        ),
    ],
)
def test_containers(container: dict[str, Any], expected: list[str]) -> None:
    assert faults(make(container=container)) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"containers": []}, ["spec.containers: Required value"]),
        (
            {"restartPolicy": "Maybe"},
            ['spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "Never", "OnFailure"'],
        ),
        (
            {"initContainers": [{"name": "c", "image": "i"}]},
            ['spec.containers[0].name: Duplicate value: "c"'],
        ),
        (
            {"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/a"}}]},
            ["spec.volumes[0].emptyDir: Forbidden: may not specify more than 1 volume type"],
        ),
        ({"volumes": [{"name": "v"}, {"name": "v"}]}, ['spec.volumes[1].name: Duplicate value: "v"']),
        ({"volumes": [{"name": "v", "hostPath": {}}]}, ["spec.volumes[0].hostPath.path: Required value"]),
        (
            {"volumes": [{"name": "v", "secret": {"secretName": "s", "items": [{"key": "k", "path": "../k"}]}}]},
            ["spec.volumes[0].secret.items[0].path: Invalid value: \"../k\": must not contain '..'"],
        ),
        (
            {"volumes": [{"name": "v", "configMap": {"name": "s", "defaultMode": 0o1000}}]},
            [
                "spec.volumes[0].configMap.defaultMode: Invalid value: 512: "
                "must be a number between 0 and 0777 (octal), both inclusive"
            ],
        ),
        (
            {"dnsPolicy": "None"},
            ["spec.dnsConfig: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None"],
        ),
        (
            {"tolerations": [{"key": "k", "operator": "Exists", "value": "v"}]},
            [
                'spec.tolerations[0].operator: Invalid value: {"key": "k", "operator": "Exists", "value": "v"}: '
                "value must be empty when `operator` is 'Exists'"
            ],
        ),
        (
            {"tolerations": [{"value": "v"}]},
            [
                'spec.tolerations[0].operator: Invalid value: "": operator must be Exists when `key` is empty, '
                'which means "match all values and all keys"'
            ],
        ),
        (
            {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}},
            [
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: "
                "Required value: must have at least one node selector term"
            ],
        ),
        (
            {"activeDeadlineSeconds": 0},
            ["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"],
        ),
        (
            {"shareProcessNamespace": True, "hostPID": True},
            [
                "spec.shareProcessNamespace: Invalid value: true: "
                "ShareProcessNamespace and HostPID cannot both be enabled"
            ],
        ),
        (
            {"ephemeralContainers": [{"name": "e", "image": "i"}]},
            ["spec.ephemeralContainers: Forbidden: cannot be set on create"],
        ),
        (
            {"nodeName": "n", "schedulingGates": [{"name": "g"}]},
            ["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"],
        ),
        (
            {"hostAliases": [{"ip": "x"}]},
            [
                'spec.hostAliases[0].ip: Invalid value: "x": '
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            ],
        ),
    ],
)
def test_specs(spec: dict[str, Any], expected: list[str]) -> None:
    assert faults(make(spec)) == expected


def test_names_are_checked() -> None:
    [label] = faults(make(container={"name": "A"}))
    assert label.startswith('spec.containers[0].name: Invalid value: "A": a lowercase RFC 1123 label must consist of')
    [name] = faults(make(name="a_b"))
    assert name.startswith('metadata.name: Invalid value: "a_b": a lowercase RFC 1123 subdomain must consist of')
    assert faults(make(name="")) == ["metadata.name: Required value: name or generateName is required"]
    assert faults(make(namespace="")) == ["metadata.namespace: Required value"]
    [value] = faults(make(labels={"a": "b c"}))
    assert value.startswith('metadata.labels: Invalid value: "b c": a valid label must be')
    [key] = faults(make(labels={"x/y/z": "b"}))
    assert key.startswith('metadata.labels: Invalid value: "x/y/z": a qualified name must')
    assert faults(make(annotations={"a": "x" * 300000})) == [
        "metadata.annotations: Too long: may not be more than 262144 bytes"
    ]


def changed(spec: dict[str, Any] | None = None, container: dict[str, Any] | None = None, **metadata: Any) -> list[str]:
    old_spec = {
        "activeDeadlineSeconds": 100,
        "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute"}],
        "schedulingGates": [{"name": "g"}],
    }
    old = make(old_spec, {"env": [{"name": "A", "value": "1"}]})
    new = make({**old_spec, **(spec or {})}, {"env": [{"name": "A", "value": "1"}], **(container or {})}, **metadata)
    return [f"{cause.field}: {cause.message}" for cause in KIND.causes_on_update(new, old)]


@pytest.mark.parametrize(
    ("spec", "container"),
    [
        ({}, {}),
        ({}, {"image": "other:1"}),
        ({"activeDeadlineSeconds": 50}, {}),
        ({"schedulingGates": []}, {}),
        ({"nodeSelector": {"a": "b"}}, {}),
        (
            {
                "tolerations": [
                    {"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 9},
                    {"key": "l"},
                ]
            },
            {},
        ),
    ],
)
def test_what_may_change(spec: dict[str, Any], container: dict[str, Any]) -> None:
    assert changed(spec, {**container, "imagePullPolicy": "Always"}) == []


@pytest.mark.parametrize(
    ("spec", "container", "field", "part"),
    [
        ({}, {"env": []}, "spec: ", "changed: spec.containers[0].env"),
        (
            {"hostNetwork": True},
            {},
            "spec: ",
            "pod updates may not change fields other than `spec.containers[*].image`",
        ),
        ({"activeDeadlineSeconds": 200}, {}, "spec.activeDeadlineSeconds: ", "less than or equal to previous value"),
        ({"activeDeadlineSeconds": None}, {}, "spec.activeDeadlineSeconds: ", "from a positive integer to nil"),
        ({"schedulingGates": [{"name": "g"}, {"name": "h"}]}, {}, "spec.schedulingGates: ", "new scheduling gate 'h'"),
        ({"tolerations": []}, {}, "spec.tolerations: ", "existing toleration can not be modified"),
        (
            {"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]},
            {},
            "spec.containers: ",
            "add or remove",
        ),
    ],
)
def test_what_may_not_change(spec: dict[str, Any], container: dict[str, Any], field: str, part: str) -> None:
    [fault] = changed(spec, {**container, "imagePullPolicy": "Always"})
    assert fault.startswith(field)
    assert part in fault


def test_metadata_that_may_not_change() -> None:
    assert changed(name="b") == ['metadata.name: Invalid value: "b": field is immutable']
    old, new = make(), make(finalizers=["x.io/new"])
    old.metadata.deletionTimestamp = new.metadata.deletionTimestamp = "2024-01-01T00:00:00Z"
    [cause] = KIND.causes_on_update(new, old)
    assert (cause.field, cause.reason) == ("metadata.finalizers", "FieldValueForbidden")


def test_status_updates() -> None:
    ended = {"name": "c", "state": {"terminated": {"exitCode": 0}}}
    running = {"name": "c", "state": {"running": {}}}
    old, new = make({"restartPolicy": "Never"}), make({"restartPolicy": "Never"})
    old.status = codec.to_object(type(old.status), {"qosClass": "BestEffort", "containerStatuses": [ended]})
    new.status = codec.to_object(type(old.status), {"containerStatuses": [running]})
    KIND.prepare_update(new, old)
    [cause] = KIND.causes_on_update(new, old, status=True)
    assert (cause.field, cause.message) == (
        "status.containerStatuses[0].state",
        "Forbidden: may not be transitioned to non-terminated state",
    )
    old.spec.restartPolicy = "Always"
    assert KIND.causes_on_update(new, old, status=True) == []
    new.status.qosClass = "Guaranteed"
    assert [cause.field for cause in KIND.causes_on_update(new, old, status=True)] == ["status.qosClass"]


def test_unsupported_fields_are_told_once_and_defaults_are_not() -> None:
    plain = make()
    KIND.admit(plain)
    assert KIND.warnings(plain) == []
    pod = make(
        {
            "affinity": {"podAntiAffinity": {}},
            "runtimeClassName": "gvisor",
            "securityContext": {"fsGroupChangePolicy": "Always"},
            "volumes": [{"name": "p", "persistentVolumeClaim": {"claimName": "x"}}],
            "schedulingGates": [{"name": "g"}],
            "subdomain": "s",
        },
        {
            "livenessProbe": {"tcpSocket": {"port": 1}},
            "ports": [{"containerPort": 80, "hostPort": 80}],
            "resources": {"limits": {"example.com/gpu": "1"}},
        },
    )
    assert KIND.warnings(pod) == [
        f"{path}: nothing acts on this yet"
        for path in (
            "spec.affinity.podAntiAffinity",
            "spec.runtimeClassName",
            "spec.subdomain",
            "spec.securityContext.fsGroupChangePolicy",
            "spec.containers[0].livenessProbe",
            "spec.containers[0].ports[0].hostPort",
            "spec.containers[0].resources.limits[example.com/gpu]",
            "spec.volumes[0].persistentVolumeClaim",
        )
    ]


def test_every_row_of_unsupported_fields_is_a_field() -> None:
    from apimachinery.kinds import pod_unsupported
    from apimachinery.shapes import ListShape, StructShape, shape_of

    def resolve(shape: Any, row: str) -> None:
        for part in row.split("."):
            assert isinstance(shape, StructShape), row
            shape = shape.fields[part.removesuffix("[]")].shape
            if part.endswith("[]"):
                assert isinstance(shape, ListShape), row
                shape = shape.item

    for row in pod_unsupported.ROWS:
        resolve(shape_of(type(make().spec)), row)
    for row in pod_unsupported.CONTAINER_ROWS:
        resolve(shape_of(type(make().spec.containers[0])), row)
    assert set(pod_unsupported.NEUTRAL) <= {*pod_unsupported.ROWS, *pod_unsupported.CONTAINER_ROWS}
