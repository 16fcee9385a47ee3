"""Decoding in processes of their own: the same results, and no harm from crashes and hangs."""

import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from pipelines.core.cancel import NEVER, Cancelled, CancelToken
from pipelines.core.errors import DecoderLost, MediaError, MemoryLimitError
from pipelines.media import images, isolation
from pipelines.media.images import decode_image, open_image, true_box
from pipelines.media.isolation import BUDGET
from pipelines.media.video.open import IsolatedVideo, key_frames, open_video, probe
from pipelines.media.video.reader import VideoReader
from pipelines.models.viclip.windows import SearchOptions
from pipelines.models.videochat_flash.frames import read_clips
from tests.fakes import hostile_decoder as evil_decoder
from tests.fakes.videos import encode
from tests.support.viclip_golden import make_golden_folder, make_pipeline

EXAMPLES = Path(__file__).parent.parent.parent / "assets" / "examples"
PICTURE, VIDEO = EXAMPLES / "four-objects.png", EXAMPLES / "three-shapes.mp4"


@pytest.fixture
def apart_on() -> Iterator[None]:
    isolation.enable()
    yield
    isolation.disable()


@pytest.fixture
def evil(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(isolation, "HANG_S", 1.0)
    pool = isolation.DecoderPool(evil_decoder.serve)
    monkeypatch.setattr(isolation, "decoder_pool", lambda: pool)
    isolation.enable()
    yield
    isolation.disable()


def renamed(file: Path, name: str, folder: Path) -> Path:
    return Path(shutil.copy(file, folder / name))


@pytest.mark.usefixtures("apart_on")
@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.png")))
def test_a_picture_is_the_same_apart(file: Path) -> None:
    there = open_image(file)
    isolation.disable()
    assert there.tobytes() == open_image(file).tobytes()


@pytest.mark.usefixtures("apart_on")
def test_a_draft_keeps_its_box(tmp_path: Path) -> None:
    file = tmp_path / "large.jpg"
    Image.effect_noise((2745, 1801), 90).convert("RGB").save(file)
    there, data = open_image(file, draft_px=224), file.read_bytes()
    assert true_box(there) == true_box(decode_image(data, draft_px=224))
    isolation.disable()
    here = open_image(file, draft_px=224)
    assert there.size == here.size != (2745, 1801)
    assert true_box(there) == true_box(here)
    assert there.tobytes() == here.tobytes()


@pytest.mark.usefixtures("apart_on")
def test_what_is_no_picture_is_told_as_ever(tmp_path: Path) -> None:
    file = tmp_path / "notes.png"
    file.write_text("milk, eggs")
    with pytest.raises(MediaError, match="it looks like a text"):
        open_image(file)
    with pytest.raises(MediaError, match="megapixels"):
        open_image(PICTURE, max_pixels=10)
    assert open_image(PICTURE).mode == "RGB"


@pytest.mark.usefixtures("apart_on")
def test_a_video_is_the_same_apart() -> None:
    seen: list[tuple[int, int]] = []
    with open_video(VIDEO) as there:
        assert isinstance(there, IsolatedVideo)
        frames = there.frames_at([7, 0, 7], (48, 64), on_progress=lambda *at: seen.append(at))
        late = there.frames_at_times([1.0], (48, 64))
    with VideoReader(VIDEO) as here:
        assert (there.info, there.times_s.tolist()) == (here.info, here.times_s.tolist())
        expected = here.frames_at([7, 0, 7], (48, 64))
        assert np.array_equal(late.pixels, here.frames_at_times([1.0], (48, 64)).pixels)
    assert np.array_equal(frames.pixels, expected.pixels)
    assert frames.indices.tolist() == [7, 0, 7]
    assert seen[-1] == (2, 2)
    assert probe(VIDEO) == here.info


@pytest.mark.usefixtures("apart_on")
def test_reading_stops_when_asked() -> None:
    with open_video(VIDEO) as reader:
        with pytest.raises(Cancelled):
            reader.frames_at(
                range(reader.info.num_frames), (2000, 2000), cancel=CancelToken(lambda: True)
            )
        assert reader.frames_at([3]).indices.tolist() == [3]


@pytest.mark.usefixtures("apart_on")
def test_a_process_is_kept_for_the_next() -> None:
    open_image(PICTURE)
    ((first, _),) = isolation.decoder_pool()._idle
    open_image(PICTURE)
    assert [decoder for decoder, _ in isolation.decoder_pool()._idle] == [first]


@pytest.mark.usefixtures("apart_on")
def test_a_process_that_waited_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    open_image(PICTURE)
    ((first, since_s),) = isolation.decoder_pool()._idle
    isolation.end_idle()
    assert isolation.decoder_pool()._idle == [(first, since_s)], (
        "it has not waited for a minute yet"
    )
    with isolation.decoder_pool().lease() as leased:
        assert leased is first
        monkeypatch.setattr(isolation, "IDLE_S", 0.0)
        isolation.end_idle()
        assert first.is_alive, "it is in use"
    isolation.end_idle()
    assert not first.is_alive
    assert isolation.decoder_pool()._idle == []
    assert open_image(PICTURE).mode == "RGB", "another one is started"


@pytest.mark.usefixtures("apart_on")
def test_a_process_that_ended_meanwhile_is_replaced() -> None:
    open_image(PICTURE)
    ((waiting, _),) = isolation.decoder_pool()._idle
    waiting._process.kill()
    waiting._process.join()
    assert open_image(PICTURE).mode == "RGB"


@pytest.mark.usefixtures("apart_on")
def test_memory_is_taken_from_the_budget_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "large.png"
    Image.new("RGB", (3000, 3000)).save(file)
    free = BUDGET._free
    large = open_image(file)
    assert BUDGET._free == free - 3000 * 3000 * 4
    del large
    gc.collect()
    assert BUDGET._free == free

    def refuse(needed: int) -> Any:
        raise MemoryLimitError(f"no {needed}")

    monkeypatch.setattr(BUDGET, "reserve", refuse)
    with pytest.raises(MemoryLimitError, match="no 72000000"):
        open_image(file)


@pytest.mark.usefixtures("evil")
@pytest.mark.parametrize(
    ("fault", "told"), [("crash", "makes the decoder crash"), ("hang", "busy for 1 s")]
)
def test_a_bad_decoder_costs_one_request(tmp_path: Path, fault: str, told: str) -> None:
    picture = renamed(PICTURE, f"{fault}.png", tmp_path)
    with pytest.raises(MediaError, match=rf"'{fault}\.png' .*{told}"):
        open_image(picture)
    assert open_image(PICTURE).mode == "RGB"
    video = renamed(VIDEO, f"{fault}.mp4", tmp_path)
    with pytest.raises(MediaError, match=rf"'{fault}\.mp4' .*{told}"):
        open_video(video)
    with open_video(VIDEO) as reader:
        assert reader.frames_at([0]).num_lost == 0


@pytest.mark.usefixtures("evil")
def test_a_crash_while_frames_are_read_ends_in_a_message(tmp_path: Path) -> None:
    with open_video(renamed(VIDEO, "late.mp4", tmp_path)) as reader:
        with pytest.raises(MediaError, match="crash"):
            reader.frames_at([0])
        with pytest.raises(MediaError):
            reader.frames_at([0])
    assert open_image(PICTURE).mode == "RGB"


@pytest.mark.usefixtures("evil")
def test_a_thread_that_hangs_while_frames_are_read_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "HANG_S", 3.0)  # more than there is between two signs of life
    video = renamed(VIDEO, "stuck.mp4", tmp_path)
    with open_video(video) as reader, pytest.raises(DecoderLost, match="busy for 3 s"):
        reader.frames_at([0, 9, 30])
    assert open_image(PICTURE).mode == "RGB"


