"""The life cycle that every pipeline shares."""

import gc
import sys
from abc import ABC, abstractmethod
from pathlib import Path

from pipelines.compute.device import Device
from pipelines.compute.lru import Kept
from pipelines.core.settings import Settings
from pipelines.core.spec import ModelSpec


class Pipeline(ABC):
    """One checkpoint, live.

    The constructor touches neither disk nor network. `load` and `unload` are idempotent and are
    called by the store only, under its lock.
    """

    def __init__(self, spec: ModelSpec, folder: Path, device: Device, settings: Settings) -> None:
        """Remember what to load (`spec`, from `folder`), where to, and the settings."""
        self.spec = spec
        self.folder = folder
        self.device = device
        self.settings = settings
        self.loaded = False

    def load(self) -> None:
        """Read the weights, once.

        Raises:
            WeightsError: the files are not what the catalogue says.
        """
        if not self.loaded:
            self._load()
            self.loaded = True

    def unload(self) -> None:
        """Drop the weights and give their memory back."""
        if self.loaded:
            self._unload()
            self.loaded = False
            gc.collect()
            torch = sys.modules.get("torch")
            if torch is not None and torch.cuda.is_available():
                torch.cuda.empty_cache()

    def caches(self) -> tuple[Kept, ...]:
        """Return what is kept between requests and can travel to another process."""
        return ()

    @abstractmethod
    def _load(self) -> None:
        """Fill the attributes that hold weights."""

    @abstractmethod
    def _unload(self) -> None:
        """Drop every reference that `_load` made."""
