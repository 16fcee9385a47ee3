"""What nobody has used for a while is given up: models, decoders, memory that is free already."""

import ctypes
import gc
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.media import isolation
from pipelines.serving.store import PipelineStore

log = logging.getLogger(__name__)

#: Seconds between two looks: for models, and for memory.
_EVERY_S = 15.0
_MEMORY_EVERY_S = 2.0

#: What a process may grow by, in MB, before free memory goes back though it is at work.
_GROWTH_MB = 200.0

#: `M_ARENA_MAX` of glibc's mallopt, and the pools of memory that threads share.
_ARENA_MAX, _ARENAS = -8, 2

#: Seconds without a request after which free memory goes back to the system.
_QUIET_S = 10.0


def start_unloading(
    store: PipelineStore,
    idle_s: float,
    *,
    rest: Callable[[float], None] = lambda idle_s: None,
    every_s: float = _EVERY_S,
) -> None:
    """Give up what was not used for a while, in a thread that ends when the store is gone.

    Models, with all that they keep of pictures and videos, go after `idle_s` seconds, 0 keeps them
    for ever; processes that decode after a minute. `rest` is called as often, with `idle_s`, to
    give up what others keep in memory.
    """

    def work() -> None:
        while (watched := alive()) is not None:
            try:
                isolation.end_idle()
                if idle_s:
                    watched.unload_idle(idle_s)
                    rest(idle_s)
            except Exception:  # the next round may fare better
                log.exception("What nobody uses could not be given up")
            del watched
            time.sleep(min(every_s, idle_s or every_s))

    alive = weakref.ref(store)

    threading.Thread(target=work, name="unloading", daemon=True).start()


def start_giving_back(
    store: PipelineStore,
    quiet_s: float = _QUIET_S,
    every_s: float = _MEMORY_EVERY_S,
    growth_mb: float = _GROWTH_MB,
) -> None:
    """Give free memory back to the system, in a thread.

    The C library keeps what was freed, in pieces between which little is in use: after a rush of
    visitors, or an hour of video, they hold more than the models do. They go back `quiet_s`
    seconds after a model was used and, while models are in use, whenever this process has grown
    by `growth_mb`. The thread ends when the store is no longer there.
    """
    trim = _of_libc("malloc_trim")
    if trim is None:
        return

    def work() -> None:
        given_back, after_mb = None, start_mb
        while (watched := alive()) is not None:
            last = watched.last_used_s()
            del watched
            quiet = last is not None and time.monotonic() - last >= quiet_s
            after_mb = min(after_mb, resident_mb())
            if (quiet and last != given_back) or resident_mb() > after_mb + growth_mb:
                gc.collect()
                trim(0)
                after_mb = resident_mb()
                given_back = last if quiet else given_back
            time.sleep(every_s)

    alive, start_mb = weakref.ref(store), resident_mb()
    threading.Thread(target=work, name="trimming", daemon=True).start()


def share_free_memory() -> None:
    """Have all threads share a few pools of memory; call it before they start.

    By itself glibc makes one for each of many threads, up to eight times the number of cores, and
    what one of them has freed serves no other: after a rush of visitors they hold hundreds of
    megabytes in pieces.
    """
    limit = _of_libc("mallopt")
    if limit is not None and "MALLOC_ARENA_MAX" not in os.environ:
        limit(_ARENA_MAX, _ARENAS)


def _of_libc(name: str) -> Any:
    """Return a function of glibc, None on other systems and in libraries that lack it."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def resident_mb() -> float:
    """Return the memory that this process holds (Linux), in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
