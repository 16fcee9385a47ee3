"""The ViCLIP network: a joint space-time vision tower and a causal text tower.

Source: OpenGVLab/InternVideo@3965eef Data/InternVid/viclip, Apache-2.0; rewritten from a
description of it; differs: see NOTES.md. Shapes: B videos or texts, T frames, G patches along a
side, P pixels along a patch, W and w widths of the towers, L tokens, D size of the vectors.
"""

import torch
from torch import nn
from transformers import PreTrainedModel

from pipelines.models.viclip.configuration_viclip import ViClipConfig

#: Factor on cosines before the softmax: the reference's constant, which it uses instead of
#: the checkpoint's trained temperature.
LOGIT_SCALE = 100.0


class ViClipAttention(nn.Module):
    """Multi-head self-attention; `in_proj` has the rows of queries, keys and values in turn."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor, causal: bool) -> torch.Tensor:
        """Return (B, L, width) for (B, L, width)."""
        batch, length, width = tokens.shape
        parts = self.in_proj(tokens).view(batch, length, 3, self.heads, width // self.heads)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)  # each (B, heads, L, head size)
        mixed = nn.functional.scaled_dot_product_attention(queries, keys, values, is_causal=causal)
        result: torch.Tensor = self.out_proj(mixed.transpose(1, 2).reshape(batch, length, width))
        return result


class ViClipMlp(nn.Module):
    """Two layers with QuickGELU, x * sigmoid(1.702 x), between them."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, ratio * width)
        self.c_proj = nn.Linear(ratio * width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return (B, L, width) for (B, L, width)."""
        hidden = self.c_fc(tokens)
        result: torch.Tensor = self.c_proj(hidden * torch.sigmoid(1.702 * hidden))
        return result


class ViClipBlock(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int, config: ViClipConfig) -> None:
        super().__init__()
        self.attn = ViClipAttention(width, heads)
        self.ln_1 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = ViClipMlp(width, config.mlp_ratio)
        self.ln_2 = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, tokens: torch.Tensor, causal: bool) -> torch.Tensor:
        """Return (B, L, width) for (B, L, width)."""
        tokens = tokens + self.attn(self.ln_1(tokens), causal)
        mixed: torch.Tensor = tokens + self.mlp(self.ln_2(tokens))
        return mixed


class ViClipTransformer(nn.Module):
    """A stack of blocks."""

    def __init__(self, width: int, layers: int, heads: int, config: ViClipConfig) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(ViClipBlock(width, heads, config) for _ in range(layers))

    def forward(self, tokens: torch.Tensor, causal: bool) -> torch.Tensor:
        """Return (B, L, width) for (B, L, width)."""
        for block in self.resblocks:
            tokens = block(tokens, causal)
        return tokens


class ViClipVisionTower(nn.Module):
    """Frames -> one vector per video, by attention over all patches of all frames."""

    def __init__(self, config: ViClipConfig) -> None:
        super().__init__()
        width, patch = config.vision_width, config.patch_size
        self.config = config
        self.conv1 = nn.Conv3d(3, width, (1, patch, patch), (1, patch, patch), bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        num_positions = 1 + (config.image_size // patch) ** 2
        self.positional_embedding = nn.Parameter(torch.empty(num_positions, width))
        self.temporal_positional_embedding = nn.Parameter(torch.empty(1, config.num_frames, width))
        self.ln_pre = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.transformer = ViClipTransformer(
            width, config.vision_layers, config.vision_heads, config
        )
        self.ln_post = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.proj = nn.Parameter(torch.empty(width, config.embed_dim))

    def patches(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return the stem's (B, T, G*G, W) for normalised (B, T, 3, H, W), patches row by row.

        Kernel and stride are equal and one frame deep, so the stem is one matrix product on
        patches; on a CPU that is faster than the convolution, in any dtype.
        """
        batch, frames = pixel_values.shape[:2]
        size, side = self.config.patch_size, self.config.image_size // self.config.patch_size
        weight = self.conv1.weight.flatten(1)  # (W, 3*P*P)
        cut = pixel_values.to(weight.dtype).view(batch, frames, 3, side, size, side, size)
        cut = cut.permute(0, 1, 3, 5, 2, 4, 6).reshape(batch, frames, side * side, -1)
        return nn.functional.linear(cut, weight)

    def embeddings(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return the tokens before `ln_pre`, (B, 1 + G*G*T, W).

        First the class token, without a temporal embedding; patch n of frame t is at 1 + n*T + t. A
        single frame gets the mean of all temporal embeddings.

        Raises:
            ValueError: `pixel_values` has another number or size of frames than the model.
        """
        self._check(pixel_values)
        tokens = self.patches(pixel_values)
        batch, frames = tokens.shape[:2]
        times = self.temporal_positional_embedding[0]  # (T, W)
        if frames == 1:
            times = times.mean(dim=0, keepdim=True)
        tokens = tokens + self.positional_embedding[1:] + times[:, None]
        tokens = tokens.transpose(1, 2).flatten(1, 2)  # (B, G*G*T, W)
        first = self.class_embedding + self.positional_embedding[0]
        return torch.cat([first.expand(batch, 1, -1), tokens], dim=1)

    def _check(self, pixel_values: torch.Tensor) -> None:
        size, frames = self.config.image_size, self.config.num_frames
        shape = tuple(pixel_values.shape)
        if len(shape) != 5 or shape[2:] != (3, size, size) or shape[1] not in (1, frames):
            raise ValueError(
                f"pixel_values must be (B, {frames} or 1, 3, {size}, {size}) but got {shape}"
            )

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return the vectors, (B, D), not of unit length, of normalised (B, T, 3, H, W).

        (B, 3, H, W) is one frame each.

        Raises:
            ValueError: `pixel_values` has another number or size of frames than the model.
        """
        if pixel_values.ndim == 4:
            pixel_values = pixel_values[:, None]
        tokens = self.transformer(self.ln_pre(self.embeddings(pixel_values)), False)
        vectors: torch.Tensor = self.ln_post(tokens[:, 0]) @ self.proj
        return vectors


class ViClipTextTower(nn.Module):
    """Token ids -> one vector per text, taken at its end token."""

    def __init__(self, config: ViClipConfig) -> None:
        super().__init__()
        width = config.text_width
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length, width))
        self.transformer = ViClipTransformer(width, config.text_layers, config.text_heads, config)
        self.ln_final = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.text_projection = nn.Parameter(torch.empty(width, config.embed_dim))

    def embeddings(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return the input of the first block, (B, L, w).

        Raises:
            ValueError: the texts are longer than the context length.
        """
        length, limit = input_ids.shape[1], self.config.context_length
        if length > limit:
            raise ValueError(f"texts must be at most {limit} tokens long but got {length}")
        tokens: torch.Tensor = self.token_embedding(input_ids)
        return tokens + self.positional_embedding[:length]

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return the vectors, (B, D), of texts with (B, L) ids, L at most the context length.

        Each row contains the end token, the largest id; tokens after it have no influence.

        Raises:
            ValueError: the texts are longer than the context length.
        """
        tokens = self.transformer(self.embeddings(input_ids), True)
        rows = torch.arange(len(tokens), device=tokens.device)
        vectors: torch.Tensor = (
            self.ln_final(tokens[rows, end_positions(input_ids)]) @ self.text_projection
        )
        return vectors


def end_positions(input_ids: torch.Tensor) -> torch.Tensor:
    """Return the position of each text's first end token (the largest id), (B,) int64.

    `argmax` does not guarantee the first of several.
    """
    is_end = input_ids == input_ids.amax(dim=1, keepdim=True)
    positions = torch.arange(input_ids.shape[1], device=input_ids.device)
    return torch.where(is_end, positions, input_ids.shape[1]).amin(dim=1)


class ViClipModel(PreTrainedModel):  # type: ignore[misc]
    """Videos and texts in one space, in any floating-point dtype."""

    config_class = ViClipConfig
    base_model_prefix = "viclip"
    main_input_name = "pixel_values"
    _no_split_modules = ["ViClipBlock"]
    _supports_sdpa = True

    def __init__(self, config: ViClipConfig) -> None:
        super().__init__(config)
        self.temp = nn.Parameter(torch.empty(()))
        self.vision_encoder = ViClipVisionTower(config)
        self.text_encoder = ViClipTextTower(config)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        for name, parameter in module.named_parameters(recurse=False):
            if name == "temp":
                nn.init.constant_(parameter, 1 / LOGIT_SCALE)
            elif isinstance(module, ViClipVisionTower | ViClipTextTower):
                nn.init.normal_(parameter, std=self.config.initializer_range)


def unit(vectors: torch.Tensor) -> torch.Tensor:
    """Return (N, D) float32 of unit length, for (N, D) of any dtype."""
    return nn.functional.normalize(vectors.float(), dim=-1)
