"""Rows of a table that a spreadsheet opens. Torch-free."""

from collections.abc import Sequence
from typing import Any

#: How a text begins that a spreadsheet would run as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def safe_cells(row: Sequence[Any]) -> list[Any]:
    """Return a row whose texts no spreadsheet runs as a formula.

    One that begins with "=", "+", "-", "@" (or their wide forms), a tab or a line end gets an
    apostrophe in front; numbers stay numbers.
    """
    return [
        f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell for cell in row
    ]
