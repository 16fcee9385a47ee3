"""Ledgers of many visitors in one folder: each run writes its own and knows its owner's."""

import hashlib
import secrets
from pathlib import Path

from pipelines.batch.ledger import CaptionSettings, Entry, Ledger, read_captions


class Shelf:
    """The ledgers of one owner, found again by settings and content.

    A run that ended in any way is taken up by its owner's next one with the same files and
    settings, and two at the same time never wait for each other's ledger. Nothing is taken from
    other owners: how fast a caption comes, and that it counts as known, would tell that somebody
    else had captioned the same picture. Old ledgers are deleted by whoever sweeps the folder, so
    what is used of them is written anew.
    """

    def __init__(self, folder: Path, owner: str) -> None:
        """Keep ledgers in `folder`, which is made where it is missing.

        Args:
            folder: of all owners' ledgers.
            owner: a secret that only the owner has; without one, nothing is found again.
        """
        self._folder = folder
        self._owner = hashlib.sha256(owner.encode("utf-8", "replace")).hexdigest()[:32]
        self._finds = bool(owner)

    def open(self, settings: CaptionSettings) -> Ledger:
        """Return a new ledger that knows the owner's captions with the same settings.

        Raises:
            DiskError: it cannot be written.
        """
        known: dict[str, Entry] = {}
        stem = f"{settings.key}-{self._owner}"
        for path in sorted(self._folder.glob(f"{stem}-*.jsonl")) if self._finds else ():
            known.update(read_captions(path, settings))
        name = f"{stem}-{secrets.token_urlsafe(16)}.jsonl"
        return Ledger(self._folder / name, settings, known)
