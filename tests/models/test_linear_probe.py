"""A probe as a file, and as a model of one's own."""

import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from pipelines.core.errors import InputError
from pipelines.core.settings import Settings
from pipelines.models.catalogue import DEMO_CLIP
from pipelines.models.linear_probe import LinearProbe, ProbeFacts, read_probe, spec_of
from pipelines.serving.store import PipelineStore
from pipelines.weights.files import weights_revision
from pipelines.weights.locate import BUNDLE
from tests.conftest import draw_circle

FACTS = ProbeFacts(num_fitted=30, num_held_out=10, correct=9, strength=100.0, seed=0)
DIM = 128


def make_probe(**changes: Any) -> LinearProbe:
    draw = np.random.default_rng(0)
    probe = LinearProbe(
        model="demo-clip",
        revision=weights_revision(DEMO_CLIP, BUNDLE / "demo-clip"),
        labels=("circle", "第二", "<b>third</b>"),
        weight=draw.normal(size=(3, DIM)).astype(np.float32),
        bias=draw.normal(size=3).astype(np.float32),
        facts=FACTS,
    )
    return replace(probe, **changes)


def header(**changes: Any) -> dict[str, str]:
    """Return what a good file says about itself, with some of it changed or (None) left out."""
    facts = {"num_fitted": 3, "num_held_out": 1, "correct": 1, "strength": 1.0, "seed": 0}
    told = {
        "version": 1,
        "model": "demo-clip",
        "revision": "",
        "labels": ["a", "b"],
        "facts": facts,
        **changes,
    }
    left = {name: value for name, value in told.items() if value is not None}
    return {"seesay-linear-probe": json.dumps(left)}


def test_a_file_holds_the_rows_however_they_lie_in_memory(tmp_path: Path) -> None:
    """Weights of scikit-learn lie column by column, and came back scrambled."""
    probe = make_probe()
    other = replace(probe, weight=np.asfortranarray(probe.weight))
    assert other.to_bytes() == probe.to_bytes()
    file = tmp_path / "probe.safetensors"
    file.write_bytes(other.to_bytes())
    assert (read_probe(file).weight == probe.weight).all()


def tensors(**changes: Any) -> dict[str, np.ndarray]:
    good = {"weight": np.ones((2, 4), np.float32), "bias": np.zeros(2, np.float32)}
    return {name: value for name, value in (good | changes).items() if value is not None}


def with_facts(**changes: Any) -> dict[str, str]:
    facts = json.loads(header()["seesay-linear-probe"])["facts"]
    return header(facts=facts | changes)


def raw(text: str) -> bytes:
    """Return a file that says this about itself."""
    return save(tensors(), metadata={"seesay-linear-probe": text})


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    probe = make_probe()
    path = tmp_path / "probe.safetensors"
    path.write_bytes(probe.to_bytes())
    read = read_probe(path)
    assert (read.model, read.revision, read.labels, read.facts) == (
        probe.model, probe.revision, probe.labels, probe.facts,
    )  # fmt: skip
    assert read.weight.tobytes() == probe.weight.tobytes()
    assert read.bias.tobytes() == probe.bias.tobytes()


def test_the_base_of_the_bad_files_is_good(tmp_path: Path) -> None:
    path = tmp_path / "probe.safetensors"
    path.write_bytes(save(tensors(), metadata=header()))
    assert read_probe(path).labels == ("a", "b")


