"""Ledgers of many visitors in one folder: each run writes its own and knows all the others."""

import secrets
from pathlib import Path

from pipelines.batch.ledger import CaptionSettings, Ledger, read_captions


class Shelf:
    """A folder of ledgers, found again by settings and content, not by who asked.

    A run that ended in any way is taken up by the next one with the same files and settings,
    whoever starts it, and two at the same time never wait for each other's ledger. Old ledgers
    are deleted by whoever sweeps the folder, so what is used of them is written anew.
    """

    def __init__(self, folder: Path) -> None:
        """Keep ledgers in `folder`, which is made where it is missing."""
        self._folder = folder

    def open(self, settings: CaptionSettings) -> Ledger:
        """Return a new ledger that knows the captions of all with the same settings.

        Raises:
            DiskError: it cannot be written.
        """
        known: dict[str, str] = {}
        for path in sorted(self._folder.glob(f"{settings.key}-*.jsonl")):
            known.update(read_captions(path, settings))
        name = f"{settings.key}-{secrets.token_urlsafe(16)}.jsonl"
        return Ledger(self._folder / name, settings, known)
