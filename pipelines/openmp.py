"""OpenMP's threads given back, so that whoever computes next has the cores alone. Torch-free."""

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache

#: `omp_pause_soft` of OpenMP 5.0: what can be made anew is given up.
_SOFT = 1


def release_threads() -> None:
    """End the threads that OpenMP keeps for the next computation of the calling thread.

    It keeps some for every thread that has ever computed. While there are more of them than
    cores, GNU's OpenMP lets each sleep as soon as it waits, and wake up for each layer, which
    costs a decoding step a tenth of its time. Ending them costs microseconds, and so does starting
    them again. Does nothing inside a computation, and where torch uses another OpenMP. Not for a
    process that was forked by a thread that had computed: its threads are not there to end.
    """
    if "torch" in sys.modules and (pause := _pause()) is not None:
        pause(_SOFT)


@cache
def _pause() -> Callable[[int], int] | None:
    """Return `omp_pause_resource_all` of the library that torch has loaded; call it after that."""
    if sys.platform != "linux":
        return None
    try:
        library = ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOW | os.RTLD_NOLOAD)
    except OSError:
        return None
    return getattr(library, "omp_pause_resource_all", None)
