"""The cache: what is assumed counts at once, is confirmed by the API server or taken back."""

from __future__ import annotations

from scheduler.cache import Cache
from tests.unit.scheduler.builders import info, node


def held(cache: Cache, name: str = "a") -> float:
    snapshot = cache.snapshot()
    row = snapshot.index(name)
    assert row is not None
    return float(snapshot.nodes.requested("cpu")[row])


def made() -> Cache:
    cache = Cache(1)
    cache.set_node(node("a"))
    cache.set_node(node("b"))
    return cache


def test_an_assumed_pod_counts_and_is_forgotten_without_a_trace() -> None:
    cache = made()
    pod = info(cpu="2")
    cache.assume(pod, "a")
    assert held(cache) == 2000
    assert cache.is_assumed(pod)
    assert not cache.is_assumed(info(uid="another"))
    cache.forget(pod)
    assert held(cache) == 0
    assert not cache.is_assumed(pod)


def test_the_api_servers_word_confirms_and_is_not_forgotten() -> None:
    cache = made()
    pod = info(cpu="2")
    cache.assume(pod, "a")
    assert cache.set_pod(info(cpu="2", on="a")) is False
    cache.forget(pod)
    assert held(cache) == 2000


def test_the_api_servers_word_wins_over_the_assumption() -> None:
    cache = made()
    cache.assume(info(cpu="2"), "a")
    assert cache.set_pod(info(cpu="2", on="b")) is True
    assert (held(cache, "a"), held(cache, "b")) == (0, 2000)


def test_finished_and_removed_pods_hold_nothing_and_say_that_they_held_something() -> None:
    cache = made()
    cache.set_pod(info("x", cpu="1", on="a"))
    cache.set_pod(info("y", cpu="1", on="a"))
    assert cache.set_pod(info("x", cpu="1", on="a", phase="Succeeded")) is True
    assert held(cache) == 1000
    assert cache.remove("default/y") is True
    assert cache.remove("default/y") is False
    assert held(cache) == 0


def test_a_pod_that_was_resized_holds_its_new_size() -> None:
    cache = made()
    cache.set_pod(info(cpu="2", on="a"))
    assert cache.set_pod(info(cpu="1", on="a")) is True
    assert held(cache) == 1000
