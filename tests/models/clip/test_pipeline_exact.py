"""Our vectors and probabilities equal those of stock transformers with the same weights."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.core.settings import Settings, read_settings
from pipelines.media.images import NamedImage
from pipelines.models.catalogue import CATALOGUE, CLIP_B32
from pipelines.models.clip.pipeline import ClipPipeline
from pipelines.models.clip.texts import fill, resolve_templates
from pipelines.models.verdict import read_bank
from pipelines.serving.store import PipelineStore
from tests.fakes.tiny_clip import FIXTURES, MAKERS

TASK = "image-text"
TEXTS = ["a photo of a red circle", "a dog", "the drawing of two cats", "blue", "红色的猫"]
EXACT = 1e-5  # float32, other order of the same sums


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for key, make in MAKERS.items():
        make(root / key)
    return root


@pytest.fixture(scope="module")
def store(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PipelineStore]:
    cache = tmp_path_factory.mktemp("cache")
    settings = Settings(models_dir=folder, device="cpu", dtype="float32", cache_dir=cache)
    store = PipelineStore(settings)
    yield store
    store.unload_idle(0.0)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures of several proportions, lossless."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(3)
    paths = []
    for index, (width, height) in enumerate([(32, 32), (90, 41), (37, 120), (20, 11), (64, 64)]):
        pixels = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
        paths.append(root / f"{index}.png")
        image.save(paths[-1])
    return paths


@cache
def stock(folder: Path) -> tuple[Any, Any, Any]:
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    return model, AutoTokenizer.from_pretrained(folder), processor


def stock_inputs(folder: Path, key: str, texts: list[str], pictures: list[Path]) -> dict[str, Any]:
    _, tokenizer, processor = stock(folder / key)
    padding = {"padding": True}
    if key == "siglip2-b16":
        padding = {"padding": "max_length", "max_length": 64}
    words = tokenizer([text.lower() for text in texts], return_tensors="pt", **padding)
    images = [Image.open(path).convert("RGB") for path in pictures]
    return {**words, **processor(images=images, return_tensors="pt")}


@pytest.mark.parametrize("key", MAKERS)
@torch.inference_mode()
def test_vectors_equal_stock(
    key: str, folder: Path, store: PipelineStore, pictures: list[Path]
) -> None:
    model, _, _ = stock(folder / key)
    output = model(**stock_inputs(folder, key, TEXTS, pictures))
    with store.use(key, TASK) as clip:
        texts = torch.tensor(clip.embed_texts(TEXTS).vectors)
        images = torch.tensor(clip.embed_images([NamedImage(p, p.name) for p in pictures]).vectors)
    assert torch.allclose(texts, output.text_embeds, atol=EXACT)
    assert torch.allclose(images, output.image_embeds, atol=EXACT)
    assert not torch.allclose(images[0], images[1], atol=1e-3), "the fixture tells inputs apart"


@pytest.mark.parametrize("key", MAKERS)
@torch.inference_mode()
def test_probabilities_equal_stock(
    key: str, folder: Path, store: PipelineStore, pictures: list[Path]
) -> None:
    model, _, _ = stock(folder / key)
    logits = model(**stock_inputs(folder, key, TEXTS, pictures[1:2])).logits_per_image[0]
    expected = logits.sigmoid() if key == "siglip2-b16" else logits.softmax(dim=-1)
    with store.use(key, TASK) as clip:
        scores = {s.label: s for s in clip.classify(pictures[1], TEXTS).scores}
    found = torch.tensor([scores[text].probability for text in TEXTS])
    assert torch.allclose(found, expected, atol=EXACT)
    if key != "siglip2-b16":
        assert found.sum().item() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("key", MAKERS)
@torch.inference_mode()
def test_ranking_orders_by_the_stock_cosines(
    key: str, folder: Path, store: PipelineStore, pictures: list[Path]
) -> None:
    model, _, _ = stock(folder / key)
    output = model(**stock_inputs(folder, key, TEXTS, pictures))
    named = [NamedImage(path, path.name) for path in pictures]
    for query, vector in ((TEXTS[0], output.text_embeds[0]), (named[2], output.image_embeds[2])):
        expected = {f"text {i}": float(vector @ v) for i, v in enumerate(output.text_embeds)}
        expected |= {f"image {i}": float(vector @ v) for i, v in enumerate(output.image_embeds)}
        with store.use(key, TASK) as clip:
            rows = clip.rank(query, TEXTS, named).rows
        found = {f"{row.kind} {row.index}": row.cosine for row in rows}
        assert found == pytest.approx(expected, abs=EXACT)
        assert [row.cosine for row in rows] == sorted(found.values(), reverse=True)
        assert [row.rank for row in rows] == list(range(1, len(rows) + 1))


@pytest.mark.parametrize("key", MAKERS)
@torch.inference_mode()
def test_evidence_of_two_pictures_is_how_alike_they_spread_over_the_bank(
    key: str, folder: Path, store: PipelineStore, pictures: list[Path]
) -> None:
    """Computed in NumPy from the stock vectors: one softmax over the texts for each picture."""
    model, _, _ = stock(folder / key)
    bank = read_bank(CATALOGUE[key].contrastive.neutral_bank)  # type: ignore[union-attr]
    output = model(**stock_inputs(folder, key, bank, pictures))
    logits = (output.image_embeds @ output.text_embeds.T).double().numpy()
    logits *= float(model.logit_scale.exp())
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    expected = np.sqrt(shares[2][None] * shares).sum(axis=1)
    named = [NamedImage(path, path.name) for path in pictures]
    with store.use(key, TASK) as clip:
        rows = clip.rank(named[2], [], named).rows
    found = {row.index: row.evidence for row in rows}
    assert found == pytest.approx(dict(enumerate(expected.tolist())), abs=1e-4)
    others = [value for index, value in found.items() if index != 2]
    assert found[2] == pytest.approx(1.0, abs=1e-5) and max(others) < 0.999


@torch.inference_mode()
def test_templates_reach_the_model_as_stock_prompts(
    folder: Path, store: PipelineStore, pictures: list[Path]
) -> None:
    model, _, _ = stock(folder / "clip-vit-b32")
    labels = ["dog", "red circle"]
    prompts = [f"a picture of {label}, maybe" for label in labels]
    inputs = stock_inputs(folder, "clip-vit-b32", prompts, pictures[:1])
    expected = model(**inputs).logits_per_image[0].softmax(dim=-1)
    with store.use("clip-vit-b32", TASK) as clip:
        result = clip.classify(pictures[0], labels, templates="a picture of {}, maybe")
    found = {score.label: score.probability for score in result.scores}
    assert [found[label] for label in labels] == pytest.approx(expected.tolist(), abs=EXACT)


@pytest.mark.parametrize("key", MAKERS)
def test_visitors_at_the_same_time_get_their_own_answers(
    key: str, store: PipelineStore, tmp_path: Path
) -> None:
    """They share batches; most failed once, when two had waited for the device."""
    paths = []
    for index in range(24):
        paths.append(tmp_path / f"{index}.png")
        colour = (index * 10, 255 - index * 10, (index * 77) % 256)
        Image.new("RGB", (40, 30), colour).save(paths[-1])
    with store.use(key, TASK) as clip:
        pixels = [clip.pictures.recipe.pixels(clip.pictures.open(path)) for path in paths]
        alone = [clip.pictures._run_tower([one])[0] for one in pixels]
        with ThreadPoolExecutor(24) as pool:
            together = list(pool.map(lambda path: clip.pictures.encode([path])[0], paths))
    assert torch.allclose(torch.stack(together), torch.stack(alone), atol=EXACT)
    assert not torch.allclose(alone[0], alone[-1], atol=1e-3)


@pytest.mark.parametrize("key", MAKERS)
def test_one_equals_a_row_of_many(key: str, store: PipelineStore, pictures: list[Path]) -> None:
    with store.use(key, TASK) as clip:
        tokens = clip.texts.tokenise(TEXTS)
        many = clip.texts.encode(tokens)
        alone = torch.cat([clip.texts.encode([token]) for token in tokens])
        pixels = [clip.pictures.recipe.pixels(clip.pictures.open(path)) for path in pictures]
        batch = torch.stack(clip.pictures._run_tower(pixels))
        single = torch.stack([clip.pictures._run_tower([one])[0] for one in pixels])
    assert torch.allclose(many, alone, atol=EXACT)
    assert torch.allclose(batch, single, atol=EXACT)


def test_an_ensemble_is_the_mean_of_unit_vectors(store: PipelineStore) -> None:
    templates = resolve_templates("ensemble", ("en",))
    with store.use("clip-vit-b32", TASK) as clip:
        found = clip.texts.vectors(["red square"], templates)[0]
        prompts = torch.stack([clip.texts.vectors([fill(t, "red square")])[0] for t in templates])
    mean = sum(prompt / prompt.norm() for prompt in prompts) / len(prompts)
    assert torch.allclose(found, mean / mean.norm(), atol=EXACT)
    assert found.norm().item() == pytest.approx(1.0, abs=1e-6)


@torch.inference_mode()
def test_text_tower_equals_plain_attention(folder: Path, store: PipelineStore) -> None:
    """An independent formulation of CLIP's text half: no mask tensors, no padding, no batches."""
    model, tokenizer, _ = stock(folder / "clip-vit-b32")
    weights = model.text_model
    ids = tokenizer("a photo of a red circle")["input_ids"]
    tokens = weights.embeddings.token_embedding.weight[ids]
    states = tokens + weights.embeddings.position_embedding.weight[: len(ids)]
    for block in weights.encoder.layers:
        attention, normed = block.self_attn, block.layer_norm1(states)
        rows = []
        for position in range(len(ids)):  # a token sees itself and what stands before it
            past, mixed = normed[: position + 1], []
            for head in range(attention.num_heads):
                part = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
                query = attention.q_proj(normed[position])[part]
                scores = attention.k_proj(past)[:, part] @ query * attention.head_dim**-0.5
                mixed.append(scores.softmax(dim=0) @ attention.v_proj(past)[:, part])
            rows.append(attention.out_proj(torch.cat(mixed)))
        states = states + torch.stack(rows)
        inner = block.mlp.fc1(block.layer_norm2(states))
        states = states + block.mlp.fc2(inner * torch.sigmoid(1.702 * inner))
    pooled = weights.final_layer_norm(states)[ids.index(49407)]
    vector = model.text_projection(pooled)
    with store.use("clip-vit-b32", TASK) as clip:
        found = clip.texts.vectors(["a photo of a red circle"])[0]
    assert torch.allclose(found, vector / vector.norm(), atol=EXACT)


