import pytest

from runtime.linux.capabilities import DEFAULT, held, mask, select

ALL = (1 << 41) - 1


def test_the_default_set_has_fourteen():
    assert len(DEFAULT) == 14
    assert select([], [], ALL) == mask(DEFAULT) == 0xA80425FB


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        (["NET_ADMIN"], [], mask([*DEFAULT, "NET_ADMIN"])),
        (["cap_net_admin"], [], mask([*DEFAULT, "NET_ADMIN"])),
        ([], ["CHOWN"], mask(DEFAULT) & ~1),
        ([], ["ALL"], 0),
        (["NET_BIND_SERVICE"], ["ALL"], mask(["NET_BIND_SERVICE"])),
        (["ALL"], [], ALL),
        (["ALL"], ["SYS_ADMIN"], ALL & ~mask(["SYS_ADMIN"])),
        (["CHOWN"], ["CHOWN"], mask(DEFAULT) & ~1),
    ],
)
def test_add_and_drop(add, drop, expected):
    assert select(add, drop, ALL) == expected


def test_nobody_is_given_what_we_do_not_hold():
    without = ALL & ~mask(["SYS_RESOURCE"])
    assert select(["ALL"], [], without) == without
    assert select(["SYS_RESOURCE"], [], without) == mask(DEFAULT)


def test_unknown_names_are_errors():
    with pytest.raises(ValueError, match="unknown capability 'CAP_FOO'"):
        select(["CAP_FOO"], [], ALL)


def test_held_is_read_from_proc():
    assert held("Name:\tx\nCapPrm:\t000001fffeffffff\n") == 0x1FFFEFFFFFF
    assert held("Name:\tx\n") == 0
