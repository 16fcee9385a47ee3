"""Life cycle of every pipeline."""

import gc
import sys
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any

from pipelines.compute.device import Device
from pipelines.compute.lru import SharedCache
from pipelines.core.settings import Settings
from pipelines.core.spec import ModelSpec
from pipelines.weights.files import weights_revision


class Pipeline(ABC):
    """One checkpoint in memory, with the `traits` of its task in the catalogue.

    The constructor touches neither disk nor network. `load` and `unload` are idempotent and are
    called by the store only, under its lock.
    """

    def __init__(self, spec: ModelSpec, folder: Path, device: Device, settings: Settings) -> None:
        self.spec = spec
        self.folder = folder
        self.device = device
        self.settings = settings
        self.traits: Any = spec.traits
        self.loaded = False

    @property
    def dtype(self) -> str:
        """Data type of the weights; a demo model keeps float32 and so its measured scores."""
        return "float32" if self.spec.demo else self.device.dtype

    @cached_property
    def revision(self) -> str:
        """An identifier of the weights, see `weights_revision`."""
        return weights_revision(self.spec, self.folder)

    def load(self) -> None:
        """Load the weights, once.

        Raises:
            WeightsError: the files do not match the catalogue.
        """
        if not self.loaded:
            self._load()
            self.loaded = True

    def unload(self) -> None:
        """Drop the weights and free their memory."""
        if self.loaded:
            self._unload()
            self.loaded = False
            gc.collect()
            torch = sys.modules.get("torch")
            if torch is not None and torch.cuda.is_available():
                torch.cuda.empty_cache()

    def caches(self) -> tuple[SharedCache, ...]:
        """Return the caches that outlive a request and can move to another process."""
        return ()

    @abstractmethod
    def _load(self) -> None:
        """Set the attributes that hold weights."""

    def _unload(self) -> None:
        """Delete every attribute that `_load` set."""
        given = {"spec", "folder", "device", "settings", "traits", "loaded"}
        for name in vars(self).keys() - given:
            delattr(self, name)
