"""Encoding of clips and texts as unit vectors, in batches."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pipelines.models.viclip.modeling_viclip import ViClipModel, unit
from pipelines.models.viclip.processing_viclip import Pixels, ViClipProcessor
from pipelines.models.viclip.tokens import ViClipTokeniser

#: Most tokens and texts of a batch. On a CPU also most multiplications, about: one clip takes
#: seconds in the real models.
TOKENS_PER_BATCH = 4096
PRODUCTS_PER_BATCH = 1e11
TEXTS_PER_BATCH = 256


class ViClipEncoder:
    """A loaded model with the preprocessing of its clips and texts; thread-safe."""

    def __init__(
        self, model: ViClipModel, tokeniser: ViClipTokeniser, processor: ViClipProcessor
    ) -> None:
        self.model = model
        self._tokeniser = tokeniser
        self._processor = processor

    @property
    def dim(self) -> int:
        """Size of the vectors."""
        return int(self.model.config.embed_dim)

    @property
    def clips_per_batch(self) -> int:
        """Clips in a batch for the device, at least one; on a CPU about a second of work."""
        config = self.model.config
        tokens = config.num_frames * (config.image_size // config.patch_size) ** 2
        if self.model.device.type != "cpu":
            return max(1, 8 * TOKENS_PER_BATCH // tokens)
        products = 12 * config.vision_width**2 * config.vision_layers * tokens
        return max(1, min(TOKENS_PER_BATCH // tokens, int(PRODUCTS_PER_BATCH // products)))

    def embed_frames(self, clips: Sequence[Pixels]) -> torch.Tensor:
        """Return the (N, D) float32 unit vectors of N clips on the CPU.

        Each clip is (T, H, W, 3) uint8 RGB of any size. Of more or fewer than 8 frames, 8 are
        chosen evenly; a single frame is a still image.

        Raises:
            InputError: a clip is not such an array.
        """
        rows: list[torch.Tensor] = [torch.empty(0)] * len(clips)
        for batch in _batches(clips, self.clips_per_batch):
            pixels = [self._processor.pixel_values(clips[index]) for index in batch]
            for index, vector in zip(batch, self._run_vision(pixels), strict=True):
                rows[index] = vector
        return torch.stack(rows) if rows else torch.empty(0, self.dim, dtype=torch.float32)

    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the (N, D) float32 unit vectors of texts on the CPU; long texts are cut."""
        vectors = torch.empty(len(texts), self.dim, dtype=torch.float32)
        for start in range(0, len(texts), TEXTS_PER_BATCH):
            part = self._tokeniser.tokenise(texts[start : start + TEXTS_PER_BATCH])
            vectors[start : start + len(part.cut)] = self._run_text(part.input_ids)
        return vectors

    @torch.inference_mode()
    def _run_vision(self, pixels: list[torch.Tensor]) -> torch.Tensor:
        batch = torch.stack(pixels).to(self.model.device)
        return unit(self.model.vision_encoder(batch)).cpu()

    @torch.inference_mode()
    def _run_text(self, ids: torch.Tensor) -> torch.Tensor:
        return unit(self.model.text_encoder(ids.to(self.model.device))).cpu()


def _batches(clips: Sequence[Any], size: int) -> list[list[int]]:
    """Return the clips' positions in batches; stills and clips do not mix."""
    batches: list[list[int]] = []
    for still in (False, True):
        alike = [i for i, clip in enumerate(clips) if (np.shape(clip)[:1] == (1,)) == still]
        batches += [alike[start : start + size] for start in range(0, len(alike), size)]
    return batches
