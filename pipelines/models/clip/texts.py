"""Texts -> unit vectors: cleaning, tokens, batches sorted by length."""

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from pipelines.compute.vector_cache import VectorCache
from pipelines.core.errors import InputError, type_name
from pipelines.core.spec import ContrastiveTraits
from pipelines.models.clip.prefix_cache import PrefixReader
from pipelines.models.text_cleaning import MAX_TEXT_CHARS, clean_text

#: The template set that leaves a label as it is.
NONE = ""

#: Sets by language; "ensemble" is averaged in the space of the text vectors.
TEMPLATE_SETS: dict[str, dict[str, tuple[str, ...]]] = {
    "ensemble": {
        "en": (
            "a photo of a {}.",
            "a photo of the {}.",
            "a picture of one {}.",
            "a close-up photo of a {}.",
            "a bright photo of a {}.",
            "a dark photo of a {}.",
            "a blurry photo of a {}.",
            "a cropped photo of a {}.",
            "a drawing of a {}.",
            "a painting of a {}.",
            "a small {} in a picture.",
            "a large {} in a picture.",
        ),
        "zh": (
            "一张{}的照片。",
            "一张清晰的{}的照片。",
            "一张模糊的{}的照片。",
            "一张{}的特写。",
            "一幅{}的画。",
            "一张有{}的图片。",
        ),
    },
    "photo": {"en": ("a photo of a {}.",), "zh": ("一张{}的照片。",)},
}

#: Most characters of a template that a person writes.
MAX_TEMPLATE_CHARS = 300


def resolve_templates(choice: str, languages: tuple[str, ...]) -> tuple[str, ...]:
    """Return the templates that `choice` stands for.

    Args:
        choice: name of a set, one template that holds `{}`, or "" for the label as it is.
        languages: languages of the model; the first for which the set has templates is taken.

    Returns:
        At least one template; each holds `{}` exactly once.

    Raises:
        InputError: neither a known name nor a template.
    """
    if not isinstance(choice, str):
        raise InputError("templates must be text but got {given}.", given=type_name(choice))
    choice = choice.strip()
    if not choice:
        return ("{}",)
    if choice in TEMPLATE_SETS:
        by_language = TEMPLATE_SETS[choice]
        language = next((code for code in languages if code in by_language), "en")
        return by_language[language]
    if choice.count("{}") != 1 or len(choice) > MAX_TEMPLATE_CHARS:
        names = ", ".join(f'"{name}"' for name in TEMPLATE_SETS)
        raise InputError(
            "templates must be {names}, empty, or one text of at most {limit} characters that "
            "holds {{}} once where the label goes, but got {given!r}.",
            names=names,
            limit=MAX_TEMPLATE_CHARS,
            given=choice[:60],
        )
    return (choice,)


def fill(template: str, label: str) -> str:
    """Put `label` into `template`; braces inside the label stay as they are."""
    return template.replace("{}", label)


#: Most tokens, padding included, of one batch through the text tower.
TOKENS_PER_BATCH = 4096

#: Prompts that are computed between two steps of `prepare`.
PROMPTS_PER_STEP = 512


@dataclass(frozen=True)
class Tokenised:
    """Token ids of one text.

    Attributes:
        ids: the ids, special tokens included.
        cut: whether the text was cut.
        opening: how many ids at the start are those of a template, read once for all its texts;
            0 where the text is read whole.
    """

    ids: tuple[int, ...]
    cut: bool
    opening: int = 0


