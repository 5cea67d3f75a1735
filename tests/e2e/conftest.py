"""A whole cluster as a user starts it: `pyctl up` on a data directory of the test, `pyctl down --purge` at the end."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import pytest

HOUSE = pathlib.Path(__file__).parents[2]
PYCTL = pathlib.Path(sys.executable).parent / "pyctl"
BUSYBOX = "local/busybox:1"


def find_kubectl() -> str | None:
    """A kubectl by its versioned name (a plain `kubectl` may be a dispatcher), the newest first."""
    plain = shutil.which("kubectl")
    folders = [os.path.dirname(os.path.realpath(plain))] if plain else []
    search = os.pathsep.join([os.environ.get("PATH", ""), *folders])
    for name in ("kubectl.1.33", "kubectl.1.32", "kubectl.1.31", "kubectl.1.30"):
        if found := shutil.which(name, path=search):
            return found
    return plain


@dataclasses.dataclass
class ClusterUnderTest:
    data: pathlib.Path

    def pyctl(self, *arguments, check=True, stdin=None, timeout=90, env=None):
        command = [str(PYCTL), "--data-dir", str(self.data), *arguments]
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=timeout, env={**os.environ, **(env or {})}
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{command} exited {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.tails()}")
        return done

    def kubectl(self, *arguments, check=True, stdin=None, timeout=90):
        binary = find_kubectl()
        if binary is None:
            pytest.skip("needs kubectl (1.30 or newer) on the PATH")
        command = [binary, "--kubeconfig", self.kubeconfig, *arguments]
        env = {**os.environ, "KUBECACHEDIR": str(self.data / "kubectl-cache")}
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, env=env)
        if check and done.returncode != 0:
            raise AssertionError(f"{command} exited {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.tails()}")
        return done

    @property
    def kubeconfig(self) -> str:
        return self.pyctl("kubeconfig").stdout.strip()

    def tails(self, lines=15) -> str:
        """The last lines of each component's log: what a failed test shows."""
        logs = sorted((self.data / "log").glob("*.log")) if (self.data / "log").is_dir() else []
        return "\n".join(f"--- {path.name}\n" + "\n".join(path.read_text().splitlines()[-lines:]) for path in logs)

    def pod(self, name, namespace="default") -> dict | None:
        done = self.pyctl("-n", namespace, "get", "pod", name, "-o", "json", check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def run_pod(self, name, *command, image=BUSYBOX, wait=True, **spec) -> None:
        container = {"name": "main", "image": image, "command": list(command), **spec.pop("container", {})}
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 1, **spec},
        }
        self.pyctl("apply", "-f", "-", stdin=json.dumps(manifest))
        if wait:
            self.until(lambda: ready(self.pod(name)), f"pod {name} to be Ready")

    def until(self, condition, what, seconds=30):
        """Poll until `condition()` is true and return what it gave; tell the story when it never is."""
        deadline = time.monotonic() + seconds
        while not (result := condition()):
            if time.monotonic() > deadline:
                pods = self.pyctl("get", "pods", "-A", "-o", "wide", check=False).stdout
                raise AssertionError(f"waited {seconds} s for {what}\n{pods}\n{self.tails(40)}")
            time.sleep(0.05)
        return result

    def processes(self) -> dict[str, int]:
        """Process ids by component, as `pyctl status -o json` tells them."""
        status = json.loads(self.pyctl("status", "-o", "json").stdout)
        return {each["name"]: each["pid"] for each in status["components"]}


def ready(pod) -> bool:
    conditions = (pod or {}).get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def waiting_reason(pod) -> str:
    statuses = (pod or {}).get("status", {}).get("containerStatuses", [])
    return next((each["state"]["waiting"].get("reason", "") for each in statuses if "waiting" in each["state"]), "")


@pytest.fixture(scope="session")
def _root():
    if os.geteuid() != 0:
        pytest.skip("needs root, for namespaces and cgroups")


def start_cluster(*options):
    data = pathlib.Path(tempfile.mkdtemp(prefix="pyctl-e2e-"))
    cluster = ClusterUnderTest(data)
    try:
        cluster.pyctl("up", *options, timeout=120)
    except BaseException:
        end_cluster(cluster)
        raise
    return cluster


def end_cluster(cluster):
    cluster.pyctl("down", "--purge", check=False, timeout=120)
    shutil.rmtree(cluster.data, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster(_root):
    """One cluster for all tests that leave it as they found it, with a busybox image from the host."""
    running = start_cluster()
    try:
        running.pyctl("image", "build", "--from-host", "/usr/bin/busybox", "-t", BUSYBOX)
        yield running
    finally:
        end_cluster(running)


@pytest.fixture
def own_cluster(_root):
    """A cluster that the test may break."""
    running = start_cluster()
    try:
        running.pyctl("image", "build", "--from-host", "/usr/bin/busybox", "-t", BUSYBOX)
        yield running
    finally:
        end_cluster(running)
