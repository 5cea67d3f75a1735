from ipaddress import IPv4Address, IPv4Network

import pytest

from runtime.network.interface import NetworkError
from runtime.network.ipam import Leases, choose_range
from runtime.network.masquerade import ruleset

NETWORK = IPv4Network("10.89.7.0/29")


def test_addresses_are_distinct_and_never_the_networks_own(tmp_path):
    leases = Leases(tmp_path, NETWORK)
    taken = [leases.take(f"sandbox-{n}") for n in range(5)]
    assert leases.gateway == IPv4Address("10.89.7.1")
    assert sorted(taken) == [IPv4Address(f"10.89.7.{n}") for n in range(2, 7)]
    with pytest.raises(NetworkError, match=r"no free address in pod range 10\.89\.7\.0/29"):
        leases.take("one-too-many")


def test_an_address_just_freed_is_the_last_to_come_back(tmp_path):
    leases = Leases(tmp_path, NETWORK)
    first = leases.take("a")
    leases.release("a")
    leases.release("a")
    others = [leases.take(f"b{n}") for n in range(4)]
    assert first not in others
    assert leases.take("c") == first


def test_leases_survive_the_daemon_and_are_shared_by_the_directory(tmp_path):
    one = Leases(tmp_path, NETWORK)
    address = one.take("a")
    two = Leases(tmp_path, NETWORK)
    assert two.holders() == {address: "a"}
    assert two.take("b") != address


def test_addresses_in_conflict_are_left_aside(tmp_path):
    assert Leases(tmp_path, NETWORK).take("a", [IPv4Address("10.89.7.2"), IPv4Address("10.89.7.3")]) == IPv4Address(
        "10.89.7.4"
    )


def test_a_range_without_room_is_refused(tmp_path):
    with pytest.raises(NetworkError, match="too small"):
        Leases(tmp_path, IPv4Network("10.0.0.0/31"))


def test_a_range_is_chosen_beside_what_is_taken():
    first = choose_range([], "seed")
    assert first == choose_range([IPv4Network("0.0.0.0/0")], "seed"), "the default route takes nothing"
    second = choose_range([first, IPv4Network("10.200.0.0/16")], "seed")
    assert not second.overlaps(first) and second.prefixlen == 24
    assert choose_range([], "another seed") != first
    with pytest.raises(NetworkError, match="--pod-cidr"):
        choose_range([IPv4Network("10.64.0.0/10")], "seed")


def test_the_ruleset_replaces_one_table_and_touches_no_other():
    rules = ruleset("pyctl-1", NETWORK, "pyctl-1")
    assert rules.startswith("table ip pyctl-1\ndelete table ip pyctl-1\n")
    assert "flush" not in rules
    assert 'ip saddr 10.89.7.0/29 oifname != "pyctl-1" masquerade' in rules
