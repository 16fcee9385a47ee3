"""The ledgers that workers write side by side, and one ledger of them all. Ray-free."""

import shutil
from pathlib import Path

from pipelines.batch.ledger import Ledger, read_captions

#: Folder of the workers' ledgers, beside the one ledger.
FOLDER = "seesay-ledger-shards"


def take_up(folder: Path, ledger: Ledger) -> int:
    """Add to a ledger what workers wrote down, also those that were killed; returns how many.

    A line that was torn when its worker was killed is left out; its picture is done again. The
    workers' ledgers are deleted once all that they hold is in the one.

    Raises:
        DiskError: the ledger cannot be written.
    """
    before = len(ledger)
    for path in sorted(folder.glob("*.jsonl")):
        ledger.add(read_captions(path, ledger.settings).values())
    shutil.rmtree(folder, ignore_errors=True)
    return len(ledger) - before
