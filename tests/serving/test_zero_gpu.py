"""ZeroGPU, imitated: every call to a model runs in a newly forked worker, and nothing is lost."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from pipelines.core.cancel import NEVER
from pipelines.core.options import GenerationOptions
from pipelines.models.video_chat import Part
from pipelines.serving.zero_gpu import LONGEST_S, SHORTEST_S, ZeroGpuStore, is_zero_gpu, make_store
from tests.conftest import connect
from tests.support.app_process import ROOT, RunningApp, serve

EXAMPLES = ROOT / "assets" / "examples"
FAKE = ROOT / "tests" / "fakes" / "zero_gpu"


@pytest.fixture(scope="module")
def zero_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    folder = tmp_path_factory.mktemp("zero")
    variables = {
        "SPACES_ZERO_GPU": "true",
        "PYTHONPATH": str(FAKE),
        "FAKE_SPACES_LOG": str(folder / "calls.jsonl"),
        "OMP_NUM_THREADS": "1",  # the fork of a process whose OpenMP threads have worked hangs
    }
    with serve(folder, "--device", "cpu", "--dtype", "float32", **variables) as app:
        yield app


@pytest.fixture(scope="module")
def zero_client(zero_app: RunningApp) -> Client:
    return connect(zero_app.url)


def calls(app: RunningApp) -> list[dict[str, Any]]:
    file = app.work_dir.parent / "calls.jsonl"
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    return [json.loads(line) for line in lines]


def test_every_kind_of_model_answers_as_elsewhere(
    zero_client: Client, client: Client, zero_app: RunningApp
) -> None:
    image = handle_file(EXAMPLES / "red-circle.png")
    video = handle_file(EXAMPLES / "circle-moves-left.mp4")
    for endpoint, given in (
        ("/classify_image", {"image": image, "labels": "red circle\nblue star"}),
        ("/caption_image", {"image": image}),
        ("/chat_image", {"image": image, "message": "What colour is it?"}),
        ("/match_video", {"video": video, "texts": "a circle moves left\na square grows"}),
        ("/find_moments", {"video": video, "query": "a circle moves left"}),
        ("/embed_texts", {"texts": "red circle"}),
    ):
        here = client.predict(**given, api_name=endpoint)
        assert rounded(zero_client.predict(**given, api_name=endpoint)) == rounded(here), endpoint
    pids = [call["pid"] for call in calls(zero_app)]
    assert len(pids) >= 6
    assert zero_app.process.pid not in pids
    assert all(SHORTEST_S <= call["seconds"] <= LONGEST_S for call in calls(zero_app))


def rounded(value: Any) -> Any:
    """One thread adds up in another order than two."""
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    return {key: rounded(one) for key, one in value.items()} if isinstance(value, dict) else value


def test_batches_run_in_workers_too(zero_client: Client) -> None:
    files = [handle_file(EXAMPLES / name) for name in ("red-circle.png", "yellow-star.png")]
    rows, _ = zero_client.predict(files=files, api_name="/caption_images")
    assert [row["error"] for row in rows] == ["", ""]
    assert "yellow" in rows[1]["caption"]


def test_files_are_indexed_and_found_by_workers_too(zero_client: Client) -> None:
    names = ("red-circle.png", "yellow-star.png", "circle-moves-left.mp4")
    files = [handle_file(EXAMPLES / name) for name in names]
    rows, index = zero_client.predict(files=files, api_name="/index_files")
    assert [row["outcome"] for row in rows] == ["added"] * 3
    for query, name in (("a yellow star", names[1]), ("a red circle moves left", names[2])):
        found = zero_client.predict(
            index_key=index["index_key"], query_text=query, api_name="/search_files"
        )
        assert (found[0]["file"], found[0]["verdict"]) == (name, "match")


def test_errors_keep_their_words(zero_client: Client, save: Any) -> None:
    """The real package tells no more of an exception than the name of its class."""
    damaged = save("damaged.png", b"\x89PNG no picture")
    with pytest.raises(AppError, match="image"):
        zero_client.predict(image=handle_file(damaged), labels="a\nb", api_name="/classify_image")
    image = handle_file(EXAMPLES / "red-circle.png")
    with pytest.raises(AppError, match="question is empty"):
        zero_client.predict(image=image, question=" ", api_name="/answer_image")


def test_more_text_asks_for_more_seconds(zero_client: Client, zero_app: RunningApp) -> None:
    image = handle_file(EXAMPLES / "red-circle.png")
    for tokens in (10, 200):
        zero_client.predict(image=image, max_new_tokens=tokens, api_name="/caption_image")
    short, long = calls(zero_app)[-2:]
    assert short["call"] == ["demo-blip2", "stream_caption"]
    assert long["seconds"] > short["seconds"]


def test_a_worker_ends_when_its_visitor_leaves(zero_app: RunningApp) -> None:
    job = connect(zero_app.url).submit(
        image=handle_file(EXAMPLES / "four-objects.png"), api_name="/caption_image",
        max_new_tokens=200,
    )  # fmt: skip
    next(iter(job))
    job.cancel()
    pid = calls(zero_app)[-1]["pid"]
    end = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < end
        time.sleep(0.1)


class FakeSpaces:
    """Decorates nothing."""

    @staticmethod
    def GPU(task: Any, duration: Any) -> Any:  # noqa: N802
        return task


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ZeroGpuStore:
    import sys

    from pipelines.core.settings import Settings

    monkeypatch.setitem(sys.modules, "spaces", FakeSpaces)
    monkeypatch.setattr("os.register_at_fork", lambda **hooks: None)
    settings = Settings(
        models="bundled", device="cpu", dtype="float32", offline=True, cache_dir=tmp_path / "cache"
    )
    return ZeroGpuStore(settings)


def test_seconds_follow_from_the_arguments(store: ZeroGpuStore) -> None:
    store.preload()

    def seconds(method: str, *args: Any, key: str = "demo-blip2") -> int:
        return store.seconds(key, method, args, {})

    assert seconds("caption") == SHORTEST_S
    assert seconds("x", GenerationOptions(max_new_tokens=500)) == SHORTEST_S + 20
    assert seconds("x", GenerationOptions(max_new_tokens=500, num_beams=2)) == SHORTEST_S + 40
    assert seconds("x", Part(max_frames=200)) == SHORTEST_S + 30
    assert seconds("x", [Path("a")] * 50) == SHORTEST_S + 10
    assert seconds("x", Part(max_frames=1024)) == LONGEST_S
    assert seconds("caption", key="blip2-opt-2.7b") > SHORTEST_S, "a worker has to load it first"


def test_a_model_is_evaluated_and_taught_as_elsewhere(zero_client: Client, client: Client) -> None:
    archive = handle_file(EXAMPLES / "toy-shop.zip")
    answers = []
    for one in (zero_client, client):
        summary, rows, file = one.predict(archive=archive, api_name="/train_probe")
        label, _ = one.predict(
            image=handle_file(EXAMPLES / "yellow-star.png"),
            labels="",
            probe=handle_file(file),
            api_name="/classify_image",
        )
        answers.append((summary["probe"]["top1"], summary["zero_shot"]["top1"], label["label"]))
    assert answers[0] == answers[1]
    assert answers[0][2] == "star"


def test_what_a_worker_learns_the_next_one_knows(store: ZeroGpuStore) -> None:
    store.preload()
    picture = EXAMPLES / "red-circle.png"
    kept = store._live["demo-clip"].caches()
    with store.use("demo-clip", "image-text") as clip:
        for _ in clip.prepare(["red circle"]):
            pass
        gained = {what: value for what, value in store.on_gpu(
            "demo-clip", "classify", (picture, ["red circle", "moon"]), {})}["cached"]  # fmt: skip
    assert all(gained), "vectors of a text and of the picture"
    for cache in kept:
        getattr(cache, "_memory", cache).clear()  # as in a process that was not in the worker
    store.keep("demo-clip", gained)
    assert [set(one) for one in gained] == [set(cache.snapshot()) for cache in kept]
    store.keep("clip-vit-b32", gained)  # not loaded here: nothing to keep it in


def test_windows_of_a_video_are_computed_once(store: ZeroGpuStore) -> None:
    """A search runs in one worker and its moments in the next, which was forked before."""
    from pipelines.models.viclip.windows import SearchOptions

    store.preload()
    kept = store._live["demo-viclip"].caches()
    videos = [EXAMPLES / "circle-moves-left.mp4"]
    search = store.on_gpu("demo-viclip", "search", (videos, SearchOptions()), {})
    gained = dict(search)["cached"]
    assert gained[1], "vectors of windows"
    kept[1].clear()  # as in a process that has not been in the worker
    store.keep("demo-viclip", gained)
    again = store.on_gpu("demo-viclip", "search", (videos, SearchOptions()), {})
    assert [what for what, value in again if what == "item" and value is not None] == []


def test_every_cache_can_travel(tmp_path: Path) -> None:
    import torch

    from pipelines.compute.lru import LruCache
    from pipelines.compute.vector_cache import VectorCache
    from pipelines.models.captioning.image_inputs import FeatureCache
    from pipelines.models.viclip.videos import LostFrames
    from pipelines.models.videochat_flash.video_features import ClipFeatures

    rows = torch.ones(2, 3)
    features, clips = FeatureCache(), ClipFeatures(10_000)
    vectors = VectorCache(tmp_path / "v.sqlite", "model")
    images: LruCache[str, torch.Tensor] = LruCache(10)
    images.put("image", rows)
    features.get_encoded([{"pixels": rows}], lambda images: [{"features": rows} for _ in images])
    clips.get_or_encode("clip", lambda: rows, NEVER)
    vectors.get(["a", "b"], lambda positions: rows[: len(positions)])
    lost = LostFrames()
    lost.of("file").update({3, 5})
    for cache, empty in (
        (features, FeatureCache()), (clips, ClipFeatures(10_000)), (images, LruCache(10)),
        (vectors, VectorCache(tmp_path / "other.sqlite", "model")), (lost, LostFrames()),
    ):  # fmt: skip
        cache.enter_worker("cpu")
        assert cache.snapshot()
        empty.update(cache.snapshot())
        assert list(empty.snapshot()) == list(cache.snapshot())


def test_nothing_is_computed_ahead(store: ZeroGpuStore) -> None:
    from pipelines.core.errors import PipelineError

    with (
        store.use("demo-clip", "image-text") as clip,
        pytest.raises(AttributeError),
    ):
        clip.no_such_method()
    with (
        store.use("demo-videochat", "video-chat") as chat,
        pytest.raises(PipelineError, match="nothing is computed ahead"),
    ):
        chat.estimate(EXAMPLES / "circle-moves-left.mp4", Part())


@pytest.mark.parametrize("value", ["", "0", "false"])
def test_elsewhere_nothing_changes(value: str) -> None:
    from pipelines.core.settings import Settings

    assert not is_zero_gpu({"SPACES_ZERO_GPU": value})
    assert not is_zero_gpu({"SPACES_ZERO_GPU": "1"}), "without the package"
    assert not isinstance(make_store(Settings(models="bundled")), ZeroGpuStore)
