"""What the runtime is asked for: sandboxes, containers, resources, DNS; and which images, with which credentials."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from apimachinery.kinds.pod import Pod, PodSecurityContext
from apimachinery.kinds.pod_container import (
    Capabilities,
    ContainerPort,
    Lifecycle,
    ResourceRequirements,
    SeccompProfile,
    SecurityContext,
)
from apimachinery.kinds.secret import Secret
from componentbase.clock import run_virtual, virtual_clock
from nodeagent.admission import admit, requests
from nodeagent.cri_config import NodeFacts, container_config, sandbox_config, spec_hash
from nodeagent.dns import dns_config
from nodeagent.environment import ConfigError
from nodeagent.hollow.cri import HollowCRI
from nodeagent.hosts import hosts_file, pod_hostname
from nodeagent.images import ImageError, ImageKeeper, credentials, default_policy, registry_of
from nodeagent.resources import container_resources, cpu_quota, cpu_shares, oom_score_adj, pod_resources
from nodeagent.volumes.interface import Mount
from pb.cri.v1 import api_pb2 as cri
from tests.unit.nodeagent.pods import container, pod

GIB = 1 << 30
NODE = NodeFacts("n1", 8 * GIB)


def config(subject: Pod, image: cri.Image | None = None, **fields: Any) -> cri.ContainerConfig:
    env, mounts = fields.get("env", {}), fields.get("mounts", [])
    return container_config(subject, subject.spec.containers[0], 3, image, "sha256:1", NODE, env, mounts)


def sandbox(subject: Pod) -> cri.PodSandboxConfig:
    return sandbox_config(subject, 1, NODE, cri.DNSConfig(), log_directory="/logs/x", cgroup="/pods/poduid-p")


def test_sandbox() -> None:
    subject = pod(container(ports=[ContainerPort(containerPort=80, hostPort=8080, protocol="TCP")]))
    subject.metadata.labels = {"app": "web"}
    found = sandbox(subject)
    assert (found.metadata.name, found.metadata.uid, found.metadata.attempt) == ("p", "uid-p", 1)
    assert found.labels["io.kubernetes.pod.uid"] == "uid-p" and found.labels["app"] == "web"
    assert [(each.container_port, each.host_port) for each in found.port_mappings] == [(80, 8080)]
    assert (found.linux.cgroup_parent, found.log_directory, found.hostname) == ("/pods/poduid-p", "/logs/x", "p")
    options = found.linux.security_context.namespace_options
    assert (options.network, options.pid, options.ipc) == (cri.POD, cri.CONTAINER, cri.POD)


def test_host_namespaces() -> None:
    found = sandbox(pod(hostNetwork=True, hostPID=True, hostIPC=True))
    options = found.linux.security_context.namespace_options
    assert (options.network, options.pid, options.ipc, found.hostname) == (cri.NODE, cri.NODE, cri.NODE, "n1")
    shared = sandbox(pod(shareProcessNamespace=True))
    assert shared.linux.security_context.namespace_options.pid == cri.POD


def test_container() -> None:
    subject = pod(container(command=["sh", "$(WHO)"], args=["$$(WHO)"], terminationMessagePath="/m", tty=True))
    found = config(subject, env={"WHO": "me"}, mounts=[Mount("/h", "/c", True, "Bidirectional")])
    assert (list(found.command), list(found.args)) == (["sh", "me"], ["$(WHO)"])
    assert (found.metadata.attempt, found.log_path, found.tty) == (3, "c/3.log", True)
    assert found.labels["io.kubernetes.container.name"] == "c"
    assert found.annotations["io.kubernetes.container.restartCount"] == "3"
    assert (found.mounts[0].readonly, found.mounts[0].propagation) == (True, cri.PROPAGATION_BIDIRECTIONAL)
    security = found.linux.security_context
    assert "/proc/kcore" in security.masked_paths and not security.HasField("seccomp")


def test_security_context_of_the_container_goes_before_the_pods() -> None:
    inner = SecurityContext(
        runAsUser=5,
        allowPrivilegeEscalation=False,
        readOnlyRootFilesystem=True,
        capabilities=Capabilities(add=["NET_ADMIN"], drop=["ALL"]),
        seccompProfile=SeccompProfile(type="Unconfined"),
    )
    outer = PodSecurityContext(runAsUser=1, runAsGroup=2, fsGroup=9, supplementalGroups=[7])
    security = config(pod(container(securityContext=inner), securityContext=outer)).linux.security_context
    assert (security.run_as_user.value, security.run_as_group.value) == (5, 2)
    assert list(security.supplemental_groups) == [7, 9]
    assert security.no_new_privs and security.readonly_rootfs
    assert list(security.capabilities.drop_capabilities) == ["ALL"]
    assert security.seccomp.profile_type == cri.SecurityProfile.Unconfined


def test_privileged_sees_everything() -> None:
    security = config(pod(container(securityContext=SecurityContext(privileged=True)))).linux.security_context
    assert security.privileged and not security.masked_paths
    assert security.seccomp.profile_type == cri.SecurityProfile.Unconfined


@pytest.mark.parametrize(
    ("user", "image", "message"),
    [
        (0, cri.Image(), "breaks non-root policy"),
        (None, cri.Image(uid=cri.Int64Value(value=0)), "image will run as root"),
        (None, cri.Image(), "image will run as root"),
        (None, cri.Image(username="app"), "non-numeric user"),
    ],
)
def test_run_as_non_root_refuses(user: int | None, image: cri.Image, message: str) -> None:
    inner = SecurityContext(runAsNonRoot=True, runAsUser=user)
    with pytest.raises(ConfigError, match=message):
        config(pod(container(securityContext=inner)), image)


def test_user_of_the_image() -> None:
    numeric = config(pod(), cri.Image(uid=cri.Int64Value(value=1000))).linux.security_context
    assert numeric.run_as_user.value == 1000
    named = config(pod(), cri.Image(username="app")).linux.security_context
    assert named.run_as_username == "app" and not named.HasField("run_as_user")


def test_stop_signal() -> None:
    assert config(pod(container(lifecycle=Lifecycle(stopSignal="SIGUSR1")))).stop_signal == cri.SIGUSR1
    with pytest.raises(ConfigError, match="SIGNOPE"):
        config(pod(container(lifecycle=Lifecycle(stopSignal="SIGNOPE"))))


def test_hash_changes_with_the_spec() -> None:
    assert spec_hash(container()) == spec_hash(container()) != spec_hash(container(image="busybox:2"))


@pytest.mark.parametrize(("milli", "shares"), [(0, 2), (1, 2), (100, 102), (1000, 1024), (999_000_000, 262_144)])
def test_cpu_shares(milli: int, shares: int) -> None:
    assert cpu_shares(milli) == shares


@pytest.mark.parametrize(("milli", "quota"), [(0, 0), (5, 1000), (10, 1000), (500, 50_000), (2000, 200_000)])
def test_cpu_quota(milli: int, quota: int) -> None:
    assert cpu_quota(milli) == quota


def resources(requests_: dict[str, str], limits: dict[str, str]) -> ResourceRequirements:
    return ResourceRequirements(requests=requests_, limits=limits)


@pytest.mark.parametrize(
    ("given", "priority", "score"),
    [
        (resources({}, {}), None, 1000),
        (resources({}, {"cpu": "1", "memory": "1Gi"}), None, -997),
        (resources({"memory": "4Gi"}, {}), None, 500),
        (resources({"cpu": "1"}, {}), None, 999),
        (resources({"memory": "8Gi"}, {}), None, 3),
        (resources({}, {}), 2_000_000_000, -997),
    ],
)
def test_who_dies_first(given: ResourceRequirements, priority: int | None, score: int) -> None:
    subject = pod(container(resources=given), priority=priority)
    assert oom_score_adj(subject, subject.spec.containers[0], 8 * GIB) == score


def test_limits() -> None:
    subject = pod(container(resources=resources({"cpu": "250m"}, {"cpu": "1500m", "memory": "64Mi"})), container("b"))
    found = container_resources(subject, subject.spec.containers[0], 8 * GIB)
    assert (found.cpu_shares, found.cpu_quota, found.cpu_period, found.memory_limit_in_bytes) == (
        256,
        150_000,
        100_000,
        64 << 20,
    )
    assert found.memory_swap_limit_in_bytes == 64 << 20, "no swap beyond the limit"
    assert container_resources(subject, subject.spec.containers[1], 8 * GIB).memory_swap_limit_in_bytes == 0
    assert (pod_resources(subject).cpu_quota, pod_resources(subject).memory_limit_in_bytes) == (0, 0)
    alone = pod(subject.spec.containers[0])
    assert (pod_resources(alone).cpu_quota, pod_resources(alone).memory_limit_in_bytes) == (150_000, 64 << 20)


HOST = "# generated\nnameserver 10.0.0.2\nnameserver 10.0.0.3\nsearch corp.example lan\noptions ndots:2 rotate\n"


def dns(policy: str, **spec: Any) -> cri.DNSConfig:
    return dns_config(pod(dnsPolicy=policy, **spec), HOST)


def test_dns_policies() -> None:
    default = dns("Default")
    assert (list(default.servers), list(default.searches), list(default.options)) == (
        ["10.0.0.2", "10.0.0.3"],
        ["corp.example", "lan"],
        ["ndots:2", "rotate"],
    )
    assert dns("ClusterFirst") == default
    assert dns("None") == cri.DNSConfig()
    with_dns = dns_config(pod(), HOST, cluster_servers=("10.96.0.10",), cluster_domain="cluster.local")
    assert list(with_dns.servers) == ["10.96.0.10"] and with_dns.searches[0] == "default.svc.cluster.local"


def test_dns_additions() -> None:
    subject = pod(dnsPolicy="Default")
    option = type("Option", (), {"name": "ndots", "value": "5"})()
    more = {"nameservers": ["1.1.1.1", "10.0.0.2", "9.9.9.9"], "searches": ["x"], "options": [option]}
    subject.spec.dnsConfig = type("More", (), more)()
    found = dns_config(subject, HOST)
    assert list(found.servers) == ["10.0.0.2", "10.0.0.3", "1.1.1.1"]
    assert list(found.searches) == ["corp.example", "lan", "x"] and list(found.options) == ["ndots:5", "rotate"]


def test_hosts_and_hostname() -> None:
    subject = pod(hostname="web", hostAliases=[])
    subject.spec.hostAliases = [type("Alias", (), {"ip": "1.2.3.4", "hostnames": ["a", "b"]})()]
    text = hosts_file(subject, ("10.1.0.2",))
    assert "10.1.0.2\tweb\n" in text and text.endswith("1.2.3.4\ta\tb\n")
    assert pod_hostname(pod(name="x" * 62 + "-y")) == "x" * 62


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("busybox", "Always"),
        ("busybox:latest", "Always"),
        ("busybox:1", "IfNotPresent"),
        ("host:5000/busybox", "Always"),
        ("busybox@sha256:0", "IfNotPresent"),
    ],
)
def test_default_pull_policy(image: str, policy: str) -> None:
    assert default_policy(image) == policy


@pytest.mark.parametrize(
    ("image", "registry"),
    [("busybox", "docker.io"), ("a/b", "docker.io"), ("localhost/b", "localhost"), ("h:5000/a/b", "h:5000")],
)
def test_registries(image: str, registry: str) -> None:
    assert registry_of(image) == registry


def pull_secret(auths: dict[str, dict[str, str]]) -> Secret:
    return Secret(data={".dockerconfigjson": json.dumps({"auths": auths}).encode()})


def test_credentials_of_the_longest_match() -> None:
    encoded = base64.b64encode(b"me:word").decode()
    secrets = [
        pull_secret({"https://reg.example/v2": {"username": "no", "password": "no"}, "reg.example": {"auth": encoded}}),
        pull_secret({"reg.example/team": {"username": "team", "password": "t"}}),
        Secret(data={".dockerconfigjson": b"broken"}),
    ]
    found = credentials("reg.example/other/x:1", secrets)
    assert found is not None and (found.username, found.password) == ("me", "word")
    team = credentials("reg.example/team/x:1", secrets)
    assert team is not None and team.username == "team"
    assert credentials("elsewhere.example/x", secrets) is None
    hub = credentials("busybox", [pull_secret({"https://index.docker.io/v1/": {"username": "hub", "password": "h"}})])
    assert hub is not None and hub.username == "hub"


def ensure(runtime_missing: set[str], *images: str, policy: str = "", pulled: bool = False) -> tuple[list[str], Any]:
    """Events, and the images or the error, of pulling all at once."""

    async def scenario() -> tuple[list[str], Any]:
        clock = virtual_clock()
        runtime = HollowCRI(clock, pulled=pulled)
        runtime.missing = runtime_missing
        events: list[str] = []

        def spawn(coroutine: Any, name: str) -> asyncio.Task[Any]:
            return asyncio.create_task(coroutine, name=name)

        keeper = ImageKeeper(runtime, clock, spawn)
        wanted = [container(image=image, imagePullPolicy=policy) for image in images]
        found = await asyncio.gather(
            *(
                keeper.ensure(each, cri.PodSandboxConfig(), [], lambda *words: events.append(words[1]))
                for each in wanted
            ),
            return_exceptions=True,
        )
        return events, found

    return run_virtual(scenario())


def test_image_policies() -> None:
    assert ensure(set(), "a:1", pulled=True)[0] == ["Pulled"]
    assert ensure(set(), "a:1")[0] == ["Pulling", "Pulled"]
    assert ensure(set(), "a:1", policy="Always", pulled=True)[0] == ["Pulling", "Pulled"]
    events, (error,) = ensure(set(), "a:1", policy="Never")
    assert events == ["ErrImageNeverPull"] and isinstance(error, ImageError)
    events, (error,) = ensure({"a:1"}, "a:1")
    assert events == ["Pulling", "Failed"] and error.reason == "ErrImagePull"


def test_one_pull_serves_all_who_wait() -> None:
    events, found = ensure(set(), "a:1", "a:1", "a:1")
    assert [each.id for each in found] == ["sha256:a:1"] * 3
    assert sorted(events) == ["Pulled"] * 3 + ["Pulling"] * 3


ALLOCATABLE = {"cpu": "2", "memory": "1Gi", "pods": "2"}


def asking(cpu: str, name: str = "p") -> Pod:
    return pod(container(resources=resources({"cpu": cpu}, {})), name=name)


def test_admission() -> None:
    assert admit(asking("2"), [], ALLOCATABLE, {}) is None
    refusal = admit(asking("1500m"), [asking("1")], ALLOCATABLE, {})
    assert refusal is not None and refusal.reason == "OutOfcpu"
    assert refusal.message.endswith("cpu, requested: 1500, used: 1000, capacity: 2000")
    crowded = admit(pod(), [pod(), pod()], ALLOCATABLE, {})
    assert crowded is not None and crowded.reason == "OutOfpods"
    elsewhere = admit(pod(nodeSelector={"disk": "ssd"}), [], ALLOCATABLE, {"disk": "hdd"})
    assert elsewhere is not None and elsewhere.reason == "NodeAffinity"
    assert admit(pod(nodeSelector={"disk": "ssd"}), [], ALLOCATABLE, {"disk": "ssd"}) is None


def test_what_a_pod_asks_for() -> None:
    def asks(name: str, cpu: str, **fields: Any) -> Any:
        return container(name, resources=resources({"cpu": cpu}, {}), **fields)

    subject = pod(asks("a", "1"), asks("b", "1"), inits=(asks("s", "500m", restartPolicy="Always"), asks("i", "3")))
    assert requests(subject) == {"cpu": 3500}  # the init container beside the sidecar
    assert requests(pod(asks("a", "1"), inits=(asks("i", "500m"),))) == {"cpu": 1000}
