"""The laws of `storage.Store`, written once and held by every engine."""

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from apiserver.storage.interface import (
    FIRST_REVISION,
    Compacted,
    EventType,
    FutureRevision,
    KeyExists,
    RevisionMismatch,
    Store,
    StoreClosed,
)
from apiserver.storage.memory import MemoryStore
from apiserver.storage.sqlite import SqliteStore

PODS = "/registry/pods/"


def memory(directory: Path) -> Store:
    return MemoryStore()


def sqlite(directory: Path) -> Store:
    return SqliteStore(directory / "state.db")


ENGINES = [memory, sqlite]


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.__name__)
async def store(request, tmp_path):
    store = request.param(tmp_path)
    yield store
    await store.close()


async def take(watch, count):
    """The next `count` events, which must come within five seconds."""
    async with asyncio.timeout(5):
        return [await anext(watch) for _ in range(count)]


async def test_an_empty_store_has_a_first_revision(store):
    assert await store.current_revision() == FIRST_REVISION
    assert await store.get(PODS + "a") is None
    listing = await store.list(PODS)
    assert (list(listing.items), listing.revision, listing.next_key, listing.remaining) == ([], FIRST_REVISION, "", 0)


async def test_every_write_takes_exactly_one_revision(store):
    first = await store.create(PODS + "a", b"1")
    assert first == FIRST_REVISION + 1
    assert await store.update(PODS + "a", b"2", expected=first) == first + 1
    assert await store.create("/registry/nodes/n", b"n") == first + 2
    assert await store.delete(PODS + "a", expected=first + 1) == first + 3
    assert await store.current_revision() == first + 3


async def test_get_tells_value_and_revisions(store):
    created = await store.create(PODS + "a", b"1")
    updated = await store.update(PODS + "a", b"2", expected=created)
    assert await store.get(PODS + "a") == (PODS + "a", b"2", created, updated)
    assert await store.get(PODS + "a", revision=created) == (PODS + "a", b"1", created, created)
    assert await store.get(PODS + "a", revision=FIRST_REVISION) is None


async def test_create_refuses_a_key_that_exists(store):
    await store.create(PODS + "a", b"1")
    with pytest.raises(KeyExists, match="/registry/pods/a already exists"):
        await store.create(PODS + "a", b"2")
    assert (await store.get(PODS + "a")).value == b"1"


async def test_of_many_creates_one_wins(store):
    results = await asyncio.gather(*(store.create(PODS + "a", bytes([i])) for i in range(20)), return_exceptions=True)
    winners = [result for result in results if isinstance(result, int)]
    assert len(winners) == 1
    assert sum(isinstance(result, KeyExists) for result in results) == 19


async def test_compare_and_swap(store):
    created = await store.create(PODS + "a", b"1")
    updated = await store.update(PODS + "a", b"2", expected=created)
    with pytest.raises(RevisionMismatch) as stale:
        await store.update(PODS + "a", b"3", expected=created)
    assert (stale.value.expected, stale.value.current) == (created, updated)
    with pytest.raises(RevisionMismatch):
        await store.delete(PODS + "a", expected=created)
    with pytest.raises(RevisionMismatch) as missing:
        await store.update(PODS + "b", b"3", expected=7)
    assert missing.value.current == 0
    assert (await store.get(PODS + "a")).value == b"2"


async def test_of_many_updates_at_one_revision_one_wins(store):
    created = await store.create(PODS + "a", b"")
    results = await asyncio.gather(
        *(store.update(PODS + "a", bytes([i]), expected=created) for i in range(20)), return_exceptions=True
    )
    assert sum(isinstance(result, RevisionMismatch) for result in results) == 19


async def test_a_deleted_key_can_be_created_again(store):
    first = await store.create(PODS + "a", b"1")
    deleted = await store.delete(PODS + "a", expected=first)
    assert await store.get(PODS + "a") is None
    assert (await store.get(PODS + "a", revision=first)).value == b"1"
    assert await store.get(PODS + "a", revision=deleted) is None
    again = await store.create(PODS + "a", b"2")
    assert await store.get(PODS + "a") == (PODS + "a", b"2", again, again)


async def test_list_is_by_prefix_in_byte_order(store):
    keys = [PODS + name for name in ("b/z", "a/é", "a/b", "b-c/a", "a/10", "a/9")]
    for key in keys:
        await store.create(key, b"x")
    await store.create("/registry/podz/a", b"x")
    await store.create("/registry/pod", b"x")
    listing = await store.list(PODS)
    assert [item.key for item in listing.items] == sorted(keys, key=str.encode)
    assert [item.key for item in (await store.list(PODS + "b/")).items] == [PODS + "b/z"]


async def test_pages_are_exact_at_one_revision(store):
    for i in range(10):
        await store.create(f"{PODS}{i}", bytes([i]))
    page = await store.list(PODS, limit=4)
    assert [item.key[-1] for item in page.items] == list("0123")
    assert page.remaining == 6
    await store.delete(PODS + "5", expected=(await store.get(PODS + "5")).mod_revision)
    await store.create(PODS + "55", b"")
    second = await store.list(PODS, start=page.next_key, limit=4, revision=page.revision)
    assert [item.key[-1] for item in second.items] == list("4567")
    assert (second.remaining, second.revision) == (2, page.revision)
    third = await store.list(PODS, start=second.next_key, limit=4, revision=page.revision)
    assert ([item.key[-1] for item in third.items], third.next_key, third.remaining) == (list("89"), "", 0)


