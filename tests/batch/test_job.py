"""A run that is watched: turns, ends, and what the next one knows of it."""

import csv
import os
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.batch.captioner import make_captioner
from pipelines.batch.export import BatchResult
from pipelines.batch.job import BatchJob, BatchProgress, BatchRequest
from pipelines.batch.ledger import LedgerFolder
from pipelines.core.cancel import NEVER
from pipelines.core.errors import InputError, MemoryLimitError, NotBegunError
from pipelines.core.options import GenerationOptions
from pipelines.core.results import ContextUse
from pipelines.core.settings import Settings
from pipelines.core.spec import ModelSpec
from pipelines.models.captioner import Description
from pipelines.models.catalogue import CATALOGUE, demo_of
from pipelines.serving.device_queue import NUM_PLACES
from pipelines.serving.store import PipelineStore
from tests.fakes.batch_captioner import lines, make_picture, mean_colour

pytestmark = pytest.mark.long

SPEC = demo_of("caption")

#: Seconds after which a run counts as hung.
HANG_S = 20.0


class FakeDescriber:
    """Says the mean colour; waits before each picture for as long as it is told."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.prompts: set[str] = set()
        self.batch_sizes: list[int] = []
        self.wait_s = 0.0
        self.error: Exception | None = None
        self.closed = 0

    def load(self) -> None:
        self.loaded = True

    def iter_captions(
        self,
        images: Sequence[Image.Image],
        prompt: str,
        options: GenerationOptions,
        batch_size: int = 8,
    ) -> Iterator[Description | None]:
        self.prompts.add(prompt)
        self.batch_sizes.append(batch_size)
        try:
            for image in images:
                if self.error is not None:
                    raise self.error
                end = time.monotonic() + self.wait_s
                while time.monotonic() < end:
                    yield None
                    time.sleep(0.02)
                self.asked.append(mean_colour(image))
                used = ContextUse(used_tokens=1, limit_tokens=2)
                yield Description(text=mean_colour(image), model=SPEC.key, context=used)
        finally:
            self.closed += 1


class FakeOther:
    """Another model, which takes memory and does nothing."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    def load(self) -> None:
        pass

    def unload(self) -> None:
        pass


@pytest.fixture
def model() -> FakeDescriber:
    return FakeDescriber()


@pytest.fixture
def store(tmp_path: Path, model: FakeDescriber) -> PipelineStore:
    made = PipelineStore(Settings(models="bundled", device="cpu", work_dir=tmp_path / "work"))
    made.build = lambda *args: model  # type: ignore[assignment, return-value]
    model.spec = SPEC  # type: ignore[attr-defined]
    model.revision = made.sources.revision(SPEC)  # type: ignore[attr-defined]
    return made


@pytest.fixture
def order(tmp_path: Path) -> Callable[..., BatchRequest]:
    numbers = iter(range(1000))

    def make(paths: Sequence[Path], **changes: Any) -> BatchRequest:
        values: dict[str, Any] = {
            "paths": list(paths),
            "names": [path.name for path in paths],
            "spec": SPEC,
            "prompt": "",
            "options": GenerationOptions(),
            "folder": tmp_path / "results" / str(next(numbers)),
            "ledgers": LedgerFolder(tmp_path / "ledgers", "me"),
        }
        return BatchRequest(**{**values, **changes})

    return make


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "in" / f"{number:03}.png" for number in range(40)]
    for number, path in enumerate(paths):
        make_picture(path, 7 * number)
    return paths


def results(looks: Sequence[BatchProgress]) -> list[BatchResult]:
    return [result for look in looks for result in look.new]


