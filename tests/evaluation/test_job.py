"""Zero-shot accuracy and linear probes: a zip of folders named after classes, to figures."""

import io
import stat
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from pipelines.core.cancel import NEVER, Cancelled, CancelToken
from pipelines.core.errors import InputError
from pipelines.core.settings import Settings
from pipelines.evaluation.dataset import open_labelled
from pipelines.evaluation.job import Evaluation, EvaluationJob, EvaluationRequest, Stage, follow
from pipelines.evaluation.results import Accuracy, measure
from pipelines.evaluation.train_probe import STRENGTHS, ProbeOptions, held_out
from pipelines.models.catalogue import DEMO_CLIP
from pipelines.models.linear_probe import Guess
from pipelines.serving.store import PipelineStore
from tests.fakes.labelled_zips import dot, drawn, pack, png

FOLDER = Path(__file__).parents[2] / "assets" / "checkpoints" / "demo-clip"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PipelineStore]:
    cache = tmp_path_factory.mktemp("cache")
    store = PipelineStore(
        Settings(models="bundled", device="cpu", dtype="float32", cache_dir=cache, offline=True)
    )
    yield store
    store.unload_idle(0.0)


def evaluate(store: PipelineStore, path: Path, **options: Any) -> Evaluation:
    order = EvaluationRequest(path=path, spec=DEMO_CLIP, **options)
    return EvaluationJob(store, order, lambda stage: None, NEVER).run()


def labels_of(names: list[str], tmp_path: Path) -> dict[str, str]:
    path = pack(tmp_path / "a.zip", {name: dot(i) for i, name in enumerate(names)})
    with open_labelled(path) as found:
        return {picture.item.name: picture.label for picture in found.pictures}


class ByHand:
    """Stock transformers and scikit-learn over the same files, without a line of ours."""

    def __init__(self, members: dict[str, bytes]) -> None:
        from transformers import CLIPModel, CLIPProcessor

        self.model = CLIPModel.from_pretrained(FOLDER, dtype=torch.float32).eval()
        self.processor = CLIPProcessor.from_pretrained(FOLDER)
        self.names = list(members)
        self.true = [name.split("/")[-2].replace("_", " ") for name in self.names]
        self.labels = sorted(set(self.true))
        self.images = [Image.open(io.BytesIO(data)).convert("RGB") for data in members.values()]

    @torch.inference_mode()
    def cosines(self, template: str) -> tuple[np.ndarray, np.ndarray]:
        """Return (N, D) unit vectors of the pictures and (N, L) logits with the labels."""
        texts = [template.replace("{}", label) for label in self.labels]
        inputs = self.processor(text=texts, images=self.images, return_tensors="pt", padding=True)
        output = self.model(**inputs)
        return output.image_embeds.double().numpy(), output.logits_per_image.double().numpy()

    @property
    def classes(self) -> np.ndarray:
        return np.array([self.labels.index(label) for label in self.true])


def test_zero_shot_accuracy_is_that_of_stock_transformers(
    store: PipelineStore, tmp_path: Path
) -> None:
    members = drawn()
    found = evaluate(store, pack(tmp_path / "a.zip", members), templates="a drawing of a {}")
    hand = ByHand(members)
    _, logits = hand.cosines("a drawing of a {}")
    best = logits.argmax(axis=1)
    top5 = np.argsort(-logits, axis=1)[:, :5]
    measured = found.zero_shot
    assert list(measured.labels) == hand.labels
    assert measured.top1.correct == (best == hand.classes).sum()
    assert measured.top1.total == found.num_pictures == len(members)
    assert measured.top5 is not None
    assert measured.top5.correct == (top5 == hand.classes[:, None]).any(axis=1).sum()
    assert np.array(measured.confusion).tolist() == confusion_matrix(hand.classes, best).tolist()
    assert [one.predicted for one in measured.predictions] == [hand.labels[i] for i in best]
    assert [one.file for one in measured.predictions] == hand.names
    shares = torch.from_numpy(logits).softmax(dim=-1).max(dim=-1).values.tolist()
    assert [one.probability for one in measured.predictions] == pytest.approx(shares, abs=1e-4)
    assert 0.2 < measured.top1.share < 0.9, "the names tell some classes apart, not all"


