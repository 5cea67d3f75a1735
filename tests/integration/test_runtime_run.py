"""Containers run and entered through the CRI, on the real kernel: processes, users, files, logs, errors."""

import os
import pathlib
import re

import grpc
import pytest

from pb.cri.v1 import api_pb2 as cri

from .runtime_daemon import Daemon, eventually

pytestmark = pytest.mark.root

RUNNING, EXITED = cri.ContainerState.CONTAINER_RUNNING, cri.ContainerState.CONTAINER_EXITED
BUSYBOX = "/usr/bin/busybox"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    daemon = Daemon(tmp_path_factory.mktemp("run"))
    try:
        daemon.start()
        daemon.build_image("busybox")
        yield daemon
    finally:
        daemon.close()


@pytest.fixture
def sandbox(daemon, request):
    identifier = daemon.run_sandbox(request.node.name[:40].replace("[", "-").replace("]", "").replace("_", "-"))
    yield identifier
    daemon.remove_sandbox(identifier)


def linux(resources=None, **security):
    return cri.LinuxContainerConfig(resources=resources, security_context=cri.LinuxContainerSecurityContext(**security))


def refusal(call, *args, **kwargs):
    """The text with which a call is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, **kwargs)
    return caught.value.details()


def refused(code, text, call, *args, **kwargs):
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, **kwargs)
    assert caught.value.code() == code, caught.value
    assert text in caught.value.details()


def test_run_and_exec(daemon, sandbox):
    container = daemon.shell(sandbox, "echo out; echo err >&2; sleep 1000")
    status = daemon.status(container)
    assert status.state == RUNNING
    assert status.started_at >= status.created_at > 0
    answer = daemon.exec(container, BUSYBOX, "sh", "-c", "echo in; echo bad >&2; exit 3")
    assert (answer.exit_code, answer.stdout, answer.stderr) == (3, b"in\n", b"bad\n")
    eventually(lambda: len(daemon.read_log(container)) == 2)
    assert sorted(daemon.read_log(container)) == [("stderr", "F", "err"), ("stdout", "F", "out")]


def test_the_workload_is_pid_1_and_sees_only_its_own(daemon, sandbox):
    container = daemon.run(sandbox, BUSYBOX, "sleep", "1000")
    assert daemon.sh(container, "cat /proc/1/cmdline | tr '\\0' ' '") == "/usr/bin/busybox sleep 1000 "
    seen = daemon.sh(container, "ls -d /proc/[0-9]*").split()
    assert "/proc/1" in seen and len(seen) <= 4
    assert (
        daemon.sh(container, "cat /proc/1/cgroup | cut -d: -f3 | sort -u | grep -v ^/$ | head -1").count("sleep") == 0
    )


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_codes(daemon, sandbox, code):
    status = daemon.wait_exit(daemon.shell(sandbox, f"exit {code}"))
    assert (status.exit_code, status.reason) == (code, "Completed" if code == 0 else "Error")


def test_what_a_process_inherits(daemon, sandbox):
    """Nothing of Python or the runtime: signals, mask, umask, descriptors, capabilities, keyring."""
    container = daemon.shell(sandbox, "umask; cat /proc/self/status; ls /proc/1/fd; sleep 1000")
    script = "umask; cat /proc/self/status; ls /proc/$$/fd"
    for text in (daemon.sh(container, script), "\n".join(c for _, _, c in daemon.read_log(container))):
        lines = text.splitlines()
        fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert lines[0] == "0022"
        assert fields["SigBlk"] == fields["SigIgn"] == "0" * 16
        assert fields["CapInh"] == fields["CapAmb"] == "0" * 16
        assert fields["CapBnd"] == fields["CapPrm"] == fields["CapEff"] == "00000000a80425fb"
        assert set(lines[-4:]) >= {"0", "1", "2"}
        assert not {"4", "5", "6"} & set(lines[-4:])


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["nosuch"], 'exec: "nosuch": executable file not found in $PATH'),
        (["/no/such"], 'exec: "/no/such": stat /no/such: no such file or directory'),
        (["/etc/passwd"], 'exec: "/etc/passwd": permission denied'),
        (["/usr"], 'exec: "/usr": permission denied'),
    ],
)
def test_a_command_that_cannot_be_executed(daemon, sandbox, command, message):
    container = daemon.create(sandbox, *command)
    refused(grpc.StatusCode.UNKNOWN, message, daemon.start_container, container)
    status = daemon.status(container)
    assert (status.state, status.exit_code, status.reason) == (EXITED, 128, "StartError")
    assert message in status.message
    refused(grpc.StatusCode.FAILED_PRECONDITION, "exited, not created", daemon.start_container, container)


def test_exec_of_a_command_that_does_not_exist(daemon, sandbox):
    container = daemon.run(sandbox, BUSYBOX, "sleep", "1000")
    refused(grpc.StatusCode.UNKNOWN, 'exec: "nosuch": executable file not found', daemon.exec, container, "nosuch")
    assert daemon.sh(container, "echo still") == "still\n"


def test_an_exec_that_takes_too_long_is_killed(daemon, sandbox):
    container = daemon.run(sandbox, BUSYBOX, "sleep", "1000")
    request = cri.ExecSyncRequest(
        container_id=container, cmd=[BUSYBOX, "sh", "-c", "sleep 4711 & sleep 4712"], timeout=1
    )
    refused(grpc.StatusCode.DEADLINE_EXCEEDED, "timed out after 1 s", daemon.runtime.ExecSync, request, timeout=20)
    eventually(
        lambda: (
            "471"
            not in daemon.sh(container, "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -o 'sleep 471[12]' || true")
        )
    )


def test_an_exec_whose_caller_gives_up_is_killed(daemon, sandbox):
    container = daemon.run(sandbox, BUSYBOX, "sleep", "1000")
    request = cri.ExecSyncRequest(container_id=container, cmd=[BUSYBOX, "sh", "-c", "echo $$ > /pid; exec sleep 777"])
    call = daemon.runtime.ExecSync.future(request)
    pid = eventually(lambda: daemon.sh(container, "cat /pid 2>/dev/null; true").strip())
    call.cancel()
    eventually(lambda: daemon.sh(container, f"test -e /proc/{pid} || echo gone").strip())


def test_exec_output_is_cut_off_at_16_mib(daemon, sandbox):
    container = daemon.run(sandbox, BUSYBOX, "sleep", "1000")
    request = cri.ExecSyncRequest(container_id=container, cmd=[BUSYBOX, "head", "-c", "20000000", "/dev/zero"])
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(f"unix:{daemon.socket}", options=options) as channel:
        from pb.cri.v1 import api_pb2_grpc

        answer = api_pb2_grpc.RuntimeServiceStub(channel).ExecSync(request, timeout=30)
    assert (answer.exit_code, len(answer.stdout)) == (0, 16 << 20)


def test_command_args_environment_and_directory(daemon, sandbox):
    container = daemon.create(
        sandbox,
        args=["sh", "-c", "pwd; env | sort"],
        working_dir="/made/for/us",
        envs=[cri.KeyValue(key="A", value="x=y z"), cri.KeyValue(key="PATH", value="/bin")],
    )
    daemon.start_container(container)
    lines = daemon.output(container).splitlines()
    assert lines[0] == "/made/for/us"
    assert {"A=x=y z", "PATH=/bin", "HOME=/root"} <= set(lines[1:])
    assert any(line.startswith("HOSTNAME=test-command") for line in lines)


def test_users_come_from_the_image(daemon, sandbox):
    etc = daemon.home / "etc"
    etc.mkdir(exist_ok=True)
    (etc / "passwd").write_text("root:x:0:0::/root:/bin/sh\nweb:x:1002:1003::/home/web:/bin/sh\n")
    (etc / "group").write_text("root:x:0:\nweb:x:1003:\nextra:x:1010:web,other\nmore:x:1011:other\n")
    mounts = [cri.Mount(container_path=f"/etc/{n}", host_path=str(etc / n)) for n in ("passwd", "group")]
    cases = [
        ({"run_as_username": "web"}, (1002, 1003, [1003, 1010]), "/home/web"),
        ({"run_as_user": cri.Int64Value(value=1002)}, (1002, 1003, [1003, 1010]), "/home/web"),
        ({"run_as_user": cri.Int64Value(value=4000), "supplemental_groups": [7]}, (4000, 0, [0, 7]), "/"),
        (
            {"run_as_username": "web", "supplemental_groups": [9], "supplemental_groups_policy": 1},
            (1002, 1003, [1003, 9]),
            "/home/web",
        ),
        (
            {"run_as_user": cri.Int64Value(value=1002), "run_as_group": cri.Int64Value(value=50)},
            (1002, 50, [50, 1010]),
            "/home/web",
        ),
    ]
    for number, (security, (uid, gid, groups), home) in enumerate(cases):
        script = "id -u; id -g; grep Groups /proc/self/status; echo $HOME; cat /dev/stdin; echo x > /dev/stderr"
        container = daemon.shell(sandbox, script, name=f"user-{number}", mounts=mounts, linux=linux(**security))
        lines = daemon.output(container).splitlines()
        assert lines[:2] == [str(uid), str(gid)], lines
        assert lines[2].split()[1:] == [str(group) for group in sorted(groups)]
        assert lines[3:] == [home, "x"]
        reported = daemon.status(container).user.linux
        assert (reported.uid, reported.gid, list(reported.supplemental_groups)) == (uid, gid, groups)


@pytest.mark.parametrize(
    ("security", "code", "text"),
    [
        ({"run_as_username": "nobody-here"}, grpc.StatusCode.UNKNOWN, "unable to find user nobody-here"),
        ({"run_as_username": "4294967296"}, grpc.StatusCode.UNKNOWN, "user 4294967296 is above"),
        ({"run_as_group": cri.Int64Value(value=5)}, grpc.StatusCode.INVALID_ARGUMENT, "specified without user"),
        (
            {"capabilities": cri.Capability(add_capabilities=["CAP_NONSENSE"])},
            grpc.StatusCode.INVALID_ARGUMENT,
            "unknown capability",
        ),
        (
            {"seccomp": cri.SecurityProfile(profile_type=2, localhost_ref="/x")},
            grpc.StatusCode.UNIMPLEMENTED,
            "seccomp profiles from this host are not supported",
        ),
    ],
)
def test_what_cannot_be_is_refused_at_create(daemon, sandbox, security, code, text):
    refused(code, text, daemon.create, sandbox, BUSYBOX, "true", linux=linux(**security))
    listed = daemon.runtime.ListContainers(cri.ListContainersRequest())
    assert not [each for each in listed.containers if each.pod_sandbox_id == sandbox]
    assert not list((daemon.root / "sandboxes" / sandbox / "containers").iterdir())


def test_an_unknown_image_is_not_found(daemon, sandbox):
    refused(grpc.StatusCode.NOT_FOUND, "no-such:1", daemon.create, sandbox, BUSYBOX, "true", image="no-such:1")


def test_capabilities_and_no_new_privs(daemon, sandbox):
    def masks(**security):
        masks.number += 1
        script = "grep -E 'CapEff|NoNewPrivs' /proc/self/status | cut -f2"
        container = daemon.shell(sandbox, script, name=f"caps-{masks.number}", linux=linux(**security))
        effective, no_new = daemon.output(container).split()
        return int(effective, 16), no_new

    masks.number = 0
    default, no_new = masks()
    assert (default, no_new) == (0xA80425FB, "0")
    assert masks(no_new_privs=True) == (default, "1")
    drop_all = cri.Capability(drop_capabilities=["ALL"], add_capabilities=["NET_BIND_SERVICE"])
    assert masks(capabilities=drop_all)[0] == 1 << 10
    assert masks(capabilities=cri.Capability(add_capabilities=["SYS_TIME"]))[0] == default | 1 << 25
    own = int(
        next(line for line in pathlib.Path("/proc/self/status").read_text().splitlines() if "CapPrm" in line).split()[
            1
        ],
        16,
    )
    assert masks(privileged=True)[0] == own


def test_masked_and_read_only_paths(daemon, sandbox):
    container = daemon.shell(
        sandbox,
        "sleep 1000",
        linux=linux(masked_paths=["/proc/kallsyms", "/proc/fs"], readonly_paths=["/proc/sys", "/tmp/ro"]),
    )
    assert daemon.sh(container, "cat /proc/kallsyms | wc -c; ls /proc/fs | wc -l") == "0\n0\n"
    assert (
        "Read-only file system"
        in daemon.exec(container, BUSYBOX, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward").stderr.decode()
    )
    assert "Read-only file system" in daemon.exec(container, BUSYBOX, "mkdir", "/sys/fs/cgroup/x").stderr.decode()


def test_devices(daemon, sandbox):
    container = daemon.run(sandbox, BUSYBOX, "sleep", "1000")
    assert (
        daemon.sh(container, "head -c 3 /dev/zero | wc -c; echo x > /dev/null; head -c 4 /dev/urandom | wc -c")
        == "3\n4\n"
    )
    assert daemon.sh(container, "ls /dev | tr '\\n' ' '") == (
        "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero "
    )
    # The node may be made, but not opened: the host's disk stays the host's.
    disk = os.stat("/").st_dev
    answer = daemon.exec(
        container, BUSYBOX, "sh", "-c", f"mknod /disk b {os.major(disk)} {os.minor(disk)}; head -c 1 /disk"
    )
    assert answer.exit_code != 0
    assert "Operation not permitted" in answer.stderr.decode()


def test_a_device_that_was_asked_for(daemon, sandbox):
    device = cri.Device(host_path="/dev/null", container_path="/dev/void", permissions="rw")
    container = daemon.shell(sandbox, "echo x > /dev/void && echo ok", devices=[device])
    assert daemon.output(container) == "ok"


def test_a_read_only_root(daemon, sandbox):
    script = "touch /x 2>&1; touch /etc/hosts 2>&1; touch /dev/shm/y && echo shm"
    container = daemon.shell(sandbox, script, linux=linux(readonly_rootfs=True))
    lines = daemon.output(container).splitlines()
    assert len(lines) == 3 and lines[2] == "shm"
    assert all("Read-only file system" in line for line in lines[:2])


def test_mounts(daemon, sandbox, tmp_path):
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "file").write_text("from host\n")
    (tmp_path / "link").symlink_to(tmp_path / "dir")
    mounts = [
        cri.Mount(container_path="/a/rw", host_path=str(tmp_path / "dir")),
        cri.Mount(container_path="/a/ro", host_path=str(tmp_path / "link"), readonly=True),
        cri.Mount(container_path="/a/one", host_path=str(tmp_path / "dir/file"), readonly=True),
        cri.Mount(container_path="/a/new", host_path=str(tmp_path / "made")),
        cri.Mount(container_path="/a", host_path=str(tmp_path / "outer")),
    ]
    script = "cat /a/ro/file /a/one; echo y > /a/rw/new; echo n 2>&1 > /a/ro/bad; echo z > /a/new/z"
    container = daemon.shell(sandbox, script, mounts=mounts)
    assert daemon.output(container).splitlines()[:2] == ["from host", "from host"]
    assert (tmp_path / "dir" / "new").read_text() == "y\n"
    assert not (tmp_path / "dir" / "bad").exists()
    assert (tmp_path / "made" / "z").read_text() == "z\n"
    assert len(daemon.status(container).mounts) == 5


@pytest.mark.parametrize("target", ["/proc", "/proc/sys/kernel/hostname", "/link/../proc/1"])
def test_mounts_on_proc_are_refused(daemon, sandbox, tmp_path, target):
    mount = cri.Mount(container_path=target, host_path=str(tmp_path))
    text = refusal(daemon.create, sandbox, BUSYBOX, "true", mounts=[mount])
    assert re.search(r"inside of /proc are refused|openat2: Not a directory: proc/|not a usable mount point", text), (
        text
    )


def test_a_mount_on_the_root_is_refused(daemon, sandbox, tmp_path):
    mount = cri.Mount(container_path="/x/..", host_path=str(tmp_path))
    text = "is the root of the container"
    refused(grpc.StatusCode.INVALID_ARGUMENT, text, daemon.create, sandbox, BUSYBOX, "true", mounts=[mount])


def test_links_in_an_image_cannot_lead_a_mount_outside(daemon, sandbox, tmp_path):
    """A volume with links in it is mounted first, then something below the links."""
    evil, inside, canary = tmp_path / "evil", tmp_path / "inside", tmp_path / "canary"
    for directory in (evil, inside, canary):
        directory.mkdir()
    (evil / "absolute").symlink_to(canary)
    (evil / "up").symlink_to("../" * 20 + str(canary).lstrip("/"))
    (inside / "file").write_text("inside")
    mounts = [cri.Mount(container_path="/v", host_path=str(evil))] + [
        cri.Mount(container_path=f"/v/{name}/deep/er", host_path=str(inside)) for name in ("absolute", "up")
    ]
    container = daemon.shell(sandbox, f"cat /v/absolute/deep/er/file {canary}/deep/er/file", mounts=mounts)
    assert daemon.output(container) == "insideinside"
    assert not list(canary.iterdir())


def test_a_working_directory_in_proc_cannot_leave(daemon, sandbox):
    """Descriptors that the runtime holds while it sets up must not become a way out (CVE-2024-21626)."""
    refusals = []
    for number in range(3, 12):
        directory = f"/proc/self/fd/{number}"
        name = f"cwd-{number}"
        try:
            container = daemon.shell(sandbox, "cd .. && pwd && ls", name=name, working_dir=directory)
        except grpc.RpcError as error:
            refusals.append(error.details())
            continue
        seen = daemon.output(container)
        assert "sandboxes" not in seen and "boot" not in seen, seen
    reasons = r"No such file or directory|Too many levels of symbolic links"
    assert all(re.search(reasons, text) for text in refusals), refusals
    assert daemon.output(daemon.shell(sandbox, "cd .. && pwd", name="control", working_dir="/usr")).strip() == "/"


def test_long_lines_are_split(daemon, sandbox):
    script = "head -c 40000 /dev/zero | tr '\\0' x; echo; echo short; printf unfinished"
    records = []
    container = daemon.shell(sandbox, script)
    daemon.wait_exit(container)
    records = daemon.read_log(container)
    assert [(tag, len(content)) for _, tag, content in records] == [
        ("P", 16384),
        ("P", 16384),
        ("F", 40000 - 2 * 16384),
        ("F", 5),
        ("F", 10),
    ]


def test_a_log_is_reopened_after_rotation(daemon, sandbox):
    container = daemon.shell(sandbox, "i=0; while true; do i=$((i+1)); echo $i; usleep 5000; done")
    path = pathlib.Path(daemon.status(container).log_path)
    eventually(lambda: path.exists() and path.stat().st_size)
    path.rename(path.with_suffix(".1"))
    daemon.runtime.ReopenContainerLog(cri.ReopenContainerLogRequest(container_id=container))
    eventually(lambda: path.exists() and path.stat().st_size)
    daemon.runtime.StopContainer(cri.StopContainerRequest(container_id=container))
    old = [line.split()[-1] for line in path.with_suffix(".1").read_text().splitlines()]
    new = [line.split()[-1] for line in path.read_text().splitlines()]
    assert old + new == [str(n + 1) for n in range(len(old + new))]


def test_a_log_path_that_is_a_link_is_refused(daemon, sandbox, tmp_path):
    (tmp_path / "canary").write_text("")
    logs = pathlib.Path(daemon.logs) / "test-a-log-path-that-is-a-link-is-refuse"
    logs.mkdir(parents=True)
    (logs / "main.log").symlink_to(tmp_path / "canary")
    refused(grpc.StatusCode.UNKNOWN, "symbolic links", daemon.create, sandbox, BUSYBOX, "echo", "x")
    assert (tmp_path / "canary").read_text() == ""


def test_creations_that_fail_leave_no_descriptor_open(daemon, sandbox):
    logs = pathlib.Path(daemon.logs) / "test-creations-that-fail-leave-no-descri"
    (logs / "main.log").mkdir(parents=True)

    def fail():
        refused(grpc.StatusCode.UNKNOWN, "directory", daemon.create, sandbox, BUSYBOX, "true")
        return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))

    first = fail()
    assert max(fail() for _ in range(5)) <= first


def test_stopping_is_gentle_first_and_may_be_repeated(daemon, sandbox):
    script = "trap 'echo bye; exit 9' TERM; echo ready; while true; do usleep 10000; done"
    polite = daemon.shell(sandbox, script, name="polite")
    deaf = daemon.run(sandbox, BUSYBOX, "sleep", "1000", name="deaf")
    eventually(lambda: daemon.read_log(polite))
    for _ in range(2):
        daemon.runtime.StopContainer(cri.StopContainerRequest(container_id=polite, timeout=10), timeout=8)
        daemon.runtime.StopContainer(cri.StopContainerRequest(container_id=deaf, timeout=1), timeout=8)
    assert daemon.status(polite).exit_code == 9
    assert daemon.read_log(polite)[-1] == ("stdout", "F", "bye")
    assert daemon.status(deaf).exit_code == 137
    for _ in range(2):
        daemon.runtime.RemoveContainer(cri.RemoveContainerRequest(container_id=deaf))
    daemon.runtime.StopContainer(cri.StopContainerRequest(container_id="no-such"))
    daemon.runtime.RemoveContainer(cri.RemoveContainerRequest(container_id="no-such"))
    refused(grpc.StatusCode.NOT_FOUND, deaf, daemon.status, deaf)


def test_a_stop_signal_of_its_own(daemon, sandbox):
    script = "trap 'exit 31' USR1; echo ready; while true; do usleep 10000; done"
    container = daemon.shell(sandbox, script, stop_signal=cri.Signal.SIGUSR1)
    eventually(lambda: daemon.read_log(container))
    daemon.runtime.StopContainer(cri.StopContainerRequest(container_id=container, timeout=10), timeout=8)
    assert daemon.status(container).exit_code == 31


def test_removing_a_running_container_ends_it(daemon, sandbox):
    container = daemon.run(sandbox, BUSYBOX, "sleep", "1000")
    daemon.runtime.RemoveContainer(cri.RemoveContainerRequest(container_id=container), timeout=10)
    assert not list((daemon.root / "snapshots").iterdir())
    assert not list((daemon.root / "sandboxes" / sandbox / "containers").iterdir())


def test_a_terminal(daemon, sandbox):
    container = daemon.shell(sandbox, "tty; test -t 1 && echo yes; ls -l /dev/console | cut -c1; sleep 1000", tty=True)
    eventually(lambda: len(daemon.read_log(container)) == 3)
    assert [content.rstrip("\r") for _, _, content in daemon.read_log(container)] == ["/dev/pts/0", "yes", "c"]


def test_listing_and_filters(daemon, sandbox):
    one = daemon.run(sandbox, BUSYBOX, "sleep", "1000", name="one", labels={"app": "x"})
    two = daemon.create(sandbox, BUSYBOX, "true", name="two", labels={"app": "y"})

    def ids(**wanted):
        answer = daemon.runtime.ListContainers(cri.ListContainersRequest(filter=cri.ContainerFilter(**wanted)))
        return {container.id for container in answer.containers}

    assert ids(pod_sandbox_id=sandbox) == {one, two}
    assert ids(label_selector={"app": "x"}) == {one}
    assert ids(state=cri.ContainerStateValue(state=cri.ContainerState.CONTAINER_CREATED)) == {two}
    assert ids(id=one[:12]) == {one}
    sandboxes = daemon.runtime.ListPodSandbox(cri.ListPodSandboxRequest(filter=cri.PodSandboxFilter(id=sandbox)))
    assert [item.id for item in sandboxes.items] == [sandbox]


def test_the_same_container_twice_is_refused(daemon, sandbox):
    daemon.create(sandbox, BUSYBOX, "true")
    refused(grpc.StatusCode.FAILED_PRECONDITION, "'main', attempt 0, exists", daemon.create, sandbox, BUSYBOX, "true")
    daemon.create(sandbox, BUSYBOX, "true", attempt=1)