def test_a_run_from_files_to_files(
    store: PipelineStore,
    model: FakeDescriber,
    order: Callable[..., BatchRequest],
    pictures: list[Path],
) -> None:
    pictures[3].write_bytes(b"no picture")
    wanted = order(pictures[:10], prompt="hm", pictures=True)
    *_, last = looks = list(BatchJob(store, wanted).follow())
    found = results(looks)
    assert [result.file for result in found] == [path.name for path in pictures[:10]]
    assert [bool(result.error) for result in found] == [i == 3 for i in range(10)]
    assert last.over
    assert last.is_whole
    assert [path.name for path in last.files] == [
        "captions.zip",
        "captions.csv",
        "captions.jsonl",
        "metadata.jsonl",
    ]
    assert [picture.file for picture in last.pictures] == [f"{n:03}.png" for n in range(9, 3, -1)]
    assert all(picture.jpeg.startswith(b"\xff\xd8") for picture in last.pictures)
    assert model.prompts == {"hm"}
    rows = list(csv.reader(last.files[1].read_text("utf-8-sig").splitlines()))
    assert len(rows) == 11
    with zipfile.ZipFile(last.files[0]) as archive:
        assert len([name for name in archive.namelist() if name.endswith(".txt")]) == 9


def test_folders_that_go_while_they_are_listed_end_no_run(
    store: PipelineStore,
    order: Callable[..., BatchRequest],
    pictures: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def vanish(folder: Path, pattern: str) -> Iterator[Path]:
        yield folder / "gone"
        raise FileNotFoundError(folder)

    os.utime(pictures[0], (0, 0))
    wanted = order(pictures[:2])
    wanted.folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(Path, "rglob", vanish)
    BatchJob(store, wanted)._keep_files()
    assert pictures[0].stat().st_mtime > 0, "its uploads are kept"


def test_the_next_run_does_only_what_is_missing(
    store: PipelineStore,
    model: FakeDescriber,
    order: Callable[..., BatchRequest],
    pictures: list[Path],
    tmp_path: Path,
) -> None:
    list(BatchJob(store, order(pictures[:16])).follow())
    assert len(model.asked) == 16
    (first,) = (tmp_path / "ledgers").glob("*.jsonl")
    first.write_bytes(first.read_bytes()[:-30])  # killed while it wrote the last line
    *_, last = looks = list(BatchJob(store, order(pictures[:20])).follow())
    assert len(model.asked) == 21
    assert last.known == 15
    assert [result.caption for result in results(looks)] == [
        mean_colour(Image.open(path)) for path in pictures[:20]
    ]
    first.unlink()  # swept; the second run wrote it all anew
    list(BatchJob(store, order(pictures[:20])).follow())
    assert len(model.asked) == 21
    list(BatchJob(store, order(pictures[:20], prompt="other")).follow())
    assert len(model.asked) == 41


@pytest.mark.parametrize("owner", ["", "somebody else", "me*"])
def test_nobody_learns_what_others_have_captioned(
    store: PipelineStore,
    model: FakeDescriber,
    order: Callable[..., BatchRequest],
    pictures: list[Path],
    tmp_path: Path,
    owner: str,
) -> None:
    """A picture counted as known, and came at once, where another visitor had sent the same."""
    list(BatchJob(store, order(pictures[:3])).follow())
    for times in (2, 3):
        theirs = order(pictures[:3], ledgers=LedgerFolder(tmp_path / "ledgers", owner))
        *_, last = BatchJob(store, theirs).follow()
        own = times - 2 if owner else 0  # without an owner nobody takes up anything
        assert last.known == 3 * own
        assert len(model.asked) == 3 * (times - own)


def test_what_comes_again_within_a_run_was_not_known(
    store: PipelineStore, order: Callable[..., BatchRequest], pictures: list[Path]
) -> None:
    thrice = [path for path in pictures[:12] for _ in range(3)]
    *_, last = BatchJob(store, order(thrice)).follow()
    assert last.is_whole and last.known == 0
    *_, last = BatchJob(store, order(pictures[10:14])).follow()
    assert last.known == 2


@pytest.mark.parametrize("how", ["end", "close"])
def test_it_ends_within_a_batch_and_keeps_what_is_done(
    store: PipelineStore,
    model: FakeDescriber,
    order: Callable[..., BatchRequest],
    pictures: list[Path],
    how: str,
) -> None:
    model.wait_s = 0.1
    job = BatchJob(store, order(pictures))
    looks = job.follow()
    done = []
    for look in looks:
        done += look.new
        if len(model.asked) > 10:  # in the second batch of eight
            break
    start = time.monotonic()
    if how == "close":
        looks.close()  # type: ignore[attr-defined]
    else:
        job.end()
        *_, last = looks
        done += last.new
        assert last.over
        assert not last.is_whole
        assert len(lines(last.files[2])) == len(done) == 8
    assert time.monotonic() - start < 1.0
    asked = len(model.asked)
    time.sleep(0.3)
    assert len(model.asked) == asked < 16
    assert model.closed == 2
    model.wait_s = 0.0
    *_, last = BatchJob(store, order(pictures)).follow()
    assert last.known == 8
    assert last.is_whole


def test_a_visitor_is_answered_between_two_batches(
    store: PipelineStore,
    model: FakeDescriber,
    order: Callable[..., BatchRequest],
    pictures: list[Path],
) -> None:
    model.wait_s = 0.05
    looks = BatchJob(store, order(pictures)).follow()
    while len(model.asked) < 3:
        next(looks)
    with store.queue.visitor():
        time.sleep(1.0)
        held = len(model.asked)
        assert held in (8, 16), "the batch at hand ended"
        time.sleep(0.5)
        assert len(model.asked) == held, "and no other began"
    model.wait_s = 0.0
    *_, last = looks
    assert last.is_whole


def test_two_runs_share_the_device_and_a_ledger_each(
    store: PipelineStore,
    model: FakeDescriber,
    order: Callable[..., BatchRequest],
    pictures: list[Path],
    tmp_path: Path,
) -> None:
    model.wait_s = 0.01
    found: dict[int, list[BatchProgress]] = {}

    def run(number: int) -> None:
        found[number] = list(BatchJob(store, order(pictures)).follow())

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_S)
    assert [len(results(looks)) for looks in found.values()] == [40, 40]
    assert len(list((tmp_path / "ledgers").glob("*.jsonl"))) == 2


