"""A container run and entered through the CRI, on the real kernel."""

import pytest

from pb.cri.v1 import api_pb2 as cri

from .runtime_daemon import Daemon, eventually

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    daemon = Daemon(tmp_path_factory.mktemp("rt"))
    try:
        daemon.start()
        daemon.build_image("busybox")
        yield daemon
    finally:
        daemon.close()


@pytest.fixture
def sandbox(daemon, request):
    identifier = daemon.run_sandbox(request.node.name[:40].replace("[", "-").replace("]", ""))
    yield identifier
    daemon.remove_sandbox(identifier)


def test_run_and_exec(daemon, sandbox):
    container = daemon.shell(sandbox, "echo out; echo err >&2; sleep 1000")
    status = daemon.status(container)
    assert status.state == cri.ContainerState.CONTAINER_RUNNING
    assert status.started_at >= status.created_at > 0
    answer = daemon.exec(container, "/usr/bin/busybox", "sh", "-c", "echo in; echo bad >&2; exit 3")
    assert (answer.exit_code, answer.stdout, answer.stderr) == (3, b"in\n", b"bad\n")
    eventually(lambda: len(daemon.read_log(container)) == 2)
    assert sorted(daemon.read_log(container)) == [("stderr", "F", "err"), ("stdout", "F", "out")]
