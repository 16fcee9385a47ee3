"""CLIP's text tower over texts that open alike: the opening is computed once.

The tower is causal, so the keys and values of "a photo of a" are the same whatever follows. Derived
from the definition of causal attention (Vaswani et al. 2017, arXiv:1706.03762, section 3.2.3) and
checked against the stock model, which reads every text whole.
"""

from collections.abc import Sequence
from typing import Any

import torch

from pipelines.compute.lru import LruCache

#: Keys and values of one text in every layer: a pair of (heads, tokens, head size) for each.
KeysAndValues = list[tuple[torch.Tensor, torch.Tensor]]

#: Openings kept: some 12 MB for the 80 templates of CLIP's evaluation in bfloat16.
NUM_KEPT = 256


class PrefixReader:
    """Reads texts of which the openings come again and again.

    A text's features depend on the text and on where its opening ends, never on what else is
    read with it.
    """

    def __init__(self, model: Any) -> None:
        """Wrap a stock `CLIPModel`."""
        self._model = model
        self._text = model.text_model
        self._kept: LruCache[tuple[int, ...], KeysAndValues] = LruCache(NUM_KEPT)

    @staticmethod
    def reads(model: Any) -> bool:
        """Return whether a model's text tower is the causal one of CLIP."""
        return bool(model.config.model_type == "clip")

    def features(self, texts: Sequence[tuple[int, ...]], opening: int) -> torch.Tensor:
        """Return (N, D), the projected state at the last token of each text.

        `texts` are ids of N texts of one length; the last is the end token. The first `opening` ids
        of each, at least one, belong to the opening.
        """
        kept = self._openings([ids[:opening] for ids in texts])
        rest = torch.tensor([ids[opening:] for ids in texts], device=self._model.device)
        past = [
            (torch.stack([one[layer][0] for one in kept]),
             torch.stack([one[layer][1] for one in kept]))
            for layer in range(len(self._text.encoder.layers))
        ]  # fmt: skip
        states, _ = self._run(rest, past, opening)
        last = self._text.final_layer_norm(states[:, -1])
        features: torch.Tensor = self._model.text_projection(last)
        return features

    def _openings(self, wanted: Sequence[tuple[int, ...]]) -> list[KeysAndValues]:
        """Return the keys and values of openings of one length, computing what is not kept."""

        def compute(missing: list[int]) -> list[KeysAndValues]:
            ids = torch.tensor([wanted[index] for index in missing], device=self._model.device)
            _, made = self._run(ids, None, 0)
            return [
                [(keys[row].clone(), values[row].clone()) for keys, values in made]
                for row in range(len(missing))
            ]

        return self._kept.get_many(wanted, compute)

    def _run(
        self, ids: torch.Tensor, past: KeysAndValues | None, start: int
    ) -> tuple[torch.Tensor, KeysAndValues]:
        """Return the states (N, L, width) of ids (N, L) at positions from `start` on.

        And of each layer the keys and values of these positions, (N, heads, L, head size).
        """
        length = ids.shape[1]
        positions = torch.arange(start, start + length, device=ids.device)
        embeddings = self._text.embeddings
        states = embeddings.token_embedding(ids) + embeddings.position_embedding(positions)
        seen = torch.ones(length, start + length, dtype=torch.bool, device=ids.device)
        mask = seen.tril(diagonal=start)
        made: KeysAndValues = []
        for index, layer in enumerate(self._text.encoder.layers):
            attended, keys, values = _attend(
                layer.self_attn, layer.layer_norm1(states), past[index] if past else None, mask
            )
            states = states + attended
            states = states + layer.mlp(layer.layer_norm2(states))
            made.append((keys, values))
        return states, made


def _attend(
    attention: Any,
    states: torch.Tensor,
    past: tuple[torch.Tensor, torch.Tensor] | None,
    mask: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the attention's output (N, L, width), and the keys and values of `states`."""

    def heads(rows: torch.Tensor) -> torch.Tensor:
        return rows.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)

    queries = heads(attention.q_proj(states))
    keys, values = heads(attention.k_proj(states)), heads(attention.v_proj(states))
    all_keys = keys if past is None else torch.cat([past[0], keys], dim=2)
    all_values = values if past is None else torch.cat([past[1], values], dim=2)
    mixed = torch.nn.functional.scaled_dot_product_attention(
        queries, all_keys, all_values, attn_mask=mask, scale=attention.scale
    )
    return attention.out_proj(mixed.transpose(1, 2).flatten(2)), keys, values