@pytest.mark.usefixtures("evil")
def test_a_decoder_that_hangs_amid_a_long_group_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "HANG_S", 3.0)
    video = encode(tmp_path / "stalled.mp4", "libx264", {"g": "300"})
    with open_video(video) as reader, pytest.raises(DecoderLost, match="busy for 3 s"):
        list(reader.frames_in_order(range(90), at_once=4))
    assert open_image(PICTURE).mode == "RGB"


@pytest.mark.usefixtures("evil")
def test_stop_does_not_wait_for_a_thread_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "STOP_S", 0.2)
    with open_video(renamed(VIDEO, "stuck.mp4", tmp_path)) as reader:
        with pytest.raises(Cancelled):
            reader.frames_at([0, 9, 30], cancel=CancelToken(lambda: True))
        assert not reader._decoder.is_alive
    assert open_image(PICTURE).mode == "RGB"


@pytest.mark.usefixtures("evil")
def test_frames_that_a_lost_decoder_owes_are_not_taken_for_damaged(tmp_path: Path) -> None:
    """Nothing is known of them: no black picture, no neighbour, nothing that is kept."""
    video, lost = renamed(VIDEO, "late.mp4", tmp_path), set[int]()
    with pytest.raises(DecoderLost):
        key_frames(video, [0.5])
    with open_video(video) as reader, pytest.raises(DecoderLost):
        list(read_clips(reader, [[0, 1, 2, 3]], 96, lost=lost, cancel=NEVER))
    assert lost == set()
    viclip = make_pipeline(make_golden_folder(tmp_path / "viclip"))
    options = SearchOptions()
    assert list(viclip.search([video], options)) == []
    with pytest.raises(DecoderLost):
        viclip.moments([video], "a star", options)
    isolation.disable()
    found = viclip.moments([video], "a star", options)
    assert found.notes == viclip.moments([VIDEO], "a star", options).notes
    assert viclip.videos.vectors(video, viclip.videos.plan(video, options)).norm(dim=-1).all()