class TextEncoder:
    """The text half of a contrastive model."""

    def __init__(
        self, model: Any, tokenizer: Any, traits: ContrastiveTraits, kept: VectorCache
    ) -> None:
        """Wrap a stock model and its tokeniser; vectors are kept in `kept`."""
        self._model = model
        self._tokenizer = tokenizer
        self._traits = traits
        self.max_tokens = traits.max_text_tokens
        self._kept = kept
        self._device = threading.Lock()
        self._openings = PrefixReader(model) if PrefixReader.reads(model) else None
        # the first call also takes off the truncation that a tokeniser may have been saved with
        self._ending = _common_ending(*self._whole(["", "a"]))

    def vectors(self, texts: Sequence[str], templates: Sequence[str] = ("{}",)) -> torch.Tensor:
        """Return (N, D) float32 unit vectors on the CPU, (0, 0) for no texts.

        With several templates, a text's vector is the mean of the unit vectors of its prompts,
        brought to unit length, as CLIP's zero-shot evaluation does.
        """
        if not texts:
            return torch.empty(0, 0)

        def compute(positions: list[int]) -> torch.Tensor:
            prompts = [fill(t, texts[index]) for index in positions for t in templates]
            tokens = self._with_openings(self.tokenise(prompts), templates)
            vectors = self.encode(tokens)
            if len(templates) == 1:
                return vectors
            means = vectors.view(len(positions), len(templates), -1).mean(dim=1)
            return torch.nn.functional.normalize(means, dim=-1)

        return self._kept.get([_key(text, templates) for text in texts], compute)

    def prepare(self, texts: Sequence[str], templates: Sequence[str]) -> Iterator[int]:
        """Compute and keep the vectors that `vectors` will ask for.

        Yields:
            After each step, the number of texts that are ready; at once where none is missing.
        """
        size = max(1, PROMPTS_PER_STEP // max(1, len(templates)))
        # long ones together, so that steps hold whole batches; the order of the result is not ours
        todo = self._kept.missing([_key(text, templates) for text in texts])
        todo.sort(key=lambda index: len(texts[index]))
        ready = len(texts) - len(todo)
        for start in range(0, len(todo), size):
            part = todo[start : start + size]
            self.vectors([texts[index] for index in part], templates)
            yield ready + start + len(part)

    def cut(self, texts: Sequence[str], templates: Sequence[str] = ("{}",)) -> list[bool]:
        """Return which texts are longer than the model reads, in any of the templates.

        A token takes at least one byte, so only texts of enough bytes are tokenised.
        """
        longest = max(templates, key=len)
        limit = self._traits.max_text_tokens
        prompts = [fill(longest, text) for text in texts]
        suspects = [
            index
            for index, prompt in enumerate(prompts)
            if len(prompt.encode("utf-8", "surrogatepass")) > limit - 3
        ]
        flags = [False] * len(texts)
        tokens = self.tokenise([prompts[index] for index in suspects]) if suspects else []
        for index, token in zip(suspects, tokens, strict=True):
            flags[index] = token.cut
        return flags

    def tokenise(self, texts: Sequence[str]) -> list[Tokenised]:
        """Clean and tokenise; what is over the model's limit is cut, its end token kept."""
        limit, ending = self._traits.max_text_tokens, self._ending
        cleaned = [clean_text(text, self._traits.cleaning) for text in texts]
        tokenised = []
        for text, ids in zip(texts, self._whole(cleaned), strict=True):
            kept = ids if len(ids) <= limit else ids[: limit - ending] + ids[len(ids) - ending :]
            tokenised.append(Tokenised(tuple(kept), len(ids) > limit or len(text) > MAX_TEXT_CHARS))
        return tokenised

    def _with_openings(self, tokens: list[Tokenised], templates: Sequence[str]) -> list[Tokenised]:
        """Mark where each template's own opening ends; `tokens` has the templates in turn.

        A text is read whole where its template opens with the text itself, where the tokens at
        the seam are not those of the two parts, and where it holds the end token twice.
        """
        if self._openings is None:
            return tokens
        ending = self._ending
        starts = [template.partition("{}")[0] for template in templates]
        openings = [tuple(one.ids[: len(one.ids) - ending]) for one in self.tokenise(starts)]
        marked = []
        for index, token in enumerate(tokens):
            opening = openings[index % len(openings)]
            apart = len(opening) > 1 and token.ids[: len(opening)] == opening
            if apart and token.ids.index(token.ids[-1]) == len(token.ids) - 1 > len(opening):
                token = replace(token, opening=len(opening))
            marked.append(token)
        return marked

    def _whole(self, cleaned: list[str]) -> list[list[int]]:
        """Return the ids of whole texts.

        Never asks the tokeniser to cut: truncation is a state of the fast tokenisers, which calls
        from several threads would switch on and off under one another.
        """
        ids: list[list[int]] = self._tokenizer(cleaned, verbose=False)["input_ids"]
        return ids

    def encode(self, tokenised: Sequence[Tokenised]) -> torch.Tensor:
        """Return unit vectors, (N, D) float32 on the CPU, in the order given.

        Only texts of one length and opening share a batch. So no padding is computed, and a
        vector is the same to the last bit whatever other texts are asked for: in bfloat16, padding
        that the model masks still moves the sums. Models that were trained on fixed-length texts
        (SigLIP) get that length.
        """
        order = sorted(range(len(tokenised)), key=lambda index: _shape(tokenised[index]))
        rows: list[torch.Tensor] = [torch.empty(0)] * len(tokenised)
        for batch in self._batches(order, tokenised):
            ids = [tokenised[index].ids for index in batch]
            vectors = self._encode_batch(ids, tokenised[batch[0]].opening)
            for index, vector in zip(batch, vectors, strict=True):
                rows[index] = vector
        return torch.stack(rows)

    def _batches(self, order: list[int], tokenised: Sequence[Tokenised]) -> list[list[int]]:
        batches: list[list[int]] = []
        last = (0, 0)
        for index in order:
            opening, length = _shape(tokenised[index])
            length = self._padded_length(length)
            if (opening, length) != last or (len(batches[-1]) + 1) * length > TOKENS_PER_BATCH:
                batches.append([])
            batches[-1].append(index)
            last = (opening, length)
        return batches

    def _padded_length(self, length: int) -> int:
        return self._traits.max_text_tokens if self._traits.padding == "max_length" else length

    @torch.inference_mode()
    def _encode_batch(self, ids: list[tuple[int, ...]], opening: int) -> torch.Tensor:
        if opening and self._openings is not None:
            with self._device:
                features = self._openings.features(ids, opening)
            return torch.nn.functional.normalize(features.float(), dim=-1).cpu()
        inputs = self._tokenizer.pad(
            {"input_ids": [list(row) for row in ids]},
            padding=self._traits.padding,
            max_length=self._padded_length(max(len(row) for row in ids)),
            return_tensors="pt",
        )
        names = self._tokenizer.model_input_names
        wanted = {name: inputs[name] for name in names if name in inputs}
        wanted = {name: tensor.to(self._model.device) for name, tensor in wanted.items()}
        with self._device:  # visitors' batches in turn: side by side they only slow each other
            features = self._model.get_text_features(**wanted).pooler_output
        return torch.nn.functional.normalize(features.float(), dim=-1).cpu()


def _shape(token: Tokenised) -> tuple[int, int]:
    """Return what texts of one batch have in common: length of the opening, length in all."""
    return token.opening, len(token.ids)


def _key(text: str, templates: Sequence[str]) -> str:
    """Return what a text's vector is kept under."""
    return json.dumps([*templates, text])


def _common_ending(first: list[int], second: list[int]) -> int:
    """Return how many ids two texts end with alike."""
    length = 0
    while length < min(len(first), len(second)) and first[-1 - length] == second[-1 - length]:
        length += 1
    return length
