"""Stands in for the `spaces` package: a new worker is forked for every call, and dies with it.

That is the worst that the real one does, which may use a worker again. Arguments and results are
pickled; what is asked for is written down, a line of JSON for each call.
"""

import inspect
import json
import multiprocessing
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if "torch" in sys.modules:
    raise RuntimeError("spaces has to be imported before torch")

_FORK = multiprocessing.get_context("fork")


def GPU(task: Callable[..., Iterator[Any]], *, duration: Callable[..., int]) -> Any:  # noqa: N802
    """Decorate a generator; see the module."""
    assert inspect.isgeneratorfunction(task), "generators only"

    def work(given: bytes, out: Any) -> None:
        args, options = pickle.loads(given)
        try:
            for item in task(*args, **options):
                out.send_bytes(pickle.dumps(("item", item)))
            out.send_bytes(pickle.dumps(("end", None)))
        except BrokenPipeError:  # nobody reads any more
            os._exit(3)
        except Exception:
            out.send_bytes(pickle.dumps(("failed", traceback.format_exc())))
        os._exit(0)

    def call(*args: Any, **options: Any) -> Iterator[Any]:
        read, write = _FORK.Pipe(duplex=False)
        given = pickle.dumps((args, options))
        worker = _FORK.Process(target=work, args=(given, write), daemon=True)
        worker.start()
        write.close()
        asked = {"pid": worker.pid, "call": args[:2], "seconds": duration(*args, **options)}
        with Path(os.environ["FAKE_SPACES_LOG"]).open("a", encoding="utf-8") as log:
            log.write(json.dumps(asked) + "\n")
        try:
            while True:
                what, value = pickle.loads(read.recv_bytes())
                if what == "end":
                    return
                if what == "failed":
                    raise RuntimeError(value)
                yield value
        finally:
            read.close()
            worker.terminate()
            worker.join()

    return call
