"""Nonsense in, a clear error out: each names the field, file or thing, and nothing is lost."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile

import pytest

pytestmark = [pytest.mark.root, pytest.mark.e2e]

HOUSE = pathlib.Path(__file__).parents[2]


def manifest(**spec):
    container = {"name": "main", "image": "local/busybox:1", "command": ["/usr/bin/busybox", "sleep", "100000"]}
    container |= spec.pop("container", {})
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": spec.pop("name", "bad")}}
    return document | {"spec": {"containers": [container], "terminationGracePeriodSeconds": 1, **spec}}


def test_unparsable_yaml_names_file_line_and_column(cluster, tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("apiVersion: v1\nkind: Pod\nmetadata:\n  name: [x\n")
    done = cluster.pyctl("apply", "-f", str(path), check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert str(path) in done.stderr and "line 5" in done.stderr and "column 1" in done.stderr, done.stderr


@pytest.mark.parametrize(
    "document, expected",
    [
        (manifest(container={"imagee": "x"}), 'unknown field "spec.containers[0].imagee"'),
        (manifest(terminationGracePeriodSeconds="soon"), "spec.terminationGracePeriodSeconds"),
        (manifest(container={"name": "Not_A_Name"}), 'spec.containers[0].name: Invalid value: "Not_A_Name"'),
        (manifest(container={"resources": {"limits": {"memory": "much"}}}), "much"),
        (manifest(restartPolicy="Sometimes"), 'Unsupported value: "Sometimes"'),
    ],
    ids=["unknown field", "wrong type", "bad name", "bad quantity", "bad enum"],
)
def test_bad_fields_are_named(cluster, document, expected):
    for tool in (cluster.pyctl, cluster.kubectl):
        done = tool("apply", "-f", "-", stdin=json.dumps(document), check=False)
        assert done.returncode != 0 and expected in done.stderr, done.stderr
    assert cluster.pod("bad") is None


def test_missing_image(cluster):
    # Nobody listens on port 1: the registry is this machine's own loopback.
    cluster.run_pod("noimage", "x", image="127.0.0.1:1/nothing:1", wait=False)

    def reason():
        statuses = (cluster.pod("noimage") or {}).get("status", {}).get("containerStatuses") or [{"state": {}}]
        return statuses[0]["state"].get("waiting", {})

    def refused():
        return reason() if reason().get("reason") in ("ErrImagePull", "ImagePullBackOff") else None

    first = cluster.until(refused, "the refusal")
    assert "127.0.0.1:1/nothing:1" in first["message"]
    cluster.until(lambda: reason().get("reason") == "ImagePullBackOff", "ImagePullBackOff", seconds=40)
    described = cluster.kubectl("describe", "pod", "noimage").stdout
    assert "ErrImagePull" in described and "127.0.0.1:1" in described
    cluster.pyctl("delete", "pod", "noimage")


def test_missing_command(cluster):
    cluster.run_pod("nocommand", "/no/such/program", wait=False)
    state = cluster.until(
        lambda: (
            (pod := cluster.pod("nocommand"))
            and (statuses := pod["status"].get("containerStatuses"))
            and ("/no/such/program" in json.dumps(statuses))
            and "no such file" in json.dumps(statuses).lower()
            and statuses[0]
        ),
        "the error about the command",
    )
    assert state["ready"] is False
    cluster.pyctl("delete", "pod", "nocommand")


def test_too_large_for_every_node(cluster):
    cluster.run_pod("large", "x", wait=False, container={"resources": {"requests": {"cpu": "1000", "memory": "1Pi"}}})
    event = cluster.until(
        lambda: next(
            (
                each
                for each in json.loads(cluster.pyctl("get", "events", "-o", "json").stdout)["items"]
                if each["reason"] == "FailedScheduling" and each["involvedObject"]["name"] == "large"
            ),
            None,
        ),
        "FailedScheduling",
    )
    assert "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory" in event["message"]
    assert "Pending" in cluster.pyctl("get", "pod", "large").stdout
    cluster.pyctl("delete", "pod", "large")


def test_unsupported_fields_are_warned_about(cluster):
    probe = {"livenessProbe": {"tcpSocket": {"port": 80}}}
    document = manifest(name="warned", container=probe)
    done = cluster.kubectl("apply", "-f", "-", "--dry-run=server", stdin=json.dumps(document))
    assert "livenessProbe" in done.stderr and "Warning" in done.stderr


def test_second_up_changes_nothing(cluster):
    before = cluster.processes()
    done = cluster.pyctl("up")
    assert done.returncode == 0
    assert cluster.processes() == before


def test_unknown_things_say_so(cluster):
    for arguments, expected in (
        (("get", "pod", "nobody"), 'pods "nobody" not found'),
        (("get", "unicorns"), "unicorns"),
        (("logs", "nobody"), 'pods "nobody" not found'),
        (("exec", "nobody", "--", "ls"), 'pods "nobody" not found'),
        (("apply", "-f", "/no/such/file.yaml"), "/no/such/file.yaml"),
    ):
        done = cluster.pyctl(*arguments, check=False)
        assert done.returncode == 1 and expected in done.stderr and done.stdout == "", (arguments, done)
        assert "Traceback" not in done.stderr
    assert cluster.pyctl("get", "--nonsense", check=False).returncode == 2


def test_no_root_says_what_is_missing(cluster):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pyctl-nobody-"))
    try:
        os.chown(folder, 65534, 65534)
        program = (
            "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534); "
            "sys.argv = ['pyctl', '--data-dir', sys.argv[1], 'up']; from pyctl.main import main; sys.exit(main())"
        )
        # The interpreter has opened the modules' folders as root, so that only pyctl itself runs as nobody.
        preload = "import locale, pyctl.main, pyctl.verbs.up, pyctl.cluster.preflight; "
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                preload + program,
                str(folder),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=HOUSE,
        )
        assert done.returncode == 1, done
        assert "root" in done.stderr and "sudo" in done.stderr and "Traceback" not in done.stderr
    finally:
        shutil.rmtree(folder)


def without_memory_controller(*command, **options):
    """Run a command in a mount namespace of its own where the memory controller is not mounted."""
    script = (
        "mount --make-rprivate / && if mountpoint -q /sys/fs/cgroup/memory; then umount /sys/fs/cgroup/memory; "
        'else mount -t tmpfs none /sys/fs/cgroup; fi && exec "$@"'
    )
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *command], capture_output=True, text=True, **options
    )


@pytest.mark.usefixtures("_root")
def test_no_memory_controller(tmp_path):
    pyctl = str(pathlib.Path(sys.executable).parent / "pyctl")
    done = without_memory_controller(pyctl, "--data-dir", str(tmp_path / "data"), "up", timeout=60)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "cgroup controller memory is not available" in done.stderr, done.stderr
    assert "mount it" in done.stderr or "command line" in done.stderr, "it says how to get it"


def test_taken_port_and_stale_directory(own_cluster):
    settings = own_cluster.data / "cluster.json"
    own_cluster.pyctl("down", timeout=120)
    known = json.loads(settings.read_text())
    port = next(value for key, value in known["ports"].items() if "api" in key)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        done = own_cluster.pyctl("up", check=False, timeout=90)
        assert done.returncode == 1 and str(port) in done.stderr and "Traceback" not in done.stderr, done.stderr
    own_cluster.pyctl("up", timeout=90)
    own_cluster.pyctl("down", timeout=120)
    settings.write_text("{nonsense")
    done = own_cluster.pyctl("up", check=False, timeout=90)
    assert done.returncode == 1 and str(settings) in done.stderr and "Traceback" not in done.stderr, done.stderr
    settings.write_text(json.dumps(known))
    (own_cluster.data / "state.db").write_bytes(b"this is no database" * 100)
    done = own_cluster.pyctl("up", "--timeout", "15", check=False, timeout=90)
    assert done.returncode == 1 and "state.db" in done.stderr and "Traceback" not in done.stderr, done.stderr
