"""The run: order, one result each, batches that shrink, cancel, what is not done again."""

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.batch.engine import MAX_FAILURES, BatchRun, EngineOptions
from pipelines.batch.export import BatchResult, Captioned, joined
from pipelines.batch.ledger import CaptionSettings, Ledger
from pipelines.batch.progress import RunProgress
from pipelines.core.cancel import CancelToken
from pipelines.core.errors import InputError, MemoryLimitError, NotBegunError, WeightsError
from pipelines.media.images import decode_image
from pipelines.media.inputs import from_files, from_folder
from tests.fakes.batch_captioner import caption_batch, make_folder, make_picture, mean_colour

SETTINGS = CaptionSettings(model="fake")


@dataclass
class FakeModel:
    """Captions, and notes what it was given; may fail as told.

    Attributes:
        most: pictures that fit into memory.
        fails_on: a caption on which it fails.
        error: how it fails on it.
    """

    most: int = 10**6
    fails_on: str = ""
    error: Exception = field(default_factory=lambda: ValueError("a bug"))
    sizes: list[int] = field(default_factory=list)

    def __call__(self, images: list[Image.Image]) -> list[str]:
        self.sizes.append(len(images))
        if len(images) > self.most:
            raise MemoryLimitError("This request needs more memory than is free.")
        captions = caption_batch(images)
        if self.fails_on in captions:
            raise self.error
        return captions


Runner = Callable[..., list[BatchResult]]


@pytest.fixture
def run(tmp_path: Path) -> Runner:
    """Run over a folder with a ledger that lasts as long as the test."""

    def run_over(
        folder: Path, model: Any, settings: CaptionSettings = SETTINGS, **options: Any
    ) -> list[BatchResult]:
        with Ledger(tmp_path / "ledger.jsonl", settings) as ledger:
            inputs = from_folder(folder)
            return list(BatchRun(inputs.items, model, ledger, EngineOptions(**options)).results())

    return run_over


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_folder(tmp_path / "pictures", 20)
    return tmp_path / "pictures"


def captions_of(folder: Path) -> list[str]:
    return [mean_colour(Image.open(path)) for path in sorted(folder.rglob("*.png"))]


@pytest.mark.parametrize("batch_size", [1, 3, 8, 64])
@pytest.mark.parametrize("num_workers", [1, 4])
def test_results_come_in_order(
    folder: Path, run: Runner, batch_size: int, num_workers: int
) -> None:
    model = FakeModel()
    results = run(folder, model, batch_size=batch_size, num_workers=num_workers)
    assert [result.index for result in results] == list(range(20))
    assert [result.caption for result in results] == captions_of(folder)
    assert {result.origin for result in results} == {"model"}
    full, rest = divmod(20, batch_size)
    assert model.sizes == [batch_size] * full + [rest] * bool(rest)


def test_damaged_files_do_not_stop_a_run(tmp_path: Path, run: Runner) -> None:
    folder = tmp_path / "pictures"
    make_folder(folder, 12, damaged_every=4)
    (folder / "00" / "empty.png").touch()
    (folder / "00" / "gone.png").symlink_to(folder / "nowhere.png")
    results = run(folder, FakeModel(), batch_size=3)
    errors = {result.file: result.error for result in results if result.error}
    assert list(errors) == [f"00/{name}.png" for name in ("00002", "00006", "00010")] + [
        "00/empty.png",
        "00/gone.png",
    ]
    assert "is damaged or cut off" in errors["00/00002.png"]
    assert "is empty" in errors["00/empty.png"]
    assert "cannot be read" in errors["00/gone.png"]
    assert len(results) == 14 and sum(bool(result.caption) for result in results) == 9
    assert all(str(tmp_path) not in error for error in errors.values())


def test_a_second_run_does_only_what_is_missing(folder: Path, run: Runner) -> None:
    first = run(folder, FakeModel())
    make_picture(folder / "new.png", 999)
    model = FakeModel()
    second = run(folder, model)
    assert model.sizes == [1]
    assert [result.origin for result in second] == ["model"] + ["known"] * 20
    assert [result.caption for result in second[1:]] == [result.caption for result in first]