NAN = np.full((2, 4), np.nan, np.float32)
NOT_PROBES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "no safetensors file"),
    "text": (lambda: b"hello, this is a text\n" * 20, "no safetensors file"),
    "pickle": (lambda: pickle.dumps({"weight": [1.0]}), "no safetensors file"),
    "cut off": (lambda: make_probe().to_bytes()[:-9], "no safetensors file"),
    "half a header": (lambda: make_probe().to_bytes()[:40], "no safetensors file"),
    "too large": (lambda: bytes(20_000_001), "of at most 20 MB"),
    "a model": (lambda: save(tensors()), "something else"),
    "version": (lambda: save(tensors(), metadata=header(version=2)), "of version 2"),
    "no model": (lambda: save(tensors(), metadata=header(model=None)), "incomplete"),
    "no labels": (lambda: save(tensors(), metadata=header(labels=None)), "incomplete"),
    "no JSON": (lambda: raw("{a"), "incomplete"),
    "deep JSON": (lambda: raw("[" * 50_000), "incomplete"),
    "a list": (lambda: raw("[1]"), "incomplete"),
    "model no name": (lambda: save(tensors(), metadata=header(model=3)), "incomplete"),
    "labels no list": (lambda: save(tensors(), metadata=header(labels={"a": 1})), "not a list"),
    "labels no names": (lambda: save(tensors(), metadata=header(labels=[1, 2])), "not a list"),
    "empty label": (lambda: save(tensors(), metadata=header(labels=["a", " "])), "not a list"),
    "labels twice": (lambda: save(tensors(), metadata=header(labels=["a", "a"])), "distinct"),
    "one label": (lambda: save(tensors(), metadata=header(labels=["a"])), "of 2 to 1,000"),
    "three labels": (
        lambda: save(tensors(), metadata=header(labels=["a", "b", "c"])),
        "a row of weights for each of its 3 classes",
    ),
    "facts": (lambda: save(tensors(), metadata=header(facts={})), "incomplete"),
    "other facts": (lambda: save(tensors(), metadata=with_facts(more=1)), "incomplete"),
    "facts no number": (lambda: save(tensors(), metadata=with_facts(seed="x")), "incomplete"),
    "facts too good": (lambda: save(tensors(), metadata=with_facts(correct=2)), "incomplete"),
    "strength": (lambda: save(tensors(), metadata=with_facts(strength=-1.0)), "incomplete"),
    "no bias": (lambda: save(tensors(bias=None), metadata=header()), "holds others"),
    "one more": (lambda: save(tensors(x=NAN), metadata=header()), "holds others"),
    "float64": (lambda: save(tensors(bias=np.zeros(2)), metadata=header()), "of float32"),
    "flat": (
        lambda: save(tensors(weight=np.ones(8, np.float32)), metadata=header()), "a row of weights",
    ),
    "no width": (
        lambda: save(tensors(weight=np.ones((2, 0), np.float32)), metadata=header()), "of float32",
    ),
    "bias of another size": (
        lambda: save(tensors(bias=np.zeros(3, np.float32)), metadata=header()), "a row of weights",
    ),
    "NaN": (lambda: save(tensors(weight=NAN), metadata=header()), "no finite numbers"),
    "infinite": (
        lambda: save(tensors(bias=np.array([np.inf, 0], np.float32)), metadata=header()),
        "no finite numbers",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_PROBES)
def test_a_file_that_is_no_probe_is_refused(name: str, tmp_path: Path) -> None:
    make, said = NOT_PROBES[name]
    path = tmp_path / "probe.safetensors"
    path.write_bytes(make())
    with pytest.raises(InputError) as refused:
        read_probe(path)
    assert said in refused.value.message
    assert refused.value.message.startswith("Expected a probe that the Evaluate tab")
    assert str(tmp_path) not in refused.value.message
    assert refused.value.title == "Not a probe"


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    """A pickle that writes a file when it is loaded."""
    mark = tmp_path / "executed"

    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (mark,)

    path = tmp_path / "probe.safetensors"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError):
        read_probe(path)
    assert not mark.exists()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PipelineStore]:
    cache = tmp_path_factory.mktemp("cache")
    store = PipelineStore(
        Settings(models="bundled", device="cpu", dtype="float32", cache_dir=cache, offline=True)
    )
    yield store
    store.unload_idle(0.0)


def test_the_probabilities_of_a_classification_are_the_probes(
    store: PipelineStore, tmp_path: Path
) -> None:
    image = tmp_path / "a.png"
    draw_circle().save(image)
    probe = make_probe()
    with store.use("demo-clip", "image-text") as clip:
        found = clip.classify_by_probe(image, probe, templates="photo")
        by_name = clip.classify(image, probe.labels, templates="photo")
        vector = clip.pictures.encode([image]).numpy()[0].astype(np.float64)
    logits = probe.weight.astype(np.float64) @ vector + probe.bias
    shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    expected = sorted(zip(shares, probe.labels, strict=True), reverse=True)
    assert [score.label for score in found.scores] == [label for _, label in expected]
    assert [score.probability for score in found.scores] == pytest.approx(
        [share for share, _ in expected], abs=1e-6
    )
    cosines = {score.label: score.cosine for score in by_name.scores}
    assert {score.label: score.cosine for score in found.scores} == cosines
    assert "come from your probe, fitted on 30 pictures of 3 classes" in found.notes[0]
    assert "9 of 10" in found.notes[0]
    assert not any("looks Chinese" in note for note in found.notes)
    assert any("looks Chinese" in note for note in by_name.notes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "clip-vit-b32"}, "made with clip-vit-b32, but the model in use is demo-clip"),
        ({"revision": "0123456789abcdef"}, "other weights of demo-clip"),
        ({"weight": np.zeros((3, 4), np.float32)}, "other weights of demo-clip"),
    ],
)
def test_a_probe_of_another_model_is_refused(
    store: PipelineStore, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    image = tmp_path / "a.png"
    draw_circle().save(image)
    with store.use("demo-clip", "image-text") as clip, pytest.raises(InputError, match=said):
        clip.classify_by_probe(image, make_probe(**changes))


def test_the_model_of_a_probe() -> None:
    assert spec_of(make_probe()).key == "demo-clip"
    for model in ("no-such-model", "demo-blip2"):
        with pytest.raises(InputError, match=f"made with the model '{model}'"):
            spec_of(make_probe(model=model))
