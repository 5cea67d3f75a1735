"""Logs: the CRI format, tails, times, limits, following through rotation to the end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from componentbase.clock import run_virtual, virtual_clock
from nodeagent.cri import CRIError
from nodeagent.logs.format import parse
from nodeagent.logs.rotate import rotate
from nodeagent.logs.tail import Options, _Text, last_lines, read_log, split_records, tail_offset


def record(second: int, text: str, stream: str = "stdout", tag: str = "F") -> str:
    return f"2025-01-01T00:00:{second:02d}.000000000Z {stream} {tag} {text}\n"


def read(path: Path, **options: object) -> str:
    async def collect() -> bytes:
        chunks = read_log(str(path), Options(**options), virtual_clock(), lambda: True)  # type: ignore[arg-type]
        return b"".join([chunk async for chunk in chunks])

    return run_virtual(collect()).decode()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "0.log"
    lines = [record(n, f"line {n}", "stderr" if n % 2 else "stdout") for n in range(10)]
    path.write_text("".join(lines))
    return path


def test_format() -> None:
    line = parse(b"2025-01-01T00:00:00.5Z stderr F hello world\n")
    assert (line.time, line.stream, line.partial, line.text) == (
        "2025-01-01T00:00:00.5Z",
        "stderr",
        False,
        b"hello world\n",
    )
    assert parse(b"2025-01-01T00:00:00Z stdout P half").text == b"half"
    assert parse(b"2025-01-01T00:00:00Z stdout F\n").text == b"\n"
    assert parse(b"not a record\n").text == b"not a record\n"


def test_parts_of_a_line_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text(record(0, "one ", tag="P") + record(0, "line"))
    assert read(path) == "one line\n"


def test_parts_of_a_line_have_one_time(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text(record(0, "one ", tag="P") + record(1, "line") + record(2, "next"))
    first, second = read(path, timestamps=True).splitlines()
    assert first == "2025-01-01T00:00:00.000000000Z one line"
    assert second == "2025-01-01T00:00:02.000000000Z next"


RECORDS = st.lists(
    st.one_of(
        st.builds(record, st.integers(0, 59), st.sampled_from(["", "a", "a b", "50%\r60%", "x F y"]),
                  st.sampled_from(["stdout", "stderr"]), st.sampled_from(["F", "F:x", "P"])),
        st.sampled_from(["no record\n", "\n", "2025-01-01T00:00:00Z stdout F\n", "F \n"]),
    ),
    max_size=12,
)  # fmt: skip


@given(records=RECORDS, cut=st.booleans(), timestamps=st.booleans())
def test_a_block_is_rendered_as_its_records_one_by_one(records: list[str], cut: bool, timestamps: bool) -> None:
    block = "".join(records).encode()
    block = block[:-1] if cut else block
    options = Options(timestamps=timestamps)
    one_by_one = _Text(options)
    expected = b"".join([one_by_one._render(parse(each)) for each in split_records(block)])
    assert _Text(options).of(block) == expected


@pytest.mark.parametrize("since", [0, 1, 4.5, 9, 10])
def test_since_in_blocks_of_any_size(log: Path, since: float) -> None:
    start = 1735689600  # 2025-01-01
    expected = [f"line {n}" for n in range(10) if n >= since]
    assert read(log, since=start + since).splitlines() == expected
    text = _Text(Options(since=start + since))
    blocks = [text.of(each) for each in log.read_bytes().splitlines(keepends=True)]
    assert b"".join(blocks).decode().splitlines() == expected


def test_other_work_gets_its_turn_while_a_log_is_read(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text(record(0, "x" * 1000) * 1000)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def scenario() -> None:
        counting = asyncio.create_task(count())
        async for _ in read_log(str(path), Options(), virtual_clock(), lambda: True):
            pass
        counting.cancel()

    run_virtual(scenario())
    assert turns > 10


def test_options(log: Path) -> None:
    assert read(log).splitlines() == [f"line {n}" for n in range(10)]
    assert read(log, tail_lines=2) == "line 8\nline 9\n"
    assert read(log, tail_lines=0) == ""
    assert read(log, tail_lines=99) == read(log)
    assert read(log, since=1735689608.0) == "line 8\nline 9\n"
    assert read(log, tail_lines=1, timestamps=True) == "2025-01-01T00:00:09.000000000Z line 9\n"
    assert read(log, limit_bytes=9) == "line 0\nli"
    assert read(log, stream="stderr", tail_lines=4) == "line 7\nline 9\n"


@given(st.lists(st.text(alphabet="ab", max_size=5), max_size=30), st.integers(0, 35), st.booleans())
def test_tail_is_the_last_lines(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], wanted: int, cut: bool
) -> None:
    path = tmp_path_factory.mktemp("t") / "log"
    text = "".join(f"{line}\n" for line in lines) + ("rest" if cut else "")
    path.write_text(text)
    with path.open("rb") as file:
        file.seek(tail_offset(file, wanted))
        assert file.read().decode() == "".join(text.splitlines(keepends=True)[-wanted:] if wanted else [])


def test_tail_of_a_large_file_reads_backwards(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text("".join(record(n % 60, f"line {n} " + "x" * 100) for n in range(5000)))
    assert [line.split()[1] for line in read(path, tail_lines=1500).splitlines()] == [str(n) for n in range(3500, 5000)]


def test_a_missing_log_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none")


def test_following_sees_what_comes_survives_rotation_and_ends_with_the_container(tmp_path: Path) -> None:
    path, rotated = tmp_path / "0.log", tmp_path / "0.log.1"

    async def scenario() -> str:
        clock, over, seen = virtual_clock(), False, []

        async def follow() -> None:
            async for chunk in read_log(str(path), Options(follow=True), clock, lambda: over):
                seen.append(chunk)

        reader = asyncio.create_task(follow())
        await clock.sleep(1)  # the file is not even there
        path.write_text(record(0, "first"))
        await clock.sleep(1)
        with path.open("a") as file:
            file.write(record(1, "second"))
        await clock.sleep(1)
        with path.open("a") as file:
            file.write(record(2, "last of the old file"))
            path.rename(rotated)
        path.write_text(record(3, "new file"))
        await clock.sleep(1)
        with path.open("a") as file:
            file.write(record(4, "at the very end"))
        over = True
        await reader
        return b"".join(seen).decode()

    expected = ["first", "second", "last of the old file", "new file", "at the very end"]
    assert run_virtual(scenario()).splitlines() == expected


def test_last_lines_for_termination_messages(log: Path) -> None:
    assert last_lines(str(log), 2, 100) == "line 8\nline 9\n"
    assert last_lines(str(log), 2, 5) == "ne 9\n"
    assert last_lines(str(log) + "no", 2, 5) == ""
    log.write_text(record(0, "10%\r20%\rdone"), newline="")
    assert last_lines(str(log), 2, 100) == "10%\r20%\rdone\n"


class Reopens:
    """A runtime that can begin a new log, or cannot."""

    def __init__(self, path: Path, works: bool = True) -> None:
        self.path = path
        self.works = works

    async def reopen_container_log(self, container_id: str) -> None:
        if not self.works:
            raise CRIError("UNIMPLEMENTED", "no")
        self.path.touch()


def test_rotation_keeps_the_newest_parts(tmp_path: Path) -> None:
    path = tmp_path / "0.log"

    async def scenario() -> list[bool]:
        clock, done = virtual_clock(), []
        for number in range(8):
            path.write_text("x" * 100 + str(number))
            runtime: Any = Reopens(path)
            done.append(await rotate(str(path), "id", runtime, clock, limit_bytes=100, files=3))
            await clock.sleep(1)
        done.append(await rotate(str(path), "id", runtime, clock, limit_bytes=100, files=3))
        path.write_text("x" * 100 + "8")
        done.append(await rotate(str(path), "id", Reopens(path, False), clock, limit_bytes=100))  # type: ignore[arg-type]
        return done

    assert run_virtual(scenario()) == [True] * 8 + [False, False]
    parts = sorted(each.name for each in tmp_path.iterdir())
    assert len(parts) == 3 and parts[0] == "0.log"
    assert [(tmp_path / each).read_text()[-1] for each in parts] == ["8", "6", "7"]