def test_a_renamed_file_is_not_done_again(folder: Path, run: Runner) -> None:
    run(folder, FakeModel())
    (folder / "00" / "00003.png").rename(folder / "zebra.png")
    model = FakeModel()
    results = run(folder, model)
    assert model.sizes == []
    assert results[0].file == "zebra.png"
    assert results[0].caption == mean_colour(Image.open(folder / "zebra.png"))


def test_other_settings_are_done_again(folder: Path, run: Runner) -> None:
    run(folder, FakeModel())
    for settings in (CaptionSettings(model="fake", prompt="a"), CaptionSettings(model="other")):
        model = FakeModel()
        run(folder, model, settings)
        assert sum(model.sizes) == 20
        run(folder, model, settings)
        assert sum(model.sizes) == 20


def test_a_changed_file_is_done_again(folder: Path, run: Runner) -> None:
    run(folder, FakeModel())
    make_picture(folder / "00" / "00003.png", 999)
    model = FakeModel()
    run(folder, model)
    assert model.sizes == [1]


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_the_same_content_is_done_once(tmp_path: Path, run: Runner, batch_size: int) -> None:
    for name, number in {"a": 1, "b": 1, "c": 2, "d": 1, "e": 2, "f": 3, "g": 1}.items():
        make_picture(tmp_path / "pictures" / f"{name}.png", number)
    model = FakeModel()
    results = run(tmp_path / "pictures", model, batch_size=batch_size)
    assert sum(model.sizes) == 3
    assert [result.caption for result in results] == captions_of(tmp_path / "pictures")
    asked = [result.file for result in results if result.origin == "model"]
    assert asked == ["a.png", "c.png", "f.png"]


