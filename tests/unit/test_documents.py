"""What the documents show is run as it stands there."""

import pathlib
import re

import pytest

HOUSE = pathlib.Path(__file__).parents[2]
DOCUMENTS = [HOUSE / "README.md", HOUSE / "CONTRIBUTING.md", HOUSE / "bench/README.md", *(HOUSE / "docs").glob("*.md")]


def python_blocks():
    for document in DOCUMENTS:
        for number, block in enumerate(re.findall(r"```python\n(.*?)```", document.read_text(), re.S)):
            yield pytest.param(block, id=f"{document.name}-{number}")


@pytest.mark.parametrize("block", python_blocks())
def test_python_in_documents_runs(block, capsys):
    exec(compile(block, "document", "exec"), {"__name__": "document"})


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []
