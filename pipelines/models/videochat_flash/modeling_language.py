"""Language model: stock Qwen2 layers, with visual tokens dropped between layers.

A token's position in a layer is its index among the tokens of that layer, so that dropping closes
the gaps: the text after a video moves down by the number of dropped tokens.

Source: the checkpoints' `modeling_qwen2_flash.py`, which OpenGVLab/VideoChat-Flash@2f8e2f5
mirrors, licence: NOTES.md; differs: own loop over the layers of a stock `Qwen2ForCausalLM`, keys
and values kept between turns, only the last row of logits, scores in float32.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from pipelines.core.cancel import NEVER, CancelToken
from pipelines.core.errors import InputError
from pipelines.models.videochat_flash.configuration_videochat_flash import Dropping
from pipelines.models.videochat_flash.kv_cache import VISUAL, KeyValues, common_prefix


def num_kept(num_visual: int, ratio: float) -> int:
    """Return how many of all visual tokens a ratio leaves: truncated, not rounded."""
    return int(num_visual * ratio)


def evenly(num_tokens: int, keep: int) -> torch.Tensor:
    """Return (keep,) int64, increasing: positions spread evenly over `num_tokens`.

    The truncated values of a float64 line, counted from both of its ends towards the middle.
    Written out, because torch's `linspace` gives other positions on a GPU.
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
    """Return (keep,) int64, increasing: the visual tokens with the most attention of a token.

    `query` is (H, 1, E) of the last token of the prompt, `keys` (K, L, E) of all tokens, both
    rotated; each key serves H/K queries. `visual` is the range of the visual tokens among the L.
    Positions are counted from the first visual token, on the device of `keys`.
    """
    grouped = query.view(keys.shape[0], -1, keys.shape[-1])  # (K, H/K, E)
    scores = grouped.float() @ keys.float().transpose(1, 2) / keys.shape[-1] ** 0.5
    attention = scores.softmax(dim=-1).flatten(0, 1).mean(dim=0)  # (L,)
    return attention[visual].topk(keep).indices.sort().values


#: Rows of a prompt that go through an MLP together; cancellation is checked between them.
ROWS = 1024


@dataclass(frozen=True)
class VideoPrompt:
    """Prompt of the language model: token ids, with `VISUAL` at most once for `features`, (n, D).

    Raises:
        InputError: no text at the end, more than one place, or a place without embeddings or
            embeddings without a place.
    """

    ids: Sequence[int]
    features: torch.Tensor | None = None

    def __post_init__(self) -> None:
        places = list(self.ids).count(VISUAL)
        if places != (self.features is not None):
            raise InputError(
                "A prompt must have one place for its video, and a video for it, but got "
                "{count} places and {videos} videos.",
                count=places,
                videos=0 if self.features is None else 1,
            )
        if not self.ids or self.ids[-1] == VISUAL:
            raise InputError("A prompt must end with text, but got none.")

    @property
    def first_visual(self) -> int:
        """Position of the first visual token; the number of tokens if there are none."""
        return self.ids.index(VISUAL) if self.features is not None else len(self.ids)

    @property
    def num_visual(self) -> int:
        """Number of visual tokens."""
        return 0 if self.features is None else len(self.features)

    def __len__(self) -> int:
        return _num_tokens(self.ids, self.num_visual)


@dataclass
class Prefilled:
    """State after a prompt was read: (V,) float32 logits for the next token.

    `num_reused` tokens of the prompt were already in the key-value cache. `kept` are the kept
    visual tokens of every stage: (k,) int64, counted from the first visual token among those that
    reached the stage. Stages before the end of a reused cache are left out.
    """

    logits: torch.Tensor
    num_reused: int
    kept: list[torch.Tensor] = field(default_factory=list)


def splice(model: Any, prompt: VideoPrompt) -> torch.Tensor:
    """Return (1, L, D): embedded text with the visual embeddings in their place."""
    table = model.get_input_embeddings()
    at = prompt.first_visual
    device = table.weight.device
    before, after = (
        table(torch.tensor(list(part), dtype=torch.int64, device=device))
        for part in (prompt.ids[:at], prompt.ids[at + 1 :])
    )
    if prompt.features is None:
        return before[None]
    rows = prompt.features.to(before.device, before.dtype)
    return torch.cat([before, rows, after])[None]


@torch.inference_mode()
def prefill(
    model: Any,
    prompt: VideoPrompt,
    cache: KeyValues,
    *,
    dropping: Dropping | None = None,
    cancel: CancelToken = NEVER,
) -> Prefilled:
    """Read a prompt, as far as `cache` does not hold it already, and extend `cache` to it.

    The result is that of a fresh cache, except for the rounding of other kernel shapes. With
    dropping, a cache is used from the end of the visual tokens on: evenly dropped tokens are the
    same in every turn; tokens dropped by attention are chosen again, from hidden states in the
    cache, and only the later layers run again for the whole prompt.

    `model` is a `Qwen2ForCausalLM` in evaluation mode with SDPA attention; `cancel` is checked
    before every layer.

    Raises:
        InputError: `dropping` names a layer that the model does not have, or leaves nothing.
        Cancelled: `cancel` is cancelled; the cache stays usable.
    """
    if dropping is not None:
        dropping.check_fits(model.config.num_hidden_layers)
        if prompt.num_visual and not num_kept(prompt.num_visual, dropping.ratios[-1]):
            raise InputError("Token dropping must leave a visual token, but would leave none.")
    run = _Prefill(model, prompt, cache, dropping if prompt.num_visual else None)
    for layer in range(model.config.num_hidden_layers):
        cancel.check()
        run.layer(layer, cancel)
    return run.finish()


@torch.inference_mode()
def step(model: Any, token: int, cache: KeyValues) -> torch.Tensor:
    """Read one more token and return the (V,) float32 logits for the next.

    `cache` is that of `prefill`, and is extended by the token.
    """
    base = model.model
    hidden = model.get_input_embeddings()(torch.tensor([[token]], device=model.device))
    scored = None if cache.dropping is None else cache.dropping.first_scored_layer
    entering = cache.entering
    positions = -1
    for index, layer in enumerate(base.layers):
        if index == scored and entering is not None:
            entering = torch.cat([entering, hidden], dim=1)
        if cache.length(index) != positions:
            positions = cache.length(index)
            rotation = _rotation(model, hidden, positions)
            mask = _mask(1, positions + 1, hidden.device)
        hidden = layer(
            hidden, attention_mask=mask, position_embeddings=rotation, past_key_values=cache
        )
    cache.entering = entering
    cache.ids.append(token)
    return _logits(model, hidden)


class _Prefill:
    """One run of a prompt through the layers."""

    def __init__(
        self, model: Any, prompt: VideoPrompt, cache: KeyValues, dropping: Dropping | None
    ) -> None:
        self.model, self.prompt, self.cache, self.dropping = model, prompt, cache, dropping
        self.kept: list[torch.Tensor] = []
        self.num_reused = _reuse(cache, prompt, dropping, model.config.num_hidden_layers)
        # a cancelled run leaves only tokens that all layers hold
        self.first_visual, self.num_visual = prompt.first_visual, prompt.num_visual
        self.hidden = splice(model, prompt)[:, self.num_reused :]
        self.whole = self.num_reused == 0  # whether `hidden` begins with the first token
        self._begin_segment(0)

    def layer(self, index: int, cancel: CancelToken) -> None:
        """Run one layer, after the stage before it; keys and values survive a cancellation."""
        if self.dropping is not None and index in self.dropping.layers:
            self._stage(index, self.dropping.layers.index(index))
            self._begin_segment(index)
        layer = self.model.model.layers[index]
        how: dict[str, Any] = {
            "attention_mask": self.mask,
            "position_embeddings": self.rotation,
            "past_key_values": self.cache,
        }
        if self.hidden.shape[1] <= ROWS:
            self.hidden = layer(self.hidden, **how)
            return
        normed = layer.input_layernorm(self.hidden)
        hidden = self.hidden + layer.self_attn(hidden_states=normed, **how)[0]
        parts = []
        for part in hidden.split(ROWS, dim=1):
            cancel.check()
            parts.append(part + layer.mlp(layer.post_attention_layernorm(part)))
        self.hidden = torch.cat(parts, dim=1)

    def finish(self) -> Prefilled:
        """Record the content of the cache and compute the logits."""
        self.cache.ids = list(self.prompt.ids)
        self.cache.features = self.prompt.features
        return Prefilled(_logits(self.model, self.hidden), self.num_reused, self.kept)

    def _begin_segment(self, layer: int) -> None:
        """Prepare positions and mask for the layers from here to the next stage."""
        held = 0 if self.whole else self.cache.length(layer)
        rows = self.hidden.shape[1]
        self.rotation = _rotation(self.model, self.hidden, held)
        fresh = held == 0 and rows > 1
        self.mask = None if fresh else _mask(rows, held + rows, self.hidden.device)

    def _stage(self, layer: int, stage: int) -> None:
        dropping = self.dropping
        assert dropping is not None
        if layer == dropping.first_scored_layer:
            if not self.whole and self.cache.entering is not None:
                self.hidden = torch.cat([self.cache.entering, self.hidden], dim=1)
                self.whole = True
                self._begin_segment(layer)
            self.cache.entering = self.hidden
        before, keep = (
            num_kept(self.num_visual, ratio) for ratio in dropping.ratios[stage : stage + 2]
        )
        if not self.whole:
            return  # evenly dropped in an earlier turn: the cache holds what stays
        if dropping.by_attention(stage):
            kept = self._score(layer, before, keep)
        else:
            kept = evenly(before, keep).to(self.hidden.device)
        self.kept.append(kept)
        start = self.first_visual
        self.hidden = torch.cat(
            [
                self.hidden[:, :start],
                self.hidden[:, start : start + before][:, kept],
                self.hidden[:, start + before :],
            ],
            dim=1,
        )

    def _score(self, layer: int, num_visual: int, keep: int) -> torch.Tensor:
        """Choose tokens with the weights of the next layer, at the current positions."""
        block = self.model.model.layers[layer]
        attention = block.self_attn
        normed = block.input_layernorm(self.hidden)
        cosines, sines = _rotation(self.model, self.hidden, 0)
        width = attention.head_dim
        keys = attention.k_proj(normed)[0].unflatten(-1, (-1, width)).transpose(0, 1)
        query = attention.q_proj(normed[:, -1:])[0].unflatten(-1, (-1, width)).transpose(0, 1)
        keys = _rotate(keys, cosines[0], sines[0])  # (K, L, E)
        query = _rotate(query, cosines[0, -1:], sines[0, -1:])  # (H, 1, E)
        visual = slice(self.first_visual, self.first_visual + num_visual)
        return most_attended(query, keys, visual, keep)