def test_the_probe_is_that_of_scikit_learn(store: PipelineStore, tmp_path: Path) -> None:
    members = drawn()
    path = pack(tmp_path / "a.zip", members)
    options = ProbeOptions(held_out=0.25, seed=5)
    found = evaluate(store, path, templates="a drawing of a {}", probe=options)
    hand = ByHand(members)
    vectors, logits = hand.cosines("a drawing of a {}")
    unseen = held_out(hand.classes, 0.25, 5)
    smallest = np.bincount(hand.classes[~unseen]).min()
    folds = StratifiedKFold(min(5, smallest), shuffle=True, random_state=5)
    plain = LogisticRegression(tol=1e-8, max_iter=10_000)
    search = GridSearchCV(plain, {"C": STRENGTHS}, scoring="neg_log_loss", cv=folds)
    search.fit(vectors[~unseen], hand.classes[~unseen])
    probe, by_probe = found.probe, found.by_probe
    assert probe is not None
    assert by_probe is not None
    assert probe.facts.strength == search.best_params_["C"]
    expected = search.predict(vectors[unseen])
    assert [one.predicted for one in by_probe.predictions] == [hand.labels[i] for i in expected]
    assert by_probe.top1.correct == (expected == hand.classes[unseen]).sum()
    assert by_probe.top1.total == unseen.sum() == found.zero_shot.top1.total
    zero_shot = logits[unseen].argmax(axis=1) == hand.classes[unseen]
    assert found.zero_shot.top1.correct == zero_shot.sum()
    assert by_probe.top1.correct > found.zero_shot.top1.correct
    shares = probe.probabilities(vectors[unseen].astype(np.float32))
    assert np.abs(shares - search.predict_proba(vectors[unseen])).max() < 5e-3
    assert found.num_fitted + by_probe.top1.total == found.num_pictures == len(members)


