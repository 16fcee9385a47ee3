"""Full attention: SDPA, and for the long clips of a CPU in bfloat16 block by block in its cache."""

import math

import torch
from torch.nn.functional import pad, scaled_dot_product_attention

#: Queries whose scores are computed together: with 4,096 keys 4 MB in bfloat16.
BLOCK = 512

#: One key out of so many tells about how large the scores of a query are.
SAMPLE = 8

#: Tokens from which on the blocks are worth it; below, SDPA is as fast.
MIN_TOKENS = 512


def full_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Let all tokens attend to all tokens, each head scaled by its width**-0.5.

    Args:
        query: (B, heads, P, width), any floating dtype.
        key: the same shape.
        value: the same shape.

    Returns:
        (B, heads, P, width) in the dtype of the query.
    """
    is_long = query.shape[2] >= MIN_TOKENS
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and is_long:
        return attend_in_blocks(query, key, value)
    return scaled_dot_product_attention(query, key, value)


def attend_in_blocks(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return what `full_attention` does, head by head and block by block.

    softmax(x) is softmax(x - m) for any m: here m is nearly the largest score of a query, taken
    from a sample of the keys, and leaves within the product, whose sums are float32: it is one
    more column of the queries, beside a column of ones of the keys. So the scores that count are
    small numbers, which bfloat16 rounds by little, and exp needs no second pass for their
    maximum. Scores far above m would be rounded by more, and overflow in the end; then the sum
    below the fraction is larger than the number of keys, and the block is computed again with
    the true maximum.
    """
    batch, num_heads, length, width = query.shape
    result = query.new_empty(batch, length, num_heads, width)
    for item in range(batch):
        for head in range(num_heads):
            keys = pad(key[item, head], (0, 1), value=1.0)
            sample = keys[::SAMPLE].contiguous()
            values = value[item, head].contiguous()
            for start in range(0, length, BLOCK):
                rows = pad(query[item, head, start : start + BLOCK], (0, 1))
                for seen in (sample, keys):
                    weights = weights_of_block(rows, keys, seen)
                    sums = weights.sum(1, keepdim=True)
                    if bool((sums <= length).all()):
                        break
                result[item, start : start + BLOCK, head] = (weights @ values) / sums
    return result.transpose(1, 2)


def weights_of_block(rows: torch.Tensor, keys: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Return exp(score - m) of some queries, m their largest score among the keys `seen`.

    Args:
        rows: (Q, width + 1), the queries; the last column is overwritten with -m.
        keys: (P, width + 1), the last column ones.
        seen: (S, width + 1), some or all of the keys.

    Returns:
        (Q, P), not yet divided by their sums.
    """
    width = rows.shape[1] - 1
    rows[:, -1] = 0
    rows[:, -1] = -(rows @ seen.T).amax(1)
    # exp2 is cheaper than exp; log2(e) costs nothing beside the scale.
    in_powers_of_two = width**-0.5 * math.log2(math.e)
    ignored = rows.new_zeros(1)
    return torch.addmm(ignored, rows, keys.T, beta=0, alpha=in_powers_of_two).exp2_()
