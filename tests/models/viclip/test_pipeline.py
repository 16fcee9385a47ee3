"""Frames and texts in, vectors and scores out, as the reference's demo gives them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.compute import packed_linear
from pipelines.core.errors import InputError
from pipelines.core.spec import VideoTextTraits
from pipelines.models.viclip import encoding as module
from pipelines.models.viclip.pipeline import ViClipPipeline
from pipelines.models.viclip.processing_viclip import Pixels
from tests.support.viclip_golden import (
    EXACT,
    golden,
    golden_json,
    make_golden_folder,
    make_pipeline,
    similarities,
    stride_indices,
)

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS: list[str] = golden_json("texts")["texts"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_golden_folder(tmp_path_factory.mktemp("viclip"))


@pytest.fixture(scope="module")
def viclip(folder: Path) -> ViClipPipeline:
    return make_pipeline(folder)


@pytest.fixture(scope="module")
def clips() -> list[Pixels]:
    """The recorded clips in RGB, the frames that the reference chooses."""
    raw = [golden("inputs")[f"frames_bgr.{name}"].numpy() for name in "abc"]
    return [clip[stride_indices(len(clip))][..., ::-1] for clip in raw]


def test_demo_results_end_to_end(viclip: ViClipPipeline, clips: list[Pixels]) -> None:
    expected = golden("expected")
    cosines, probabilities = similarities(viclip, clips, TEXTS)
    assert torch.allclose(cosines, expected["cosine"], atol=EXACT)
    assert torch.allclose(probabilities.float(), expected["probs"], atol=EXACT)
    for shares, recorded in zip(probabilities, golden_json("texts")["retrieve_text"], strict=True):
        best = shares.topk(5)
        assert [TEXTS[text] for text in best.indices.tolist()] == recorded["texts"]
        assert best.values.tolist() == pytest.approx(recorded["probs"], abs=EXACT)
    assert float(probabilities[0].sum()) == pytest.approx(1.0, abs=1e-9)


def test_vectors_equal_the_reference(viclip: ViClipPipeline, clips: list[Pixels]) -> None:
    expected = golden("expected")
    videos, stills = (
        viclip.encoder.embed_frames(clips),
        viclip.encoder.embed_frames([c[4:5] for c in clips]),
    )
    assert torch.allclose(videos, expected["video_features"], atol=EXACT)
    assert torch.allclose(stills, expected["image_features"], atol=EXACT)
    assert torch.allclose(viclip.encoder.embed_texts(TEXTS), expected["text_features"], atol=EXACT)
    assert torch.allclose(videos.norm(dim=-1), torch.ones(3))


def test_the_published_demo_clip(viclip: ViClipPipeline) -> None:
    recorded = golden("example1")
    frames, indices = recorded["resized_rgb"], recorded["frame_indices"].tolist()
    assert indices == stride_indices(int(recorded["n_frames"]))
    assert frames.shape == (8, 224, 224, 3)
    clip = recorded["tiny_a.resized_rgb"].numpy()
    vectors = viclip.encoder.embed_frames([clip])
    assert torch.allclose(vectors, recorded["tiny_a.video_features"], atol=EXACT)
    cosines, probabilities = similarities(viclip, [clip], TEXTS[:10])
    assert torch.allclose(100 * cosines, recorded["tiny_a.logits"], atol=1e-3)
    assert torch.allclose(probabilities.float(), recorded["tiny_a.probs"], atol=EXACT)
    best = probabilities[0].topk(5)
    assert best.indices.tolist() == recorded["tiny_a.topk_indices"][0].tolist()
    shares = recorded["tiny_a.topk_probs"][0].tolist()
    assert best.values.tolist() == pytest.approx(shares, abs=EXACT)
    # the same clip at the real models' size, brought down once more, is still the same clip
    again = viclip.encoder.embed_frames([frames.numpy()])
    assert float(again @ vectors.T) > 0.9


def test_a_batch_equals_its_parts(viclip: ViClipPipeline, clips: list[Pixels]) -> None:
    many = [clips[0], clips[1][4:5], clips[2], clips[1], clips[0][:1], clips[2], clips[1], clips[0]]
    together = viclip.encoder.embed_frames(many)
    alone = torch.cat([viclip.encoder.embed_frames([clip]) for clip in many])
    assert torch.allclose(together, alone, atol=EXACT)
    assert not torch.allclose(together[0], together[2], atol=1e-2)
    texts = viclip.encoder.embed_texts(TEXTS)
    singles = torch.cat([viclip.encoder.embed_texts([text]) for text in TEXTS])
    assert torch.allclose(texts, singles, atol=EXACT)


def test_many_texts_go_in_batches(viclip: ViClipPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = viclip.encoder.embed_texts(TEXTS)
    monkeypatch.setattr(module, "TEXTS_PER_BATCH", 3)
    found = viclip.encoder.embed_texts(TEXTS)
    assert torch.allclose(found, expected, atol=EXACT)


def test_nothing_gives_nothing(viclip: ViClipPipeline) -> None:
    assert viclip.encoder.embed_frames([]).shape == (0, 24)
    assert viclip.encoder.embed_texts([]).shape == (0, 24)


def test_bad_clips_are_refused(viclip: ViClipPipeline, clips: list[Pixels]) -> None:
    for bad in (np.zeros((8, 5, 5)), np.zeros((0, 5, 5, 3), np.uint8), None, np.zeros(())):
        with pytest.raises(InputError, match=r"must be \(T, H, W, 3\) of uint8"):
            viclip.encoder.embed_frames([clips[0], bad])  # type: ignore[list-item]


@pytest.mark.parametrize("text", ["", "\0", "\ud800", "!", "<|endoftext|>", "红" * 200, "x" * 9000])
def test_any_text_has_a_unit_vector(viclip: ViClipPipeline, text: str) -> None:
    assert viclip.encoder.embed_texts([text]).norm().item() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("packed", [False, True])
def test_bfloat16_comes_close(folder: Path, clips: list[Pixels], packed: bool) -> None:
    packed = packed and packed_linear.can_pack()
    expected = golden("expected")
    half = make_pipeline(folder, "bfloat16", packed=packed)
    found = [half.encoder.embed_frames(clips), half.encoder.embed_texts(TEXTS)]
    for vectors, name in zip(found, ("video_features", "text_features"), strict=True):
        assert vectors.dtype == torch.float32
        assert (vectors * expected[name]).sum(dim=-1).min() > 0.999


def test_threads_get_their_own_answers(viclip: ViClipPipeline, clips: list[Pixels]) -> None:
    expected = [similarities(viclip, [clip], TEXTS)[1].tolist() for clip in clips]
    with ThreadPoolExecutor(6) as pool:
        found = pool.map(lambda clip: similarities(viclip, [clip], TEXTS)[1].tolist(), clips * 4)
    assert list(found) == expected * 4


def test_fit_is_read_from_the_traits(folder: Path, viclip: ViClipPipeline) -> None:
    wide = np.random.default_rng(1).integers(0, 256, (8, 40, 90, 3), dtype=np.uint8)
    squashed = viclip.encoder.embed_frames([wide])
    boxed = make_pipeline(folder)
    boxed.unload()
    boxed.traits = VideoTextTraits(fit="letterbox")
    boxed.load()
    assert boxed.processor == replace(viclip.processor, fit="letterbox")
    assert not torch.allclose(boxed.encoder.embed_frames([wide]), squashed, atol=1e-3)


def test_loading_and_unloading(folder: Path) -> None:
    pipeline = make_pipeline(folder)
    pipeline.load()
    assert pipeline.loaded
    assert pipeline.encoder.dim == 24
    pipeline.unload()
    pipeline.unload()
    assert not any(hasattr(pipeline, name) for name in ("encoder", "tokeniser", "processor"))
    pipeline.load()
    assert pipeline.encoder.embed_texts(["a"]).shape == (1, 24)
