"""An image file and the name that a person knows it by. Torch-free."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class NamedImage:
    """An image file and the name that a person knows it by."""

    path: Path
    name: str
