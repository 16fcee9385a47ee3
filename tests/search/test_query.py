"""Files into an index and found again, with the bundled models."""

import io
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.core.errors import InputError, MediaError
from pipelines.core.results import FileKind, Verdict
from pipelines.core.settings import Settings
from pipelines.media.images import NamedImage
from pipelines.media.thumbnails import MAX_BYTES, thumbnail
from pipelines.models.catalogue import HUB_DEFAULTS
from pipelines.models.search_query import FileVectors
from pipelines.search.index_run import Encoder, IndexProgress, IndexRequest, add_files
from pipelines.search.indexes import Indexes, owner_of
from pipelines.search.kinds import TASKS, SearchKind, kind_of, resolve_kind
from pipelines.search.query import (
    KindResults,
    Query,
    delete_files,
    kinds_to_search,
    merged,
    nearest_in,
    search_kind,
)
from pipelines.search.results import FileOutcome, FoundFile, IndexedFile, SearchResult
from pipelines.serving.store import PipelineStore
from tests.conftest import draw_circle

pytestmark = pytest.mark.long

EXAMPLES = Path(__file__).parent.parent.parent / "assets" / "examples"
OWNER = owner_of("an owner of these tests")
FILES = ("red-circle.png", "yellow-star.png", "three-hearts.png", "circle-moves-left.mp4")

#: No model is asked for.
ANY: dict[FileKind, str] = {"picture": "", "video": ""}

Sides = dict[FileKind, SearchKind]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PipelineStore]:
    settings = Settings(
        models="bundled", device="cpu", dtype="float32", cache_dir=tmp_path_factory.mktemp("cache")
    )
    store = PipelineStore(settings)
    yield store
    store.unload_idle(0.0)


@pytest.fixture
def indexes(tmp_path: Path) -> Indexes:
    """Indexes with no file."""
    return Indexes(str(tmp_path / "index"))


@pytest.fixture
def kinds(store: PipelineStore) -> Sides:
    return {kind: resolve_kind(store, kind, "") for kind in TASKS}


@pytest.fixture
def here(tmp_path: Path) -> Callable[..., NamedImage]:
    """Copy an example into the test's folder, under a name of its own."""

    def copy(name: str, called: str = "") -> NamedImage:
        path = tmp_path / "files" / (called or name)
        path.parent.mkdir(exist_ok=True)
        shutil.copy(EXAMPLES / name, path)
        return NamedImage(path, path.name)

    return copy


def add(
    store: PipelineStore, indexes: Indexes, kinds: Sides, files: list[NamedImage], **options: Any
) -> dict[str, FileOutcome]:
    order = IndexRequest(files=files, owner=OWNER, kinds=kinds, **options)
    told = [each for look in add_files(store, indexes, order) for each in look.new]
    assert sorted(index for index, _ in told) == list(range(len(files)))
    return {outcome.file: outcome for _, outcome in told}


def outcomes(told: dict[str, FileOutcome]) -> dict[str, str]:
    return {name: outcome.outcome for name, outcome in told.items()}


def find(store: PipelineStore, indexes: Indexes, kinds: Sides, query: Query) -> SearchResult:
    found = []
    for kind in kinds_to_search(store, indexes, OWNER, ANY):
        with store.use(kind.spec.key, kind.task) as pipeline:
            found.append(search_kind(pipeline, indexes, OWNER, kind, query))
    return merged(found, query)


@pytest.fixture
def filled(
    store: PipelineStore, indexes: Indexes, kinds: Sides, here: Callable[..., NamedImage]
) -> Indexes:
    assert set(outcomes(add(store, indexes, kinds, [here(f) for f in FILES])).values()) == {"added"}
    return indexes


def test_a_text_finds_the_picture_and_not_the_others(
    store: PipelineStore, filled: Indexes, kinds: Sides
) -> None:
    search = find(store, filled, kinds, Query(text="a yellow star"))
    assert [one.file.name for one in search.found] == ["yellow-star.png"]
    (best,) = search.found
    assert (best.verdict, best.strength, best.start_s, best.end_s) == ("match", 1.0, 0.0, 0.0)
    assert best.file.thumbnail[:3] == b"\xff\xd8\xff"
    assert (search.searched.pictures, search.searched.videos) == (3, 1)


def test_motion_is_found_in_videos(store: PipelineStore, filled: Indexes, kinds: Sides) -> None:
    search = find(store, filled, kinds, Query(text="a red circle moves left"))
    best = search.found[0]
    assert (best.file.name, best.file.kind, best.verdict) == (FILES[3], "video", "match")
    assert 0.0 <= best.start_s < best.end_s