async def test_a_page_that_just_fits_has_no_next(store):
    for i in range(4):
        await store.create(f"{PODS}{i}", b"")
    page = await store.list(PODS, limit=4)
    assert (len(page.items), page.next_key, page.remaining) == (4, "", 0)


async def test_the_future_cannot_be_read(store):
    now = await store.current_revision()
    for read in (store.get(PODS, revision=now + 1), store.list(PODS, revision=now + 1), store.compact(now + 1)):
        with pytest.raises(FutureRevision):
            await read


async def test_watch_tells_every_event_in_order(store):
    watch = store.watch(PODS, from_revision=await store.current_revision())
    created = await store.create(PODS + "a", b"1")
    await store.create("/registry/nodes/n", b"n")
    updated = await store.update(PODS + "a", b"2", expected=created)
    deleted = await store.delete(PODS + "a", expected=updated)
    assert await take(watch, 3) == [
        (EventType.CREATE, PODS + "a", b"1", 0, created),
        (EventType.UPDATE, PODS + "a", b"2", created, updated),
        (EventType.DELETE, PODS + "a", b"", updated, deleted),
    ]
    await watch.aclose()


async def test_watch_waits_for_what_comes_later(store):
    watch = store.watch(PODS, from_revision=await store.current_revision())
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    assert not waiting.done()
    await store.create(PODS + "a", b"1")
    async with asyncio.timeout(5):
        assert (await waiting).value == b"1"
    await watch.aclose()


async def test_watch_from_the_past_and_from_the_middle(store):
    revisions = [await store.create(f"{PODS}{i}", bytes([i % 256])) for i in range(3000)]
    watch = store.watch(PODS, from_revision=FIRST_REVISION)
    assert [event.revision for event in await take(watch, 3000)] == revisions
    await watch.aclose()
    watch = store.watch(PODS, from_revision=revisions[1499])
    assert [event.revision for event in await take(watch, 1500)] == revisions[1500:]
    more = await store.create(PODS + "more", b"")
    assert (await take(watch, 1))[0].revision == more
    await watch.aclose()


async def test_watches_see_the_same_order_under_load(store):
    start = await store.current_revision()
    watches = [store.watch(PODS, from_revision=start) for _ in range(5)]
    readers = [asyncio.ensure_future(take(watch, 200)) for watch in watches]
    await asyncio.gather(*(store.create(f"{PODS}{i}", b"") for i in range(200)))
    seen = await asyncio.gather(*readers)
    assert all(events == seen[0] for events in seen)
    assert [event.revision for event in seen[0]] == list(range(start + 1, start + 201))
    for watch in watches:
        await watch.aclose()


async def test_a_write_is_readable_when_it_is_acknowledged(store):
    revision = await store.create(PODS + "a", b"1")
    assert (await store.get(PODS + "a")).mod_revision == revision
    assert await store.current_revision() >= revision


async def test_compaction_keeps_what_is_current(store):
    a = await store.create(PODS + "a", b"1")
    b = await store.create(PODS + "b", b"1")
    a2 = await store.update(PODS + "a", b"2", expected=a)
    gone = await store.delete(PODS + "b", expected=b)
    await store.compact(gone)
    assert await store.get(PODS + "a") == (PODS + "a", b"2", a, a2)
    assert [item.key for item in (await store.list(PODS, revision=gone)).items] == [PODS + "a"]
    for read in (store.get(PODS + "a", revision=a2), store.list(PODS, revision=b)):
        with pytest.raises(Compacted):
            await read
    again = await store.create(PODS + "b", b"3")
    await store.compact(again)
    assert await store.get(PODS + "b") == (PODS + "b", b"3", again, again)


async def test_compaction_keeps_the_version_that_was_current_then(store):
    a = await store.create(PODS + "a", b"1")
    at = await store.create(PODS + "x", b"")
    await store.update(PODS + "a", b"2", expected=a)
    await store.compact(at)
    assert (await store.get(PODS + "a", revision=at)).value == b"1"
    await store.compact(a)  # going back changes nothing
    assert (await store.get(PODS + "a", revision=at)).value == b"1"


async def test_watch_from_compacted_history_is_refused(store):
    a = await store.create(PODS + "a", b"1")
    b = await store.update(PODS + "a", b"2", expected=a)
    c = await store.update(PODS + "a", b"3", expected=b)
    await store.compact(b)
    with pytest.raises(Compacted):
        await anext(store.watch(PODS, from_revision=a))
    watch = store.watch(PODS, from_revision=b)
    assert [event.revision for event in await take(watch, 1)] == [c]
    await watch.aclose()


