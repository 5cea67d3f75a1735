"""What a shim makes of output that does not end and of pids that are used again."""

import os
import threading

from runtime.zygote.logs import LogFile
from runtime.zygote.loop import Loop
from runtime.zygote.shim import Shim
from runtime.zygote.workload import Outputs


class Shared:
    loop = None


def test_the_last_words_end_although_somebody_goes_on_writing():
    shared = Shared()
    shared.loop = Loop()
    outputs = Outputs(shared, LogFile(-1))
    reader, writer = os.pipe()
    outputs.add(b"stdout", reader)
    over = threading.Event()

    def write():
        while not over.is_set():
            try:
                os.write(writer, b"x\n" * 30000)
            except BrokenPipeError:
                return

    # Several, so that the pipe is never empty when it is looked at.
    threads = [threading.Thread(target=write, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    finishing = threading.Thread(target=outputs.finish, daemon=True)
    finishing.start()
    finishing.join(20)
    ended = not finishing.is_alive()
    over.set()
    for thread in threads:
        thread.join()
    os.close(writer)
    assert ended


class Workload:
    def __init__(self, pid, state):
        self.identifier, self.pid, self.state, self.codes = f"w{pid}{state}", pid, {"state": state}, []

    def exited(self, code):
        self.codes.append(code)


def test_an_ended_container_does_not_swallow_the_exit_of_the_next_owner_of_its_pid(tmp_path):
    shim = Shim(None, "sandbox", -1, None)
    ended, running, execution = Workload(7, "exited"), Workload(7, "running"), Workload(8, "")
    shim._containers = {"a": ended, "b": Workload(8, "exited"), "c": running}
    shim._executions = {execution.identifier: execution}
    shim._exited(7, 3)
    shim._exited(8, 4)
    assert (ended.codes, running.codes, execution.codes) == ([], [3], [4])
    assert not shim._executions
