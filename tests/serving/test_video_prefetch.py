"""A video is prepared while its visitor types: a guest who gives way to everybody."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest

from pipelines.core.cancel import CancelToken
from pipelines.core.settings import Settings
from pipelines.models.catalogue import demo_of
from pipelines.models.video_chat import Part
from pipelines.serving.store import PipelineStore
from pipelines.serving.video_prefetch import prefetch_video
from tests.fakes.tiny_videochat import make_tiny_videochat
from tests.fakes.videos import encode

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = demo_of("video-chat")
FEW = Part(max_frames=16)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PipelineStore]:
    make_tiny_videochat(tmp_path / "bundle" / SPEC.key)
    monkeypatch.setattr("pipelines.weights.locate.BUNDLE", tmp_path / "bundle")
    yield PipelineStore(Settings(models="bundled", device="cpu", dtype="float32"))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("ahead") / "a.mp4", "libx264")


def num_kept(store: PipelineStore, video: Path) -> int:
    with store.use(SPEC.key, "video-chat") as chat:
        return 4 - len(chat.videos.clips.missing(chat.videos.plan(video, FEW).keys))


def test_it_ends_with_a_video_that_is_ready(store: PipelineStore, video: Path) -> None:
    told = [ahead for ahead in prefetch_video(store, SPEC, video, FEW) if ahead is not None]
    assert [ahead.step.done for ahead in told if ahead.step] == [4, 8, 12, 16]
    assert [ahead.ready for ahead in told] == [False] * 5 + [True]
    assert told[0].estimate is not None
    assert told[0].estimate.num_frames == 16
    assert num_kept(store, video) == 4
    again = [ahead for ahead in prefetch_video(store, SPEC, video, FEW) if ahead is not None]
    assert [ahead.ready for ahead in again] == [False, True]


def test_closing_ends_it(
    store: PipelineStore, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second clip has no turn before it is closed: who closes may be slower than the work."""
    batch, turns = store.queue.batch, [0]

    def held(cancel: CancelToken) -> AbstractContextManager[None]:
        turns[0] += 1
        if turns[0] > 2:  # after that of the estimate and that of the first clip
            cancel.wait(60)
        return batch(cancel)

    monkeypatch.setattr(store.queue, "batch", held)
    with closing(prefetch_video(store, SPEC, video, FEW)) as aheads:  # type: ignore[type-var]
        while (ahead := next(aheads)) is None or ahead.step is None:
            pass
    assert not any(thread.name == "work" for thread in threading.enumerate())
    assert num_kept(store, video) == 1


def test_it_waits_while_visitors_are_answered(store: PipelineStore, video: Path) -> None:
    with store.queue.visitor(), closing(prefetch_video(store, SPEC, video, FEW)) as aheads:  # type: ignore[type-var]
        assert [next(aheads) for _ in range(3)] == [None] * 3
        assert store.loaded_keys() == []


def test_it_ends_once_its_model_was_dropped(
    store: PipelineStore, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever needs the memory gets it; the rest is left to the question."""
    monkeypatch.setattr(store, "loaded_keys", lambda: [])
    told = [ahead for ahead in prefetch_video(store, SPEC, video, FEW) if ahead is not None]
    assert [(ahead.step, ahead.ready) for ahead in told] == [(None, False)]
    assert num_kept(store, video) == 0


def test_what_would_not_fit_is_not_begun(
    store: PipelineStore, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.use(SPEC.key, "video-chat") as chat:
        monkeypatch.setattr(chat, "_free_bytes", lambda: 1000.0)
    told = [ahead for ahead in prefetch_video(store, SPEC, video, FEW) if ahead is not None]
    assert len(told) == 1
    assert told[0].estimate is not None
    assert not told[0].estimate.fits
    assert num_kept(store, video) == 0


def test_a_file_that_is_no_video_is_told(store: PipelineStore, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"hello")
    (told,) = [each for each in prefetch_video(store, SPEC, tmp_path / "a.mp4", FEW) if each]
    assert "a.mp4" in told.problem
    assert told.estimate is None
