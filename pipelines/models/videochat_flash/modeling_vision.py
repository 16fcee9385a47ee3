"""Frames -> rows that the language model reads: tower, merging, projector."""

from collections.abc import Iterable, Iterator

import torch
from torch import nn

from pipelines.core.cancel import ShouldStop
from pipelines.models.videochat_flash.configuration_videochat_flash import VideoChatFlashConfig
from pipelines.models.videochat_flash.modeling_internvideo2 import InternVideo2Tower
from pipelines.models.videochat_flash.modeling_umt import UmtTower
from pipelines.videochat_flash.modeling_merging import merge_tokens


class Projector(nn.Module):
    """Two layers from the width of the tower to that of the language model."""

    def __init__(self, width: int, text_width: int) -> None:
        """Lay out the layers."""
        super().__init__()
        self.fc1 = nn.Linear(width, text_width)
        self.fc2 = nn.Linear(text_width, text_width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return (..., D) for (..., C)."""
        result: torch.Tensor = self.fc2(nn.functional.gelu(self.fc1(tokens)))
        return result


class VisualEncoder(nn.Module):
    """Tower, token merging and projector of a checkpoint."""

    def __init__(self, config: VideoChatFlashConfig, *, merge_in_float32: bool = True) -> None:
        """Lay out the modules without weights that mean anything.

        Args:
            config: of the checkpoint.
            merge_in_float32: as `merge_tokens` takes it.
        """
        super().__init__()
        vision = config.vision
        self.config = config
        self.merge_in_float32 = merge_in_float32
        tower = UmtTower if vision.kind == "umt" else InternVideo2Tower
        self.tower: nn.Module = tower(vision)
        self.projector = Projector(vision.hidden_size, config.hidden_size)

    @torch.inference_mode()
    def encode(self, pixels: torch.Tensor, should_stop: ShouldStop | None = None) -> torch.Tensor:
        """Encode clips (T = 4) or images (T = 1).

        Args:
            pixels: (B, T, 3, S, S) normalised, on any device, of any floating dtype.
            should_stop: asked before every block of the tower.

        Returns:
            (B, 64, D), on the device and of the dtype of the weights.

        Raises:
            Stopped: `should_stop` said yes.
        """
        weight = self.projector.fc1.bias
        tokens = self.tower(pixels.to(weight.device, weight.dtype), should_stop)
        merged: torch.Tensor = self.projector(self.merge(tokens))
        return merged

    def merge(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return (B, 64, C) for the tower's (B, P, C)."""
        return merge_tokens(
            tokens,
            self.config.vision.num_heads,
            target=self.config.merged_tokens,
            in_float32=self.merge_in_float32,
        )

    def encode_clips(
        self, clips: Iterable[torch.Tensor], should_stop: ShouldStop | None = None
    ) -> Iterator[torch.Tensor]:
        """Encode a video clip by clip; nothing but the clip at hand is in memory.

        Clips know nothing of one another, so that each may be kept and used again.

        Args:
            clips: of (4, 3, S, S) normalised pixels each, as `processing.iter_clips` yields them.
            should_stop: asked before every block of the tower.

        Yields:
            (64, D) of each clip, in order.

        Raises:
            Stopped: `should_stop` said yes.
        """
        for clip in clips:
            yield self.encode(clip[None], should_stop)[0]

    def encode_video(
        self, clips: Iterable[torch.Tensor], should_stop: ShouldStop | None = None
    ) -> torch.Tensor:
        """Encode a whole video.

        Args:
            clips: as `encode_clips` takes them, one at least.
            should_stop: asked before every block of the tower.

        Returns:
            (16*N, D) for N frames: 64 rows of each clip.

        Raises:
            Stopped: `should_stop` said yes.
        """
        return torch.cat(list(self.encode_clips(clips, should_stop)))

    def encode_tiles(
        self, tiles: torch.Tensor, columns: int, should_stop: ShouldStop | None = None
    ) -> torch.Tensor:
        """Encode a still image that was cut into tiles.

        Args:
            tiles: (1 + rows*columns, 3, S, S) normalised: the whole image, then its tiles row by
                row, as `processing.image_tiles` gives them.
            columns: tiles in a row.
            should_stop: asked before every block of the tower.

        Returns:
            (64*(1 + rows*columns), D): the rows of the whole image, then those of the tiles,
            read row by row across the whole map as if every tile's 64 were 8 by 8.

        Raises:
            Stopped: `should_stop` said yes.
        """
        rows = [self.encode(tile[None, None], should_stop) for tile in tiles]
        encoded = torch.cat(rows)  # (1 + n, 64, D)
        side = int(self.config.merged_tokens**0.5)
        maps = encoded[1:].unflatten(1, (side, side)).unflatten(0, (-1, columns))
        whole = maps.transpose(1, 2).flatten(0, 3)  # (rows, 8, columns, 8, D) -> (n*64, D)
        return torch.cat([encoded[0], whole])
