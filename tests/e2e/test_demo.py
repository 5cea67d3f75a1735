"""script/demo and the commands that the README shows, as they stand there."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import tempfile

import pytest

pytestmark = [pytest.mark.root, pytest.mark.e2e]

HOUSE = pathlib.Path(__file__).parents[2]


def readme_commands() -> list[str]:
    """Every line of the README's shell blocks, without prompts and comments."""
    blocks = re.findall(r"```sh\n(.*?)```", (HOUSE / "README.md").read_text(), re.S)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def demo(_root):
    data = pathlib.Path(tempfile.mkdtemp(prefix="pyctl-demo-"))
    env = {**os.environ, "PYCTL_DATA_DIR": str(data)}
    try:
        done = subprocess.run([HOUSE / "script/demo"], capture_output=True, text=True, timeout=300, env=env, cwd=HOUSE)
        yield done, env
    finally:
        subprocess.run(
            [HOUSE / ".venv/bin/pyctl", "down", "--purge"], capture_output=True, timeout=120, env=env, check=False
        )
        shutil.rmtree(data, ignore_errors=True)


def test_demo_ends_with_a_ready_pod(demo):
    done, _ = demo
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"2/2 +Running", done.stdout), done.stdout
    assert "pyctl" in done.stdout + done.stderr


@pytest.mark.parametrize("command", [each for each in readme_commands() if "script/" not in each])
def test_readme_commands_work(demo, command):
    _, env = demo
    if "kubectl" in command and shutil.which("kubectl") is None:
        pytest.skip("needs kubectl on the PATH")
    if "pyctl down" in command or "git clone" in command:
        pytest.skip("the fixture runs it at the end" if "down" in command else "there is a checkout already")
    path = f"{HOUSE / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"
    line = command.replace("sudo ", "")
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=60, env={**env, "PATH": path}, cwd=HOUSE
    )
    assert done.returncode == 0, (shlex.quote(line), done.stdout, done.stderr)
