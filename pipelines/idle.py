"""Models that nobody has used for a while are dropped."""

import threading
import time

from pipelines.store import PipelineStore

#: Seconds between two looks.
_EVERY_S = 15.0


def start_unloading(store: PipelineStore, idle_s: float, every_s: float = _EVERY_S) -> None:
    """Drop models that were not used for `idle_s` seconds, in a thread; 0 keeps them for ever."""
    if not idle_s:
        return

    def work() -> None:
        while True:
            time.sleep(min(every_s, idle_s))
            store.unload_idle(idle_s)

    threading.Thread(target=work, name="unloading", daemon=True).start()
