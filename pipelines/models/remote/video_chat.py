"""Conversations about videos by a model on a server that receives frames or the file."""

import mimetypes
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.compute.lru import FileDigests, LruCache
from pipelines.core.cancel import CancelToken
from pipelines.core.options import GenerationOptions
from pipelines.core.results import Step
from pipelines.core.settings import Settings
from pipelines.core.spec import ModelSpec
from pipelines.core.text import extend_history, read_history
from pipelines.media.video.frames import Pixels, indices_between, spread_indices
from pipelines.media.video.open import open_video
from pipelines.media.video.reader import VideoReader
from pipelines.models.remote import messages
from pipelines.models.remote.cancellation import run_cancellable
from pipelines.models.remote.client import ChatServer
from pipelines.models.remote.messages import Question, check_beams
from pipelines.models.video_chat import (
    AnswerDelta,
    Emit,
    History,
    Part,
    SeenFrames,
    VideoAnswer,
    VideoChatModel,
    preview_size,
)

#: Longest side of the frames that are sent, in pixels.
FRAME_PX = 448

#: Most characters of encoded videos in the cache for further questions.
CACHED_CHARS = 200_000_000

#: Largest video that is sent as a file, in bytes; of a larger one, frames are sent.
FILE_BYTES = 64_000_000


@dataclass(frozen=True)
class _EncodedVideo:
    """Video in the form of a request: parts of a message.

    `seen` are the chosen frames, none if the server chooses; `pictures` are thumbnails of them,
    (H, W, 3) uint8 RGB.
    """

    seen: SeenFrames
    pictures: tuple[Pixels, ...]
    media: tuple[messages.Part, ...]
    notes: tuple[str, ...] = ()

    @property
    def num_chars(self) -> int:
        """Size in the request."""
        return sum(len(str(part)) for part in self.media)


class RemoteVideoChat(VideoChatModel):
    """Video chat model on a server.

    A video is sent as evenly spaced frames or, if the remote's settings say so, as a file.
    Closing a stream closes the connection.
    """

    def __init__(self, spec: ModelSpec, settings: Settings, server: ChatServer) -> None:
        self.spec = spec
        self.settings = settings
        self._server = server
        self._digests = FileDigests()
        self._videos: LruCache[tuple[str, Part], _EncodedVideo] = LruCache(
            CACHED_CHARS, lambda video: video.num_chars
        )

    def _answer_work(
        self,
        video: Path,
        question: str,
        history: History,
        options: GenerationOptions,
        part: Part,
        compress: bool,
    ) -> Callable[[Emit, CancelToken], None]:
        """Return the function that answers; cancelling it closes the connection.

        At most as many frames are sent as the remote's settings allow. `compress` only adds a
        note, as servers have no such option.

        Raises:
            InputError: an invalid history, or beam search is requested.
        """
        check_beams(options)
        asked = Question.of(question, read_history(history))

        def work(emit: Emit, cancel: CancelToken) -> None:
            encoded = self._encoded(video, part, emit, cancel)
            emit(AnswerDelta(seen=encoded.seen, pictures=encoded.pictures))
            answer = self._answered(encoded, asked, options, emit, cancel)
            skim = "A remote model does not skim: it looked at every frame alike."
            notes = (*encoded.notes, *answer.notes, *([skim] if compress else []))
            whole = extend_history(history, question, answer.text)
            emit(AnswerDelta(result=replace(answer, history=tuple(whole), notes=notes)))

        return work

    def _answered(
        self,
        video: _EncodedVideo,
        asked: Question,
        options: GenerationOptions,
        emit: Emit,
        cancel: CancelToken,
    ) -> VideoAnswer:
        async def ask() -> VideoAnswer:
            async with self._server.client() as client:
                sent = messages.conversation(video.media, asked.turns, asked.text)
                reply = await self._server.ask(
                    client, sent, options, lambda text: emit(AnswerDelta(text=text))
                )
            context = asked.context(reply)
            return VideoAnswer(
                text=reply.text,
                model=self.spec.key,
                finish=reply.finish,
                history=(),
                seen=video.seen,
                context=context,
                notes=asked.notes(reply, context),
            )

        return run_cancellable(ask(), cancel)

    def _encoded(self, video: Path, part: Part, emit: Emit, cancel: CancelToken) -> _EncodedVideo:
        def encode() -> _EncodedVideo:
            with open_video(video, max_seconds=self.settings.max_video_s, cancel=cancel) as reader:
                if self._is_sent_as_file(video, part):
                    return _encode_file(video, reader)
                return _encode_frames(reader, part, self._server.remote.max_frames, emit, cancel)

        return self._videos.get_or_compute((self._digests.of(video), part), encode)

    def _is_sent_as_file(self, video: Path, part: Part) -> bool:
        whole = part.start_s == part.end_s == 0.0
        small = video.stat().st_size <= FILE_BYTES
        return self._server.remote.videos == "file" and whole and small


def _encode_file(video: Path, reader: VideoReader) -> _EncodedVideo:
    start, end = reader.info.start_s, reader.info.end_s
    kind = mimetypes.guess_type(video.name)[0] or "video/mp4"
    seen = SeenFrames(times_s=(), start_s=start, end_s=end, video_end_s=end)
    return _EncodedVideo(seen, (), (messages.video_part(video.read_bytes(), kind),))


def _encode_frames(
    reader: VideoReader, part: Part, most: int, emit: Emit, cancel: CancelToken
) -> _EncodedVideo:
    times, info = reader.times_s, reader.info
    within = indices_between(times, part.start_s, part.end_s)
    chosen = within[spread_indices(len(within), min(part.max_frames, most))]
    scale = min(1.0, FRAME_PX / max(info.height_px, info.width_px))
    size = (max(1, round(info.height_px * scale)), max(1, round(info.width_px * scale)))

    def report(done: int, total: int) -> None:
        emit(AnswerDelta(step=Step(done=done, total=total, unit="frames")))

    frames = reader.frames_at(chosen, size, cancel=cancel, on_progress=report)
    end_s = min(part.end_s or info.end_s, info.end_s)
    seen = SeenFrames(
        times_s=tuple(frames.times_s.tolist()),
        start_s=min(max(part.start_s, info.start_s), end_s),
        end_s=end_s,
        video_end_s=info.end_s,
    )
    pictures = [Image.fromarray(np.ascontiguousarray(frame)) for frame in frames.pixels]
    media = [messages.text_part(_times_text(seen)), *map(messages.image_part, pictures)]
    notes = tuple(notice for notice in (info.notice, frames.notice) if notice)
    return _EncodedVideo(seen, tuple(_small(one) for one in pictures), tuple(media), notes)


def _times_text(seen: SeenFrames) -> str:
    times = ", ".join(f"{time_s:.1f}" for time_s in seen.times_s)
    return (
        f"These pictures are {len(seen.times_s)} frames of a video of {seen.video_end_s:.1f} "
        f"seconds, in order, at these seconds: {times}."
    )


def _small(picture: Image.Image) -> Pixels:
    height, width = preview_size(picture.height, picture.width)
    return np.asarray(picture.resize((width, height), reducing_gap=2.0))
