"""Token merging: the many tokens of a clip become 64, without any weights."""

import torch


def merge_tokens(
    tokens: torch.Tensor, num_heads: int, *, target: int = 64, in_float32: bool = True
) -> torch.Tensor:
    """Merge the tokens of each clip until `target` are left.

    In every round the tokens at even places (A) look for their most similar one at the odd
    places (B); the best matches are averaged, each token weighing as much as it already stands
    for. A round halves the number at most.

    The order of the result is neither of time nor of place: tokens of A that found no partner,
    best match first, then those of B. It is part of the model: positions follow it.

    Source: OpenGVLab/VideoChat-Flash@2f8e2f5 `tome16_mlp_hd64.py`, licence: NOTES.md, after
    Bolya et al. (2023), "Token Merging: Your ViT But Faster"; differs: float32 by default.

    Args:
        tokens: (B, P, C) of any floating dtype.
        num_heads: into so many parts of equal width the features are cut for the comparison,
            which is of their mean.
        target: tokens left of each clip.
        in_float32: whether to compute in float32; else in the dtype of `tokens`, where near-ties
            fall differently from device to device.

    Returns:
        (B, target, C) of the dtype of `tokens`; unchanged where P is no more than `target`.
    """
    merged = tokens.float() if in_float32 else tokens
    sizes = merged.new_ones(*merged.shape[:2], 1)  # (B, P, 1)
    while (count := merged.shape[1]) > target:
        merged, sizes = _merge_round(merged, sizes, num_heads, min(count // 2, count - target))
    return merged.to(tokens.dtype)


def _merge_round(
    tokens: torch.Tensor, sizes: torch.Tensor, num_heads: int, num_merged: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return tokens and sizes of which there are `num_merged` fewer."""
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