async def test_the_counter_survives_the_compaction_of_everything(store):
    a = await store.create(PODS + "a", b"1")
    b = await store.delete(PODS + "a", expected=a)
    await store.compact(b)
    assert await store.current_revision() == b
    assert await store.create(PODS + "a", b"1") == b + 1


async def test_close_ends_watches_and_refuses_writes(store):
    watch = store.watch(PODS, from_revision=await store.current_revision())
    waiting = asyncio.ensure_future(anext(watch, None))
    await asyncio.sleep(0)
    await store.close()
    async with asyncio.timeout(5):
        assert await waiting is None
    with pytest.raises(StoreClosed):
        await store.create(PODS + "a", b"1")
    await store.close()


async def test_a_caller_that_goes_away_leaves_the_store_whole(store):
    task = asyncio.ensure_future(store.create(PODS + "a", b"1"))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await store.create(PODS + "b", b"2")
    current = await store.get(PODS + "a")
    assert current is None or current.value == b"1"
    listing = await store.list(PODS)
    assert listing.revision == await store.current_revision()


class StoreMachine(RuleBasedStateMachine):
    """Any sequence of verbs against a model: the history of the whole map."""

    keys = st.sampled_from([PODS + name for name in ("a", "b", "b/c", "bc")])
    values = st.binary(max_size=3)

    @initialize(engine=st.sampled_from(ENGINES))
    def begin(self, engine):
        self.runner = asyncio.Runner()
        self.directory = tempfile.TemporaryDirectory()
        self.engine = engine
        self.store = engine(Path(self.directory.name))
        self.history = {FIRST_REVISION: {}}
        self.events = []
        self.newest = FIRST_REVISION
        self.compacted = 0

    def run(self, awaitable):
        async def main():
            return await awaitable

        return self.runner.run(main())

    def wrote(self, kind, key, value, revision):
        assert revision == self.newest + 1
        before = self.history[self.newest]
        previous = before[key][2] if key in before else 0
        after = {k: v for k, v in before.items() if k != key}
        if kind is not EventType.DELETE:
            after[key] = (value, before[key][1] if key in before else revision, revision)
        self.history[revision] = after
        self.events.append((kind, key, value, previous, revision))
        self.newest = revision

    @rule(key=keys, value=values)
    def create(self, key, value):
        if key in self.history[self.newest]:
            with pytest.raises(KeyExists):
                self.run(self.store.create(key, value))
        else:
            self.wrote(EventType.CREATE, key, value, self.run(self.store.create(key, value)))

    @rule(key=keys, value=values, stale=st.booleans())
    def update(self, key, value, stale):
        current = self.history[self.newest].get(key)
        if current is None or stale:
            with pytest.raises(RevisionMismatch):
                self.run(self.store.update(key, value, expected=(current[2] if current else 2) - stale))
        else:
            self.wrote(EventType.UPDATE, key, value, self.run(self.store.update(key, value, expected=current[2])))

    @rule(key=keys)
    def delete(self, key):
        current = self.history[self.newest].get(key)
        if current is None:
            with pytest.raises(RevisionMismatch):
                self.run(self.store.delete(key, expected=2))
        else:
            self.wrote(EventType.DELETE, key, b"", self.run(self.store.delete(key, expected=current[2])))

    @rule(back=st.integers(0, 5))
    def compact(self, back):
        revision = max(FIRST_REVISION, self.newest - back)
        self.run(self.store.compact(revision))
        self.compacted = max(self.compacted, revision)

    @precondition(lambda self: self.engine is not memory)
    @rule()
    def reopen(self):
        self.run(self.store.close())
        self.store = self.engine(Path(self.directory.name))

    @rule(back=st.integers(0, 5), limit=st.integers(0, 3))
    def list_at(self, back, limit):
        revision = max(FIRST_REVISION, self.newest - back)
        if revision < self.compacted:
            with pytest.raises(Compacted):
                self.run(self.store.list(PODS, revision=revision))
            return
        model = sorted((key, *entry) for key, entry in self.history[revision].items())
        seen, start = [], ""
        while True:
            page = self.run(self.store.list(PODS, start=start, limit=limit, revision=revision))
            seen += page.items
            assert page.remaining == len(model) - len(seen)
            if not page.next_key:
                break
            start = page.next_key
        assert [tuple(item) for item in seen] == model

    @rule(back=st.integers(0, 5))
    def watch_from(self, back):
        revision = max(FIRST_REVISION, self.newest - back)
        expected = [event for event in self.events if event[4] > revision]

        async def read():
            watch = self.store.watch(PODS, from_revision=revision)
            events = await take(watch, len(expected))
            await watch.aclose()
            return [tuple(event) for event in events]

        if revision < self.compacted and expected:
            with pytest.raises(Compacted):
                self.run(read())
        elif revision >= self.compacted:
            assert self.run(read()) == expected

    @invariant()
    def the_counter_is_right(self):
        if hasattr(self, "store"):
            assert self.run(self.store.current_revision()) == self.newest

    def teardown(self):
        if hasattr(self, "store"):
            self.run(self.store.close())
            self.runner.close()
            self.directory.cleanup()


StoreMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestStoreMachine = StoreMachine.TestCase
