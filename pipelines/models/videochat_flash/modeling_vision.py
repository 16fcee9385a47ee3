"""Vision part of the model: frames to embeddings by tower, token merging and projector."""

import torch
from torch import nn

from pipelines.core.cancel import NEVER, CancelToken
from pipelines.models.videochat_flash.configuration_videochat_flash import VideoChatFlashConfig
from pipelines.models.videochat_flash.modeling_internvideo2 import InternVideo2Tower
from pipelines.models.videochat_flash.modeling_umt import UmtTower


def merge_tokens(tokens: torch.Tensor, num_heads: int, *, target: int = 64) -> torch.Tensor:
    """Merge the tokens of each clip until `target` are left; computed in float32.

    In every round the tokens at even places (A) are matched with their most similar one at the odd
    places (B); the best matches are averaged, weighted by the number of tokens merged so far. A
    round halves the number at most. The order of the result is part of the model, as positions
    follow it: unmatched tokens of A, best match first, then those of B.

    Source: OpenGVLab/VideoChat-Flash@2f8e2f5 `tome16_mlp_hd64.py`, licence: NOTES.md, after
    Bolya et al. (2023), "Token Merging: Your ViT But Faster"; differs: float32 for every dtype.

    `tokens` are (B, P, C) of any floating dtype; the mean of their `num_heads` parts of equal width
    is compared. The result is (B, target, C) of that dtype; unchanged if P is at most `target`.
    """
    merged = tokens.float()
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
    """Tower, token merging and projector of a checkpoint, with uninitialised weights."""

    def __init__(self, config: VideoChatFlashConfig) -> None:
        super().__init__()
        vision = config.vision
        self.config = config
        tower = UmtTower if vision.kind == "umt" else InternVideo2Tower
        self.tower: nn.Module = tower(vision)
        self.projector = Projector(vision.hidden_size, config.hidden_size)

    @torch.inference_mode()
    def encode(self, pixels: torch.Tensor, cancel: CancelToken = NEVER) -> torch.Tensor:
        """Return (B, 64, D), on the device and of the dtype of the weights, of clips.

        `pixels` are (B, T, 3, S, S) normalised, of any floating dtype: T is 4, or 1 for images.

        Raises:
            Cancelled: `cancel` is cancelled; checked before every block of the tower.
        """
        weight = self.projector.fc1.bias
        tokens = self.tower(pixels.to(weight.device, weight.dtype), cancel)
        merged: torch.Tensor = self.projector(self.merge(tokens))
        return merged

    def merge(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return (B, 64, C) for the tower's (B, P, C)."""
        config = self.config
        return merge_tokens(tokens, config.vision.num_heads, target=config.merged_tokens)
