"""Where in a picture the model finds a text: relevance of each patch, without gradients.

The class token's final state is a sum: what each block's attention brings it from each patch is
one of the terms. Following those terms through the last normalisation (its scale held fixed) and
the projection gives each patch's share of the cosine with a text direction. The towers that pool
with an attention head (SigLIP) have one such sum, in the head.

Source: the idea is that of Gandelsman, Efros, Steinhardt, "Interpreting CLIP's Image
Representation via Text-Based Decomposition" (2023); the formulation here is ours. It needs no
gradient, so it works on prepacked bfloat16 weights as well.
"""

from typing import Any

import torch

#: Last blocks whose attention is followed; earlier ones move little straight to the class token.
BLOCKS = 4


@torch.inference_mode()
def patch_relevance(
    model: Any, pixels: torch.Tensor, direction: torch.Tensor, *, pooling: str
) -> torch.Tensor:
    """Return each patch's share of an image's similarity to a direction.

    Args:
        model: a stock contrastive model.
        pixels: (3, H, W) float32, normalised.
        direction: (D,) in the space of the embeddings, any length.
        pooling: "class token" or "attention head".

    Returns:
        (rows, columns) float32, unbounded; more is more relevant.
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
    """Bring a map into 0..1: what is below its median becomes 0, its highest patch 1."""
    lifted = (relevance - relevance.median()).clamp_min(0.0)
    return lifted / lifted.max().clamp_min(1e-12)


def _through_class_token(
    model: Any, tower: Any, batch: torch.Tensor, direction: torch.Tensor
) -> torch.Tensor:
    blocks = tower.encoder.layers[-BLOCKS:]
    # transformers keeps these apart by thread; hooks of our own would see others' requests too
    states = tower(pixel_values=batch, output_hidden_states=True).hidden_states
    before = states[-len(blocks) - 1 : -1]
    brought = sum(
        _brought(block.self_attn, block.layer_norm1(entering))
        for block, entering in zip(blocks, before, strict=True)
    )
    final = states[-1][0, 0].float()
    norm = tower.post_layernorm
    scale = (final.var(unbiased=False) + norm.eps).rsqrt()
    # pull the direction back through projection and normalisation, then compare once per patch
    pulled = direction.to(batch.device).float() @ model.visual_projection.weight.float()
    pulled = pulled * norm.weight.float() * scale
    pulled = pulled - pulled.mean()
    return (brought[1:] @ pulled).cpu()  # type: ignore[index]


def _through_head(tower: Any, batch: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    tokens = tower(pixel_values=batch).last_hidden_state.float()
    attention = tower.head.attention
    width, heads = attention.embed_dim, attention.num_heads
    weights = attention.in_proj_weight.float().chunk(3)
    biases = attention.in_proj_bias.float().chunk(3)
    probe = tower.head.probe[0].float() @ weights[0].T + biases[0]
    keys = tokens[0] @ weights[1].T + biases[1]
    values = tokens[0] @ weights[2].T + biases[2]
    brought = _weighted(probe, keys, values, heads, (width // heads) ** -0.5)
    pulled = direction.to(batch.device).float() @ attention.out_proj.weight.float()
    return (brought @ pulled).cpu()


def _brought(attention: Any, states: torch.Tensor) -> torch.Tensor:
    """Return (T, E) float32: what each token brings to the class token in this attention."""
    heads = attention.num_heads
    query = attention.q_proj(states[:, :1])[0].float()
    keys, values = attention.k_proj(states)[0].float(), attention.v_proj(states)[0].float()
    mixed = _weighted(query, keys, values, heads, attention.scale).to(states.dtype)
    nothing = attention.out_proj(torch.zeros_like(mixed[:1]))
    return (attention.out_proj(mixed) - nothing).float()


def _weighted(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, heads: int, scale: float
) -> torch.Tensor:
    """Return (T, E): the values of each token times the attention that (1, E) query pays it."""
    tokens, width = values.shape
    by_head = (tokens, heads, width // heads)
    scores = torch.einsum("hd,thd->th", query.view(by_head[1:]), keys.view(by_head)) * scale
    attended = scores.softmax(dim=0)[..., None] * values.view(by_head)
    return attended.reshape(tokens, width)