def _reuse(
    cache: KeyValues, prompt: VideoPrompt, dropping: Dropping | None, num_layers: int
) -> int:
    """Cut `cache` to its common prefix with `prompt` and return the length of that.

    At least the last token of the prompt is left to be read.
    """
    common = common_prefix(cache.ids, prompt.ids)
    if VISUAL in cache.ids[:common] and not _same_rows(cache.features, prompt.features):
        common = cache.ids.index(VISUAL)
    common = min(common, len(prompt.ids) - 1)
    shared = _num_tokens(prompt.ids[:common], prompt.num_visual)
    # with dropping, a stage needs all visual tokens in one run
    changed = cache.dropping != dropping and (cache.features is not None or prompt.num_visual)
    partial = dropping is not None and VISUAL not in prompt.ids[:common]
    if changed or partial or not shared:
        cache.clear()
        cache.dropping = dropping
        return 0
    cache.dropping = dropping
    cache.ids = cache.ids[:common]
    if VISUAL not in cache.ids:
        cache.features = None
    _cut(cache, shared, prompt.num_visual, num_layers)
    return shared


def _cut(cache: KeyValues, shared: int, num_visual: int, num_layers: int) -> None:
    """Cut every layer to its tokens among the first `shared`."""
    dropping, lost = cache.dropping, 0
    scored = None if dropping is None else dropping.first_scored_layer
    for layer in range(num_layers):
        if layer == scored:
            cache.entering = None if cache.entering is None else cache.entering[:, : shared - lost]
        if dropping is not None and layer in dropping.layers:
            ratio = dropping.ratios[dropping.layers.index(layer) + 1]
            lost = num_visual - num_kept(num_visual, ratio)
        behind = scored is not None and layer >= scored
        cache.cut(layer, 0 if behind else shared - lost)


def _num_tokens(ids: Sequence[int], num_visual: int) -> int:
    return len(ids) + (num_visual - 1 if VISUAL in ids else 0)


def _same_rows(first: torch.Tensor | None, second: torch.Tensor | None) -> bool:
    if first is None or second is None:
        return False
    return first is second or (first.device == second.device and torch.equal(first, second))


def _rotation(model: Any, hidden: torch.Tensor, start: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cosines and sines, (1, L, E) each, for rows at the positions from `start` on."""
    positions = torch.arange(start, start + hidden.shape[1], device=hidden.device)
    cosines, sines = model.model.rotary_emb(hidden, positions[None])
    return cosines, sines


def _rotate(heads: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """Rotate (H, L, E) by (L, E): the halves of every head are its real and imaginary parts."""
    real, imaginary = heads.chunk(2, dim=-1)
    return heads * cosines + torch.cat([-imaginary, real], dim=-1) * sines


def _mask(rows: int, held: int, device: torch.device) -> torch.Tensor | None:
    """Return (1, 1, rows, held) bool, True where the last `rows` tokens may attend.

    A single token may attend everywhere. Off the CPU it needs no mask; on the CPU a mask of all
    True makes transformers fold the heads that share keys into one product instead of torch's
    grouped kernel, which is ten times slower for one bfloat16 row.
    """
    if rows == 1 and device.type != "cpu":
        return None
    mask = torch.ones(rows, held, dtype=torch.bool, device=device)
    return mask.tril(held - rows)[None, None]


def _logits(model: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Return the (V,) float32 logits of the last row of (1, L, D)."""
    logits: torch.Tensor = model.lm_head(model.model.norm(hidden[:, -1:]))
    return logits[0, 0].float()
