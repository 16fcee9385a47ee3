"""Vision part of the model: frames to embeddings by tower, token merging and projector."""

from collections.abc import Iterable

import torch
from torch import nn

from pipelines.core.cancel import NEVER, CancelToken
from pipelines.models.videochat_flash.configuration_videochat_flash import VideoChatFlashConfig
from pipelines.models.videochat_flash.modeling_internvideo2 import InternVideo2Tower
from pipelines.models.videochat_flash.modeling_umt import UmtTower


def merge_tokens(
    tokens: torch.Tensor, num_heads: int, *, target: int = 64, in_float32: bool = True
) -> torch.Tensor:
    """Merge the tokens of each clip until `target` are left.

    In every round the tokens at even places (A) are matched with their most similar one at the odd
    places (B); the best matches are averaged, weighted by the number of tokens merged so far. A
    round halves the number at most. The order of the result is part of the model, as positions
    follow it: unmatched tokens of A, best match first, then those of B.

    Source: OpenGVLab/VideoChat-Flash@2f8e2f5 `tome16_mlp_hd64.py`, licence: NOTES.md, after
    Bolya et al. (2023), "Token Merging: Your ViT But Faster"; differs: float32 by default.

    Args:
        tokens: (B, P, C) of any floating dtype.
        num_heads: parts of equal width whose mean is compared.
        target: tokens left of each clip.
        in_float32: compute in float32; in the dtype of `tokens` near-ties differ between devices.

    Returns:
        (B, target, C) of the dtype of `tokens`; unchanged if P is no more than `target`.
    """
    merged = tokens.float() if in_float32 else tokens
    sizes = merged.new_ones(*merged.shape[:2], 1)  # (B, P, 1)
    while (count := merged.shape[1]) > target:
        merged, sizes = _merge_round(merged, sizes, num_heads, min(count // 2, count - target))
    return merged.to(tokens.dtype)


def _merge_round(
    tokens: torch.Tensor, sizes: torch.Tensor, num_heads: int, num_merged: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return tokens and sizes, `num_merged` fewer."""
    metric = tokens.unflatten(-1, (num_heads, -1)).mean(dim=2)  # (B, P, C / heads)
    metric = metric / metric.norm(dim=-1, keepdim=True)
    scores = metric[:, ::2] @ metric[:, 1::2].transpose(1, 2)  # (B, A, B)
    best, partner = scores.max(dim=-1)  # (B, A)
    order = best.argsort(dim=-1, descending=True)
    going, staying = order[:, :num_merged, None], order[:, num_merged:, None]
    into = partner[..., None].gather(1, going)  # (B, num_merged, 1)

    def join(values: torch.Tensor) -> torch.Tensor:
        across = (-1, -1, values.shape[-1])
        even, odd = values[:, ::2], values[:, 1::2]
        moved = even.gather(1, going.expand(across))
        summed = odd.scatter_add(1, into.expand(across), moved)
        return torch.cat([even.gather(1, staying.expand(across)), summed], dim=1)

    total = join(sizes)
    return join(tokens * sizes) / total, total


class Projector(nn.Module):
    """Two layers from the width of the tower to that of the language model."""

    def __init__(self, width: int, text_width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, text_width)
        self.fc2 = nn.Linear(text_width, text_width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return (..., D) for (..., C)."""
        result: torch.Tensor = self.fc2(nn.functional.gelu(self.fc1(tokens)))
        return result


class VisualEncoder(nn.Module):
    """Tower, token merging and projector of a checkpoint, with uninitialised weights.

    `merge_in_float32` is that of `merge_tokens`.
    """

    def __init__(self, config: VideoChatFlashConfig, *, merge_in_float32: bool = True) -> None:
        super().__init__()
        vision = config.vision
        self.config = config
        self.merge_in_float32 = merge_in_float32
        tower = UmtTower if vision.kind == "umt" else InternVideo2Tower
        self.tower: nn.Module = tower(vision)
        self.projector = Projector(vision.hidden_size, config.hidden_size)

    @torch.inference_mode()
    def encode(self, pixels: torch.Tensor, cancel: CancelToken = NEVER) -> torch.Tensor:
        """Encode clips (T = 4) or images (T = 1).

        Args:
            pixels: (B, T, 3, S, S) normalised, on any device, of any floating dtype.
            cancel: checked before every block of the tower.

        Returns:
            (B, 64, D), on the device and of the dtype of the weights.

        Raises:
            Cancelled: `cancel` is cancelled.
        """
        weight = self.projector.fc1.bias
        tokens = self.tower(pixels.to(weight.device, weight.dtype), cancel)
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

    def encode_video(
        self, clips: Iterable[torch.Tensor], cancel: CancelToken = NEVER
    ) -> torch.Tensor:
        """Return (16*N, D) for a video of N frames, encoded clip by clip.

        `clips` are (4, 3, S, S) normalised pixels each, at least one, as from
        `processing.iter_clips`. `cancel` is checked before every block of the tower.
        """
        return torch.cat([self.encode(clip[None], cancel)[0] for clip in clips])

    def encode_tiles(
        self, tiles: torch.Tensor, columns: int, cancel: CancelToken = NEVER
    ) -> torch.Tensor:
        """Encode a still image that was cut into tiles.

        Args:
            tiles: (1 + rows*columns, 3, S, S) normalised: the whole image, then its tiles row by
                row, as from `processing.image_tiles`.
            columns: tiles in a row.
            cancel: checked before every block of the tower.

        Returns:
            (64*(1 + rows*columns), D): the rows of the whole image, then those of the tiles, row by
            row across the whole map as if the 64 of every tile were 8 by 8.
        """
        rows = [self.encode(tile[None, None], cancel) for tile in tiles]
        encoded = torch.cat(rows)  # (1 + n, 64, D)
        side = int(self.config.merged_tokens**0.5)
        maps = encoded[1:].unflatten(1, (side, side)).unflatten(0, (-1, columns))
        whole = maps.transpose(1, 2).flatten(0, 3)  # (rows, 8, columns, 8, D) -> (n*64, D)
        return torch.cat([encoded[0], whole])