def test_no_more_pictures_are_held_than_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A content that comes over and over was once held as often as it came."""
    opened: list[weakref.ref[Image.Image]] = []

    def noting(*args: Any, **options: Any) -> Image.Image:
        image = decode_image(*args, **options)
        opened.append(weakref.ref(image))
        return image

    monkeypatch.setattr("pipelines.batch.engine.decode_image", noting)
    make_picture(tmp_path / "a.png", 1)
    make_folder(tmp_path / "pictures", 40)
    paths = [tmp_path / "a.png"] * 200 + sorted((tmp_path / "pictures").rglob("*.png"))
    most = 0

    def model(images: list[Image.Image]) -> list[str]:
        nonlocal most
        most = max(most, sum(image() is not None for image in opened))
        return caption_batch(images)

    with Ledger(tmp_path / "ledger.jsonl", SETTINGS) as ledger:
        options = EngineOptions(batch_size=4, num_workers=2)
        list(BatchRun(from_files(paths).items, model, ledger, options).results())
    assert 4 <= most <= 4 + 2 * 4 + 2


def test_short_memory_halves_the_batch(folder: Path, run: Runner) -> None:
    model = FakeModel(most=3)
    results = run(folder, model, batch_size=16)
    assert model.sizes[:4] == [16, 8, 4, 2]
    assert set(model.sizes[3:]) == {2}  # it is not tried again
    assert [result.caption for result in results] == captions_of(folder)


def test_a_picture_that_the_model_fails_on(folder: Path, run: Runner) -> None:
    """It gets an error, its neighbours their captions, and the batch does not shrink for it."""
    bad = captions_of(folder)[5]
    results = run(folder, FakeModel(fails_on=bad))
    assert [result.file for result in results if result.error] == ["00/00005.png"]
    assert results[5].error == "The model failed on this picture. Start again to try it once more."
    model = FakeModel(fails_on=bad, error=MemoryLimitError("It needs 9 GB of 8 GB."))
    assert run(folder, model)[5].error == "It needs 9 GB of 8 GB."
    model = FakeModel()
    assert not [result for result in run(folder, model) if result.error]
    assert model.sizes == [1]  # what failed for a reason that may pass is tried again, nothing else


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("how", ["raises", "answers with an error"])
def test_many_failures_with_captions_between_them_end_no_run(
    folder: Path, run: Runner, how: str, batch_size: int
) -> None:
    """Every third picture fails, in all more than may fail in a row."""
    bad = captions_of(folder)[::3]
    assert len(bad) > MAX_FAILURES

    def model(images: list[Image.Image]) -> list[str | Captioned]:
        captions = caption_batch(images)
        if how == "raises" and set(captions) & set(bad):
            raise ValueError("a bug")
        return [Captioned("", error="No.") if one in bad else one for one in captions]

    results = run(folder, model, batch_size=batch_size)
    assert len(results) == len(captions_of(folder))
    assert [result.index for result in results if result.error] == list(range(0, 20, 3))


def test_a_model_that_fails_on_everything_ends_the_run(folder: Path, run: Runner) -> None:
    calls: list[int] = []

    def model(images: list[Image.Image]) -> list[str]:
        calls.append(len(images))
        if len(calls) > 2:
            raise WeightsError("The weights are gone.")
        return caption_batch(images)

    with pytest.raises(WeightsError, match="weights are gone"):
        run(folder, model, batch_size=2)
    assert calls.count(1) == MAX_FAILURES
    model_after = FakeModel()
    assert not [result for result in run(folder, model_after) if result.error]
    assert sum(model_after.sizes) == 16  # the first two batches were kept


@pytest.mark.parametrize("error", [InputError("300 is too many."), NotBegunError("No room.")])
def test_what_no_picture_could_mend_ends_the_run_at_once(
    folder: Path, run: Runner, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    model = FakeModel(fails_on=captions_of(folder)[9], error=error)
    with pytest.raises(type(error), match=str(error)):
        run(folder, model)
    assert model.sizes == [8, 8]
    assert not caplog.records, "it is no bug"
    model_after = FakeModel()
    assert not [result for result in run(folder, model_after) if result.error]
    assert sum(model_after.sizes) == 12, "the first batch was kept"


def test_too_few_captions_are_an_error(folder: Path, run: Runner) -> None:
    with pytest.raises(ValueError, match="expected 1 captions but got 0"):
        run(folder, lambda images: [])
    with pytest.raises(TypeError, match="must be a text but got NoneType"):
        run(folder, lambda images: [None] * len(images))


@pytest.mark.parametrize(
    ("existing", "captions", "texts"),
    [
        ("skip", ["old", "{1}"], ["old", "{1}"]),
        ("overwrite", ["{0}", "{1}"], ["{0}", "{1}"]),
        ("append", ["{0}", "{1}"], ["old, {0}", "{1}"]),
        ("prepend", ["{0}", "{1}"], ["{0}, old", "{1}"]),
    ],
)
def test_captions_that_exist(
    tmp_path: Path, run: Runner, existing: str, captions: list[str], texts: list[str]
) -> None:
    folder = tmp_path / "pictures"
    make_folder(folder, 2)
    (folder / "00" / "00000.txt").write_text(" old \n")
    (folder / "00" / "00001.txt").write_text(" \n")  # an empty one is none
    said = captions_of(folder)
    for _ in range(2):
        results = run(folder, FakeModel(), existing=existing)
        assert [result.caption for result in results] == [c.format(*said) for c in captions]
        assert [result.text for result in results] == [t.format(*said) for t in texts]


def test_joining_twice_changes_nothing() -> None:
    for how in ("append", "prepend"):
        once = joined("old", "new", how, ", ")  # type: ignore[arg-type]
        assert joined(once, "new", how, ", ") == once  # type: ignore[arg-type]
    assert joined("old", "", "append", ", ") == "old"


def wait_for(claim: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 20
    while not claim():
        assert time.monotonic() < give_up_at
        time.sleep(0.005)


@pytest.fixture
def started(
    folder: Path, tmp_path: Path
) -> Iterator[tuple[BatchRun, list[BatchResult], Any, CancelToken]]:
    """A run in a thread of its own, 20 pictures of 10 ms."""

    def model(images: list[Image.Image]) -> list[str]:
        time.sleep(0.01)
        return caption_batch(images)

    with Ledger(tmp_path / "ledger.jsonl", SETTINGS) as ledger:
        items, cancel = from_folder(folder).items, CancelToken()
        run = BatchRun(items, model, ledger, EngineOptions(batch_size=1), cancel=cancel)
        results: list[BatchResult] = []
        thread = threading.Thread(target=lambda: results.extend(run.results()), daemon=True)
        yield run, results, thread, cancel
        cancel.cancel()
        thread.join(10)
        assert not thread.is_alive()


def test_cancel(started: Any) -> None:
    running, results, thread, cancel = started
    thread.start()
    wait_for(lambda: running.progress().done >= 3)
    start = time.monotonic()
    cancel.cancel()
    thread.join(10)
    assert time.monotonic() - start < 2.0
    assert running.progress().state == "cancelled"
    assert 3 <= len(results) < 20
    assert [result.index for result in results] == list(range(len(results)))


def test_leaving_the_results_ends_the_run(folder: Path, tmp_path: Path) -> None:
    """Whoever iterates may go away; no thread stays, and what was done is kept."""
    with Ledger(tmp_path / "ledger.jsonl", SETTINGS) as ledger:
        model = FakeModel()
        results = BatchRun(
            from_folder(folder).items, model, ledger, EngineOptions(batch_size=2)
        ).results()
        next(results)
        results.close()  # type: ignore[attr-defined]
        assert model.sizes == [2] and len(ledger) == 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prepare")]


def test_progress(tmp_path: Path) -> None:
    make_folder(tmp_path / "pictures", 8, damaged_every=4)
    with Ledger(tmp_path / "ledger.jsonl", SETTINGS) as ledger:
        run = BatchRun(
            from_folder(tmp_path / "pictures").items,
            lambda images: (time.sleep(0.02), caption_batch(images))[1],
            ledger,
            EngineOptions(batch_size=2),
        )
        assert run.progress() == RunProgress(
            state="running",
            done=0,
            total=8,
            errors=0,
            from_model=0,
            rate_per_s=None,
            time_left_s=None,
            batch_size=2,
            recent=(),
        )
        shots = [run.progress() for _ in run.results()]
    assert [shot.done for shot in shots] == list(range(1, 9))
    assert (shots[-1].errors, shots[-1].from_model, shots[-1].state) == (2, 6, "done")
    assert [name for name, _ in shots[-1].recent] == [f"00/{i:05}.png" for i in range(3, 8)]
    assert shots[3].time_left_s is not None and shots[3].rate_per_s is not None
    assert shots[3].time_left_s == pytest.approx(4 / shots[3].rate_per_s)
    assert 0 < shots[3].rate_per_s < 100


def test_what_is_known_does_not_wait_for_the_model(folder: Path, tmp_path: Path) -> None:
    """Known pictures come at once, not only with the new one that follows them."""
    with Ledger(tmp_path / "ledger.jsonl", SETTINGS) as ledger:
        list(BatchRun(from_folder(folder).items, caption_batch, ledger).results())
        make_picture(folder / "zzz" / "new.png", 999)
        model = FakeModel()
        seen = [
            len(model.sizes) for _ in BatchRun(from_folder(folder).items, model, ledger).results()
        ]
    assert seen == [0] * 20 + [1]


def test_large_pictures_go_in_smaller_batches(tmp_path: Path, run: Runner) -> None:
    make_folder(tmp_path / "pictures", 6, size=100)
    model = FakeModel()
    run(tmp_path / "pictures", model, batch_size=6, max_pixels_held=40_000)
    assert model.sizes == [2, 2, 2]
    results = run(tmp_path / "pictures", model, CaptionSettings(model="b"), max_pixels=9_999)
    assert all("megapixels" in result.error for result in results)


def test_a_list_with_anything_in_it(tmp_path: Path) -> None:
    make_picture(tmp_path / "a.png", 1)
    (tmp_path / "b.pdf").write_bytes(b"%PDF-1.7")
    with Ledger(tmp_path / "ledger.jsonl", SETTINGS) as ledger:
        items = from_files([tmp_path / "b.pdf", tmp_path / "a.png", tmp_path / "gone"]).items
        first, second, third = BatchRun(items, FakeModel(), ledger).results()
    assert "looks like a PDF document" in first.error
    assert second.caption and "cannot be read" in third.error


@pytest.mark.parametrize("name", ["batch_size", "num_workers", "max_pixels", "max_pixels_held"])
def test_options_out_of_range(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1 but got 0"):
        EngineOptions(**{name: 0})
