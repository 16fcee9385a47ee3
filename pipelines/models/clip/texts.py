"""Encoding of texts as unit vectors: templates, tokens, batches."""

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from pipelines.compute.lru import LruCache
from pipelines.compute.vector_cache import VectorCache
from pipelines.core.errors import InputError, type_name
from pipelines.core.spec import ContrastiveTraits
from pipelines.models.clip.prefix_cache import PrefixReader
from pipelines.models.text_cleaning import MAX_TEXT_CHARS, clean_text

#: Templates by set and language; the vectors of "ensemble" are averaged.
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

#: Most characters of a custom template.
MAX_TEMPLATE_CHARS = 300


def resolve_templates(choice: str, languages: tuple[str, ...]) -> tuple[str, ...]:
    """Return the templates, each with one `{}`, of a set's name, a template, or "" for the label.

    A set's templates are those of the first of `languages` that it has.

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
    """Put `label` into `template`; braces inside the label are unchanged."""
    return template.replace("{}", label)


#: Most tokens, with padding, of one batch of the text tower.
TOKENS_PER_BATCH = 4096

#: Bytes of the cached matrices of whole sets of texts, which repeat from request to request.
#: An entry takes this much beside its matrix.
MATRICES_BYTES, ENTRY_BYTES = 64_000_000, 1000

#: Prompts per step of `prepare`.
PROMPTS_PER_STEP = 512


@dataclass(frozen=True)
class Tokenised:
    """Token ids of one text, with special tokens, and whether the text was cut.

    The first `prefix` ids are a template's shared prefix; 0 for none.
    """

    ids: tuple[int, ...]
    cut: bool
    prefix: int = 0


class TextEncoder:
    """Text encoder of a contrastive model."""

    def __init__(
        self, model: Any, tokenizer: Any, traits: ContrastiveTraits, kept: VectorCache
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._traits = traits
        self.max_tokens = traits.max_text_tokens
        self._kept = kept
        self._matrices: LruCache[bytes, torch.Tensor] = LruCache(
            MATRICES_BYTES, lambda matrix: matrix.nbytes + ENTRY_BYTES
        )
        self._device = threading.Lock()
        self._prefixes = PrefixReader(model) if PrefixReader.reads(model) else None
        # the first call also removes the truncation that a tokeniser may have been saved with
        self._ending = _common_ending(*self._whole(["", "a"]))

    def vectors(self, texts: Sequence[str], templates: Sequence[str] = ("{}",)) -> torch.Tensor:
        """Return (N, D) float32 unit vectors on the CPU, (0, 0) for no texts.

        With several templates, a text's vector is the mean of the unit vectors of its prompts,
        normalised, as in CLIP's zero-shot evaluation. The matrix is shared: do not change it.
        """
        if not texts:
            return torch.empty(0, 0)
        key = hashlib.blake2b(json.dumps([*templates, None, *texts]).encode()).digest()
        return self._matrices.get_or_compute(key, lambda: self._vectors(texts, templates))

    def _vectors(self, texts: Sequence[str], templates: Sequence[str]) -> torch.Tensor:
        def compute(positions: list[int]) -> torch.Tensor:
            prompts = [fill(t, texts[index]) for index in positions for t in templates]
            tokens = self._mark_prefixes(self.tokenise(prompts), templates)
            vectors = self.encode(tokens)
            if len(templates) == 1:
                return vectors
            means = vectors.view(len(positions), len(templates), -1).mean(dim=1)
            return torch.nn.functional.normalize(means, dim=-1)

        return self._kept.get([_key(text, templates) for text in texts], compute)

    def prepare(self, texts: Sequence[str], templates: Sequence[str]) -> Iterator[int]:
        """Compute the vectors of texts in advance, in steps.

        Yields:
            The number of finished texts; nothing if all are cached.
        """
        size = max(1, PROMPTS_PER_STEP // max(1, len(templates)))
        # sorted by length, so that a step has full batches
        todo = self._kept.missing([_key(text, templates) for text in texts])
        todo.sort(key=lambda index: len(texts[index]))
        ready = len(texts) - len(todo)
        for start in range(0, len(todo), size):
            part = todo[start : start + size]
            self._vectors([texts[index] for index in part], templates)
            yield ready + start + len(part)

    def cut(self, texts: Sequence[str], templates: Sequence[str] = ("{}",)) -> list[bool]:
        """Return whether each text is longer than the model reads, in the longest template.

        A token has at least one byte, so only texts of enough bytes are tokenised.
        """
        longest = max(templates, key=len)
        prompts = [fill(longest, text) for text in texts]
        least_bytes = self.max_tokens - 2
        long = [p for p in prompts if len(p.encode("utf-8", "surrogatepass")) >= least_bytes]
        tokens = self.tokenise(long) if long else []
        cut = {prompt for prompt, token in zip(long, tokens, strict=True) if token.cut}
        return [prompt in cut for prompt in prompts]

    def tokenise(self, texts: Sequence[str]) -> list[Tokenised]:
        """Clean and tokenise; longer texts are cut before their end token."""
        limit, ending = self.max_tokens, self._ending
        cleaned = [clean_text(text, self._traits.cleaning) for text in texts]
        tokenised = []
        for text, ids in zip(texts, self._whole(cleaned), strict=True):
            kept = ids if len(ids) <= limit else ids[: limit - ending] + ids[len(ids) - ending :]
            tokenised.append(Tokenised(tuple(kept), len(ids) > limit or len(text) > MAX_TEXT_CHARS))
        return tokenised

    def _mark_prefixes(self, tokens: list[Tokenised], templates: Sequence[str]) -> list[Tokenised]:
        """Mark the end of each template's prefix; `tokens` has the templates in turn.

        There is no prefix if the template starts with the text, if the tokens at the seam differ
        from those of the two parts, or if the text contains the end token.
        """
        if self._prefixes is None:
            return tokens
        ending = self._ending
        starts = [template.partition("{}")[0] for template in templates]
        prefixes = [tuple(one.ids[: len(one.ids) - ending]) for one in self.tokenise(starts)]
        marked = []
        for index, token in enumerate(tokens):
            prefix = prefixes[index % len(prefixes)]
            separate = len(prefix) > 1 and token.ids[: len(prefix)] == prefix
            if separate and token.ids.index(token.ids[-1]) == len(token.ids) - 1 > len(prefix):
                token = replace(token, prefix=len(prefix))
            marked.append(token)
        return marked

    def _whole(self, cleaned: list[str]) -> list[list[int]]:
        """Return the ids of whole texts.

        The tokeniser never truncates: truncation is a state of fast tokenisers that is not safe
        with several threads.
        """
        ids: list[list[int]] = self._tokenizer(cleaned, verbose=False)["input_ids"]
        return ids

    def encode(self, tokenised: Sequence[Tokenised]) -> torch.Tensor:
        """Return unit vectors, (N, D) float32 on the CPU, in the given order.

        Only texts of one length and prefix share a batch, so there is no padding and a vector does
        not depend on other texts in a single bit: in bfloat16, even masked padding changes sums.
        Models trained on fixed-length texts (SigLIP) get that length.
        """
        order = sorted(range(len(tokenised)), key=lambda index: _shape(tokenised[index]))
        rows: list[torch.Tensor] = [torch.empty(0)] * len(tokenised)
        for batch in self._batches(order, tokenised):
            ids = [tokenised[index].ids for index in batch]
            vectors = self._encode_batch(ids, tokenised[batch[0]].prefix)
            for index, vector in zip(batch, vectors, strict=True):
                rows[index] = vector
        return torch.stack(rows)

    def _batches(self, order: list[int], tokenised: Sequence[Tokenised]) -> list[list[int]]:
        batches: list[list[int]] = []
        last = (0, 0)
        for index in order:
            prefix, length = _shape(tokenised[index])
            length = self._padded_length(length)
            if (prefix, length) != last or (len(batches[-1]) + 1) * length > TOKENS_PER_BATCH:
                batches.append([])
            batches[-1].append(index)
            last = (prefix, length)
        return batches

    def _padded_length(self, length: int) -> int:
        return self.max_tokens if self._traits.padding == "max_length" else length

    @torch.inference_mode()
    def _encode_batch(self, ids: list[tuple[int, ...]], prefix: int) -> torch.Tensor:
        if prefix and self._prefixes is not None:
            with self._device:
                features = self._prefixes.features(ids, prefix)
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
        with self._device:  # concurrent batches would only slow each other down
            features = self._model.get_text_features(**wanted).pooler_output
        return torch.nn.functional.normalize(features.float(), dim=-1).cpu()


def _shape(token: Tokenised) -> tuple[int, int]:
    """Return the common properties of a batch's texts: length of the prefix, total length."""
    return token.prefix, len(token.ids)


def _key(text: str, templates: Sequence[str]) -> str:
    return json.dumps([*templates, text])


def _common_ending(first: list[int], second: list[int]) -> int:
    """Return the number of ids that two texts have in common at their end."""
    length = 0
    while length < min(len(first), len(second)) and first[-1 - length] == second[-1 - length]:
        length += 1
    return length
