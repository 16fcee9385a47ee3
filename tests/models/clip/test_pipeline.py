"""What a request gets does not depend on others, and a long one comes in steps."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipelines.core.errors import MediaError
from pipelines.core.settings import Settings
from pipelines.media.images import NamedImage
from pipelines.models.clip.pipeline import ClipPipeline
from pipelines.serving.store import PipelineStore
from tests.conftest import draw_circle
from tests.fakes.tiny_clip import MAKERS

KEY = "clip-vit-b32"
LABELS = ["red", "a photo of a red circle", "the drawing of two cats on a very long sofa"]
DECOYS = [f"decoy number {i} " + "and more " * (i % 9) for i in range(50)]


def open_store(root: Path, dtype: str, cache: str) -> PipelineStore:
    return PipelineStore(
        Settings(models_dir=root, device="cpu", dtype=dtype, cache_dir=root / cache)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    MAKERS[KEY](root / KEY)
    return root


@pytest.fixture(scope="module")
def clip(folder: Path) -> Iterator[ClipPipeline]:
    store = open_store(folder, "float32", "shared")
    with store.use(KEY, "image-text") as pipeline:
        yield pipeline
    store.unload_idle(0.0)


@pytest.fixture
def red(tmp_path: Path) -> NamedImage:
    draw_circle().save(tmp_path / "red.png")
    return NamedImage(tmp_path / "red.png", "red.png")


@pytest.fixture
def broken(tmp_path: Path) -> NamedImage:
    (tmp_path / "broken.png").write_bytes(b"no image")
    return NamedImage(tmp_path / "broken.png", "broken.png")


@pytest.mark.long
@pytest.mark.parametrize("templates", [("{}",), ("a photo of a {}.", "the {}")])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_text_is_the_same_in_any_company(
    folder: Path, dtype: str, templates: tuple[str, ...]
) -> None:
    """Padding to the longest of a batch moved bfloat16 vectors, and so verdicts."""
    vectors = []
    for cache, texts in (("alone", LABELS), ("among", LABELS + DECOYS)):
        store = open_store(folder, dtype, f"{cache}-{dtype}-{len(templates)}")
        with store.use(KEY, "image-text") as pipeline:
            vectors.append(pipeline.texts.vectors(texts, templates)[: len(LABELS)])
        store.unload_idle(0.0)
    assert torch.equal(*vectors) if dtype == "bfloat16" else torch.allclose(*vectors, atol=1e-6)


def test_a_long_request_comes_in_steps_and_is_then_ready(
    clip: ClipPipeline, red: NamedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"label {index}" for index in range(600)]
    clip.classify(red.path, names[:1])  # the neutral texts are computed once for all
    steps = list(clip.prepare(names, [red] * 20))
    assert [step.done for step in steps] == [513, 600, 8, 16, 20]
    assert {step.unit for step in steps} == {"texts", "pictures"}

    def fail(*args: object) -> None:
        raise AssertionError("everything is kept by now")

    monkeypatch.setattr(clip.texts, "encode", fail)
    monkeypatch.setattr(clip.pictures, "_run_tower", fail)
    assert len(clip.classify(red.path, names).scores) == 600
    assert list(clip.prepare(names)) == []


def test_what_is_stopped_between_two_steps_is_not_computed(
    clip: ClipPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    encode = clip.texts.encode

    def count(tokens: list[object]) -> torch.Tensor:
        encoded.append(len(tokens))
        return encode(tokens)

    monkeypatch.setattr(clip.texts, "encode", count)
    steps = clip.prepare([f"other label {index}" for index in range(2000)])
    next(steps)
    steps.close()
    assert sum(encoded) == 512


def test_short_requests_have_no_steps(clip: ClipPipeline, red: NamedImage) -> None:
    assert list(clip.prepare(LABELS, [red])) == []


def test_a_matrix_survives_a_bad_file_and_says_so(
    clip: ClipPipeline, red: NamedImage, broken: NamedImage
) -> None:
    result = clip.matrix(["a red circle", "красный круг", "long " * 200], [red, broken])
    assert result.column_names == ("red.png",)
    assert [len(row) for row in result.cosines] == [1, 1, 1]
    assert any("broken.png" in note for note in result.notes)
    assert any("first 77 tokens" in note for note in result.notes)
    with pytest.raises(MediaError, match="not an image"):
        clip.matrix(["a red circle"], [broken])


def test_texts_are_ranked_beside_bad_pictures(clip: ClipPipeline, broken: NamedImage) -> None:
    rows = clip.rank("a red circle", ["a circle that is red"], [broken]).rows
    assert [row.kind for row in rows] == ["text", "image"]
    assert rows[1].cosine is None
    with pytest.raises(MediaError):
        clip.rank("a red circle", [], [broken])


def test_two_texts_get_one_verdict_either_way(clip: ClipPipeline) -> None:
    one, other = "red", "a photo of a red circle"
    there = clip.rank(one, [other], []).rows[0]
    back = clip.rank(other, [one], []).rows[0]
    assert there.verdict == back.verdict
    assert there.evidence == pytest.approx(back.evidence, abs=1e-4)
    verdicts = clip.matrix([one, other], []).verdicts
    assert verdicts[0][1] == verdicts[1][0]
