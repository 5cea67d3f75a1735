import pytest

from pb.cri.v1 import api_pb2 as cri
from runtime import spec
from runtime.container import signal_number
from runtime.errors import InvalidArgument, Unimplemented
from runtime.podfiles import checked_hostname, hosts, resolv_conf

IMAGE = {"Entrypoint": ["/entry"], "Cmd": ["default"], "Env": ["A=image", "PATH=/image"], "User": "web:staff"}


@pytest.mark.parametrize(
    ("command", "args", "line"),
    [
        ([], [], ["/entry", "default"]),
        ([], ["x"], ["/entry", "x"]),
        (["/own"], [], ["/own"]),
        (["/own"], ["x", "y"], ["/own", "x", "y"]),
    ],
)
def test_the_command_line(command, args, line):
    assert spec.arguments(cri.ContainerConfig(command=command, args=args), IMAGE) == line


@pytest.mark.parametrize("image", [{}, {"Cmd": None, "Entrypoint": None}, {"Cmd": [""]}])
def test_no_command_at_all(image):
    with pytest.raises(InvalidArgument, match="no command specified"):
        spec.arguments(cri.ContainerConfig(), image)


def test_the_environment():
    config = cri.ContainerConfig(envs=[cri.KeyValue(key="A", value="own"), cri.KeyValue(key="B", value="=")], tty=True)
    lines = spec.environment(config, IMAGE, "pod")
    assert lines == ["PATH=/image", "HOSTNAME=pod", "TERM=xterm", "A=own", "B=="]
    assert spec.environment(cri.ContainerConfig(), {}, "h")[0] == f"PATH={spec.DEFAULT_PATH}"


@pytest.mark.parametrize(("key", "value"), [("", "x"), ("a=b", "x"), ("a", "x\0y")])
def test_variables_that_cannot_be(key, value):
    with pytest.raises(InvalidArgument, match="environment variable"):
        spec.environment(cri.ContainerConfig(envs=[cri.KeyValue(key=key, value=value)]), {}, "h")


def test_users():
    def who(**security):
        found = spec.user(cri.LinuxContainerSecurityContext(**security), IMAGE)
        return found["user"], found["group"]

    number = cri.Int64Value
    assert who() == ("web", "staff")
    assert who(run_as_user=number(value=0)) == ("0", "")
    assert who(run_as_username="me") == ("me", "")
    assert who(run_as_user=number(value=5), run_as_group=number(value=6)) == ("5", "6")
    with pytest.raises(InvalidArgument, match="without user"):
        who(run_as_group=number(value=6))


def test_privileged_means_nothing_hidden():
    found = spec.privileges(cri.LinuxContainerSecurityContext(privileged=True, masked_paths=["/x"]), 0b111)
    assert (found["capabilities"], found["maskedPaths"], found["readonlyPaths"]) == (0b111, [], [])
    normal = spec.privileges(cri.LinuxContainerSecurityContext(), (1 << 41) - 1)
    assert "/proc/kcore" in normal["maskedPaths"] and "/proc/sys" in normal["readonlyPaths"]
    own = spec.privileges(cri.LinuxContainerSecurityContext(masked_paths=["/x"], readonly_paths=["/y"]), 0)
    assert (own["maskedPaths"], own["readonlyPaths"]) == (["/x"], ["/y"])


def test_resources():
    asked = cri.LinuxContainerResources(cpu_shares=2, cpu_quota=-1, memory_limit_in_bytes=0, unified={"pids.max": "7"})
    found = spec.resources(asked)
    assert (found.cpu_shares, found.cpu_quota, found.memory_limit, found.pids_limit) == (2, -1, None, 7)
    assert found.unified == {}


def container(**security):
    return cri.ContainerConfig(
        linux=cri.LinuxContainerConfig(security_context=cri.LinuxContainerSecurityContext(**security))
    )


def mount(**fields):
    return cri.ContainerConfig(mounts=[cri.Mount(container_path="/m", host_path="/", **fields)])