def test_a_model_that_fails_ends_the_run_and_keeps_the_rest(
    store: PipelineStore,
    model: FakeDescriber,
    order: Callable[..., BatchRequest],
    pictures: list[Path],
) -> None:
    looks = []
    model.wait_s = 0.02
    with pytest.raises(MemoryLimitError, match="Too much"):
        for look in BatchJob(store, order(pictures)).follow():
            looks.append(look)
            if len(model.asked) > 8:
                model.error = MemoryLimitError("Too much.")
    assert looks[-1].over
    kept = [row for row in lines(looks[-1].files[2]) if row["caption"]]
    assert len(kept) >= 8


@pytest.mark.parametrize("how", ["freed", "ended"])
def test_a_run_waits_for_other_models_whole_and_hears_its_end(
    store: PipelineStore,
    model: FakeDescriber,
    order: Callable[..., BatchRequest],
    pictures: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    other = demo_of("image-text")
    monkeypatch.setattr("pipelines.serving.store.LEASE_WAIT_S", 0.1)
    monkeypatch.setattr(store, "budget_gb", lambda: max(other.memory_gb, SPEC.memory_gb))
    monkeypatch.setattr(
        store, "build", lambda spec, *args: model if spec == SPEC else FakeOther(spec)
    )
    job = BatchJob(store, order(pictures[:8]))
    with store.use(other.key, "image-text"):
        looks = job.follow()
        seen = [next(looks) for _ in range(4)]  # longer than a visitor would wait
        assert not model.asked and not seen[-1].over
        if how == "ended":
            job.end()
            seen += looks
            assert seen[-1].over and not results(seen)
    if how == "freed":
        seen += looks
        assert seen[-1].progress is not None and seen[-1].progress.batch_size == 8
        assert [result.caption for result in results(seen)] == [
            mean_colour(Image.open(path)) for path in pictures[:8]
        ]


def test_a_model_that_does_not_fit_ends_the_run_at_once(
    store: PipelineStore,
    model: FakeDescriber,
    order: Callable[..., BatchRequest],
    pictures: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loads: list[int] = []

    def load() -> None:
        loads.append(1)
        raise MemoryLimitError("It needs 9 GB.")

    monkeypatch.setattr(model, "load", load)
    looks = []
    with pytest.raises(NotBegunError, match="needs 9 GB"):
        for look in BatchJob(store, order(pictures[:8])).follow():
            looks.append(look)
    assert len(loads) == 1 and not results(looks)


def test_a_run_that_waits_for_a_place_keeps_its_uploads(
    store: PipelineStore,
    model: FakeDescriber,
    order: Callable[..., BatchRequest],
    pictures: list[Path],
) -> None:
    for path in pictures[:3]:
        os.utime(path, (0, 0))
    with ExitStack() as others:
        for _ in range(NUM_PLACES):
            others.enter_context(store.queue.run_slot(NEVER))
        first, second = (BatchJob(store, order(pictures[:3])) for _ in range(2))
        looks, given_up = first.follow(), second.follow()
        seen = [next(looks) for _ in range(3)]
        next(given_up)
        given_up.close()  # type: ignore[attr-defined]
        assert "Waiting" in seen[-1].stage and seen[-1].progress is None
        assert all(path.stat().st_mtime > 0 for path in pictures[:3])
        assert not model.asked
    *_, last = looks
    assert last.is_whole and len(model.asked) == 3


def test_what_is_no_batch_at_all(
    store: PipelineStore, order: Callable[..., BatchRequest], tmp_path: Path
) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(InputError, match="not a zip"):
        list(BatchJob(store, order([tmp_path / "a.zip"])).follow())


def test_the_same_weights_settings_and_prompt_are_the_same_key(store: PipelineStore) -> None:
    def key(prompt: str = "", **options: Any) -> str:
        return make_captioner(store, SPEC, prompt, GenerationOptions(**options)).settings.key

    assert key() == key(temperature=0) == key(temperature=1e-40) == key(temperature=0.0, top_p=1)
    assert len({key(), key("a"), key(seed=1), key(max_new_tokens=41), key(top_p=0.5)}) == 5
    revision = make_captioner(store, SPEC, "", GenerationOptions()).settings.revision
    assert len(revision) == 16, "bundled weights may be replaced under the same key"


def test_a_batch_goes_to_the_model_whole(store: PipelineStore, model: FakeDescriber) -> None:
    captioner = make_captioner(store, SPEC, "", GenerationOptions())
    pictures = [Image.new("RGB", (32, 32), (7 * number, 0, 99)) for number in range(20)]
    assert len(captioner.caption_batch(pictures)) == 20
    assert model.batch_sizes == [20], "not as many as where nobody says otherwise"


def test_weights_in_another_form_are_another_key(tmp_path: Path) -> None:
    def key(spec: ModelSpec, **settings: Any) -> str:
        store = PipelineStore(
            Settings(models="bundled", device="cpu", work_dir=tmp_path, **settings)
        )
        return make_captioner(store, spec, "", GenerationOptions()).settings.key

    forms: list[dict[str, Any]] = [
        {"dtype": "float32"},
        {"dtype": "bfloat16"},
        {"dtype": "bfloat16", "quantization": "nf4"},
        {"dtype": "bfloat16", "quantization": "int8"},
    ]
    assert len({key(CATALOGUE["blip2-opt-2.7b"], **form) for form in forms}) == 4
    assert len({key(SPEC, **form) for form in forms}) == 1, "the demo is the same in all"