def test_a_score_is_that_of_the_models_own_tab(
    store: PipelineStore, filled: Indexes, kinds: Sides
) -> None:
    (best,) = find(store, filled, kinds, Query(text="a yellow star")).found
    with store.use("demo-clip", "image-text") as clip:
        score = clip.classify(EXAMPLES / "yellow-star.png", ["a yellow star"]).scores[0]
    assert best.cosine == pytest.approx(score.cosine, abs=1e-4)
    assert best.verdict == score.verdict


def test_an_image_finds_itself_in_another_form(
    store: PipelineStore, filled: Indexes, kinds: Sides, tmp_path: Path
) -> None:
    other = tmp_path / "small.jpg"
    Image.open(EXAMPLES / "red-circle.png").convert("RGB").resize((150, 150)).save(other)
    search = find(store, filled, kinds, Query(image=other))
    assert search.found[0].file.name == "red-circle.png"
    assert search.found[0].verdict == "match"
    assert search.found[0].cosine > 0.95


def test_text_and_image_together(
    store: PipelineStore, filled: Indexes, kinds: Sides, tmp_path: Path
) -> None:
    """The text alone finds the star, the image alone the circle; the weight says which counts."""
    image, text = EXAMPLES / "red-circle.png", "a yellow star"
    best = {
        weight: next(
            one.file.name
            for one in find(
                store, filled, kinds, Query(text=text, image=image, text_weight=weight)
            ).found
            if one.file.kind == "picture"
        )
        for weight in (0.0, 1.0)
    }
    assert best == {0.0: "red-circle.png", 1.0: "yellow-star.png"}
    half = find(store, filled, kinds, Query(text=text, image=image))
    assert {one.verdict for one in half.found} == {None}
    assert any("whether they fit is not known" in note for note in half.notes)


def found(
    verdict: Verdict | None,
    kind: FileKind = "picture",
    name: str = "a",
    cosine: float = 0.5,
    strength: float = 1.0,
) -> FoundFile:
    file = IndexedFile(content="a" * 40, name=name, kind=kind, path="/a", num_parts=1)
    return FoundFile(
        file=file, start_s=0.0, end_s=0.0, cosine=cosine, strength=strength, verdict=verdict
    )


def test_both_kinds_go_by_verdict_and_then_by_strength() -> None:
    """Cosines of two models cannot be compared: those of one may all be higher."""
    pictures = KindResults(
        found=(
            found("match", name="p1", cosine=0.30, strength=0.9),
            found("unsure", name="p2", cosine=0.29, strength=1.0),
            found("unsure", name="p3", cosine=0.28, strength=0.4),
        )
    )
    videos = KindResults(
        found=(
            found("match", "video", "v1", cosine=0.10, strength=1.0),
            found("unsure", "video", "v2", cosine=0.95, strength=0.7),
            found("no match", "video", "v3", cosine=0.99, strength=1.0),
        )
    )
    for kinds in ([pictures, videos], [videos, pictures]):
        names = [one.file.name for one in merged(kinds, Query(text="a")).found]
        assert names == ["v1", "p1", "p2", "v2", "p3"]
    two = merged([pictures, videos], Query(text="a", top_k=2))
    assert [one.file.name for one in two.found] == ["v1", "p1"]
    assert two.notes == ("The best 2 of 5 are shown.",)


def test_what_has_no_verdict_does_not_hide_that_nothing_fits() -> None:
    """As videos, for an image that is like no picture of the index."""
    query = Query(text="a")
    pictures = KindResults(found=(found("no match"),))
    videos = KindResults(found=(found(None, "video"),))
    search = merged([pictures, videos], query)
    assert [one.verdict for one in search.found] == [None, "no match"]
    assert "Nothing in the index clearly fits" in search.notes[0]
    assert "whether they fit is not known" in search.notes[-1]
    fits = merged([KindResults(found=(found("unsure"),)), pictures, videos], query)
    assert [one.verdict for one in fits.found] == ["unsure", None]
    assert "whether they fit is not known" in fits.notes[-1]
    assert merged([KindResults(found=(found("match"),)), pictures], query).notes == ()


def test_what_is_nowhere_is_said(store: PipelineStore, filled: Indexes, kinds: Sides) -> None:
    search = find(store, filled, kinds, Query(text="a bus on the road"))
    assert search.notes[0] == "Nothing in the index clearly fits; these come nearest."
    assert search.found