def test_the_real_bpe_tokenises_as_the_reference(store: PipelineStore) -> None:
    """From the raw text: `CLIPTokenizer` alone gets 206 of the 257 right."""
    rows = json.loads((FIXTURES / "clip_tokenizer" / "reference_ids.json").read_text("utf-8"))[
        "rows"
    ]
    assert len(rows) == 257
    with store.use("clip-vit-b32", TASK) as clip:
        tokens = clip.texts.tokenise([row["text"] for row in rows])
    for row, token in zip(rows, tokens, strict=True):
        assert list(token.ids) == [49406, *row["ids"][:75], 49407], row["text"]
        assert token.cut == (len(row["ids"]) > 75)
    assert sum(token.cut for token in tokens) > 0, "some are longer than the model reads"


def test_cutting_keeps_the_end_token_and_is_noted(
    store: PipelineStore, pictures: list[Path]
) -> None:
    long = "dog " * 100
    with store.use("clip-vit-b32", TASK) as clip:
        token = clip.texts.tokenise([long])[0]
        assert token.cut
        assert len(token.ids) == 77
        assert token.ids[-1] == 49407
        result = clip.classify(pictures[0], ["dog", long.strip()])
    notes = {score.label: score.note for score in result.scores}
    assert notes["dog"] == ""
    assert "first 77 tokens" in notes[long.strip()]


