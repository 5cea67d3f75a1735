"""What only the engine on disk can get wrong: crashes, foreign and damaged files, two processes, a full disk."""

import asyncio
import sqlite3
import subprocess
import sys
import textwrap

import pytest

from apiserver.storage.interface import Compacted, StoreClosed, StoreUnusable
from apiserver.storage.sqlite import SqliteStore

PODS = "/registry/pods/"


async def test_everything_is_there_after_a_restart(tmp_path):
    store = SqliteStore(tmp_path / "state.db")
    a = await store.create(PODS + "a", b"1")
    b = await store.create(PODS + "b", b"1")
    a2 = await store.update(PODS + "a", b"2", expected=a)
    gone = await store.delete(PODS + "b", expected=b)
    await store.close()
    store = SqliteStore(tmp_path / "state.db")
    assert await store.current_revision() == gone
    assert await store.get(PODS + "a") == (PODS + "a", b"2", a, a2)
    assert (await store.get(PODS + "b", revision=b)).value == b"1"
    assert await store.create(PODS + "b", b"3") == gone + 1
    await store.close()


def test_kill_9_loses_no_acknowledged_write(tmp_path):
    program = textwrap.dedent(
        """
        import asyncio, sys
        from apiserver.storage.sqlite import SqliteStore

        async def client(store, number):
            for i in range(10_000):
                revision = await store.create(f"/registry/pods/{number}-{i}", b"x" * 500)
                print(number, i, revision, flush=True)

        async def main():
            store = SqliteStore(sys.argv[1])
            await asyncio.gather(*(client(store, number) for number in range(8)))

        asyncio.run(main())
        """
    )
    path = tmp_path / "state.db"
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline() for _ in range(400)]
        process.kill()
        # Whatever was printed before the kill was acknowledged as well; the last line may be cut.
        lines += [line for line in process.stdout if line.endswith("\n")]
    acknowledged = {f"{PODS}{number}-{i}": int(revision) for number, i, revision in map(str.split, lines)}

    async def check():
        store = SqliteStore(path)
        found = {item.key: item.mod_revision for item in (await store.list(PODS)).items}
        newest = await store.current_revision()
        await store.close()
        return found, newest

    found, newest = asyncio.run(check())
    assert {key: found.get(key) for key in acknowledged} == acknowledged
    assert newest == max(found.values())


def test_a_file_that_is_no_database_is_named(tmp_path):
    path = tmp_path / "state.db"
    path.write_bytes(b"this is not a database, but long enough to have a head" * 20)
    with pytest.raises(StoreUnusable, match=r"state\.db is not a usable state file"):
        SqliteStore(path)
    assert path.read_bytes().startswith(b"this is not")


def test_a_foreign_database_is_refused(tmp_path):
    path = tmp_path / "state.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE theirs (a)")
    db.commit()
    db.close()
    with pytest.raises(StoreUnusable, match=r"state\.db is a database of another program"):
        SqliteStore(path)


async def test_another_schema_version_is_refused(tmp_path):
    path = tmp_path / "state.db"
    await SqliteStore(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreUnusable, match="schema version 99"):
        SqliteStore(path)


async def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "state.db"
    store = SqliteStore(path)
    for i in range(200):
        await store.create(f"{PODS}{i}", b"x" * 500)
    await store.close()
    data = bytearray(path.read_bytes())
    data[4096 * 2 :] = b"\xff" * (len(data) - 4096 * 2)
    path.write_bytes(data)
    with pytest.raises(StoreUnusable, match=r"state\.db is"):
        SqliteStore(path)


async def test_only_the_owner_reads_what_may_be_secrets(tmp_path):
    (tmp_path / "state.db").touch(0o644)  # as an earlier version left it
    store = SqliteStore(tmp_path / "state.db")
    await store.create("/registry/secrets/a", b"1")
    modes = {each.name: each.stat().st_mode & 0o777 for each in tmp_path.iterdir()}
    await store.close()
    assert modes == dict.fromkeys(("state.db", "state.db-lock", "state.db-shm", "state.db-wal"), 0o600)


async def test_two_stores_on_one_file(tmp_path):
    store = SqliteStore(tmp_path / "state.db")
    with pytest.raises(StoreUnusable, match="in use by another process"):
        SqliteStore(tmp_path / "state.db")
    await store.close()
    await SqliteStore(tmp_path / "state.db").close()


def test_a_directory_in_the_way(tmp_path):
    (tmp_path / "state.db").mkdir()
    with pytest.raises(StoreUnusable, match=r"state\.db"):
        SqliteStore(tmp_path / "state.db")


async def test_a_failing_disk_closes_the_store(tmp_path):
    store = SqliteStore(tmp_path / "state.db")
    await store.create(PODS + "a", b"1")
    store._file.db.execute("PRAGMA query_only = ON")  # every later write fails
    watch = store.watch(PODS, from_revision=await store.current_revision())
    waiting = asyncio.ensure_future(anext(watch, None))
    await asyncio.sleep(0)
    with pytest.raises(StoreClosed, match=r"writing .*state\.db failed"):
        await store.create(PODS + "b", b"1")
    async with asyncio.timeout(5):
        assert await waiting is None
    with pytest.raises(StoreClosed):
        await store.update(PODS + "a", b"2", expected=2)
    await store.close()
    store = SqliteStore(tmp_path / "state.db")
    assert [item.key for item in (await store.list(PODS)).items] == [PODS + "a"]
    await store.close()


async def test_many_writers_share_a_commit(tmp_path):
    store = SqliteStore(tmp_path / "state.db")
    commits = []
    store._file.db.set_trace_callback(lambda statement: commits.append(statement))
    await asyncio.gather(*(store.create(f"{PODS}{i}", b"x") for i in range(300)))
    assert len(commits) < 30
    await store.close()


async def test_a_compaction_that_fails_takes_no_later_write_along_and_is_made_up_for(tmp_path, caplog):
    store = SqliteStore(tmp_path / "state.db")
    first = await store.create(PODS + "a", b"1")
    await store.update(PODS + "a", b"2", expected=first)
    refuse = "CREATE TEMP TRIGGER full BEFORE UPDATE ON compaction BEGIN SELECT RAISE(ABORT, 'disk full'); END"
    store._file.db.execute(refuse)
    await store.compact(first + 1)
    assert "disk full" in caplog.text
    with pytest.raises(Compacted):
        await store.get(PODS + "a", revision=first)
    await store.create(PODS + "b", b"acknowledged")
    seen = sqlite3.connect(tmp_path / "state.db")
    count = "SELECT count(*) FROM revisions WHERE key = ?"
    assert seen.execute(count, (PODS + "b",)).fetchone() == (1,)
    assert seen.execute(count, (PODS + "a",)).fetchone() == (2,)
    store._file.db.execute("DROP TRIGGER full")
    await store.compact(first + 2)
    assert seen.execute(count, (PODS + "a",)).fetchone() == (1,)
    seen.close()
    await store.close()