@pytest.mark.usefixtures("apart_on")
@pytest.mark.parametrize("call", ["cancel", "on_progress"])
def test_an_answer_that_was_not_awaited_is_for_nobody(call: str) -> None:
    def fail(*at: int) -> bool:
        raise KeyError("a fault of the caller")

    with open_video(VIDEO) as reader:
        with pytest.raises(KeyError):
            given = {call: CancelToken(fail) if call == "cancel" else fail}
            reader.frames_at(range(reader.info.num_frames), (2000, 2000), **given)  # type: ignore[arg-type]
        assert not reader._decoder.is_alive
    assert open_image(PICTURE).mode == "RGB"


def end_at_once(conn: object, stop: object) -> None:
    os._exit(1)


def test_a_decoder_that_does_not_start_is_not_the_fault_of_the_file() -> None:
    """The process ends before it runs a line: its end of the connection is closed."""
    context = isolation.DecoderPool()._context
    fake = SimpleNamespace(Pipe=context.Pipe, RawValue=context.RawValue, Process=Mock())
    decoder = isolation.DecoderProcess(fake, end_at_once, 60.0)
    with pytest.raises(DecoderLost, match=r"reads film.mp4 could not be started") as caught:
        decoder.request("film.mp4", "ask")
    assert "damaged" not in caught.value.message


def test_a_decoder_that_ends_after_its_start_is_a_crash() -> None:
    decoder = isolation.DecoderProcess(isolation.DecoderPool()._context, end_at_once, 60.0)
    with pytest.raises(DecoderLost, match="makes the decoder crash"):
        decoder.request("film.mp4", "ask")


def test_stop_is_told_to_a_process_that_died_while_it_asked() -> None:
    """Whatever lock it held then, nobody waits for it."""
    context = isolation.DecoderPool()._context
    for _ in range(8):
        decoder = isolation.DecoderProcess(context, evil_decoder.ask_for_ever, 60.0)
        heard: list[Exception] = []
        asking = threading.Thread(target=ask_and_stop, args=(decoder, heard), daemon=True)
        asking.start()
        asking.join(timeout=30)
        assert [type(error) for error in heard] == [DecoderLost]


def ask_and_stop(decoder: isolation.DecoderProcess, heard: list[Exception]) -> None:
    def kill() -> bool:
        if decoder._conn.poll(10):  # it has begun
            os.kill(decoder._process.pid or 0, signal.SIGKILL)
        return True

    try:
        decoder.request("film.mp4", "ask", cancel=CancelToken(kill))
    except DecoderLost as error:
        heard.append(error)


@pytest.mark.usefixtures("evil")
def test_others_are_answered_while_a_decoder_hangs(tmp_path: Path) -> None:
    picture = renamed(PICTURE, "hang.png", tmp_path)
    ended: list[Exception] = []

    def wait() -> None:
        try:
            open_image(picture)
        except MediaError as error:
            ended.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert open_image(PICTURE).mode == "RGB"
    assert not ended
    waiting.join()
    assert len(ended) == 1


def test_off_means_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "decoder_pool", _no_pool)
    assert not isolation.is_enabled()
    assert open_image(PICTURE).mode == "RGB"
    assert type(open_video(VIDEO)) is VideoReader
    assert images.BUDGET is BUDGET


def _no_pool() -> Callable[[], None]:
    raise AssertionError("no process is needed")


def test_no_decoder_inherits_the_keys_of_servers() -> None:
    """It reads strangers' files; nor is a key left where it was forked."""
    code = """
import os
from pathlib import Path
from pipelines.media import isolation
with isolation.decoder_pool().lease() as decoder:
    print(decoder.request("a", "call", os.getenv, ("SEESAY_REMOTE_KEY_A",), {}))
    begun_with = Path(f"/proc/{decoder.request('a', 'call', os.getpid, (), {})}/environ")
    print(begun_with.exists() and "sk-0123456789" in begun_with.read_text())
print(os.environ["SEESAY_REMOTE_KEY_A"])
"""
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent.parent.parent,
        env={**os.environ, "SEESAY_REMOTE_KEY_A": "sk-0123456789"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.stdout.split() == ["None", "False", "sk-0123456789"], ran.stderr[-2000:]
