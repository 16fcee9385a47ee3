"""InternVideo2-1B, the vision tower of one checkpoint. Shapes as in `modeling_umt`."""

import torch
from torch import nn

from pipelines.core.cancel import NEVER, CancelToken
from pipelines.models.videochat_flash.configuration_videochat_flash import VisionConfig
from pipelines.models.videochat_flash.modeling_umt import attend, to_patches


class InternVideo2Tower(nn.Module):
    """Pre-norm transformer with a class token, RMS norms, normalised keys and layer scales.

    Source: OpenGVLab/VideoChat-Flash@2f8e2f5, licence: NOTES.md; differs: patches go
    through one Linear, attention is `full_attention`.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width, per_frame = config.hidden_size, config.grid**2
        self.config = config
        self.patch_embed = nn.Linear(3 * config.patch_px**2, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.clip_frames * per_frame, width))
        self.img_pos_embed = nn.Parameter(torch.zeros(1, 1 + per_frame, width))
        self.blocks = nn.ModuleList(InternVideo2Block(config) for _ in range(config.num_layers))

    def forward(self, pixels: torch.Tensor, cancel: CancelToken = NEVER) -> torch.Tensor:
        """Return (B, T*G*G, C), without the class token, as `UmtTower.forward` does."""
        tokens = self.patch_embed(to_patches(pixels, self.config.patch_px))  # (B, P, C)
        tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        tokens = tokens + (self.img_pos_embed if pixels.shape[1] == 1 else self.pos_embed)
        for block in self.blocks:
            cancel.check()
            tokens = block(tokens)
        return tokens[:, 1:]


class InternVideo2Block(nn.Module):
    """One block; queries and keys are normalised over all heads together."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_heads
        self.norm1, self.norm2 = RmsNorm(width), RmsNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_norm, self.k_norm = RmsNorm(width), RmsNorm(width)
        self.proj = nn.Linear(width, width)
        self.ls1, self.ls2 = LayerScale(width), LayerScale(width)
        self.fc1 = nn.Linear(width, config.mlp_size)
        self.fc2 = nn.Linear(config.mlp_size, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return (B, P, C) for (B, P, C)."""
        query, key, value = self.qkv(self.norm1(tokens)).chunk(3, dim=-1)
        attended = attend(self.q_norm(query), self.k_norm(key), value, self.num_heads)
        tokens = tokens + self.ls1(self.proj(attended))
        inner = nn.functional.gelu(self.fc1(self.norm2(tokens)))
        result: torch.Tensor = tokens + self.ls2(self.fc2(inner))
        return result


class RmsNorm(nn.Module):
    """Root-mean-square norm, computed in float32 and cast back before the weight."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return (..., C) for (..., C)."""
        wide = rows.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6)
        return self.weight * wide.to(rows.dtype)


class LayerScale(nn.Module):
    """A factor for every feature, multiplied in float32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return (..., C) for (..., C)."""
        return (rows.float() * self.weight.float()).to(rows.dtype)
