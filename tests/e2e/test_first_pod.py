"""One pod, end to end, with pyctl and with an unmodified kubectl."""

import json
import re

import pytest

pytestmark = [pytest.mark.root, pytest.mark.e2e]

TWO = """
apiVersion: v1
kind: Pod
metadata: {name: two, labels: {app: two}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: server
    image: local/busybox:1
    command: [/usr/bin/busybox, sh, -c]
    args: ['mkdir /www; echo served > /www/index.html; exec busybox httpd -f -p 8080 -h /www']
    resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {cpu: 500m, memory: 64Mi}}
  - name: client
    image: local/busybox:1
    command: [/usr/bin/busybox, sh, -c]
    args:
    - |
      until busybox wget -q -O - http://127.0.0.1:8080/; do busybox sleep 0.1; done
      exec busybox sleep 1000000
"""


@pytest.fixture(scope="module")
def two(cluster):
    cluster.kubectl("apply", "-f", "-", stdin=TWO)
    cluster.kubectl("wait", "--for=condition=Ready", "pod/two", "--timeout=30s")
    yield "two"
    cluster.kubectl("delete", "pod", "two", "--ignore-not-found")


def test_containers_share_the_network_and_nothing_else(cluster, two):
    cluster.until(lambda: "served" in cluster.pyctl("logs", two, "-c", "client").stdout, "the client's fetch")

    def namespaces(container):
        script = "for n in net ipc uts pid mnt; do busybox readlink /proc/self/ns/$n; done"
        listed = cluster.pyctl("exec", two, "-c", container, "--", "/usr/bin/busybox", "sh", "-c", script).stdout
        return dict(line.split(":") for line in listed.split())

    server, client = namespaces("server"), namespaces("client")
    assert {name for name in server if server[name] == client[name]} == {"net", "ipc", "uts"}


def test_container_is_what_it_says(cluster, two):
    def inside(script):
        return cluster.pyctl("exec", two, "-c", "server", "--", "/usr/bin/busybox", "sh", "-c", script).stdout

    assert re.search(r"^overlay / overlay", inside("busybox cat /proc/mounts"), re.M)
    assert "httpd" in inside("busybox cat /proc/1/cmdline")
    assert inside("busybox hostname").strip() == "two"
    assert cluster.pod(two)["status"]["podIP"] in inside("busybox cat /etc/hosts")
    status = cluster.pyctl("exec", two, "-c", "client", "--", "/usr/bin/busybox", "cat", "/proc/1/status").stdout
    assert re.search(r"^CapEff:\t00000000a80425fb", status, re.M), status
    assert re.search(r"^SigIgn:\t0{16}", status, re.M), status


def test_kubectl_reads(cluster, two):
    wide = cluster.kubectl("get", "pods", "-o", "wide").stdout
    assert re.search(r"^two +2/2 +Running +0 ", wide, re.M), wide
    described = cluster.kubectl("describe", "pod", two).stdout
    for expected in ("Started", "Scheduled", "Successfully assigned default/two", "QoS Class:", "Container ID:"):
        assert expected in described
    assert cluster.kubectl("get", "pod", two, "-o", "jsonpath={.status.phase}").stdout == "Running"
    assert "Ready" in cluster.kubectl("get", "nodes").stdout
    assert "served" in cluster.kubectl("logs", two, "-c", "client").stdout


def test_kubectl_exec(cluster, two):
    assert cluster.kubectl("exec", two, "-c", "server", "--", "busybox", "echo", "hi").stdout == "hi\n"
    failed = cluster.kubectl("exec", two, "-c", "server", "--", "busybox", "sh", "-c", "exit 7", check=False)
    assert failed.returncode == 7, failed.stderr
    fed = cluster.kubectl("exec", "-i", two, "-c", "server", "--", "busybox", "wc", "-c", stdin="12345")
    assert fed.stdout.strip() == "5"
    missing = cluster.kubectl("exec", two, "-c", "server", "--", "no-such-program", check=False)
    assert missing.returncode != 0 and "no-such-program" in missing.stderr


