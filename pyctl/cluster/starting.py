"""`up`: check the host, decide what is not decided yet, start the supervisor, wait until the node is ready."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

from pyctl.cluster import daemon, health, pki, preflight
from pyctl.cluster import layout as layouts
from pyctl.cluster import options as choices
from pyctl.cluster.layout import Cluster, Layout
from pyctl.cluster.options import Options
from pyctl.cluster.state import State, read_state
from pyctl.failure import Failure
from pyctl.versions import own_version

Say = Callable[[str], None]


def start(layout: Layout, options: Options, *, seconds: float, say: Say) -> None:
    """Bring the cluster up; returns when its node is ready. Does nothing to one that is up. Raises Failure."""
    preflight.check(preflight.Host())
    with locked(layout):
        state = read_state(layout.run)
        if state.running:
            cluster = _same(layout, options, state)
            say(f"already up, data in {layout.data}")
            health.wait(layout, cluster, None, seconds, say)
            return
        cluster = prepare(layout, options, state)
        process = _spawn(layout)
        say(f"starting, data in {layout.data}")
        try:
            health.wait(layout, cluster, process, seconds, say)
        except KeyboardInterrupt:
            raise Failure("interrupted; the cluster goes on starting", hint="`pyctl down` ends it", code=130) from None


def run_here(layout: Layout, options: Options, say: Say) -> NoReturn:
    """Become the supervisor, in the foreground, until SIGTERM or Ctrl-C."""
    preflight.check(preflight.Host())
    with locked(layout):
        state = read_state(layout.run)
        if state.running:
            raise Failure(f"already up, data in {layout.data}", hint="`pyctl down` ends it")
        prepare(layout, options, state)
    say(f"running, data in {layout.data}; Ctrl-C stops the components, pods go on (`pyctl down` ends them)")
    # Not a call: whoever looks at the process table, or for what a killed supervisor has left, finds it under its name.
    os.execve(sys.executable, daemon.command(layout), daemon.environment())


def prepare(layout: Layout, options: Options, state: State) -> Cluster:
    """Decide, check and write everything that the components find when they start."""
    version = own_version()
    known = layouts.load(layout)
    if known is None:
        layouts.check_free(layout)
    cluster = choices.again(known, options, version) if known else choices.first(layout, options, version)
    running = {name for name, record in state.components.items() if record.alive}
    choices.check_ports(layout, cluster, running)
    try:
        layouts.make_directories(layout, cluster)
        pki.ensure(layout, cluster)
    except OSError as error:
        place = error.filename or layout.data
        raise Failure(
            f"{place}: {(error.strerror or str(error)).lower()}", hint="`pyctl up` goes on once that is mended"
        ) from error
    return cluster


def _same(layout: Layout, options: Options, state: State) -> Cluster:
    """The running cluster's decisions, if the options ask for nothing else."""
    cluster = layouts.load(layout)
    if cluster is None:
        raise Failure(f"a cluster runs, but {layout.cluster_file} is gone", hint="end it with `pyctl down`")
    if state.version != own_version():
        raise Failure(
            f"pyctl {state.version} is running here, and this is {own_version()}",
            hint="`pyctl down`, then `pyctl up`: pods in the store start again",
        )
    if choices.again(cluster, options, cluster.version) != cluster:
        raise Failure(
            "the cluster runs with other options", hint="`pyctl down` first, then `pyctl up` with the new ones"
        )
    return cluster


@contextlib.contextmanager
def locked(layout: Layout) -> Iterator[None]:
    """One `up` or `down` at a time for one data directory; the second waits."""
    created, fresh = not layout.data.exists(), not layout.lock_file.exists()
    try:
        layout.data.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(layout.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Failure(
            f"{layout.data}: {(error.strerror or str(error)).lower()}", hint="choose another --data-dir"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
        if fresh and layout.data.exists() and not layouts.is_ours(layout):
            # A start that was refused leaves no trace.
            with contextlib.suppress(OSError):
                layout.lock_file.unlink()
                if created:
                    layout.data.rmdir()


def _spawn(layout: Layout) -> subprocess.Popen[bytes]:
    """The supervisor as a process of its own session; its parent is gone as soon as this command ends."""
    from pyctl.cluster.supervisor import open_log

    log = open_log(layout.log_file("supervisor"))
    try:
        return subprocess.Popen(
            daemon.command(layout),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
            env=daemon.environment(),
        )
    finally:
        os.close(log)