def test_a_packed_tower_agrees_with_float32(
    folder: Path, pictures: list[Path], store: PipelineStore, tmp_path: Path
) -> None:
    half = PipelineStore(
        Settings(models_dir=folder, device="cpu", dtype="bfloat16", cache_dir=tmp_path)
    )
    for key in MAKERS:
        with store.use(key, TASK) as exact, half.use(key, TASK) as fast:
            assert fast.device.dtype == "bfloat16"
            for a, b in (
                (exact.texts.vectors(TEXTS), fast.texts.vectors(TEXTS)),
                (exact.pictures.encode(pictures), fast.pictures.encode(pictures)),
            ):
                assert (a * b).sum(dim=-1).min().item() > 0.999
    half.unload_idle(0.0)


@pytest.mark.weights
def test_the_published_probabilities_of_openai_clip() -> None:
    """openai/CLIP's README: its example image against three texts, ViT-B/32."""
    example = os.environ.get("SEESAY_CLIP_EXAMPLE", "")
    if not example:
        pytest.skip("SEESAY_CLIP_EXAMPLE names no file: the image is not ours to ship")
    store = PipelineStore(read_settings(["--device", "cpu", "--dtype", "float32"]))
    if store.sources.locate(CLIP_B32) is None:
        pytest.skip("openai/clip-vit-base-patch32 is not on this disk")
    image = Path(example)
    labels = ["a diagram", "a dog", "a cat"]
    with store.use("clip-vit-b32", TASK) as clip:
        scores = {s.label: s.probability for s in clip.classify(image, labels).scores}
    published = [0.9927937, 0.00421068, 0.00299572]
    assert [scores[label] for label in labels] == pytest.approx(published, abs=1e-3)


