"""Both ways to make a file durable report on the loop, also when the file cannot be synced."""

import asyncio
import os

import pytest

from apiserver.storage.disksync import KernelSync, ThreadSync, disk_sync


async def sync(engine, descriptor):
    reported = asyncio.get_running_loop().create_future()
    engine.start(descriptor, reported.set_result)
    async with asyncio.timeout(5):
        return await reported


@pytest.fixture(params=[KernelSync, ThreadSync])
async def engine(request):
    engine = request.param(asyncio.get_running_loop())
    yield engine
    engine.close()


async def test_reports_when_the_file_is_durable(engine, tmp_path):
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    for _ in range(3):
        os.write(descriptor, b"x" * 1000)
        assert await sync(engine, descriptor) is None
    os.close(descriptor)


async def test_reports_what_went_wrong(engine):
    read_end, write_end = os.pipe()
    try:
        error = await sync(engine, write_end)
    except OSError as raised:
        error = raised
    assert isinstance(error, OSError)
    os.close(read_end)
    os.close(write_end)


async def test_a_machine_without_asynchronous_io_gets_a_thread(monkeypatch):
    monkeypatch.setattr("apiserver.storage.disksync.SYSCALLS", {})
    engine = disk_sync(asyncio.get_running_loop())
    assert isinstance(engine, ThreadSync)
    engine.close()