def test_a_second_evaluation_encodes_nothing(
    store: PipelineStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pack(tmp_path / "a.zip", drawn(seed=8, num_each=4))
    first = evaluate(store, path)
    with store.use("demo-clip", "image-text") as clip:

        def refuse(*args: Any) -> Any:
            raise AssertionError("the vectors are kept")

        monkeypatch.setattr(clip.pictures, "_run_tower", refuse)
        monkeypatch.setattr(clip.pictures._batched, "_run", refuse)
        monkeypatch.setattr(clip.pictures, "_pixels", refuse)
        assert evaluate(store, path).zero_shot == first.zero_shot


def test_bad_files_are_listed_and_stop_nothing(store: PipelineStore, tmp_path: Path) -> None:
    good = drawn(num_each=4)
    first = next(iter(good))
    link = zipfile.ZipInfo("toy_shop/tent/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    bad = {
        "toy_shop/star/broken.png": next(iter(good.values()))[:60],
        "toy_shop/star/text.png": b"no picture at all",
        "toy_shop/star/notes.txt": b"hello",
        "toy_shop/cover.png": dot(3),
        "../outside/out.png": dot(4),
        "toy_shop/balloon/again.png": good[first],
        "toy_shop/night/both.png": good["toy_shop/night/01.png"] + b"",
        "toy_shop/tent/both.png": dot(77),
        "toy_shop/star/both.png": dot(77),
    }
    path = pack(tmp_path / "a.zip", good | bad)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    found = evaluate(store, path)
    clean = evaluate(store, pack(tmp_path / "b.zip", good))
    assert found.zero_shot == clean.zero_shot
    reasons = dict(found.left_out)
    assert set(reasons) == {
        "toy_shop/star/broken.png",
        "toy_shop/star/text.png",
        "toy_shop/star/notes.txt",
        "toy_shop/cover.png",
        "_/outside/out.png",
        "toy_shop/balloon/again.png",
        "toy_shop/night/both.png",
        "toy_shop/tent/both.png",
        "toy_shop/star/both.png",
        "toy_shop/tent/link.png",
    }
    assert "damaged or cut off" in reasons["toy_shop/star/broken.png"]
    assert "looks like a text" in reasons["toy_shop/star/text.png"]
    assert "not an image by its name" in reasons["toy_shop/star/notes.txt"].lower()
    assert "no folder" in reasons["toy_shop/cover.png"]
    assert "leads out" in reasons["_/outside/out.png"]
    assert f"same picture as {first}" in reasons["toy_shop/balloon/again.png"]
    assert "same picture as toy_shop/night/01.png" in reasons["toy_shop/night/both.png"]
    assert "'star' too" in reasons["toy_shop/tent/both.png"]
    assert "'tent' too" in reasons["toy_shop/star/both.png"]
    assert "link" in reasons["toy_shop/tent/link.png"]


def test_a_class_without_a_readable_picture_does_not_count(
    store: PipelineStore, tmp_path: Path
) -> None:
    members = {"a/1.png": dot(1), "b/1.png": dot(2), "c/1.png": b"nothing"}
    found = evaluate(store, pack(tmp_path / "a.zip", members))
    assert found.zero_shot.labels == ("a", "b")
    assert any("“c”" in note for note in found.notes)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"1.png": dot(1), "2.png": dot(2)}, "none of the 2 pictures in it lies in a folder"),
        ({"cat/1.png": dot(1), "cat/2.png": dot(2)}, "only 'cat'"),
        ({"a/1.png": b"x", "b/1.png": b"y"}, "found none"),
        ({"a/1.png": dot(1), "b/1.png": b"y"}, "only 'a'"),
        ({"a/readme.txt": b"x"}, "no image in the archive"),
        ({}, "no image in the archive"),
    ],
)
def test_zips_that_cannot_be_evaluated(
    store: PipelineStore, tmp_path: Path, members: dict[str, bytes], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        evaluate(store, pack(tmp_path / "a.zip", members))


def test_no_zip_and_a_bomb(store: PipelineStore, tmp_path: Path) -> None:
    picture = tmp_path / "a.zip"
    picture.write_bytes(png(Image.new("RGB", (4, 4))))
    with pytest.raises(InputError, match="not a zip"):
        evaluate(store, picture)
    swollen = pack(tmp_path / "b.zip", {"a/1.png": bytes(50_000_000), "b/1.png": dot(1)})
    with pytest.raises(InputError, match="times its size"):
        evaluate(store, swollen)


def test_too_few_pictures_for_a_probe(store: PipelineStore, tmp_path: Path) -> None:
    members = drawn(num_each=5)
    members = {
        n: d for n, d in members.items() if "star" not in n or n.endswith(("1.png", "2.png"))
    }
    path = pack(tmp_path / "a.zip", members)
    assert evaluate(store, path).num_pictures == len(members)
    with pytest.raises(InputError, match=r"at least 4 pictures .* fewer: 'star' \(2\). Add"):
        evaluate(store, path, probe=ProbeOptions())


@pytest.mark.parametrize("options", [{"held_out": 0.0}, {"held_out": 1}, {"seed": -1}])
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        ProbeOptions(**options)


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["cat/1.png", "dog/1.png"], ["cat", "dog"]),
        (["pets/cat/1.png", "pets/dog/old/1.png"], ["cat", "dog"]),
        (["a/b/red_fox/1.png", "a/b/dog/1.png"], ["red fox", "dog"]),
        (["cat/x/1.png", "dog/x/1.png"], ["cat", "dog"]),
        (["小猫/1.png", "小狗/1.png"], ["小猫", "小狗"]),
    ],
)
def test_which_folder_names_the_class(names: list[str], labels: list[str], tmp_path: Path) -> None:
    assert list(labels_of(names, tmp_path).values()) == labels


@pytest.mark.parametrize("when", ["Looking at the pictures", "Fitting the probe"])
def test_it_ends_when_it_is_told_to(store: PipelineStore, tmp_path: Path, when: str) -> None:
    path = pack(tmp_path / "a.zip", drawn(seed=9, num_each=4))
    seen: list[Stage] = []
    order = EvaluationRequest(path=path, spec=DEMO_CLIP, probe=ProbeOptions())
    cancel = CancelToken(lambda: bool(seen) and seen[-1].text == when)
    job = EvaluationJob(store, order, seen.append, cancel)
    with pytest.raises(Cancelled):
        job.run()
    assert [stage.text for stage in seen].count(when) == 1
    with store.queue.run_slot(CancelToken(lambda: True)), store.queue.batch(NEVER):
        pass  # nothing is kept of what others wait for


