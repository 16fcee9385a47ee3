"""What nobody has used for a while is given up: models, and memory that is free already."""

import ctypes
import gc
import sys
import threading
import time

from pipelines.store import PipelineStore

#: Seconds between two looks.
_EVERY_S = 15.0

#: Seconds without a request after which free memory goes back to the system.
_QUIET_S = 10.0


def start_unloading(store: PipelineStore, idle_s: float, every_s: float = _EVERY_S) -> None:
    """Drop models that were not used for `idle_s` seconds, in a thread; 0 keeps them for ever."""
    if not idle_s:
        return

    def work() -> None:
        while True:
            time.sleep(min(every_s, idle_s))
            store.unload_idle(idle_s)

    threading.Thread(target=work, name="unloading", daemon=True).start()


def start_giving_back(
    store: PipelineStore, quiet_s: float = _QUIET_S, every_s: float = _EVERY_S
) -> None:
    """Give free memory back to the system `quiet_s` seconds after a model was used, in a thread.

    The C library keeps what many threads have freed in pools of their own, which after a rush of
    visitors hold more than the models do.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    trim = getattr(libc, "malloc_trim", None)  # glibc has it, other libraries need none
    if trim is None:
        return

    def work() -> None:
        given_back = None
        while True:
            time.sleep(every_s)
            last = store.last_used_s()
            if last is not None and last != given_back and time.monotonic() - last >= quiet_s:
                gc.collect()
                trim(0)
                given_back = last

    threading.Thread(target=work, name="trimming", daemon=True).start()
