"""Unpacked layers, each in `<home>/layers/<hex>/fs`, where hex is that of its chain id.

The chain id (image-spec) names a layer together with all layers below it, because directories that a layer uses but
does not describe look like those below. A layer is unpacked in `ingest/` and renamed when it is complete and verified:
a directory that is there is whole, also after `kill -9`. After a power cut it may not be, so a layer is trusted only
in the boot that unpacked it, until `settle` has seen it on disk.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from runtime.images.content import ContentStore, Readable, replace_file
from runtime.images.unpack import Limits, Unpacked, unpack

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class LayerInfo(msgspec.Struct):
    """What is known of an unpacked layer. `size`: bytes of the expanded archive; `boot`: "" once it is settled."""

    diff_id: str
    size: int
    entries: int
    opaque: bool = False
    boot: str = ""
    skipped: list[str] = []


class LayerStore:
    """The unpacked layers. Which are still wanted is `store.py`'s business."""

    def __init__(self, home: Path, content: ContentStore) -> None:
        self._home = home / "layers"
        self._home.mkdir(mode=0o700, exist_ok=True)
        self._content = content
        self._boot = _BOOT_ID.read_text().strip()

    def chains(self) -> list[str]:
        return [f"sha256:{name}" for name in sorted(os.listdir(self._home))]

    def path(self, chain: str) -> Path:
        """The directory that overlayfs takes as a lower one."""
        return self._place(chain) / "fs"

    def has(self, chain: str) -> bool:
        return self._place(chain).exists()

    def info(self, chain: str) -> LayerInfo:
        return msgspec.json.decode((self._place(chain) / "layer.json").read_bytes(), type=LayerInfo)

    def trusted(self, chain: str) -> bool:
        """Whether the layer is there, and nothing of it can have been lost in a power cut."""
        try:
            return self.info(chain).boot in ("", self._boot)
        except (FileNotFoundError, msgspec.DecodeError):
            return False

    def create(self, chain: str, diff_id: str, blob: Readable, lowers: Sequence[Path], limits: Limits) -> LayerInfo:
        """Unpacks and publishes; a layer that is there already stays. Raises InvalidContent, Exhausted."""
        scratch = self._content.scratch_name("layer")
        scratch.mkdir(mode=0o700)
        try:
            (scratch / "fs").mkdir(mode=0o755)
            found: Unpacked = unpack(blob, scratch / "fs", diff_id=diff_id, lowers=lowers, limits=limits)
            info = LayerInfo(diff_id, found.size, found.entries, found.opaque, self._boot, found.skipped)
            (scratch / "layer.json").write_bytes(msgspec.json.encode(info))
            try:
                os.rename(scratch, self._place(chain))
            except OSError:
                if not self.has(chain):
                    raise
            return info
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def settle(self, chain: str) -> None:
        """Notes that the layer is on disk; call it after a sync."""
        info = self.info(chain)
        if info.boot:
            info.boot = ""
            replace_file(self._place(chain) / "layer.json", msgspec.json.encode(info))

    def discard(self, chain: str) -> Path:
        """Takes the layer out of use at once; the caller removes the directory that is answered."""
        trash = self._content.scratch_name("trash")
        os.rename(self._place(chain), trash)
        return trash

    def _place(self, chain: str) -> Path:
        return self._home / chain.removeprefix("sha256:")


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """The chain id of each layer, lowest first (image-spec, config.md)."""
    chains: list[str] = []
    for diff_id in diff_ids:
        text = f"{chains[-1]} {diff_id}" if chains else diff_id
        chains.append(f"sha256:{hashlib.sha256(text.encode()).hexdigest()}" if chains else diff_id)
    return chains
