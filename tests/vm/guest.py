"""Runs inside the test machine as its first process: sets up the file systems, then obeys `machine.py`.

Owns mounting what an init system mounts, reaping orphans, and the command server on the virtio port. Every command gets
a cgroup of its own (`/commands/N`, all controllers handed down to it), as a session or a service of systemd would; what
a command leaves running lives on, unless the command ran out of time: then the whole cgroup is killed. When the host's
end of the line closes, the machine powers off. Uses the standard library alone.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import tempfile
import time

CGROUPS = pathlib.Path("/sys/fs/cgroup")
PORT = "pyctl.commands"
# Source, target, type, options. As systemd mounts them.
MOUNTS = (
    ("proc", "/proc", "proc", "nosuid,noexec,nodev"),
    ("sysfs", "/sys", "sysfs", "nosuid,noexec,nodev"),
    ("cgroup2", "/sys/fs/cgroup", "cgroup2", "nosuid,noexec,nodev,nsdelegate,memory_recursiveprot"),
    ("bpf", "/sys/fs/bpf", "bpf", "nosuid,noexec,nodev"),
    ("devpts", "/dev/pts", "devpts", "nosuid,noexec,gid=5,mode=620,ptmxmode=666"),
    ("tmpfs", "/dev/shm", "tmpfs", "nosuid,nodev"),
    ("mqueue", "/dev/mqueue", "mqueue", "nosuid,noexec,nodev"),
    ("tmpfs", "/run", "tmpfs", "nosuid,nodev,mode=755"),
)


def set_up() -> None:
    """What an init system does, as far as containers can tell."""
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    os.environ["HOME"] = "/root"
    os.environ["LC_ALL"] = "C.UTF-8"
    for source, target, kind, options in MOUNTS:
        os.makedirs(target, exist_ok=True)
        subprocess.run(["mount", "-t", kind, "-o", options, source, target], check=True)
    subprocess.run(["mount", "--make-rshared", "/"], check=True)
    for link, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        if not os.path.lexists(f"/dev/{link}"):
            os.symlink(target, f"/dev/{link}")
    socket.sethostname(pathlib.Path("/etc/hostname").read_text().strip())
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # Where an installation would have put it: beside the interpreter.
    script = pathlib.Path("/usr/bin/pyctl")
    script.write_text("#!/usr/bin/python3\nimport sys\nfrom pyctl.main import main\nsys.exit(main())\n")
    script.chmod(0o755)
    hand_down(CGROUPS)
    commands = CGROUPS / "commands"
    commands.mkdir()
    hand_down(commands)


def hand_down(cgroup: pathlib.Path) -> None:
    """Gives all controllers of a cgroup to its children."""
    controllers = (cgroup / "cgroup.controllers").read_text().split()
    (cgroup / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))


def open_port() -> int:
    for entry in pathlib.Path("/sys/class/virtio-ports").iterdir():
        if (entry / "name").read_text().strip() == PORT:
            return os.open(f"/dev/{entry.name}", os.O_RDWR | os.O_CLOEXEC)
    raise RuntimeError(f"no virtio port {PORT}")


def read(port: int, size: int) -> bytes:
    """Exactly `size` bytes; EOFError when the host has gone."""
    parts = b""
    while len(parts) < size:
        part = os.read(port, size - len(parts))
        if not part:
            raise EOFError
        parts += part
    return parts


def send(port: int, message: dict[str, object]) -> None:
    data = json.dumps(message).encode()
    data = memoryview(struct.pack(">I", len(data)) + data)
    while data:
        data = data[os.write(port, data) :]


def serve(port: int) -> None:
    send(port, {"ready": True})
    number = 0
    while True:
        (size,) = struct.unpack(">I", read(port, 4))
        request = json.loads(read(port, size))
        number += 1
        try:
            reply = run(number, **request)
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        send(port, reply)


def run(number: int, command: str, timeout_seconds: float, stdin: str, env: dict[str, str]) -> dict[str, object]:
    """Runs a shell command in a new cgroup; code None: it ran out of time. Output and input travel as base64."""
    cgroup = CGROUPS / "commands" / str(number)
    cgroup.mkdir()

    def join() -> None:
        (cgroup / "cgroup.procs").write_text("0")

    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as given:
        given.write(base64.b64decode(stdin))
        given.seek(0)
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=given,
            stdout=output,
            stderr=errors,
            cwd="/pyctl",
            env={**os.environ, **env},
            start_new_session=True,
            preexec_fn=join,
        )
        code: int | None
        try:
            code = process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            code = None
            kill(cgroup)
            process.wait()
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(base64.b64encode(file.read()).decode())
    try:
        cgroup.rmdir()
    except OSError:
        pass  # something of the command is alive, or has made cgroups of its own
    return {"code": code, "stdout": texts[0], "stderr": texts[1]}


def kill(cgroup: pathlib.Path) -> None:
    """Kills all in a cgroup and below it, and waits until they are gone."""
    (cgroup / "cgroup.kill").write_text("1")
    deadline = time.monotonic() + 20
    while "populated 1" in (cgroup / "cgroup.events").read_text() and time.monotonic() < deadline:
        time.sleep(0.05)


def main() -> None:
    """Process 1 does nothing but reap: a server that shared its process would have its children waited for."""
    set_up()
    server = os.fork()
    if server == 0:
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            serve(open_port())
        except EOFError:
            os._exit(0)
    while os.wait()[0] != server:
        pass
    os.sync()
    # RB_POWER_OFF of reboot(2).
    ctypes.CDLL(None).reboot(0x4321FEDC)


if __name__ == "__main__":
    main()