def test_relevance_adds_up_to_what_attention_brings(
    store: PipelineStore, pictures: list[Path]
) -> None:
    """The patches' shares and the class token's own are all that the last attention brings."""
    from pipelines.models.clip import relevance

    with store.use("clip-vit-b32", TASK) as clip:
        attention = clip._model.vision_model.encoder.layers[-1].self_attn
        states = torch.randn(1, 17, 32, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            brought = relevance._added(attention, states).sum(dim=0)
            whole = attention(hidden_states=states)[0][0, 0] - attention.out_proj.bias
        assert torch.allclose(brought, whole, atol=EXACT)


@pytest.mark.parametrize("key", MAKERS)
def test_relevance_is_a_map_of_the_patches(
    key: str, store: PipelineStore, pictures: list[Path]
) -> None:
    with store.use(key, TASK) as clip:
        assert isinstance(clip, ClipPipeline)
        found = clip.relevance(pictures[1], "a dog")
    grid = np.array(found.grid)
    assert grid.shape == (4, 4)
    assert grid.min() == 0.0
    assert grid.max() == pytest.approx(1.0)


@pytest.mark.parametrize("key", MAKERS)
@pytest.mark.parametrize(("index", "size"), [(1, (90, 41)), (2, (37, 120)), (4, (64, 64))])
def test_the_part_that_is_seen_is_told_in_shares_of_width_and_height(
    key: str, store: PipelineStore, pictures: list[Path], index: int, size: tuple[int, int]
) -> None:
    """Towers that crop see the square in the middle, the others the whole."""
    with store.use(key, TASK) as clip:
        assert isinstance(clip, ClipPipeline)
        box, crops = clip.relevance(pictures[index], "a dog").box, clip.pictures.recipe.crop
    margins = [(side - min(size)) / 2 / side if crops else 0.0 for side in size]
    assert box == pytest.approx((*margins, *(1.0 - share for share in margins)), abs=0.02)
