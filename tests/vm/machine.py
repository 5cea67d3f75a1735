"""A virtual machine with cgroup v2 to run tests in: QEMU, with KVM where the host has it and without elsewhere.

Owns the QEMU process and the line into the machine. Writes to the disk go to a scratch file that ends with the machine,
so every machine starts from the same state. There is no network but what the guest makes itself. If this process dies,
the line closes and the machine powers off. Commands run one at a time. Leaves the files to boot from to `image.py`.
"""

from __future__ import annotations

import base64
import json
import os
import pathlib
import re
import socket
import struct
import subprocess
import tempfile
import time
from types import TracebackType
from typing import NamedTuple

from . import image as images

BOOT_SECONDS = 180
# How much longer than the command's own limit an answer may take: killing and sending take time.
GRACE_SECONDS = 60


class Finished(NamedTuple):
    """How a command ended: its exit code (negative: minus the signal) and what it wrote."""

    code: int
    stdout: str
    stderr: str


class MachineError(Exception):
    """The machine did not boot, died, or its server failed. Carries the end of the console's text."""


class CommandTimeout(Exception):
    """A command ran out of time and was killed with all that it had started. Carries what it had written."""


def accelerator() -> str:
    """KVM only on a processor that says it virtualises: elsewhere /dev/kvm may be there and fail midway."""
    flags = set(re.findall(r"\w+", pathlib.Path("/proc/cpuinfo").read_text()))
    usable = flags & {"vmx", "svm"} and os.access("/dev/kvm", os.R_OK | os.W_OK)
    return "kvm" if usable else "tcg,thread=multi"


class Machine:
    """One running machine; a context manager. `cpus` and `memory_mib` are what the guest sees."""

    def __init__(self, image: images.Image, *, cpus: int = 2, memory_mib: int = 2048) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="pyctl-vm-")
        folder = pathlib.Path(self._folder.name)
        self._console = folder / "console"
        self._line, far_end = socket.socketpair()
        checkout = folder / "checkout.tar"
        images.pack_checkout(checkout)
        disks = [("root", image.root, "on"), ("checkout", checkout, "on")]
        command = [
            *("nice", "-n", "10", "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot"),
            *("-display", "none", "-accel", accelerator(), "-cpu", "max"),
            *("-smp", str(cpus), "-m", str(memory_mib)),
            *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
            *("-append", "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off random.trust_cpu=on"),
            *("-serial", f"file:{self._console}"),
            *("-device", "virtio-serial", "-chardev", f"socket,id=line,fd={far_end.fileno()}"),
            *("-device", "virtserialport,chardev=line,name=pyctl.commands"),
        ]
        for name, path, snapshot in disks:
            command += ["-drive", f"if=none,id={name},file={path},format=raw,snapshot={snapshot}"]
            command += ["-device", f"virtio-blk-pci,drive={name}"]
        with (folder / "qemu").open("wb") as output:
            self._process = subprocess.Popen(
                command, pass_fds=[far_end.fileno()], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        far_end.close()

    def boot(self, timeout_seconds: float = BOOT_SECONDS) -> None:
        """Waits until the machine takes commands."""
        self._receive(timeout_seconds)

    def run(
        self, command: str, timeout: float = 60, *, stdin: bytes = b"", env: dict[str, str] | None = None
    ) -> Finished:
        """Runs a shell command as root, in the checkout, in a cgroup of its own.

        timeout: seconds of the host's clock, as the guest sees it. Raises CommandTimeout, MachineError.
        """
        request = {
            "command": command,
            "timeout_seconds": timeout,
            "stdin": base64.b64encode(stdin).decode(),
            "env": env or {},
        }
        data = json.dumps(request).encode()
        try:
            self._line.sendall(struct.pack(">I", len(data)) + data)
        except OSError as error:
            raise MachineError(f"cannot send: {error}\n{self.console()}") from None
        reply = self._receive(timeout + GRACE_SECONDS)
        if "error" in reply:
            raise MachineError(f"{command!r}: {reply['error']}")
        stdout, stderr = (base64.b64decode(reply[name]).decode(errors="replace") for name in ("stdout", "stderr"))
        if reply["code"] is None:
            raise CommandTimeout(f"{command!r} took more than {timeout} s\n{stdout[-20000:]}\n{stderr[-20000:]}")
        return Finished(reply["code"], stdout, stderr)

    def check(self, command: str, timeout: float = 60) -> str:
        """Standard output of a command that must succeed."""
        done = self.run(command, timeout)
        assert done.code == 0, f"{command!r} exited {done.code}\n{done.stdout}\n{done.stderr}\n{self.console(10)}"
        return done.stdout

    def console(self, lines: int = 40) -> str:
        """The last lines that kernel and QEMU wrote."""
        found = []
        for path in (self._console, self._console.with_name("qemu")):
            if path.exists():
                found += path.read_text(errors="replace").splitlines()
        return "\n".join(found[-lines:])

    def close(self) -> None:
        """Ends the machine; nothing of it stays."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._line.close()
        self._folder.cleanup()

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _receive(self, timeout_seconds: float) -> dict:
        deadline = time.monotonic() + timeout_seconds
        (size,) = struct.unpack(">I", self._read(4, deadline))
        return json.loads(self._read(size, deadline))

    def _read(self, size: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._line.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                part = self._line.recv(size - len(data))
            except TimeoutError:
                raise MachineError(f"the machine did not answer in time; console:\n{self.console()}") from None
            if not part:
                raise MachineError(f"the machine ended; console:\n{self.console()}")
            data += part
        return bytes(data)
