"""The real API server over TLS, run as a process, with an unmodified kubectl."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

POD = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers:
  - {name: a, image: busybox, command: [sleep, "1000"]}
  - {name: b, image: "busybox:1", env: [{name: X, value: "1"}]}
"""
DEADLINE_SECONDS = 30


def find_kubectl():
    """A kubectl by its versioned name: a plain one may be a dispatcher that chooses another version by itself."""
    plain = shutil.which("kubectl")
    folders = [os.path.dirname(os.path.realpath(plain))] if plain else []
    folders.append("/usr/lib/google-cloud-sdk/bin")
    search = os.pathsep.join([os.environ.get("PATH", ""), *folders])
    names = ("kubectl.1.33", "kubectl.1.32", "kubectl.1.31", "kubectl.1.30")
    return next((found for name in names if (found := shutil.which(name, path=search))), plain)


class Server:
    """`python -m apiserver` as a process; its log is collected line by line."""

    def __init__(self, data, *arguments):
        self.data = pathlib.Path(data)
        command = [sys.executable, "-m", "apiserver", "--data-dir", str(data), "--port", "0", *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.log = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr:
            with self._changed:
                self.log.append(line)
                self._changed.notify_all()
        with self._changed:
            self.log.append("")
            self._changed.notify_all()

    def wait_for(self, text):
        """The log line with this text."""
        with self._changed:
            seen = self._changed.wait_for(
                lambda: any(text in line or not line for line in self.log), timeout=DEADLINE_SECONDS
            )
        found = [line for line in self.log if text in line]
        assert seen and found, "".join(self.log)
        return found[0]

    def start(self):
        self.wait_for("kubeconfig is")
        return self

    @property
    def url(self):
        return json.loads((self.data / "kubeconfig").read_text())["clusters"][0]["cluster"]["server"]

    def end(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(DEADLINE_SECONDS)
        self._reader.join(DEADLINE_SECONDS)
        self.process.stderr.close()
        return code


class Kubectl:
    def __init__(self, program, server, cache):
        self.command = [program, "--kubeconfig", str(server.data / "kubeconfig"), "--cache-dir", str(cache)]

    def __call__(self, *arguments, stdin=None, code=0):
        done = subprocess.run(
            [*self.command, *arguments], input=stdin, capture_output=True, text=True, timeout=DEADLINE_SECONDS
        )
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        return done.stdout if code == 0 else done.stderr


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("api") / "data").start()
    yield server
    assert server.end() == 0, "".join(server.log)


@pytest.fixture(scope="module")
def kubectl(server, tmp_path_factory):
    program = find_kubectl()
    if program is None:
        pytest.skip("no kubectl (1.30 to 1.33) on this machine")
    return Kubectl(program, server, tmp_path_factory.mktemp("cache"))


@pytest.fixture
def web(kubectl):
    kubectl("apply", "-f", "-", stdin=POD)
    yield
    kubectl("delete", "pod", "web", "--ignore-not-found")


def test_namespaces(kubectl):
    out = kubectl("get", "namespaces")
    assert out.split()[:3] == ["NAME", "STATUS", "AGE"]
    assert "kube-system" in out
    kubectl("apply", "-f", "-", stdin="apiVersion: v1\nkind: Namespace\nmetadata: {name: made}\n")
    kubectl("-n", "made", "apply", "-f", "-", stdin=POD)
    assert "made" in kubectl("get", "pods", "-A")
    assert 'namespace "made" deleted' in kubectl("delete", "namespace", "made")
    assert "NotFound" in kubectl("get", "namespace", "made", code=1)


def test_apply_is_created_configured_unchanged(kubectl):
    assert kubectl("apply", "-f", "-", stdin=POD).strip() == "pod/web created"
    changed = POD.replace("app: web", "app: other")
    assert kubectl("apply", "-f", "-", stdin=changed).strip() == "pod/web configured"
    assert kubectl("apply", "-f", "-", stdin=changed).strip() == "pod/web unchanged"
    assert kubectl("diff", "-f", "-", stdin=changed) == ""
    image = changed.replace("busybox:1", "busybox:2")
    assert kubectl("apply", "-f", "-", stdin=image).strip() == "pod/web configured"
    images = kubectl("get", "pod", "web", "-o", "jsonpath={.spec.containers[*].image}")
    assert images == "busybox busybox:2"
    assert 'pod "web" deleted' in kubectl("delete", "-f", "-", stdin=POD)


def test_output_forms(kubectl, web):
    assert kubectl("get", "pods").split()[:5] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert "NOMINATED" in kubectl("get", "pods", "-o", "wide")
    assert kubectl("get", "pods", "-o", "name") == "pod/web\n"
    assert json.loads(kubectl("get", "pod", "web", "-o", "json"))["kind"] == "Pod"
    listing = json.loads(kubectl("get", "pods", "-o", "json"))
    assert (listing["kind"], len(listing["items"])) == ("List", 1)
    assert "restartPolicy: Always" in kubectl("get", "pod", "web", "-o", "yaml")
    assert kubectl("get", "po", "-l", "app=web", "-o", "custom-columns=N:.metadata.name").split() == ["N", "web"]
    assert kubectl("get", "pods", "--field-selector", "status.phase=Running", "-o", "name") == ""
    assert "web" in kubectl("get", "all")
    assert "web" in kubectl("get", "pods", "--sort-by", "metadata.name")


def test_label_annotate_patch_and_edit(kubectl, web, tmp_path):
    assert "labeled" in kubectl("label", "pod", "web", "x=y")
    assert "annotated" in kubectl("annotate", "pod", "web", "note=hello")
    assert "patched" in kubectl("patch", "pod", "web", "-p", '{"metadata":{"labels":{"x":null}}}')
    patch = '[{"op":"add","path":"/metadata/labels/z","value":"1"}]'
    assert "patched" in kubectl("patch", "pod", "web", "--type=json", "-p", patch)
    assert "image updated" in kubectl("set", "image", "pod/web", "b=busybox:3")
    pod = json.loads(kubectl("get", "pod", "web", "-o", "json"))
    assert pod["metadata"]["labels"] == {"app": "web", "z": "1"}
    assert pod["metadata"]["annotations"]["note"] == "hello"
    assert pod["spec"]["containers"][1]["image"] == "busybox:3"
    pod["metadata"]["labels"]["from"] = "replace"
    assert "replaced" in kubectl("replace", "-f", "-", stdin=json.dumps(pod))
    stale = kubectl("replace", "-f", "-", stdin=json.dumps(pod), code=1)
    assert "Conflict" in stale and "the object has been modified" in stale


def test_describe_and_explain(kubectl, web):
    described = " ".join(kubectl("describe", "pod", "web").split())
    assert "QoS Class: BestEffort" in described and "Events: <none>" in described
    assert "KIND:       Pod" in kubectl("explain", "pod.spec.containers.image")


def test_watch(kubectl, web):
    command = [*kubectl.command, "get", "pods", "-w", "-o", "name"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        try:
            assert watching.stdout.readline() == "pod/web\n"
            began = time.monotonic()
            kubectl("label", "pod", "web", "watched=yes")
            assert watching.stdout.readline() == "pod/web\n"
            assert time.monotonic() - began < 10
        finally:
            watching.kill()


def test_bad_input_is_said(kubectl):
    unknown = POD.replace("containers:", "contaners:")
    error = kubectl("apply", "-f", "-", stdin=unknown, code=1)
    assert "BadRequest" in error and 'unknown field "spec.contaners"' in error
    wrong = POD.replace("{name: a,", "{name: 7,")
    assert "spec.containers[0].name" in kubectl("apply", "--validate=false", "-f", "-", stdin=wrong, code=1)
    invalid = POD.replace("name: web", "name: Web_1", 1)
    assert 'metadata.name: Invalid value: "Web_1"' in kubectl("apply", "-f", "-", stdin=invalid, code=1)
    assert '"nope" not found' in kubectl("get", "pod", "nope", code=1)
    assert "does not have a host assigned" in _exec_of_unscheduled(kubectl)


def _exec_of_unscheduled(kubectl):
    kubectl("apply", "-f", "-", stdin=POD)
    try:
        assert "does not have a host assigned" in kubectl("logs", "web", "-c", "a", code=1)
        return kubectl("exec", "web", "-c", "a", "--", "ls", code=1)
    finally:
        kubectl("delete", "pod", "web")


def test_what_is_served(kubectl):
    resources = kubectl("api-resources")
    for line in ("pods", "nodes", "leases"):
        assert line in resources
    # A second time the client only asks whether anything has changed.
    assert kubectl("api-resources") == resources
    assert kubectl("api-versions").split() == ["coordination.k8s.io/v1", "v1"]
    assert "Server Version: v1.33.0+pyctl" in kubectl("version")
    assert kubectl("get", "--raw", "/readyz") == "ok"


def test_a_taken_port_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = Server(tmp_path / "data", "--port", str(port))
        server.wait_for(f"port {port} on 127.0.0.1 is already in use")
        assert server.process.wait(DEADLINE_SECONDS) == 1
        server.end()


def test_a_stale_state_file_is_named(tmp_path):
    (tmp_path / "state.db").write_text("not a database " * 100)
    server = Server(tmp_path)
    server.wait_for("state.db is not a usable state file")
    assert server.process.wait(DEADLINE_SECONDS) == 1
    server.end()


def test_a_second_server_on_the_same_data_is_refused(server):
    second = Server(server.data)
    second.wait_for("state.db is in use by another process")
    assert second.process.wait(DEADLINE_SECONDS) == 1
    second.end()


def test_kill_9_and_again(tmp_path):
    program = find_kubectl()
    if program is None:
        pytest.skip("no kubectl (1.30 to 1.33) on this machine")
    first = Server(tmp_path / "data").start()
    kubectl = Kubectl(program, first, tmp_path / "cache")
    kubectl("apply", "-f", "-", stdin=POD)
    before = json.loads(kubectl("get", "pod", "web", "-o", "json"))
    first.end(signal.SIGKILL)
    second = Server(tmp_path / "data").start()
    assert json.loads(kubectl("get", "pod", "web", "-o", "json")) == before
    assert second.end() == 0


def test_help_is_for_people():
    done = subprocess.run([sys.executable, "-m", "apiserver", "--help"], capture_output=True, text=True, check=True)
    assert "kubectl --kubeconfig" in done.stdout and "--data-dir" in done.stdout
    wrong = subprocess.run([sys.executable, "-m", "apiserver", "--port", "x"], capture_output=True, text=True)
    assert wrong.returncode == 2