def test_pyctl_exec_exit_code(cluster, two):
    done = cluster.pyctl("exec", two, "-c", "server", "--", "busybox", "sh", "-c", "echo out; exit 3", check=False)
    assert (done.returncode, done.stdout) == (3, "out\n")


def test_second_apply(cluster, two):
    assert "unchanged" in cluster.kubectl("apply", "-f", "-", stdin=TWO).stdout
    changed = TWO.replace("labels: {app: two}", "labels: {app: two, tier: web}")
    assert "configured" in cluster.kubectl("apply", "-f", "-", stdin=changed).stdout
    assert cluster.pod(two)["metadata"]["labels"] == {"app": "two", "tier": "web"}
    refused = cluster.kubectl("apply", "-f", "-", stdin=TWO.replace("8080", "8081"), check=False)
    assert refused.returncode != 0 and "pod updates may not change fields" in refused.stderr
    assert "configured" in cluster.kubectl("apply", "-f", "-", stdin=TWO).stdout
    assert cluster.pod(two)["metadata"]["labels"] == {"app": "two"}


def test_node_is_sized_by_its_cgroups(cluster):
    node = json.loads(cluster.kubectl("get", "nodes", "-o", "json").stdout)["items"][0]
    with open("/proc/meminfo") as file:
        total = int(file.readline().split()[1]) * 1024
    memory = node["status"]["capacity"]["memory"]
    assert 0 < int(memory.removesuffix("Ki")) * 1024 <= total
    assert set(node["status"]["allocatable"]) >= {"cpu", "memory", "pods", "ephemeral-storage"}


def test_limits_hold(cluster):
    cluster.run_pod(
        "greedy",
        "/usr/bin/busybox", "sh", "-c", "x=$(busybox dd if=/dev/zero bs=1M count=200 | busybox tr '\\0' a); echo no",
        wait=False,
        restartPolicy="Never",
        container={"resources": {"limits": {"memory": "32Mi"}}},
    )  # fmt: skip
    pod = cluster.until(
        lambda: (pod := cluster.pod("greedy")) and pod["status"].get("phase") == "Failed" and pod, "the OOM kill"
    )
    terminated = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (terminated["reason"], terminated["exitCode"]) == ("OOMKilled", 137)
    cluster.pyctl("delete", "pod", "greedy")


def test_exit_codes_and_logs_outlive_the_process(cluster):
    cluster.run_pod("short", "/usr/bin/busybox", "sh", "-c", "echo done; exit 4", wait=False, restartPolicy="Never")
    pod = cluster.until(
        lambda: (pod := cluster.pod("short")) and pod["status"].get("phase") == "Failed" and pod, "the exit"
    )
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 4
    assert cluster.kubectl("logs", "short").stdout == "done\n"
    cluster.kubectl("delete", "pod", "short")
    assert cluster.pod("short") is None


def test_restarts_with_back_off(cluster):
    cluster.run_pod("loop", "/usr/bin/busybox", "sh", "-c", "echo again; exit 1", wait=False)
    pod = cluster.until(
        lambda: (
            (pod := cluster.pod("loop"))
            and (statuses := pod["status"].get("containerStatuses"))
            and statuses[0]["restartCount"] >= 1
            and statuses[0]["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"
            and pod
        ),
        "CrashLoopBackOff",
    )
    assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 1
    assert "CrashLoopBackOff" in cluster.kubectl("get", "pod", "loop").stdout
    cluster.kubectl("delete", "pod", "loop")


def test_watch_sees_a_whole_life(cluster):
    cluster.run_pod("seen", "/usr/bin/busybox", "sleep", "100000")
    events = cluster.kubectl("get", "events", "--field-selector", "involvedObject.name=seen", "-o", "json").stdout
    reasons = [each["reason"] for each in json.loads(events)["items"]]
    assert set(reasons) >= {"Scheduled", "Pulled", "Created", "Started"}
    cluster.kubectl("delete", "pod", "seen", "--wait=true")
    assert cluster.pod("seen") is None
