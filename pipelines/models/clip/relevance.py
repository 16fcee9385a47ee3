"""Relevance of each image patch for a text, without gradients.

The class token's final state is a sum; one of its terms is what each block's attention adds from
each patch. Passed through the last normalisation (with fixed scale) and the projection, these
terms are each patch's share of the cosine with a text direction. Towers that pool with an
attention head (SigLIP) have one such sum, in the head.

Source: idea of Gandelsman, Efros, Steinhardt, "Interpreting CLIP's Image Representation via
Text-Based Decomposition" (2023); differs: our formulation, which needs no gradients and so works
on packed bfloat16 weights.
"""

from typing import Any

import torch

#: Number of last blocks; earlier ones add little directly to the class token.
BLOCKS = 4


@torch.inference_mode()
def patch_relevance(
    model: Any, pixels: torch.Tensor, direction: torch.Tensor, *, pooling: str
) -> torch.Tensor:
    """Return each patch's share, (rows, columns) float32, of an image's similarity to a direction.

    `pixels` are (3, H, W) float32, normalised; `direction` is (D,) of any length; `pooling` is that
    of the stock contrastive `model`: "class token" or "attention head".
    """
    tower = model.vision_model
    batch = pixels[None].to(model.device, model.dtype)
    if pooling == "class token":
        shares = _through_class_token(model, tower, batch, direction)
    else:
        shares = _through_head(tower, batch, direction)
    rows = pixels.shape[1] // tower.config.patch_size
    return shares.view(rows, -1)


def normalise(relevance: torch.Tensor) -> torch.Tensor:
    """Scale a map to 0..1: values below its median become 0, its maximum 1."""
    lifted = (relevance - relevance.median()).clamp_min(0.0)
    return lifted / lifted.max().clamp_min(1e-12)


def _through_class_token(
    model: Any, tower: Any, batch: torch.Tensor, direction: torch.Tensor
) -> torch.Tensor:
    blocks = tower.encoder.layers[-BLOCKS:]
    # hidden states are per call; hooks would also see the requests of other threads
    states = tower(pixel_values=batch, output_hidden_states=True).hidden_states
    before = states[-len(blocks) - 1 : -1]
    added = sum(
        _added(block.self_attn, block.layer_norm1(entering))
        for block, entering in zip(blocks, before, strict=True)
    )
    final = states[-1][0, 0].float()
    norm = tower.post_layernorm
    scale = (final.var(unbiased=False) + norm.eps).rsqrt()
    # apply projection and normalisation to the direction instead of to every patch
    pulled = direction.to(batch.device).float() @ model.visual_projection.weight.float()
    pulled = pulled * norm.weight.float() * scale
    pulled = pulled - pulled.mean()
    return (added[1:] @ pulled).cpu()  # type: ignore[index]


def _through_head(tower: Any, batch: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    tokens = tower(pixel_values=batch).last_hidden_state.float()
    attention = tower.head.attention
    width, heads = attention.embed_dim, attention.num_heads
    weights = attention.in_proj_weight.float().chunk(3)
    biases = attention.in_proj_bias.float().chunk(3)
    probe = tower.head.probe[0].float() @ weights[0].T + biases[0]
    keys = tokens[0] @ weights[1].T + biases[1]
    values = tokens[0] @ weights[2].T + biases[2]
    added = _weighted(probe, keys, values, heads, (width // heads) ** -0.5)
    pulled = direction.to(batch.device).float() @ attention.out_proj.weight.float()
    return (added @ pulled).cpu()


def _added(attention: Any, states: torch.Tensor) -> torch.Tensor:
    """Return (T, E) float32: each token's contribution to the class token in this attention."""
    heads = attention.num_heads
    query = attention.q_proj(states[:, :1])[0].float()
    keys, values = attention.k_proj(states)[0].float(), attention.v_proj(states)[0].float()
    mixed = _weighted(query, keys, values, heads, attention.scale).to(states.dtype)
    nothing = attention.out_proj(torch.zeros_like(mixed[:1]))
    return (attention.out_proj(mixed) - nothing).float()


def _weighted(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, heads: int, scale: float
) -> torch.Tensor:
    """Return (T, E): each token's values times the attention of a (1, E) query."""
    tokens, width = values.shape
    by_head = (tokens, heads, width // heads)
    scores = torch.einsum("hd,thd->th", query.view(by_head[1:]), keys.view(by_head)) * scale
    attended = scores.softmax(dim=0)[..., None] * values.view(by_head)
    return attended.reshape(tokens, width)
