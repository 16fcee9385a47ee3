"""Which visual tokens stay when the language model drops some."""

import torch


def num_kept(num_visual: int, ratio: float) -> int:
    """Return how many of all visual tokens a ratio leaves: truncated, not rounded."""
    return int(num_visual * ratio)


def evenly(num_tokens: int, keep: int) -> torch.Tensor:
    """Return (keep,) int64, increasing: places spread evenly over `num_tokens`.

    The truncated values of a float64 line that is counted from both of its ends towards the
    middle. Written out, because torch's `linspace` gives other places on a GPU.
    """
    if keep == 1:
        return torch.zeros(1, dtype=torch.int64)
    last = num_tokens - 1
    step = last / (keep - 1)
    places = torch.arange(keep, dtype=torch.float64)
    spread = torch.where(
        torch.arange(keep) < keep // 2, places * step, last - step * (keep - 1 - places)
    )
    return spread.long()


def most_attended(
    query: torch.Tensor, keys: torch.Tensor, visual: slice, keep: int
) -> torch.Tensor:
    """Return (keep,) int64, increasing: the visual tokens that a token attends to most.

    Args:
        query: (H, 1, E) of the last token of the prompt, rotated to its position.
        keys: (K, L, E) of all tokens, rotated; every one serves H/K queries.
        visual: where the visual tokens lie among the L.
        keep: how many stay.

    Returns:
        Places counted from the first visual token, on the device of `keys`.
    """
    grouped = query.view(keys.shape[0], -1, keys.shape[-1])  # (K, H/K, E)
    scores = grouped.float() @ keys.float().transpose(1, 2) / keys.shape[-1] ** 0.5
    attention = scores.softmax(dim=-1).flatten(0, 1).mean(dim=0)  # (L,)
    return attention[visual].topk(keep).indices.sort().values
