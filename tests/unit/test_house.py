"""The rules of the house that a machine can check: sizes, empty package files, no paths of one machine."""

import ast
import pathlib
import re
import subprocess

import pytest

HOUSE = pathlib.Path(__file__).parents[2]
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 70
PACKAGES = ("apimachinery", "apiserver", "componentbase", "kubeclient", "nodeagent", "pyctl", "runtime", "scheduler")

SOURCES = sorted(path for package in PACKAGES for path in (HOUSE / package).rglob("*.py"))
assert SOURCES


def explains_itself(lines: list[str], *numbers: int) -> bool:
    """A comment `# long: <why>` on one of the lines (from 1)."""
    return any("# long: " in lines[number - 1] for number in numbers if number <= len(lines))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_small_enough_to_read(path):
    text = path.read_text()
    lines = text.splitlines()
    assert len(lines) <= MAX_FILE_LINES or explains_itself(lines, 1), f"{len(lines)} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = node.end_lineno - node.lineno + 1
            assert size <= MAX_FUNCTION_LINES or explains_itself(lines, node.lineno), f"{node.name}: {size} lines"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_modules_open_with_what_they_own(path):
    if path.name == "__init__.py":
        assert path.read_text() == "", "an __init__.py stays empty"
    else:
        assert ast.get_docstring(ast.parse(path.read_text())), "no module docstring"


def test_no_paths_of_one_machine():
    listed = subprocess.run(["git", "ls-files"], cwd=HOUSE, capture_output=True, text=True, check=True).stdout.split()
    own = re.compile(r"(?<![\w.}])/(" + "|".join(["wor" + "k", "roo" + "t"]) + r")/(?!\.ssh)")
    found = [
        f"{name}:{number}"
        for name in listed
        if (HOUSE / name).suffix in {".py", ".md", ".toml", ".yaml", ""} and (HOUSE / name).is_file()
        for number, line in enumerate((HOUSE / name).read_text(errors="replace").splitlines(), 1)
        if own.search(line) and "testdata" not in name
    ]
    assert found == []


def test_names_that_say_nothing_are_not_used():
    assert [str(path) for path in SOURCES if path.stem in {"util", "utils", "helper", "helpers", "common"}] == []
