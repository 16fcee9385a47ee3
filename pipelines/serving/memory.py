"""Release of idle models, decoder processes and freed memory of the C library."""

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

#: Seconds between two checks for idle models, and for freed memory.
_EVERY_S = 15.0
_MEMORY_EVERY_S = 2.0

#: Growth of a busy process, in MB, after which its freed memory is returned.
_GROWTH_MB = 200.0

#: `M_ARENA_MAX` of glibc's mallopt, and the number of arenas that threads share.
_ARENA_MAX, _ARENAS = -8, 2

#: Seconds without a request after which freed memory is returned to the system.
_QUIET_S = 10.0


def start_unloading(
    store: PipelineStore,
    idle_s: float,
    *,
    release: Callable[[float], None] = lambda idle_s: None,
    every_s: float = _EVERY_S,
) -> None:
    """Start a thread that releases what is idle; it ends when the store is gone.

    Models without use for `idle_s` seconds are unloaded, with their caches of images and videos,
    and `release` is called with `idle_s` as often, to release other memory; 0 is never. Decoder
    processes end after a minute in any case.
    """

    def work() -> None:
        while (watched := alive()) is not None:
            try:
                isolation.end_idle()
                if idle_s:
                    watched.unload_idle(idle_s)
                    release(idle_s)
            except Exception:  # the next round may succeed
                log.exception("Idle models could not be unloaded")
            del watched
            time.sleep(min(every_s, idle_s or every_s))

    alive = weakref.ref(store)

    threading.Thread(target=work, name="unloading", daemon=True).start()


def start_trimming(
    store: PipelineStore,
    quiet_s: float = _QUIET_S,
    every_s: float = _MEMORY_EVERY_S,
    growth_mb: float = _GROWTH_MB,
) -> None:
    """Start a thread that returns freed memory to the system; it ends when the store is gone.

    The C library keeps freed memory in fragments between small blocks in use, sometimes more than
    the models take. It is returned `quiet_s` seconds after the last use of a model and, while
    models are in use, after each growth of the process by `growth_mb`. Environment variables cannot
    replace this: glibc's own trimming frees only the top of the heap.
    """
    trim = _of_libc("malloc_trim")
    if trim is None:
        return

    def work() -> None:
        trimmed, after_mb = None, start_mb
        while (watched := alive()) is not None:
            last = watched.last_used_s()
            del watched
            quiet = last is not None and time.monotonic() - last >= quiet_s
            after_mb = min(after_mb, resident_mb())
            if (quiet and last != trimmed) or resident_mb() > after_mb + growth_mb:
                gc.collect()
                trim(0)
                after_mb = resident_mb()
                trimmed = last if quiet else trimmed
            time.sleep(every_s)

    alive, start_mb = weakref.ref(store), resident_mb()
    threading.Thread(target=work, name="trimming", daemon=True).start()


def share_free_memory() -> None:
    """Make all threads share a few arenas of memory; call it before they start.

    glibc's default is up to eight arenas per core, and memory freed in one serves no thread of
    another: after many concurrent visitors they hold hundreds of megabytes in fragments.
    """
    limit = _of_libc("mallopt")
    if limit is not None and "MALLOC_ARENA_MAX" not in os.environ:
        limit(_ARENA_MAX, _ARENAS)


def _of_libc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def resident_mb() -> float:
    """Return the resident memory of this process in MB (1e6 bytes); Linux only."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
