"""Checkpoints that are put into the place of others: another digest, and the same answers."""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from app.models.checkpoint import MANIFEST, publish


class Store:
    """A model store of our own, with some checkpoints of another one."""

    def __init__(self, folder: Path, other: Path, names: Sequence[str]) -> None:
        self.folder = folder
        self._names = names
        self._deployed = 0
        for name in names:
            shutil.copytree(other / name, folder / name)

    @property
    def digests(self) -> set[str]:
        """Of all that is in it."""
        manifests = ((self.folder / name / MANIFEST).read_bytes() for name in self._names)
        return {f"sha256:{hashlib.sha256(manifest).hexdigest()}" for manifest in manifests}

    def deploy(self) -> None:
        """New cards for all of them."""
        self._deployed += 1
        for name in self._names:
            draft = self.folder / f".{name}.draft"
            shutil.copytree(self.folder / name, draft)
            with (draft / "README.md").open("a", encoding="utf-8") as card:
                card.write(f"\nDeployed {self._deployed} times.\n")
            publish(draft, self.folder / name)
