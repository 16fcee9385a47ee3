"""Videos become vectors within bounded memory, whatever the size of their pictures."""

import hashlib
import time
import tracemalloc
from pathlib import Path
from threading import Event, Timer
from typing import Any

import av
import numpy as np
import pytest
import torch

from pipelines.core.cancel import Cancelled, CancelToken
from pipelines.core.errors import MediaError
from pipelines.core.options import SquareFit
from pipelines.media.video.open import open_video
from pipelines.media.video.reader import VideoReader
from pipelines.models.viclip import videos as module
from pipelines.models.viclip.configuration_viclip import ViClipConfig
from pipelines.models.viclip.pipeline import ViClipPipeline
from pipelines.models.viclip.processing_viclip import (
    Pixels,
    ViClipProcessor,
    fit_frames,
    resize_frames,
)
from pipelines.models.viclip.videos import VideoEncoder
from pipelines.models.viclip.windows import SearchOptions
from tests.fakes.videos import encode
from tests.support.viclip_golden import make_golden_folder, make_pipeline

SIDE = 224
ALMOST_EVERY_FRAME = SearchOptions(0.3, 0.2)


class Seen:
    """Stands for the model; remembers the clips that it was given where asked."""

    def __init__(self, *, remember: bool = False) -> None:
        self.clips: list[Pixels] = []
        self._remember = remember

    def __call__(self, clips: list[Pixels]) -> torch.Tensor:
        self.clips += clips if self._remember else []
        return torch.nn.functional.normalize(torch.ones(len(clips), 4), dim=1)


def encoder(embed: Seen) -> VideoEncoder:
    return VideoEncoder(
        embed,
        ViClipProcessor(SIDE, 8, "squash"),
        dim=4,
        clips_per_batch=2,
        max_seconds=0.0,
    )


@pytest.mark.long
def test_small_pictures_take_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is enlarged to the model's side, so their number cannot follow from their own size."""
    monkeypatch.setattr(module, "DECODED_BYTES", 20_000_000)
    path = encode(tmp_path / "small.mp4", "mpeg4", num_frames=400)
    videos = encoder(Seen())
    plan = videos.plan(path, ALMOST_EVERY_FRAME)
    assert len(np.unique(plan.indices)) > 300
    tracemalloc.start()
    try:
        assert [*videos.prepare(path, plan)][-1] == len(plan.indices)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 80_000_000


def test_frames_read_in_pieces_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode(tmp_path / "small.mp4", "mpeg4", num_frames=60)
    monkeypatch.setattr(module, "DECODED_BYTES", 3_000_000)
    seen = Seen(remember=True)
    videos = encoder(seen)
    plan = videos.plan(path, ALMOST_EVERY_FRAME)
    videos.vectors(path, plan)
    with VideoReader(path) as reader:
        whole = resize_frames(reader.frames_at(np.arange(60)).pixels, SIDE, SIDE)
    assert len(seen.clips) == len(plan.indices)
    for clip, indices in zip(seen.clips, plan.indices, strict=True):
        assert np.array_equal(clip, whole[indices])


@pytest.fixture(scope="module")
def viclip(tmp_path_factory: pytest.TempPathFactory) -> ViClipPipeline:
    return make_pipeline(make_golden_folder(tmp_path_factory.mktemp("viclip")))


def only_first_frame(path: Path) -> Path:
    """Write a video that opens, and of which no frame but the first can be read."""
    encode(path, "libx264", {"g": "300"})
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for place, size in places[1:]:
        assert place is not None
        data[place : place + size] = bytes(size)
    path.write_bytes(data)
    return path


def test_a_video_without_a_readable_window_is_told(viclip: ViClipPipeline, tmp_path: Path) -> None:
    lost = only_first_frame(tmp_path / "lost.mp4")
    whole = encode(tmp_path / "whole.mp4", "libx264")
    with pytest.raises(MediaError, match="Not one of the frames"):
        viclip.moments([lost], "a dog")
    found = viclip.moments([lost, whole], "a dog")
    assert [video.index for video in found.videos] == [1, 0]
    assert found.videos[1].error.startswith("Not one of the frames")
    assert not any("neighbours" in note for note in found.notes)


class Held:
    """Stands for reading a video: goes on until it is told to stop."""

    def __init__(self) -> None:
        self.stopped = False

    def __call__(self, *args: Any, cancel: CancelToken, **options: Any) -> Any:
        end = time.monotonic() + 60
        while not cancel.is_cancelled:
            assert time.monotonic() < end, "nobody said stop"
            time.sleep(0.01)
        self.stopped = True
        raise Cancelled


