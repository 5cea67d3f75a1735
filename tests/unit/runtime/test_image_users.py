import pytest

from runtime.zygote.users import MAX_BYTES, UserError, resolve

PASSWD = b"""# comment
root:x:0:0:root:/root:/bin/sh
web:x:1002:1003::/home/web:/bin/sh
99999999999:x:0:0::/:/bin/sh
broken
odd:x:notanumber:1:::
"""
GROUP = b"root:x:0:\nweb:x:1003:\nextra:x:1010:web,other\nnolist:x:1011\n"


def who(user="", group="", extra=(), merge=True, passwd=PASSWD, groups=GROUP):
    found = resolve(user, group, list(extra), merge=merge, read=lambda path: passwd if "passwd" in path else groups)
    return found.uid, found.gid, found.groups, found.home


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, (0, 0, [0], "/root")),
        ({"user": "web"}, (1002, 1003, [1003, 1010], "/home/web")),
        ({"user": "1002"}, (1002, 1003, [1003, 1010], "/home/web")),
        ({"user": "web", "group": "extra"}, (1002, 1010, [1010], "/home/web")),
        ({"user": "web", "group": "77"}, (1002, 77, [77, 1010], "/home/web")),
        ({"user": "web", "merge": False, "extra": [5, 5]}, (1002, 1003, [1003, 5], "/home/web")),
        ({"user": "4000"}, (4000, 0, [0], "/")),
        ({"user": "7", "passwd": b"", "groups": b""}, (7, 0, [0], "/")),
        ({"passwd": b"", "groups": b""}, (0, 0, [0], "/")),
    ],
)
def test_resolution(asked, expected):
    assert who(**asked) == expected


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"user": "nobody"}, "unable to find user nobody"),
        ({"user": "odd"}, "unable to find user odd"),
        ({"user": "web", "group": "nogroup"}, "unable to find group nogroup"),
        # CVE-2024-40635: a number is a number, even if an account has it as its name.
        ({"user": "99999999999"}, "user 99999999999 is above"),
        ({"user": "4294967295"}, "is above"),
        ({"user": "web", "group": "4294967296"}, "group 4294967296 is above"),
        ({"passwd": b"x" * (MAX_BYTES + 1)}, "above 1048576 bytes"),
        ({"groups": b"\n" * 20000}, "above 10000 lines"),
        ({"user": "w", "passwd": b"w:x:1:1::/ho\tme:/bin/sh\n"}, "control characters"),
    ],
)
def test_refusals(asked, text):
    with pytest.raises(UserError, match=text):
        who(**asked)
