"""ViCLIP: videos and texts as unit vectors, their similarity, and moments of a video."""

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
from pipelines.models.notes import PART_LOST, VIDEO_LOST, language_notes
from pipelines.models.search_query import (
    Assessment,
    FileVectors,
    QueryVector,
    Vectors,
    WindowBatch,
)
from pipelines.models.verdict import PLAIN, Judge, SceneCheck
from pipelines.models.viclip.conversion_viclip import load_viclip
from pipelines.models.viclip.encoding import ViClipEncoder
from pipelines.models.viclip.modeling_viclip import LOGIT_SCALE
from pipelines.models.viclip.moments import find_moments
from pipelines.models.viclip.processing_viclip import ViClipProcessor
from pipelines.models.viclip.results import MomentSearch, SearchedVideo, VideoMatch
from pipelines.models.viclip.tokens import ViClipTokeniser
from pipelines.models.viclip.videos import VideoEncoder, WindowPlan
from pipelines.models.viclip.windows import SearchOptions, check_total

#: Texts per step of `prepare`.
TEXTS_PER_STEP = 32

#: Version of the cached vectors; to be raised when the computation changes.
VECTORS_FORMAT = 1

DEFAULT_SEARCH = SearchOptions()


class ViClipPipeline(Pipeline):
    """Clips and texts in one space of unit vectors; thread-safe."""

    traits: VideoTextTraits

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
            self.encoder.embed_frames,
            self.processor,
            dim=config.embed_dim,
            clips_per_batch=self.encoder.clips_per_batch,
            max_seconds=self.settings.max_video_s,
        )

    def caches(self) -> tuple[SharedCache, ...]:
        """Return the caches of text and window vectors, and of unreadable frames."""
        return self._kept, *self.videos.caches

    def _unload(self) -> None:
        self._kept.close()
        super()._unload()

    def prepare(self, texts: Sequence[str]) -> Iterator[Step]:
        """Compute and cache the vectors of texts and of the neutral texts in steps.

        The generator can be closed between two steps. It yields nothing if all are cached.
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
        """Match as `match` does; yield None as heartbeats, then the result.

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
        """Score distinct texts, at least one, against frames spread evenly over a part of a video.

        `end_s` 0.0 means the end of the video; `fit` is a `SquareFit`, "" for the model's own.
        `cancel` ends the work with `Cancelled`.

        Raises:
            MediaError: the file is not a readable video, or too long.
            InputError: the part is not in the video, or `fit` is unknown.
        """
        plan, times, notes = self.videos.part(video, start_s, end_s, cancel, fit)
        vector = self.videos.vectors(video, plan, cancel)
        if not vector.any():
            raise MediaError(PART_LOST)
        scores = self._scores(vector, texts)
        notes += self._scene_check.notes(vector, "video")
        notes += self.videos.frame_notes(plan)
        notes += language_notes(texts, self.traits.languages, self.spec.task)
        return VideoMatch(
            answer=Classification(scores=scores, model=self.spec.key, notes=tuple(notes)),
            frame_times_s=times,
            start_s=float(plan.starts_s[0]),
            end_s=float(plan.ends_s[0]),
        )

    def _scores(self, vector: torch.Tensor, texts: Sequence[str]) -> tuple[LabelScore, ...]:
        """Return how texts fit one clip's unit vector, (1, D), best first."""
        cosines = vector @ self._word_vectors(texts).T
        return self.judge.label_scores(
            texts,
            self.probabilities(cosines[0]),
            cosines[0],
            self.judge.text_evidence(cosines, vector)[0],
            self.tokeniser.tokenise(list(texts)).cut,
            self.tokeniser.context_length,
        )

    def search(self, videos: Sequence[Path], options: SearchOptions) -> Iterator[Step | None]:
        """Compute and cache the vectors of all windows of videos in steps of a batch.

        An unreadable video is skipped; `moments` reports it. Closing the stream stops the work
        within a batch of the model, and so does not taking its steps. None is yielded as a
        heartbeat.

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

        yield from stream_work(work, max_ahead=1)

    def moments(
        self, videos: Sequence[Path], query: str, options: SearchOptions = DEFAULT_SEARCH
    ) -> MomentSearch:
        """Find the moments of videos that fit a text; after `search` only the query is encoded.

        Raises:
            InputError: no query or no video, or too many windows.
            MediaError: none of the videos is readable.
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
            notes += self.videos.frame_notes(plan)
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
        """Compute the vectors of a video's windows for an index, in steps of a batch.

        The first `first` windows are skipped. At least one batch is yielded.

        Raises:
            MediaError: the file is not a readable video, or too long.
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
                    notes=plan.notes,
                ),
                lost=self.videos.lost(plan),
                num_frames=len(np.unique(plan.indices)),
            )

    def query_vector(self, text: str, image: Path | None, text_weight: float = 0.5) -> QueryVector:
        """Return the vector of a search for a text, an image, or both weighted by `text_weight`.

        The image counts as a still video.

        Raises:
            MediaError: the image is unreadable.
        """
        word = self._word_vectors([text])[0].numpy() if text else None
        seen = None
        if image is not None:
            picture = open_image(image, max_pixels=int(self.settings.max_pixels_mp * 1e6))
            seen = self.encoder.embed_frames([np.asarray(picture)[None]])[0].numpy()
        notes = language_notes([text] if text else [], self.traits.languages, self.spec.task)
        if text and self.tokeniser.tokenise([text]).cut[0]:
            notes.insert(0, cut_note(self.tokeniser.context_length))
        return QueryVector.of(word, seen, text_weight, notes)

    def assess(self, query: QueryVector, vectors: Vectors) -> list[Assessment | None]:
        """Return verdicts on (N, D) window vectors for a query.

        None for queries with an image, for which nothing is calibrated.
        """
        if query.kind != "text" or not len(vectors):
            return [None] * len(vectors)
        windows, word = torch.from_numpy(vectors), torch.from_numpy(query.vector)[None]
        found = self.judge.text_evidence(windows @ word.T, windows)[:, 0].tolist()
        return [Assessment(evidence=e, verdict=self.judge.verdict(e)) for e in found]

    def probabilities(self, cosines: torch.Tensor) -> torch.Tensor:
        """Return the softmax, (..., L) float64, of 100 times the (..., L) cosines of L texts."""
        return (LOGIT_SCALE * cosines.double()).softmax(dim=-1)

    def _word_vectors(
        self, texts: Sequence[str], templates: tuple[str, ...] = PLAIN
    ) -> torch.Tensor:
        """Return (N, D) cached unit vectors of texts; there are no templates but `PLAIN`."""
        if not texts:
            return torch.empty(0, self.encoder.dim, dtype=torch.float32)

        def compute(missing: list[int]) -> torch.Tensor:
            return self.encoder.embed_texts([texts[index] for index in missing])

        return self._kept.get(texts, compute)
