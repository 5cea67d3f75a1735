import os

from hypothesis import given
from hypothesis import strategies as st

from runtime.zygote.logs import MAX_LINE, LineSplitter, LogFile, timestamp

NOW = 1_700_000_000_123_456_789


def contents(records):
    """(tag, content) of each record."""
    assert not records or records.endswith(b"\n")
    parsed = []
    for line in records.split(b"\n")[:-1]:
        time, stream, tag, content = line.split(b" ", 3)
        assert (time, stream) == (b"2023-11-14T22:13:20.123456789Z", b"stdout")
        parsed.append((tag, content))
    return parsed


def test_the_time_stamp_has_nine_digits():
    assert timestamp(5) == b"1970-01-01T00:00:00.000000005Z"
    assert timestamp(NOW) == b"2023-11-14T22:13:20.123456789Z"


def test_a_line_is_written_when_it_is_whole():
    splitter = LineSplitter(b"stdout")
    assert splitter.records(b"hel", NOW) == b""
    assert contents(splitter.records(b"lo\nworld", NOW)) == [(b"F", b"hello")]
    assert contents(splitter.records(b"", NOW, end=True)) == [(b"F", b"world")]
    assert splitter.records(b"", NOW, end=True) == b""


def test_a_line_of_exactly_the_limit_is_one_record():
    assert contents(LineSplitter(b"stdout").records(b"x" * MAX_LINE + b"\n", NOW)) == [(b"F", b"x" * MAX_LINE)]


@given(
    st.lists(st.sampled_from([b"", b"a", b"line\n", b"\n", b"x" * (MAX_LINE - 1), b"y" * (MAX_LINE + 1), b"z" * 40000]))
)
def test_joined_records_are_the_programs_own_bytes(chunks):
    splitter = LineSplitter(b"stdout")
    records = b"".join(splitter.records(chunk, NOW) for chunk in chunks) + splitter.records(b"", NOW, end=True)
    parsed = contents(records)
    assert all(len(content) <= MAX_LINE for _, content in parsed)
    text = b"".join(content + (b"\n" if tag == b"F" else b"") for tag, content in parsed)
    original = b"".join(chunks)
    # A last line without a newline gets one; nothing else is added or lost.
    assert text == original or text == original + b"\n"


def test_a_rotated_log_goes_on_in_the_new_file(tmp_path):
    def opened(name):
        return os.open(tmp_path / name, os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    log = LogFile(opened("one"))
    log.write(b"stdout", b"first\nsec")
    log.reopen(opened("two"))
    log.write(b"stdout", b"ond\n")
    log.write(b"stderr", b"bad", end=True)
    log.close()
    log.write(b"stdout", b"nowhere\n")
    assert (tmp_path / "one").read_text().split(" ", 1)[1] == "stdout F first\n"
    assert [line.split(" ", 1)[1] for line in (tmp_path / "two").read_text().splitlines()] == [
        "stdout F second",
        "stderr F bad",
    ]