@pytest.mark.parametrize(
    ("config", "error", "text"),
    [
        (cri.ContainerConfig(CDI_devices=[cri.CDIDevice(name="gpu")]), Unimplemented, "gpu"),
        (container(seccomp=cri.SecurityProfile(profile_type=2, localhost_ref="/p")), Unimplemented, "seccomp"),
        (container(apparmor=cri.SecurityProfile(profile_type=2, localhost_ref="/p")), Unimplemented, "apparmor"),
        (mount(image=cri.ImageSpec(image="x")), Unimplemented, "image volumes"),
        (mount(uidMappings=[cri.IDMapping(length=1)]), Unimplemented, "id-mapped"),
        (mount(recursive_read_only=True), InvalidArgument, "recursive_read_only"),
        (mount(recursive_read_only=True, readonly=True, propagation=1), InvalidArgument, "recursive_read_only"),
    ],
)
def test_what_is_not_done_is_refused(config, error, text):
    with pytest.raises(error, match=text):
        spec.refuse_unsupported(config)


def sandbox(network=0, ipc=0, sysctls=None):
    options = cri.NamespaceOption(network=network, ipc=ipc)
    security = cri.LinuxSandboxSecurityContext(namespace_options=options)
    return cri.PodSandboxConfig(linux=cri.LinuxPodSandboxConfig(security_context=security, sysctls=sysctls or {}))


@pytest.mark.parametrize(
    ("network", "ipc", "own"),
    [(0, 0, ["network", "uts", "ipc"]), (2, 0, ["ipc"]), (0, 2, ["network", "uts"]), (2, 2, [])],
)
def test_namespaces_of_its_own(network, ipc, own):
    assert spec.namespaces(sandbox(network, ipc)) == own


def test_sysctls():
    config = sandbox(sysctls={"net/core/somaxconn": "5", "kernel.shmmax": "6"})
    assert spec.sysctls(config, spec.namespaces(config)) == {"net.core.somaxconn": "5", "kernel.shmmax": "6"}
    for name in ("vm.swappiness", "kernel.hostname", "net..", "fs.file-max", "kernel.shmmax/../../vm.swappiness"):
        config = sandbox(network=2, sysctls={name: "1"})
        with pytest.raises(InvalidArgument):
            spec.sysctls(config, spec.namespaces(config))


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("SIGTERM", 15),
        ("9", 9),
        ("KILL", 9),
        ("usr1", 10),
        ("SIGRTMIN+3", 37),
        ("SIGRTMINPLUS3", 37),
        ("SIGRTMAX-1", 63),
    ],
)
def test_signals(name, number):
    assert signal_number(name) == number


def test_an_unknown_signal():
    with pytest.raises(InvalidArgument, match="SIGNOPE"):
        signal_number("SIGNOPE")


def test_files_of_the_pod():
    dns = cri.DNSConfig(servers=["1.1.1.1", "8.8.8.8"], searches=["a", "b"], options=["ndots:2"])
    assert resolv_conf(dns) == "search a b\nnameserver 1.1.1.1\nnameserver 8.8.8.8\noptions ndots:2\n"
    assert hosts("me", "10.0.0.2").splitlines()[-1] == "10.0.0.2\tme"
    assert "10." not in hosts("me", "")
    # CVE-2026-15809: a name must not bring lines of its own.
    with pytest.raises(InvalidArgument):
        resolv_conf(cri.DNSConfig(servers=["1.1.1.1\noptions debug"]))
    for bad in ("a\nb", "x" * 65, "a b"):
        with pytest.raises(InvalidArgument):
            checked_hostname(bad)


@pytest.mark.parametrize(
    ("security", "word"),
    [
        ({"seccomp": cri.SecurityProfile()}, "seccomp"),
        ({"apparmor": cri.SecurityProfile()}, "AppArmor"),
        ({"selinux_options": cri.SELinuxOption(level="s0:c1")}, "SELinux"),
    ],
)
def test_protection_that_is_not_there_is_named(security, word):
    [gap] = spec.gaps(cri.ContainerConfig(linux={"security_context": cri.LinuxContainerSecurityContext(**security)}))
    assert word in gap
    assert not spec.gaps(cri.ContainerConfig())
