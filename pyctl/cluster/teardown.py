"""`down`: pods first, then the components, then every trace on the host; returns only when nothing of ours is left.

The node agent stops before the pods do, so that it restarts none of them; objects stay in the store, and pods start
again with the next `up`. What a killed runtime has left behind is cleaned up by the runtime's own code, run here for
its root.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from pyctl.cluster import daemon, leftovers, preflight
from pyctl.cluster import layout as layouts
from pyctl.cluster.layout import Layout
from pyctl.cluster.processes import end, wait_gone
from pyctl.cluster.starting import locked
from pyctl.cluster.state import State, ask_to_stop, read_state
from pyctl.failure import Failure

PATIENCE_SECONDS = 15.0
REAP_SECONDS = 3.0

Say = Callable[[str], None]


def stop(layout: Layout, *, grace_seconds: int, purge: bool, say: Say) -> None:
    """End the cluster of this data directory, whatever state it is in. Raises Failure listing what would not go."""
    preflight.require_root("pyctl down")
    if purge and layout.data.exists() and not layouts.is_ours(layout):
        raise Failure(
            f"{layout.data} has no cluster.json of pyctl in it, so it is not deleted",
            hint="check --data-dir; to delete it anyway, use rm",
        )
    if not layouts.is_ours(layout) and not layout.run.exists():
        say(f"no cluster in {layout.data}: nothing to do")
        return
    with locked(layout):
        state = read_state(layout.run)
        _stop_components(layout, state, ["nodeagent", "scheduler"])
        _end_pods(layout, state, grace_seconds, say)
        _stop_components(layout, state, ["apiserver", "runtime"])
        _stop_supervisor(state)
        end(daemon.processes(layout), grace_seconds=1.0)
        _clean_host(layout)
        _forget_sockets(layout)
        _require_nothing_left(layout)
        if purge:
            shutil.rmtree(layout.data)
            say(f"{layout.data} is deleted")
    say("down")


def _stop_components(layout: Layout, state: State, names: list[str]) -> None:
    if state.running and ask_to_stop(layout.run, names, seconds=PATIENCE_SECONDS):
        return
    records = [state.components[name] for name in names if name in state.components]
    stubborn = end([each.process for each in records if each.process is not None and each.alive], grace_seconds=8.0)
    if stubborn:
        raise Failure(f"process {stubborn[0].pid} does not end", hint="it waits in the kernel: see `dmesg`")


def _stop_supervisor(state: State) -> None:
    if state.supervisor is not None and state.supervisor.alive:
        state.supervisor.send(signal.SIGTERM)
        if wait_gone([state.supervisor], PATIENCE_SECONDS):
            end([state.supervisor], grace_seconds=0.0)


def _end_pods(layout: Layout, state: State, grace_seconds: int, say: Say) -> None:
    """Let containers end cleanly, through the runtime, if it serves; the clean-up ends what is left."""
    runtime = state.components.get("runtime")
    if runtime is None or not runtime.alive or not layout.runtime_socket.exists():
        return
    from pyctl.cluster.pods import stop_all

    count = stop_all(layout.runtime_socket, grace_seconds)
    if count:
        say(f"{count} pod{'' if count == 1 else 's'} ended")


def _clean_host(layout: Layout) -> None:
    """Have the runtime's code remove all that a runtime of this root ever made on the host."""
    done = subprocess.run(
        [
            sys.executable, "-P", "-m", "runtime", "--cleanup", "--log-level", "warning",
            "--root", str(layout.runtime_root), "--socket", str(layout.runtime_socket), "--name", layout.name,
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd="/",
        env=daemon.environment(),
        check=False,
    )  # fmt: skip
    if done.returncode:
        lines = done.stderr.strip().splitlines()[-5:]
        raise Failure("the runtime could not clean up: " + "\n    ".join(lines), hint="run `pyctl down` again")


def _forget_sockets(layout: Layout) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(layout.run)


def _require_nothing_left(layout: Layout) -> None:
    deadline = time.monotonic() + REAP_SECONDS
    while left := leftovers.find(layout):
        # What was killed a moment ago may not have been reaped yet.
        if time.monotonic() > deadline:
            raise Failure("this is left, and would not go: " + "; ".join(left), hint="run `pyctl down` again")
        time.sleep(0.02)