def test_it_ends_among_pictures_that_are_all_alike(
    store: PipelineStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of thousands of one content only the first is encoded; nobody asked between the others."""
    members = {f"{index % 2}/{index}.png": dot(1) for index in range(300)}
    order = EvaluationRequest(path=pack(tmp_path / "a.zip", members), spec=DEMO_CLIP)
    read = 0

    def counted(source: Any) -> bytes:
        nonlocal read
        read += 1
        return dot(1)

    monkeypatch.setattr("pipelines.media.archive._MemberSource.read", counted)
    with pytest.raises(Cancelled):
        cancel = CancelToken(lambda: read >= 20)
        EvaluationJob(store, order, lambda stage: None, cancel).run()
    assert read == 20


def test_it_ends_when_nobody_follows_it_any_more(store: PipelineStore, tmp_path: Path) -> None:
    members = {f"{index % 2}/{index}.png": dot(3000 + index) for index in range(600)}
    order = EvaluationRequest(path=pack(tmp_path / "a.zip", members), spec=DEMO_CLIP)
    steps = follow(store, order)
    done = next(step.done for step in steps if isinstance(step, Stage) and step.done)
    steps.close()
    assert 0 < done < len(members)
    assert not [thread for thread in threading.enumerate() if thread.name == "work"]
    with store.queue.run_slot(CancelToken(lambda: True)), store.queue.batch(NEVER):
        pass  # nothing is kept of what others wait for


def test_visitors_come_in_between(store: PipelineStore, tmp_path: Path) -> None:
    """Each batch of pictures and each fit waits for its turn."""
    path = pack(tmp_path / "a.zip", drawn(seed=10, num_each=4))
    turns = []
    batch = store.queue.batch

    def counted(*args: Any) -> Any:
        turns.append(None)
        return batch(*args)

    store.queue.batch = counted  # type: ignore[method-assign]
    try:
        evaluate(store, path, probe=ProbeOptions())
    finally:
        store.queue.batch = batch  # type: ignore[method-assign]
    num_pictures, num_fits = 32, 3 * len(STRENGTHS) + 1
    assert len(turns) >= num_pictures // 8 + 1 + num_fits


def test_mistakes_come_with_their_pictures(store: PipelineStore, tmp_path: Path) -> None:
    found = evaluate(store, pack(tmp_path / "a.zip", drawn()), pictures=True)
    mistakes = found.zero_shot.mistakes
    assert [one.prediction for one in found.mistakes] == mistakes[:12]
    shares = [one.probability for one in mistakes]
    assert shares == sorted(shares, reverse=True)
    for mistake in found.mistakes:
        assert Image.open(io.BytesIO(mistake.jpeg)).size == (72, 72)


@pytest.mark.parametrize(("correct", "total"), [(0, 10), (10, 10), (5, 10), (1, 1), (81, 263)])
def test_wilson_interval(correct: int, total: int) -> None:
    low, high = Accuracy(correct, total).interval
    theirs = binomtest(correct, total).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    if total == 263:  # the example of Newcombe 1998, table I, method 3
        assert (low, high) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_measures() -> None:
    labels = ("a", "b", "c")
    order = [(0, 1, 2), (1, 0, 2), (1, 0, 2), (1, 2, 0)]
    guesses = [Guess(one, (0.5 + i / 10, 0.3, 0.0)) for i, one in enumerate(order)]
    found = measure(labels, ["1", "2", "3", "4"], [0, 0, 0, 1], guesses)
    assert found.top1 == Accuracy(2, 4)
    assert found.top5 is None
    assert found.classes == (Accuracy(1, 3), Accuracy(1, 1), None)
    assert found.confusion == ((1, 2, 0), (0, 1, 0), (0, 0, 0))
    assert found.taken_for(0) == ("b", 2)
    assert found.taken_for(1) == ("", 0)
    assert [one.file for one in found.mistakes] == ["3", "2"]
