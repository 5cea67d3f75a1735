"""The way out for pods: forwarding, and masquerading in an nftables table that is ours alone.

One transaction replaces the whole table, so a repeated start changes nothing. Without the `nft` program pods reach each
other and the host, and `install` says what to install.
"""

from __future__ import annotations

import shutil
import subprocess
from ipaddress import IPv4Network
from pathlib import Path

_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


def ruleset(table: str, network: IPv4Network, bridge: str) -> str:
    """The table as text for `nft -f`: dropped, if it is there, and made anew."""
    return f"""\
table ip {table}
delete table ip {table}
table ip {table} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {network} ip daddr {network} return
    ip saddr {network} ip daddr 224.0.0.0/4 return
    ip saddr {network} oifname != "{bridge}" masquerade
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname "{bridge}" ip saddr != {network} drop
  }}
}}
"""


def install(table: str, network: IPv4Network, bridge: str) -> str:
    """Set it up; returns "" or a warning in words."""
    try:
        if _FORWARD.read_text().strip() != "1":
            _FORWARD.write_text("1")
    except OSError as error:
        return f"cannot enable {_FORWARD}: {error.strerror}: pods reach each other and the host, not outside"
    failure = _nft(ruleset(table, network, bridge))
    if failure:
        return f"{failure}: pods reach each other and the host, not outside"
    return ""


def remove(table: str) -> None:
    if _program():
        _nft(f"table ip {table}\ndelete table ip {table}\n")


def _program() -> str | None:
    return shutil.which("nft", path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin")


def _nft(commands: str) -> str:
    program = _program()
    if program is None:
        return "no nft program (Debian: apt-get install nftables)"
    result = subprocess.run([program, "-f", "-"], input=commands, capture_output=True, text=True, check=False)
    return "" if result.returncode == 0 else f"nft: {result.stderr.strip().splitlines()[0] if result.stderr else '?'}"
