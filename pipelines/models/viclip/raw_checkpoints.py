"""Reading `.pth` files, which are pickles, without running what they hold."""

import pickle
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from pipelines.core.errors import WeightsError

#: Classes of Python's own that a training run's settings may hold; they do nothing when made.
_HARMLESS = {
    "argparse.Namespace",
    "collections.defaultdict",
    "datetime.datetime",
    "datetime.timedelta",
    "types.SimpleNamespace",
}

#: The modules of Python's own library, also by their names in Python 2, which pickles use.
_OWN_MODULES = sys.stdlib_module_names | {name.partition(".")[0] for name in IMPORT_MAPPING}

#: What reading a damaged or foreign pickle raises.
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
    """Stands in for a class that is not known: whatever it is given, it makes an empty dict.

    An `OrderedDict`, because torch's restricted unpickler fills no other kind of dict that a
    foreign class may stand for, and keeps its attributes.
    """

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()


def read_pickled_weights(file: Path) -> Any:
    """Return what a `.pth` file holds, tensors on the CPU; foreign objects come as dicts.

    torch's restricted unpickler is tried first. Published checkpoints of this model are reported
    to hold their settings as objects of a class `EasyDict`, which it refuses; then the names of
    all foreign classes are read, without loading anything, and each is replaced by a stand-in
    that does nothing. No name is ever imported, so no code of the file's choosing can run.

    Raises:
        WeightsError: the file is damaged or no checkpoint, or asks for something of Python's own
            library that weights have no use for, which is how harmful pickles work.
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
        if name.partition(".")[0] in _OWN_MODULES and name not in _HARMLESS:
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
