"""Conversations about videos, by a model on a server, which is sent frames. Torch-free."""

import mimetypes
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.compute.lru import FileDigests, LruCache
from pipelines.core.cancel import Cancelled, CancelToken
from pipelines.core.options import GenerationOptions
from pipelines.core.results import Step
from pipelines.core.settings import Settings
from pipelines.core.spec import ModelSpec
from pipelines.core.text import extend_history, read_history
from pipelines.media.video.frames import Pixels, indices_between, spread_indices
from pipelines.media.video.open import open_video
from pipelines.media.video.reader import VideoReader
from pipelines.models.remote import messages
from pipelines.models.remote.client import ChatServer
from pipelines.models.remote.messages import Question, check_beams
from pipelines.models.remote.stopping import run_stoppable
from pipelines.models.video_chat import (
    AnswerDelta,
    Emit,
    History,
    Part,
    SeenFrames,
    VideoAnswer,
    VideoChatModel,
    picture_size,
)

#: Longest side of a frame that is sent.
FRAME_PX = 448

#: Most characters of all frames, as they are sent, that are kept for further questions.
KEPT_CHARS = 200_000_000

#: Largest video file that is sent whole; of a larger one frames are sent.
FILE_BYTES = 64_000_000


@dataclass(frozen=True)
class _Look:
    """A video as it is sent.

    Attributes:
        seen: the frames, none of them where the server chooses.
        pictures: small ones, (H, W, 3) uint8 RGB.
        media: parts of a message.
        notes: on frames that are missing.
    """

    seen: SeenFrames
    pictures: tuple[Pixels, ...]
    media: tuple[messages.Part, ...]
    notes: tuple[str, ...] = ()

    @property
    def num_chars(self) -> int:
        """How large it is as it is sent."""
        return sum(len(str(part)) for part in self.media)


class RemoteVideoChat(VideoChatModel):
    """One model on a server that answers about videos.

    A video is decoded here and sent as pictures of its frames, spread evenly, or, where the
    remote's settings say so, as the file itself. Closing a stream closes the connection.
    """

    def __init__(self, spec: ModelSpec, settings: Settings, server: ChatServer) -> None:
        """Remember whom to ask; nobody is asked yet."""
        self.spec = spec
        self.settings = settings
        self._server = server
        self._digests = FileDigests()
        self._looks: LruCache[tuple[str, Part], _Look] = LruCache(
            KEPT_CHARS, lambda look: look.num_chars
        )

    def _asked(
        self,
        video: Path,
        question: str,
        history: History,
        options: GenerationOptions,
        part: Part,
        compress: bool,
    ) -> Callable[[Emit, CancelToken], None]:
        """Return the work of answering, which closes the connection once told to end.

        Of the frames, as many are sent as the remote's settings allow. `compress` is only told of:
        a server cannot be asked to skim.

        Raises:
            InputError: a history of another form, or beams are asked for.
        """
        check_beams(options)
        asked = Question.of(question, read_history(history))

        def work(emit: Emit, cancel: CancelToken) -> None:
            with suppress(Cancelled):
                look = self._look(video, part, emit, cancel)
                emit(AnswerDelta(seen=look.seen, pictures=look.pictures))
                answer = self._answered(look, asked, options, emit, cancel)
                notes = (*look.notes, *answer.notes, *_skim_notes(compress))
                whole = extend_history(history, question, answer.text)
                emit(AnswerDelta(result=replace(answer, history=tuple(whole), notes=notes)))

        return work

    def _answered(
        self,
        look: _Look,
        asked: Question,
        options: GenerationOptions,
        emit: Emit,
        cancel: CancelToken,
    ) -> VideoAnswer:
        async def ask() -> VideoAnswer:
            async with self._server.client() as client:
                said = messages.conversation(look.media, asked.turns, asked.text)
                reply = await self._server.ask(
                    client, said, options, lambda text: emit(AnswerDelta(text=text))
                )
            context = asked.context(reply)
            return VideoAnswer(
                text=reply.text,
                model=self.spec.key,
                finish=reply.finish,
                history=(),
                seen=look.seen,
                context=context,
                notes=asked.notes(reply, context),
            )

        return run_stoppable(ask(), cancel)

    def _look(self, video: Path, part: Part, emit: Emit, cancel: CancelToken) -> _Look:
        """Return a video as it is sent, from an earlier question where it is kept."""

        def make() -> _Look:
            with open_video(video, max_seconds=self.settings.max_video_s, cancel=cancel) as reader:
                if self._goes_whole(video, part):
                    return _whole(video, reader)
                return _frames(reader, part, self._server.remote.max_frames, emit, cancel)

        return self._looks.get((self._digests.of(video), part), make)

    def _goes_whole(self, video: Path, part: Part) -> bool:
        whole = part.start_s == part.end_s == 0.0
        small = video.stat().st_size <= FILE_BYTES
        return self._server.remote.videos == "file" and whole and small


def _whole(video: Path, reader: VideoReader) -> _Look:
    start, end = reader.info.start_s, reader.info.end_s
    kind = mimetypes.guess_type(video.name)[0] or "video/mp4"
    seen = SeenFrames(times_s=(), start_s=start, end_s=end, video_end_s=end)
    return _Look(seen, (), (messages.video_part(video.read_bytes(), kind),))


def _frames(reader: VideoReader, part: Part, most: int, emit: Emit, cancel: CancelToken) -> _Look:
    """Return frames spread evenly over a part of a video."""
    times, info = reader.times_s, reader.info
    within = indices_between(times, part.start_s, part.end_s)
    chosen = within[spread_indices(len(within), min(part.max_frames, most))]
    scale = min(1.0, FRAME_PX / max(info.height_px, info.width_px))
    size = (max(1, round(info.height_px * scale)), max(1, round(info.width_px * scale)))

    def told(done: int, total: int) -> None:
        emit(AnswerDelta(step=Step(done=done, total=total, unit="frames")))

    frames = reader.frames_at(chosen, size, cancel=cancel, on_progress=told)
    end_s = min(part.end_s or info.end_s, info.end_s)
    seen = SeenFrames(
        times_s=tuple(frames.times_s.tolist()),
        start_s=min(max(part.start_s, info.start_s), end_s),
        end_s=end_s,
        video_end_s=info.end_s,
    )
    pictures = [Image.fromarray(np.ascontiguousarray(frame)) for frame in frames.pixels]
    media = [messages.text_part(_times_told(seen)), *map(messages.picture_part, pictures)]
    notes = (frames.notice,) if frames.notice else ()
    return _Look(seen, tuple(_small(one) for one in pictures), tuple(media), notes)


def _times_told(seen: SeenFrames) -> str:
    """Return what the model is told about the pictures that follow."""
    times = ", ".join(f"{time_s:.1f}" for time_s in seen.times_s)
    return (
        f"These pictures are {len(seen.times_s)} frames of a video of {seen.video_end_s:.1f} "
        f"seconds, in order, at these seconds: {times}."
    )


def _small(picture: Image.Image) -> Pixels:
    height, width = picture_size(picture.height, picture.width)
    return np.asarray(picture.resize((width, height), reducing_gap=2.0))


def _skim_notes(compress: bool) -> list[str]:
    return ["A remote model does not skim: it looked at every frame alike."] if compress else []
