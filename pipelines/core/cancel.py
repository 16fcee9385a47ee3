"""Leaving long work in the middle. Torch-free."""

from collections.abc import Callable

#: Asked again and again while a video or a prompt is read; True ends the work.
ShouldStop = Callable[[], bool]


class Stopped(Exception):
    """The caller's `should_stop` said yes; what was computed so far is dropped."""


def check_stop(should_stop: ShouldStop | None) -> None:
    """Raise `Stopped` where `should_stop` is given and says yes."""
    if should_stop is not None and should_stop():
        raise Stopped
