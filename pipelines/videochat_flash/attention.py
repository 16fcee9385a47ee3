"""Full attention: SDPA, and for the long clips of a CPU in bfloat16 block by block in its cache."""

import torch
from torch.nn.functional import scaled_dot_product_attention

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
    from a sample of the keys, and leaves within the product, whose sums are float32. So the
    scores that count are small numbers, which bfloat16 rounds by little, and exp needs no second
    pass for their maximum. The sums below the fraction come with the values, as their last
    column. Scores far above m would be rounded by more, and overflow in the end; then such a sum
    is larger than the number of keys, and the block is computed again with the true maximum.
    """
    batch, num_heads, length, width = query.shape
    result = query.new_empty(batch, length, num_heads, width)
    ones = value.new_ones(length, 1)
    scale = width**-0.5
    for item in range(batch):
        for head in range(num_heads):
            keys = key[item, head].contiguous().T
            sample = keys[:, ::SAMPLE].contiguous()
            values = torch.cat([value[item, head], ones], dim=1)
            for start in range(0, length, BLOCK):
                rows = query[item, head, start : start + BLOCK]
                for seen in (sample, keys):
                    about = (rows @ seen).amax(1, keepdim=True).mul_(-scale)
                    weights = torch.addmm(about, rows, keys, alpha=scale).exp_()
                    mixed = weights @ values
                    if bool((mixed[:, -1] <= length).all()):
                        break
                result[item, start : start + BLOCK, head] = mixed[:, :-1] / mixed[:, -1:]
    return result.transpose(1, 2)
