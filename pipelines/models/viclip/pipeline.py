"""ViCLIP live: videos and texts -> unit vectors, how they fit, and where in a video."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path

import numpy as np
import torch

from pipelines.compute.background import await_work, stream_work
from pipelines.compute.lru import SharedCache
from pipelines.compute.packed_linear import pack_linear
from pipelines.compute.vector_cache import VectorCache, fingerprint
from pipelines.core.cancel import NEVER, CancelToken
from pipelines.core.errors import InputError, MediaError
from pipelines.core.results import Classification, LabelScore, Step
from pipelines.core.spec import VideoTextTraits
from pipelines.core.text import cut_note
from pipelines.media.images import open_image
from pipelines.models.base import Pipeline
from pipelines.models.notes import VIDEO_LOST, language_notes
from pipelines.models.search_query import (
    Assessment,
    FileVectors,
    QueryVector,
    Vectors,
    WindowBatch,
    blend,
    query_kind,
)
from pipelines.models.verdict import PLAIN, Judge, SceneCheck
from pipelines.models.viclip.conversion_viclip import load_viclip
from pipelines.models.viclip.encoding import TextVectors, ViClipEncoder
from pipelines.models.viclip.modeling_viclip import LOGIT_SCALE
from pipelines.models.viclip.moments import find_moments
from pipelines.models.viclip.processing_viclip import Pixels, ViClipProcessor
from pipelines.models.viclip.results import MomentSearch, SearchedVideo, VideoMatch, VideoTextScores
from pipelines.models.viclip.tokens import ViClipTokeniser
from pipelines.models.viclip.videos import VideoEncoder, WindowPlan
from pipelines.models.viclip.windows import SearchOptions, check_total

#: Texts between two steps of `prepare`.
TEXTS_PER_STEP = 32

#: Raised when vectors come out otherwise than before, so that kept ones are not taken for new.
VECTORS_FORMAT = 1

#: Most memory that the vectors of videos take: more than those of the longest search.
VIDEO_VECTOR_BYTES = 128_000_000

DEFAULT_SEARCH = SearchOptions()

#: Why there is no answer about a part of a video; of the whole of it, `VIDEO_LOST`.
_PART_LOST = (
    "Not one of the frames that the model would look at can be read: the video is damaged there. "
    "Choose another part, or save the video again."
)


class ViClipPipeline(Pipeline):
    """Clips of a few frames and texts in one space of unit vectors.

    Every method may be called from any number of threads at once.
    """

    @property
    def traits(self) -> VideoTextTraits:
        """What differs between the models that this class runs."""
        traits = self.spec.video_text
        assert traits is not None, "the catalogue gives every video-text model its traits"
        return traits

    def _load(self) -> None:
        model = load_viclip(self.folder, dtype=getattr(torch, self.dtype)).to(self.device.kind)
        config = model.config
        tokeniser = ViClipTokeniser.of_folder(
            self.folder, context_length=config.context_length, vocab_size=config.vocab_size
        )
        if self.device.packed and self.dtype == "bfloat16":
            pack_linear(model)
        self.tokeniser = tokeniser
        self.processor = ViClipProcessor(config.image_size, config.num_frames, self.traits.fit)
        self.encoder = ViClipEncoder(model, tokeniser, self.processor)
        name = fingerprint(self.folder, self.device, VECTORS_FORMAT, self.traits.fit)
        self._kept = VectorCache(self.settings.cache_dir / "text-vectors.sqlite", name)
        self.judge = Judge(self.traits, self._word_vectors, LOGIT_SCALE)
        self._scene_check = SceneCheck.of(self.folder, self._word_vectors, LOGIT_SCALE)
        self.videos = VideoEncoder(
            self.embed_frames,
            self.processor,
            VectorCache(None, name, memory_bytes=VIDEO_VECTOR_BYTES),
            dim=config.embed_dim,
            clips_per_batch=self.encoder.clips_per_batch,
            max_seconds=self.settings.max_video_s,
        )

    def caches(self) -> tuple[SharedCache, ...]:
        """Return the vectors of texts and of windows, and what could not be read for these."""
        return self._kept, *self.videos.caches

    def _unload(self) -> None:
        self._kept.close()
        super()._unload()

    def prepare(self, texts: Sequence[str]) -> Iterator[Step]:
        """Compute the vectors of texts, and of those a verdict compares with, in steps.

        What was computed is kept; whoever stops between two steps stops the work. Nothing is
        yielded where one step is enough.
        """
        every = [*self.judge.bank, *texts]
        todo = self._kept.missing(every)
        for start in range(0, len(todo), TEXTS_PER_STEP):
            self._word_vectors([every[index] for index in todo[start : start + TEXTS_PER_STEP]])
            done = len(every) - len(todo) + min(start + TEXTS_PER_STEP, len(todo))
            yield Step(done=done, total=len(every), unit="texts")

    def stream_match(
        self,
        video: Path,
        texts: Sequence[str],
        *,
        start_s: float = 0.0,
        end_s: float = 0.0,
        fit: str = "",
    ) -> Iterator[VideoMatch | None]:
        """Match, as `match` does; yields None as signs of life, at last the result.

        Closing the stream stops the work within a batch of the model.
        """

        def work(cancel: CancelToken) -> VideoMatch:
            return self.match(video, texts, start_s=start_s, end_s=end_s, fit=fit, cancel=cancel)

        yield (yield from await_work(work, None))

    def match(
        self,
        video: Path,
        texts: Sequence[str],
        *,
        start_s: float = 0.0,
        end_s: float = 0.0,
        fit: str = "",
        cancel: CancelToken = NEVER,
    ) -> VideoMatch:
        """Score texts against a video, or a part of it.

        The frames that the model reads are spread evenly over the part.

        Args:
            video: a video file.
            texts: at least one, distinct.
            start_s: start of the part.
            end_s: its end; 0.0 means the end of the video.
            fit: how frames are made square, see `framing.Fit`; "" for the model's own way.
            cancel: ends the work with `Cancelled`.

        Raises:
            MediaError: the file is not a video that can be read, or too long.
            InputError: the part is not in the video, or `fit` is unknown.
            Cancelled: `cancel` is cancelled.
        """
        plan, times, notes = self.videos.part(video, start_s, end_s, cancel, fit)
        vector = self.videos.vectors(video, plan, cancel)
        if not vector.any():
            raise MediaError(_PART_LOST)
        scores = self._scores(vector, texts)
        notes += self._scene_check.notes(vector, "video")
        notes += self.videos.lost_notes(plan)
        notes += language_notes(texts, self.traits.languages, self.spec.task)
        return VideoMatch(
            answer=Classification(scores=tuple(scores), model=self.spec.key, notes=tuple(notes)),
            frame_times_s=times,
            start_s=float(plan.starts_s[0]),
            end_s=float(plan.ends_s[0]),
        )

    def _scores(self, vector: torch.Tensor, texts: Sequence[str]) -> list[LabelScore]:
        """Return how texts fit one clip's unit vector, (1, D), best first."""
        cosines = vector @ self._word_vectors(texts).T
        found = self.judge.text_evidence(cosines, vector)[0].tolist()
        probabilities = (LOGIT_SCALE * cosines[0].double()).softmax(dim=-1).tolist()
        cut = self.tokeniser.tokenise(list(texts)).cut
        scores = [
            LabelScore(
                label=text,
                probability=probabilities[index],
                cosine=float(cosines[0, index]),
                evidence=found[index],
                verdict=self.judge.verdict(found[index]),
                note=cut_note(self.tokeniser.context_length) if cut[index] else "",
            )
            for index, text in enumerate(texts)
        ]
        return sorted(scores, key=lambda score: -score.probability)

    def search(self, videos: Sequence[Path], options: SearchOptions) -> Iterator[Step | None]:
        """Compute the vectors of all windows of videos, in steps of a batch, and keep them.

        Windows whose vectors are kept cost nothing. A video that cannot be read is passed over:
        `moments` says why. Closing the stream stops the work within a batch of the model.

        Yields:
            How far it is, or None as a sign of life.

        Raises:
            InputError: there are too many windows.
        """

        def work(emit: Callable[[Step], None], cancel: CancelToken) -> None:
            plans: list[tuple[Path, WindowPlan]] = []
            for video in videos:
                with suppress(MediaError):
                    plans.append((video, self.videos.plan(video, options, cancel)))
            total = sum(len(plan.indices) for _, plan in plans)
            check_total(total, options)
            before = 0
            for video, plan in plans:
                with suppress(MediaError):
                    for done in self.videos.prepare(video, plan, cancel):
                        emit(Step(done=before + done, total=total, unit="parts"))
                before += len(plan.indices)

        yield from stream_work(work)

    def moments(
        self, videos: Sequence[Path], query: str, options: SearchOptions = DEFAULT_SEARCH
    ) -> MomentSearch:
        """Find where in videos a text happens.

        Args:
            videos: at least one video file; after `search` only the query is encoded.
            query: the text.
            options: windows, stride, number of moments.

        Raises:
            InputError: no query or no video, or too many windows.
            MediaError: none of the videos can be read.
        """
        if not isinstance(query, str) or not query.strip():
            raise InputError("The query is empty. Write what should happen in the video.")
        if not videos:
            raise InputError("There is no video. Upload at least one.", title="No file")
        word = self._word_vectors([query.strip()])
        found: list[SearchedVideo] = []
        notes, errors = [], []
        for index, video in enumerate(videos):
            try:
                plan = self.videos.plan(video, options)
                vectors = self.videos.vectors(video, plan)
                if not vectors.any():
                    raise MediaError(VIDEO_LOST)
            except MediaError as error:
                errors.append(error)
                found.append(SearchedVideo(index=index, error=error.message))
                continue
            found.append(find_moments(self.judge, index, plan, vectors, word, options.top_k))
            notes += self.videos.lost_notes(plan)
        if len(errors) == len(videos):
            raise errors[0]
        found.sort(key=lambda each: -max([m.evidence for m in each.moments], default=-inf))
        if self.tokeniser.tokenise([query]).cut[0]:
            notes.append(cut_note(self.tokeniser.context_length))
        notes += language_notes([query], self.traits.languages, self.spec.task)
        return MomentSearch(
            videos=tuple(found),
            query=query.strip(),
            model=self.spec.key,
            notes=tuple(dict.fromkeys(notes)),
        )

    def windows(
        self, video: Path, first: int = 0, options: SearchOptions = DEFAULT_SEARCH
    ) -> Iterator[WindowBatch]:
        """Compute the vectors of a video's windows, for an index, in steps of a batch.

        Args:
            video: a video file.
            first: windows that are known already, as an earlier call gave them; 0 for none.
            options: windows and stride.

        Yields:
            After each batch, what has come; at least once.

        Raises:
            MediaError: the file is not a video that can be read, or too long.
            InputError: it has too many windows.
        """
        plan = self.videos.plan(video, options)
        done = first
        for some, vectors in self.videos.in_order(video, plan, first):
            done += len(some.indices)
            seen = vectors.numpy().any(axis=1)
            yield WindowBatch(
                done=done,
                total=len(plan.indices),
                parts=FileVectors(
                    starts_s=some.starts_s[seen],
                    ends_s=some.ends_s[seen],
                    vectors=vectors.numpy()[seen],
                ),
                lost=self.videos.lost(plan),
                num_frames=len(np.unique(plan.indices)),
            )

    def query_vector(self, text: str, image: Path | None, text_weight: float = 0.5) -> QueryVector:
        """Return what to look for in an index of windows.

        Args:
            text: what should happen, or "".
            image: an image file like which it should look, or None; one of the two is given. It
                is read as a video that stands still.
            text_weight: share of the text where both are given, 0..1.

        Raises:
            MediaError: the image cannot be read.
        """
        word = self._word_vectors([text])[0].numpy() if text else None
        seen = None
        if image is not None:
            picture = open_image(image, max_pixels=int(self.settings.max_pixels_mp * 1e6))
            seen = self.embed_frames([np.asarray(picture)[None]])[0].numpy()
        notes = language_notes([text] if text else [], self.traits.languages, self.spec.task)
        if text and self.tokeniser.tokenise([text]).cut[0]:
            notes.insert(0, cut_note(self.tokeniser.context_length))
        return QueryVector(
            vector=blend(word, seen, text_weight), kind=query_kind(word, seen), notes=tuple(notes)
        )

    def judge_found(self, aim: QueryVector, vectors: Vectors) -> list[Assessment | None]:
        """Return what the similarity of each of (N, D) window vectors to an aim means.

        None where there is an image in the aim, for which nothing is calibrated.
        """
        if aim.kind != "text" or not len(vectors):
            return [None] * len(vectors)
        windows, word = torch.from_numpy(vectors), torch.from_numpy(aim.vector)[None]
        found = self.judge.text_evidence(windows @ word.T, windows)[:, 0].tolist()
        return [Assessment(evidence=e, verdict=self.judge.verdict(e)) for e in found]

    def embed_frames(self, clips: Sequence[Pixels]) -> torch.Tensor:
        """Return the unit vectors of clips, as `ViClipEncoder.embed_frames` does."""
        return self.encoder.embed_frames(clips)

    def embed_texts(self, texts: Sequence[str]) -> TextVectors:
        """Return the unit vectors of texts, as `ViClipEncoder.embed_texts` does."""
        return self.encoder.embed_texts(texts)

    def similarities(self, clips: Sequence[Pixels], texts: Sequence[str]) -> VideoTextScores:
        """Compare each clip with each text, as `ViClipEncoder.similarities` does."""
        return self.encoder.similarities(clips, texts)

    @property
    def dim(self) -> int:
        """Size of the vectors."""
        return self.encoder.dim

    def _word_vectors(
        self, texts: Sequence[str], templates: tuple[str, ...] = PLAIN
    ) -> torch.Tensor:
        """Return (N, D) cached unit vectors of texts; the model has no templates but `PLAIN`."""
        if not texts:
            return torch.empty(0, self.dim, dtype=torch.float32)

        def compute(missing: list[int]) -> torch.Tensor:
            return self.embed_texts([texts[index] for index in missing]).vectors

        return self._kept.get(texts, compute)
