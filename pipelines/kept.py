"""What a cache gives and takes where work is done in another process. Torch-free."""

from collections.abc import Mapping
from typing import Any, Protocol


class Kept(Protocol):
    """A cache whose contents can travel."""

    def held(self) -> dict[Any, Any]:
        """Return what is kept, on the CPU, by its key."""
        ...

    def take(self, values: Mapping[Any, Any]) -> None:
        """Keep values that another process has computed."""
        ...

    def move_in(self, kind: str) -> None:
        """Get ready for work in a forked process, on a device of a kind."""
        ...
