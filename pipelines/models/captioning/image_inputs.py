"""Connectors from an image to the inputs of a language model, one class per kind, and their cache.

Shapes: B images, P patches, Q query tokens, N tokens of an image in the prompt, D width of the
language model, V width of the vision tower, L tokens of the longest prompt.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image

from pipelines.compute.lru import LruCache
from pipelines.core.errors import WeightsError
from pipelines.core.spec import GenerativeTraits
from pipelines.models.captioning.prompts import ImagePrompt

#: Greatest aspect ratio of an image; a longer one is shortened.
MAX_ASPECT = 100

#: Size of the cache of one model: some 500 images of BLIP-2, 40 of LLaVA in bfloat16.
CACHE_BYTES = 256_000_000

#: Names of tensors to tensors: an image prepared for a model, or encoded by it.
Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class InputParts:
    """A loaded checkpoint; `qformer_tokenizer` for InstructBLIP only."""

    model: Any
    image_processor: Any
    tokenizer: Any
    traits: GenerativeTraits
    qformer_tokenizer: Any = None


@dataclass(frozen=True)
class Row:
    """One encoded image with its prompt."""

    encoded: Tensors
    prompt: ImagePrompt


@dataclass(frozen=True)
class Job:
    """A call of `generate` of a model or a part of it.

    The first `skip` tokens of each output row are not part of the answer.
    """

    model: Any
    inputs: dict[str, Any]
    skip: int


class ImageConnector(ABC):
    """Preparation and encoding of images, and their combination with prompts."""

    def __init__(self, parts: InputParts) -> None:
        self.parts = parts
        self.model, self.traits = parts.model, parts.traits

    def check(self) -> None:
        """Check that the template's image text contains this checkpoint's image token once.

        Raises:
            WeightsError: it does not, so the model would answer without the image.
        """
        if not self.traits.image_text:
            return
        ids = self.parts.tokenizer(self.traits.image_text, add_special_tokens=False)["input_ids"]
        if list(ids).count(int(self.model.config.image_token_id)) != 1:
            raise WeightsError(
                "The files hold a model that marks images in another way than its catalogue entry "
                "says: this is another model. Delete it so that it is fetched again."
            )

    def prepare(self, image: Image.Image) -> Tensors:
        """Return the stock image processor's output for an RGB image, tensors on the CPU.

        Longer strips than 1:100 are shortened: some processors refuse them, others need gigabytes.
        """
        processor, options = self.parts.image_processor, dict[str, Any](self.traits.image_options)
        if self.traits.max_image_pixels:
            least, most = processor.size["shortest_edge"], processor.size["longest_edge"]
            most = min(most, self.traits.max_image_pixels)
            options["size"] = {"shortest_edge": least, "longest_edge": most}
        made = processor(images=[_within_reason(image)], return_tensors="pt", **options)
        return {name: made[name] for name in made if isinstance(made[name], torch.Tensor)}

    @torch.no_grad()
    def encode(self, prepared: Sequence[Tensors]) -> list[Tensors]:
        """Run the vision tower; return one entry for each image, on the model's device."""
        return self._encode([self._placed(one) for one in prepared])

    def tokenise(self, text: str, encoded: Tensors) -> list[int]:
        """Return the ids that the stock processor would make of a prompt."""
        count = self.image_tokens(encoded)
        image = [int(self.model.config.image_token_id)] if count else []
        special = self.traits.special_tokens
        ids = self.parts.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
        if self.traits.image_first:
            return image * count + list(ids)
        return [token for one in ids for token in ([one] * count if [one] == image else [one])]

    @torch.no_grad()
    def job(self, rows: Sequence[Row]) -> Job:
        """Combine the rows, padded on the left, into one call of `generate`."""
        return self._job(rows)

    @abstractmethod
    def image_tokens(self, encoded: Tensors) -> int:
        """Return the number of prompt tokens of an encoded image."""

    def _encode(self, images: list[Tensors]) -> list[Tensors]:
        """Return the vision tower's output, "states": (P, V), of each image."""
        pixels = torch.cat([image["pixel_values"] for image in images])
        states = self.model.vision_model(pixel_values=pixels).last_hidden_state  # (B, P, V)
        return [{"states": one} for one in states]

    @abstractmethod
    def _job(self, rows: Sequence[Row]) -> Job: ...

    def _placed(self, prepared: Tensors) -> Tensors:
        """Move to the model's device; floats also to the vision tower's dtype."""
        device, dtype = self.model.device, self._dtype()
        return {
            name: tensor.to(device, dtype if tensor.is_floating_point() else None)
            for name, tensor in prepared.items()
        }

    def _dtype(self) -> torch.dtype:
        """Return the dtype of the first convolution; other layers may have another one."""
        for module in self.model.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d):
                return module.weight.dtype
        dtype: torch.dtype = self.model.dtype
        return dtype

    def _padded(self, rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ids and mask, (B, L) int64 each, padded on the left."""
        pad = pad_token(self.parts.tokenizer)
        length = max(len(row.prompt.ids) for row in rows)
        missing = [length - len(row.prompt.ids) for row in rows]
        ids = [[pad] * m + list(row.prompt.ids) for m, row in zip(missing, rows, strict=True)]
        mask = [[0] * m + [1] * (length - m) for m in missing]
        device = self.model.device
        return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


class QueryTokens(ImageConnector):
    """BLIP-2: the Q-Former's output, (Q, D), replaces Q image tokens."""

    def image_tokens(self, encoded: Tensors) -> int:
        """Return Q."""
        return int(self.model.config.num_query_tokens)

    def _encode(self, images: list[Tensors]) -> list[Tensors]:
        pixels = torch.cat([image["pixel_values"] for image in images])  # (B, 3, H, W)
        features = self.model.get_image_features(pixel_values=pixels).pooler_output  # (B, Q, D)
        return [{"features": one} for one in features]

    def _features(self, rows: Sequence[Row]) -> torch.Tensor:
        """Return (B, Q, D)."""
        return torch.stack([row.encoded["features"] for row in rows])

    def _job(self, rows: Sequence[Row]) -> Job:
        ids, mask = self._padded(rows)
        embeds = self.model.get_input_embeddings()(ids)  # (B, L, D)
        where = (ids == self.model.config.image_token_id).unsqueeze(-1)
        embeds = embeds.masked_scatter(where, self._features(rows).to(embeds.dtype))
        inputs = {"inputs_embeds": embeds, "attention_mask": mask}
        skip = 1 if self.traits.decoder == "seq2seq" else 0
        return Job(self.model.language_model, inputs, skip)


class InstructedQueryTokens(QueryTokens):
    """InstructBLIP: the Q-Former reads the patches, (P, V), and the question."""

    _encode = ImageConnector._encode

    def _features(self, rows: Sequence[Row]) -> torch.Tensor:
        return torch.stack([self._instructed(row) for row in rows])

    def _instructed(self, row: Row) -> torch.Tensor:
        """Return (Q, D): what `get_image_features` does after the vision tower, for one image."""
        model, states = self.model, row.encoded["states"].unsqueeze(0)
        room = int(model.config.qformer_config.max_position_embeddings)
        ids = self.parts.qformer_tokenizer(row.prompt.text, verbose=False)["input_ids"]
        ids = ids if len(ids) <= room else [*ids[: room - 1], ids[-1]]
        text = torch.tensor([ids], device=states.device)
        queries = model.query_tokens
        mask = torch.ones(1, queries.shape[1] + len(ids), dtype=torch.long, device=states.device)
        output = model.qformer(
            input_ids=text,
            attention_mask=mask,
            query_embeds=queries,
            encoder_hidden_states=states,
            encoder_attention_mask=_ones(states),
        ).last_hidden_state[:, : queries.shape[1]]
        # the Q-Former may be kept in float32
        return model.language_projection(output.to(states.dtype))[0]


class CrossAttention(ImageConnector):
    """BLIP captions: the decoder attends to the patches, (P, V)."""

    def image_tokens(self, encoded: Tensors) -> int:
        """Return 0: the image is not part of the prompt."""
        return 0

    def tokenise(self, text: str, encoded: Tensors) -> list[int]:
        """Return the decoder's start token and the prompt's tokens."""
        return [int(self.model.config.text_config.bos_token_id), *super().tokenise(text, encoded)]

    def _ends(self) -> dict[str, int]:
        text = self.model.config.text_config
        return {"eos_token_id": text.sep_token_id, "pad_token_id": text.pad_token_id}

    def _job(self, rows: Sequence[Row]) -> Job:
        ids, mask = self._padded(rows)
        states = torch.stack([row.encoded["states"] for row in rows])
        inputs = {"input_ids": ids, "attention_mask": mask, "encoder_hidden_states": states}
        inputs["encoder_attention_mask"] = _ones(states)
        return Job(self.model.text_decoder, inputs | self._ends(), ids.shape[1])


class QuestionEncoder(CrossAttention):
    """BLIP answers: an encoder reads question and patches, the decoder reads its output."""

    def tokenise(self, text: str, encoded: Tensors) -> list[int]:
        """Return the ids of the question, with the tokeniser's own start and end."""
        return ImageConnector.tokenise(self, text, encoded)

    def _job(self, rows: Sequence[Row]) -> Job:
        questions = torch.cat([self._question(row) for row in rows])
        begin = int(self.model.decoder_start_token_id)
        start = torch.full((len(rows), 1), begin, device=self.model.device)
        inputs = {"input_ids": start, "encoder_hidden_states": questions}
        inputs["encoder_attention_mask"] = _ones(questions)
        return Job(self.model.text_decoder, inputs | self._ends(), 1)

    def _question(self, row: Row) -> torch.Tensor:
        """Return (1, L, V)."""
        states = row.encoded["states"].unsqueeze(0)
        ids = torch.tensor([list(row.prompt.ids)], device=states.device)
        read: torch.Tensor = self.model.text_encoder(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            encoder_hidden_states=states,
            encoder_attention_mask=_ones(states),
        ).last_hidden_state
        return read


class ProjectedPatches(ImageConnector):
    """LLaVA, InternVL, Florence-2: every patch, or tile of patches, becomes image tokens."""

    #: Whether the features of the model are a list rather than one tensor.
    _listed = False

    def image_tokens(self, encoded: Tensors) -> int:
        """Return N, the projector's number of vectors for this image."""
        return encoded["features"].shape[:-1].numel()

    def _encode(self, images: list[Tensors]) -> list[Tensors]:
        tiles = [len(image["pixel_values"]) for image in images]
        pixels = torch.cat([image["pixel_values"] for image in images])
        features = self.model.get_image_features(pixel_values=pixels).pooler_output
        self._listed = not isinstance(features, torch.Tensor)
        stacked = torch.stack(list(features)) if self._listed else features
        return [{"features": one} for one in stacked.split(tiles)]  # each (tiles, N / tiles, D)

    def _job(self, rows: Sequence[Row]) -> Job:
        ids, mask = self._padded(rows)
        outputs = {"image": SimpleNamespace(**self._outputs(rows))}
        inputs = {"input_ids": ids, "attention_mask": mask, "mm_encoder_outputs": outputs}
        seq2seq = self.traits.decoder == "seq2seq"
        return Job(self.model, inputs, 1 if seq2seq else ids.shape[1])

    def _outputs(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Return what the model's `get_image_features` gives for these images together."""
        features = torch.cat([row.encoded["features"] for row in rows])
        return {"pooler_output": list(features) if self._listed else features}


class SizedPatches(ProjectedPatches):
    """MiniCPM-V: as many patches as the image's size calls for; one view, no slices."""

    def _encode(self, images: list[Tensors]) -> list[Tensors]:
        return [self._encode_one(image) for image in images]

    def _encode_one(self, image: Tensors) -> Tensors:
        output = self.model.get_image_features(
            pixel_values=image["pixel_values"], target_sizes=image["target_sizes"]
        )
        return {"features": torch.cat(list(output.pooler_output))}

    def _outputs(self, rows: Sequence[Row]) -> dict[str, Any]:
        return {"pooler_output": [row.encoded["features"] for row in rows]}


class GriddedPatches(SizedPatches):
    """Qwen-VL: likewise, placed by their grid.

    Qwen3-VL also feeds patches of earlier layers into the first layers of its language model;
    they are cached as "deep 0", "deep 1", …, each of the shape of "features".
    """

    def _encode_one(self, image: Tensors) -> Tensors:
        grid = image["image_grid_thw"]  # (1, 3) int64: frames, rows, columns of patches
        output = self.model.get_image_features(
            pixel_values=image["pixel_values"], image_grid_thw=grid
        )
        deep = getattr(output, "deepstack_features", None) or []
        return {
            "features": torch.cat(list(output.pooler_output)),
            "grid": grid,
            **{f"deep {layer}": torch.cat(list(one)) for layer, one in enumerate(deep)},
        }

    def _outputs(self, rows: Sequence[Row]) -> dict[str, Any]:
        outputs = super()._outputs(rows)
        if deep := [name for name in rows[0].encoded if name.startswith("deep ")]:
            outputs["deepstack_features"] = [[row.encoded[n] for row in rows] for n in deep]
        return outputs

    def _job(self, rows: Sequence[Row]) -> Job:
        job = super()._job(rows)
        job.inputs["image_grid_thw"] = torch.cat([row.encoded["grid"] for row in rows])
        is_image = job.inputs["input_ids"] == self.model.config.image_token_id
        job.inputs["mm_token_type_ids"] = is_image.long()
        return job


def _ones(states: torch.Tensor) -> torch.Tensor:
    """Return a mask of ones, (B, L) int64, for (B, L, width)."""
    return torch.ones(states.shape[:2], dtype=torch.long, device=states.device)


def _within_reason(image: Image.Image) -> Image.Image:
    width, height = image.size
    if max(width, height) <= MAX_ASPECT * min(width, height):
        return image
    most = MAX_ASPECT * min(width, height)
    return image.resize((min(width, most), min(height, most)))


#: Connector of each `GenerativeTraits.connector`.
CONNECTORS: dict[str, Callable[[InputParts], ImageConnector]] = {
    "query tokens": QueryTokens,
    "instructed query tokens": InstructedQueryTokens,
    "cross attention": CrossAttention,
    "question encoder": QuestionEncoder,
    "projected patches": ProjectedPatches,
    "gridded patches": GriddedPatches,
    "sized patches": SizedPatches,
}


def pad_token(tokenizer: Any) -> int:
    """Return the padding token's id, else the end token's."""
    tokens = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(int(token) for token in tokens if token is not None)


class FeatureCache(LruCache[bytes, Tensors]):
    """LRU cache of encoded images, bounded in bytes.

    The key is a hash of the prepared pixels, so that the same image is found whatever its file is
    called; nothing of the image itself is stored.
    """

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        super().__init__(max_bytes, lambda one: sum(tensor.nbytes for tensor in one.values()))

    def get_encoded(
        self,
        prepared: Sequence[Tensors],
        encode: Callable[[list[Tensors]], list[Tensors]],
        *,
        keep: bool = True,
    ) -> list[Tensors]:
        """Return prepared images encoded; `encode` gets those that are not cached, each once.

        `keep` states whether they are cached.
        """
        return self.get_many(
            [digest(one) for one in prepared],
            lambda missing: encode([prepared[index] for index in missing]),
            keep=keep,
        )

    def snapshot(self) -> dict[bytes, Tensors]:
        """Return the encoded images on the CPU."""
        return {key: _moved(one, "cpu") for key, one in super().snapshot().items()}

    def enter_worker(self, kind: str) -> None:
        """Move the tensors, which come from the parent process, to the device."""
        self.update({key: _moved(one, kind) for key, one in super().snapshot().items()})


def digest(tensors: Tensors) -> bytes:
    """Return a hash of names, shapes, dtypes and values of tensors on the CPU."""
    hashed = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        hashed.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\0".encode())
        hashed.update(tensor.numpy().tobytes())
    return hashed.digest()


def _moved(tensors: Tensors, kind: str) -> Tensors:
    return {name: tensor.to(kind) for name, tensor in tensors.items()}
