"""Safe reading of `.pth` files, which are pickles."""

import pickle
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from pipelines.core.errors import WeightsError

#: Classes of the standard library that settings may contain; constructing them is harmless.
_HARMLESS = {
    "argparse.Namespace",
    "collections.defaultdict",
    "datetime.datetime",
    "datetime.timedelta",
    "types.SimpleNamespace",
}

#: Modules of the standard library, also by their Python 2 names, which pickles use.
_STDLIB = sys.stdlib_module_names | {name.partition(".")[0] for name in IMPORT_MAPPING}

#: Errors of damaged or foreign pickles.
_UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    AssertionError,
    zipfile.BadZipFile,
)


class _Inert:
    """Stand-in for an unknown class; creates an empty dict for any arguments.

    An `OrderedDict`, the only kind of dict that torch's restricted unpickler fills for a foreign
    class.
    """

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()


def read_pickled_weights(file: Path) -> Any:
    """Return the content of a `.pth` file, tensors on the CPU, foreign objects as dicts.

    torch's restricted unpickler is tried first. It refuses settings of a foreign class, such as
    `EasyDict`, which published checkpoints of this model are reported to contain. Then the names of
    all foreign classes are read without loading anything, and each class is replaced by a
    stand-in. No name is ever imported, so no code of the file can run.

    Raises:
        WeightsError: the file is damaged or no checkpoint, or refers to something of Python's
            standard library that weights do not need, as harmful pickles do.
    """
    mapped = zipfile.is_zipfile(file)  # of such a file, only the tensors in use are read
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        if not mapped:
            raise _unreadable() from error
    except _UNREADABLE as error:
        raise _unreadable() from error
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
        _refuse_harmful(names)
        stand_ins = [(type("Inert", (_Inert,), {}), name) for name in names]
        with torch.serialization.safe_globals(stand_ins):  # type: ignore[arg-type]
            return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except _UNREADABLE as error:
        raise _unreadable() from error


def _refuse_harmful(names: list[str]) -> None:
    for name in sorted(names):
        if name.partition(".")[0] in _STDLIB and name not in _HARMLESS:
            raise WeightsError(
                "The checkpoint asks to run {name!r}, which weights have no use for. It was "
                "not loaded: do not trust this file, and fetch the model from its publisher.",
                name=name[:80],
            )


def _unreadable() -> WeightsError:
    return WeightsError(
        "The checkpoint is damaged or not a PyTorch checkpoint that can be read safely. Fetch it "
        "again, or use its safetensors version."
    )
