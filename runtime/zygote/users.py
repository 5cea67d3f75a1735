"""Who a container runs as: names of the image's own /etc/passwd and /etc/group, read by us with limits.

NSS must never be asked: it would load libraries of the image into a process that still has every privilege. Pure but
for the callable that reads a file. All-digit names are numbers, never looked up as names.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BYTES = 1024 * 1024
MAX_LINES = 10_000
MAX_ID = 2**32 - 2


class UserError(Exception):
    """The user asked for cannot be resolved in this image."""


class Identity:
    def __init__(self, uid: int, gid: int, groups: list[int], home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home


def number(text: str, what: str) -> int | None:
    """The id that an all-digit string names, None for a name."""
    if not text.isascii() or not text.isdigit():
        return None
    value = int(text)
    if value > MAX_ID:
        raise UserError(f"{what} {text} is above {MAX_ID}")
    return value


def _entries(data: bytes, fields: int) -> list[list[str]]:
    if len(data) > MAX_BYTES:
        raise UserError(f"account file above {MAX_BYTES} bytes")
    lines = data.decode("utf-8", "replace").split("\n")
    if len(lines) > MAX_LINES:
        raise UserError(f"account file above {MAX_LINES} lines")
    split = (line.split(":") for line in lines if line and not line.startswith("#"))
    return [entry for entry in split if len(entry) >= fields]


def _id(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and int(text) <= MAX_ID else None


def resolve(user: str, group: str, extra_groups: list[int], *, merge: bool, read: Callable[[str], bytes]) -> Identity:
    """The identity of `user` and `group`, each a name or a number or "" (root, and the user's own group).

    Supplemental groups: `extra_groups`, and with `merge` also those the image's /etc/group gives the user.
    """
    uid = number(user, "user") if user else 0
    passwd = _entries(read("/etc/passwd"), 4)
    account = None
    for entry in passwd:
        if (uid is None and entry[0] == user) or (uid is not None and _id(entry[2]) == uid):
            account = entry
            break
    if uid is None:
        if account is None or _id(account[2]) is None:
            raise UserError(f"unable to find user {user}: no matching entries in passwd file")
        uid = _id(account[2])
    assert uid is not None
    groups = _entries(read("/etc/group"), 3)
    gid = number(group, "group") if group else None
    if group and gid is None:
        found = [_id(entry[2]) for entry in groups if entry[0] == group]
        gid = found[0] if found else None
        if gid is None:
            raise UserError(f"unable to find group {group}: no matching entries in group file")
    if gid is None:
        gid = (_id(account[3]) if account else 0) or 0
    supplemental = [gid, *extra_groups]
    if merge and account is not None:
        for entry in groups:
            member_gid = _id(entry[2])
            if len(entry) >= 4 and member_gid is not None and account[0] in entry[3].split(","):
                supplemental.append(member_gid)
    home = account[5] if account is not None and len(account) >= 6 else ""
    if any(ord(ch) < 32 for ch in home):
        raise UserError(f"home directory of user {user or uid} holds control characters")
    return Identity(uid, gid, list(dict.fromkeys(supplemental)), home or "/")