@pytest.mark.parametrize("where", [(module, "open_video"), (VideoReader, "frames_in_order")])
@pytest.mark.parametrize("what", ["match", "search"])
def test_who_closes_the_stream_ends_the_reading(
    viclip: ViClipPipeline,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: tuple[Any, str],
    what: str,
) -> None:
    path = encode(tmp_path / f"{what}-{where[1]}.mp4", "mpeg4")
    held = Held()
    monkeypatch.setattr(*where, held)
    steps: Any = (
        viclip.stream_match(path, ["a dog"])
        if what == "match"
        else viclip.search([path], SearchOptions())
    )
    assert next(steps) is None, "a sign of life while nothing is there yet"
    steps.close()
    assert held.stopped


def test_a_closed_search_computes_no_further_batch(
    viclip: ViClipPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode(tmp_path / "long.mp4", "mpeg4", num_frames=301)
    batches: list[int] = []
    closing = Event()

    def hold(clips: list[Pixels]) -> torch.Tensor:
        batches.append(len(clips))
        assert len(batches) == 1 or closing.wait(60)
        return torch.nn.functional.normalize(torch.ones(len(clips), viclip.encoder.dim), dim=1)

    monkeypatch.setattr(viclip.videos, "_embed", hold)
    steps = viclip.search([path], SearchOptions(1.0, 0.05))
    while next(steps) is None:
        pass
    Timer(0.2, closing.set).start()
    steps.close()
    assert len(batches) <= 2


def test_a_stream_gives_what_a_call_gives(viclip: ViClipPipeline, tmp_path: Path) -> None:
    path = encode(tmp_path / "same.mp4", "mpeg4")
    *signs, found = viclip.stream_match(path, ["a dog", "a cat"], end_s=2.0)
    assert found == viclip.match(path, ["a dog", "a cat"], end_s=2.0)
    assert not any(signs)


def test_clips_of_seconds_go_one_by_one_on_a_cpu(viclip: ViClipPipeline) -> None:
    small = viclip.encoder.model.config
    assert viclip.encoder.clips_per_batch > 1
    for config in (ViClipConfig(), ViClipConfig(vision_width=768, vision_layers=12, patch_size=16)):
        viclip.encoder.model.config = config
        alone = viclip.encoder.clips_per_batch
        viclip.encoder.model.config = small
        assert alone == 1


def test_many_videos_are_opened_once_for_many_queries(
    viclip: ViClipPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = encode(tmp_path / "one.mp4", "mpeg4", num_frames=10).read_bytes()
    paths = []
    for number in range(70):  # an empty box at the end makes each another file
        paths.append(tmp_path / f"{number}.mp4")
        paths[-1].write_bytes(whole + b"\0\0\0\x0cfree" + number.to_bytes(4, "big"))
    opened: list[Path] = []

    def opening(path: Path, **options: Any) -> VideoReader:
        opened.append(path)
        return open_video(path, **options)

    monkeypatch.setattr(module, "open_video", opening)
    read: list[Path] = []
    digest = hashlib.file_digest
    monkeypatch.setattr(
        hashlib, "file_digest", lambda file, name: [read.append(file), digest(file, name)][1]
    )
    for query in ("a dog", "a cat"):
        for _ in viclip.search(paths, SearchOptions()):
            pass
        viclip.moments(paths, query)
    assert len(opened) == 2 * len(paths), "for its windows, and for their vectors"
    assert len(read) == len(paths)


@pytest.mark.parametrize("fit", ["squash", "letterbox", "centre-crop"])
def test_frames_are_made_square_as_asked(tmp_path: Path, fit: SquareFit) -> None:
    """Encoded once for each way, and the model's own way is the same as none."""
    path = encode(tmp_path / "wide.mp4", "libx264", num_frames=30)
    seen = Seen(remember=True)
    videos = encoder(seen)
    for plan in (
        videos.plan(path, SearchOptions(30.0, 1.0, fit=fit)),
        videos.part(path, 0.0, 0.0, fit=fit)[0],
    ):
        videos.vectors(path, plan)
    (clip,) = seen.clips
    with open_video(path) as reader:
        assert reader.info.width_px != reader.info.height_px
        frames = reader.frames_at(np.unique(plan.indices).tolist()).pixels
    np.testing.assert_array_equal(clip, fit_frames(frames, SIDE, fit))
    videos.vectors(path, videos.plan(path, SearchOptions(30.0, 1.0)))
    assert len(seen.clips) == (1 if fit == "squash" else 2)