def test_near_duplicates_are_folded(
    store: PipelineStore, filled: Indexes, kinds: Sides, tmp_path: Path
) -> None:
    image = Image.open(EXAMPLES / "yellow-star.png").convert("RGB")
    copies = []
    for kind in (180, 200):
        path = tmp_path / f"copy-{kind}.jpg"
        image.resize((kind, kind)).save(path, quality=95)
        copies.append(NamedImage(path, path.name))
    add(store, filled, kinds, copies)
    search = find(store, filled, kinds, Query(text="a yellow star"))
    stars = [one for one in search.found if one.file.kind == "picture"]
    assert len(stars) == 1
    names = {stars[0].file.name, *stars[0].alike}
    assert names == {"yellow-star.png", "copy-180.jpg", "copy-200.jpg"}


def test_nothing_is_encoded_twice(
    store: PipelineStore,
    filled: Indexes,
    kinds: Sides,
    here: Callable[..., NamedImage],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("a file that is in the index was encoded again")

    monkeypatch.setattr("pipelines.search.index_run.Encoder.pictures", refuse)
    monkeypatch.setattr("pipelines.search.index_run.Encoder.video", refuse)
    again = [here("red-circle.png", "renamed.png"), here("three-hearts.png"), here(FILES[3])]
    told = add(store, filled, kinds, [*again, here("three-hearts.png", "twice.png")])
    assert outcomes(told) == {
        "renamed.png": "renamed", "three-hearts.png": "known", FILES[3]: "known",
        "twice.png": "same",
    }  # fmt: skip
    assert told["renamed.png"].notes == ("Until now it was called red-circle.png.",)
    search = find(store, filled, kinds, Query(text="a red circle"))
    assert "renamed.png" in {one.file.name for one in search.found}
    assert filled.summary(OWNER).pictures == 3


def test_bad_files_stop_no_others(
    store: PipelineStore, indexes: Indexes, kinds: Sides, here: Callable[..., NamedImage]
) -> None:
    good = [here("red-circle.png"), here("circle-moves-left.mp4")]
    bad = {
        "empty.png": b"", "text.png": b"not an image", "empty.mp4": b"", "text.mp4": b"no video",
        "half.mp4": good[1].path.read_bytes()[:900], "half.png": good[0].path.read_bytes()[:300],
    }  # fmt: skip
    files = [good[0]]
    for name, data in bad.items():
        path = good[0].path.with_name(name)
        path.write_bytes(data)
        files.append(NamedImage(path, name))
    files.append(NamedImage(good[0].path.with_name("nowhere.png"), "nowhere.png"))
    told = add(store, indexes, kinds, [*files, good[1]])
    assert {name for name, one in told.items() if one.error} == {*bad, "nowhere.png"}
    for one in told.values():
        assert "/" not in one.error and "Traceback" not in one.error
    assert indexes.summary(OWNER).pictures == indexes.summary(OWNER).videos == 1


def test_a_name_that_no_text_can_hold_stops_no_others(
    store: PipelineStore, indexes: Indexes, kinds: Sides, here: Callable[..., NamedImage]
) -> None:
    good, named = here("red-circle.png"), here("yellow-star.png")
    path = good.path.with_name(os.fsdecode(b"caf\xe9.png"))
    shutil.copy(EXAMPLES / "two-objects.png", path)
    told = add(
        store,
        indexes,
        kinds,
        [good, NamedImage(path, path.name), NamedImage(named.path, "star\ud800.png")],
    )
    assert outcomes(told) == {
        "red-circle.png": "added", "caf\ufffd.png": "error", "star\ufffd.png": "added",
    }  # fmt: skip
    assert "not written in UTF-8" in told["caf\ufffd.png"].error
    assert indexes.summary(OWNER).vectors == 2


def test_one_long_video_hides_no_other(indexes: Indexes) -> None:
    """1,200 windows of it are nearer than the best one of three pictures' worth of videos."""
    space = "video.m.1"
    query = np.zeros(8, np.float32)
    query[0] = 1.0
    near = np.tile(query + 0.01, (1200, 1)).astype(np.float32)
    other = np.zeros((1, 8), np.float32)
    other[0, :2] = 0.8, 0.6

    def film(number: int, vectors: np.ndarray) -> tuple[IndexedFile, FileVectors]:
        starts = np.arange(len(vectors)) * 4.0
        file = IndexedFile(
            content=f"{number:040x}", name=f"{number}.mp4", kind="video", path=f"/{number}.mp4",
            num_parts=len(vectors), thumbnail=b"",
        )  # fmt: skip
        return file, FileVectors(starts_s=starts, ends_s=starts + 4.0, vectors=vectors)

    indexes.record_use(OWNER, space)
    indexes.tables(OWNER, space).add([film(0, near), film(1, other), film(2, other)])
    files, found = nearest_in(indexes.tables(OWNER, space), query, 20)
    assert {int(content, 16) for content in found.contents} == {0, 1, 2}
    assert set(files) == set(found.contents)


def test_a_film_is_a_film_whatever_its_name(here: Callable[..., NamedImage]) -> None:
    film, picture = here(FILES[3], "film.png"), here("red-circle.png", "picture.mp4")
    assert kind_of(film.path, film.name) == "video"
    assert kind_of(picture.path, picture.name) == "video"  # its bytes say nothing of a film
    assert kind_of(picture.path, "picture.bin") == "picture"


#: So many that the run is under way when it is left.
NUM_LEFT = 160


def test_a_run_that_is_left_goes_on(
    store: PipelineStore, indexes: Indexes, kinds: Sides, tmp_path: Path
) -> None:
    files = []
    for number in range(NUM_LEFT):
        path = tmp_path / f"{number}.png"
        draw_circle(f"#{number:02x}40{255 - number:02x}", 64).save(path)
        files.append(NamedImage(path, path.name))
    run = add_files(store, indexes, IndexRequest(files=files, owner=OWNER, kinds=kinds))
    for look in run:
        if look.done >= 16:
            break
    run.close()
    before = indexes.summary(OWNER).pictures
    assert 0 < before < NUM_LEFT
    told = add(store, indexes, kinds, files)
    assert sorted(outcomes(told).values()) == sorted(
        ["known"] * before + ["added"] * (NUM_LEFT - before)
    )
    holding = indexes.summary(OWNER)
    assert holding.pictures == holding.vectors == NUM_LEFT


def test_a_full_index_says_so(
    store: PipelineStore, indexes: Indexes, kinds: Sides, here: Callable[..., NamedImage]
) -> None:
    told = add(store, indexes, kinds, [here(f) for f in FILES[:3]], most_vectors=2)
    assert list(outcomes(told).values()) == ["added", "added", "error"]
    assert "The index is full: it takes 2 pictures" in told["three-hearts.png"].error


def test_two_runs_at_once_do_not_exceed_the_limit(
    store: PipelineStore, indexes: Indexes, kinds: Sides, here: Callable[..., NamedImage]
) -> None:
    """Both begin while the index is empty; each alone would fit."""
    orders = [
        IndexRequest(files=[here(f) for f in files], owner=OWNER, kinds=kinds, most_vectors=3)
        for files in (FILES[:2], [FILES[2], "two-objects.png"])
    ]
    first = add_files(store, indexes, orders[0])
    second = add_files(store, indexes, orders[1])
    told = [next(first), next(second)]
    told += [*first, *second]
    became = [outcome for look in told for _, outcome in look.new]
    assert sorted(one.outcome for one in became) == ["added"] * 3 + ["error"]
    assert "The index is full: it takes 3 pictures" in "".join(one.error for one in became)
    assert indexes.summary(OWNER).vectors == 3


def test_a_video_of_many_turns_goes_on_with_another_model(
    store: PipelineStore,
    indexes: Indexes,
    kinds: Sides,
    here: Callable[..., NamedImage],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between two turns its model is displaced, as in the workers of ZeroGPU, with all that it
    kept: such a video once began anew in every turn."""
    film = here("three-shapes.mp4")
    add(store, indexes, kinds, [film])
    tables = indexes.tables(OWNER, kinds["video"].space)
    at_once = tables.nearest(tables.sample()[0], 100)
    assert len(at_once.contents) == 22
    indexes.forget(OWNER)
    store.unload_idle(0.0)
    monkeypatch.setattr("pipelines.search.index_run.TURN_S", -1.0)
    monkeypatch.setattr("pipelines.models.viclip.encoding.ViClipEncoder.clips_per_batch", 8)
    turns = 0
    turn = Encoder._turn

    @contextmanager
    def counted(encoder: Encoder, kind: SearchKind) -> Iterator[Any]:
        nonlocal turns
        turns += 1
        assert turns <= 3, "it begins anew"
        with turn(encoder, kind) as pipeline:
            yield pipeline
        store.unload_idle(0.0)

    monkeypatch.setattr(Encoder, "_turn", counted)
    assert outcomes(add(store, indexes, kinds, [film])) == {film.name: "added"}
    assert turns == 3
    in_turns = tables.nearest(tables.sample()[0], 100)
    assert sorted(in_turns.starts_s) == sorted(at_once.starts_s)
    order, other = np.argsort(in_turns.starts_s), np.argsort(at_once.starts_s)
    assert in_turns.vectors[order] == pytest.approx(at_once.vectors[other], abs=1e-4)


def test_stop_ends_a_wait_for_another_writer(
    store: PipelineStore,
    indexes: Indexes,
    kinds: Sides,
    here: Callable[..., NamedImage],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Closing waits for the run, which once waited for the lock, and for it again at its end."""
    run = add_files(store, indexes, IndexRequest(files=[here(FILES[0])], owner=OWNER, kinds=kinds))
    waits, locked = threading.Event(), indexes.locked

    def told(*args: Any) -> Any:
        waits.set()
        return locked(*args)

    def stop_when_it_waits() -> None:
        for _ in run:
            if waits.is_set():
                break
        run.close()

    reader = threading.Thread(target=stop_when_it_waits, daemon=True)
    with locked(OWNER):
        monkeypatch.setattr(indexes, "locked", told)
        reader.start()
        reader.join(120)
        assert waits.is_set() and not reader.is_alive()
    assert indexes.summary(OWNER).vectors == 0


@pytest.mark.parametrize("text", ["a comment " * 6000, ""])
def test_a_thumbnail_is_small(tmp_path: Path, text: str) -> None:
    """Noise and long comments of JPEGs once made thumbnails of any size."""
    path = tmp_path / "a.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    Image.fromarray(noise).save(path, quality=95, comment=text.encode())
    small = thumbnail(path, "picture", max_pixels=10**6)
    assert 0 < len(small) <= MAX_BYTES
    assert max(Image.open(io.BytesIO(small)).size) >= 120


def test_single_files_and_all_are_deleted(
    store: PipelineStore, filled: Indexes, kinds: Sides
) -> None:
    assert delete_files(filled, OWNER, ["yellow-star.png", "nothing.png"]) == ["yellow-star.png"]
    search = find(store, filled, kinds, Query(text="a yellow star"))
    assert "yellow-star.png" not in {one.file.name for one in search.found}
    assert filled.summary(OWNER).pictures == 2
    assert filled.forget(OWNER) == 3
    with pytest.raises(InputError, match="Nothing is indexed here"):
        kinds_to_search(store, filled, OWNER, ANY)


def test_an_index_of_another_model_is_named(store: PipelineStore, filled: Indexes) -> None:
    with pytest.raises(InputError, match="demo-clip and demo-viclip"):
        kinds_to_search(store, filled, OWNER, {"picture": "clip-vit-b32", "video": "viclip-l14"})
    with pytest.raises(InputError, match="Choose one of"):
        kinds_to_search(store, filled, OWNER, {"picture": "no-such-model"})


def test_an_index_is_found_where_the_default_has_changed(
    store: PipelineStore, filled: Indexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "default_spec", lambda task: HUB_DEFAULTS[task][0])
    assert [kind.spec.key for kind in kinds_to_search(store, filled, OWNER, ANY)] == [
        "demo-clip",
        "demo-viclip",
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "The query is empty"),
        ({"text": "  "}, "The query is empty"),
        ({"text": 7}, "query_text must be text"),
        ({"text": "a" * 3000}, "limit is 2,000"),
        ({"text": "a", "top_k": 0}, "top_k"),
        ({"text": "a", "top_k": 2.5}, "top_k"),
        ({"text": "a", "top_k": True}, "top_k"),
        ({"text": "a", "top_k": 10**400}, "top_k"),
        ({"text": "a", "text_weight": -(10**400)}, "text_weight"),
        ({"text": "a", "text_weight": 1.5}, "text_weight"),
        ({"text": "a", "text_weight": float("nan")}, "text_weight"),
        ({"text": "a", "text_weight": "half"}, "text_weight"),
    ],
)
def test_bad_queries(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Query(**options)


def test_a_query_image_that_is_none(
    store: PipelineStore, filled: Indexes, kinds: Sides, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(MediaError):
        find(store, filled, kinds, Query(image=tmp_path / "a.png"))


def test_long_and_foreign_texts_are_noted(
    store: PipelineStore, filled: Indexes, kinds: Sides
) -> None:
    notes = find(store, filled, kinds, Query(text="a red circle " * 100)).notes
    assert any("read" in note for note in notes)
    assert find(store, filled, kinds, Query(text="红色的圆")).notes


def test_visitors_come_between_two_turns(
    store: PipelineStore, indexes: Indexes, kinds: Sides, here: Callable[..., NamedImage]
) -> None:
    """While a visitor is being answered, no batch of an index begins."""
    run = add_files(
        store, indexes, IndexRequest(files=[here("red-circle.png")], owner=OWNER, kinds=kinds)
    )
    with store.queue.visitor():
        looks = [next(run) for _ in range(8)]
    assert all(isinstance(look, IndexProgress) and not look.new for look in looks)
    assert [outcome.outcome for look in run for _, outcome in look.new] == ["added"]
