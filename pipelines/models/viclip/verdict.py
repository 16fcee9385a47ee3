"""What a similarity means: verdicts on videos and texts, and the moments of a video."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from pipelines.core.results import Verdict
from pipelines.core.spec import VideoTextTraits
from pipelines.models.verdict import evidence, read_bank, verdict_of
from pipelines.models.viclip.modeling_viclip import LOGIT_SCALE
from pipelines.models.viclip.results import Moment, SearchedVideo
from pipelines.models.viclip.videos import WindowPlan
from pipelines.models.viclip.windows import find_peaks


class VideoTextJudge:
    """Verdicts of one model."""

    def __init__(
        self, traits: VideoTextTraits, vectors: Callable[[Sequence[str]], torch.Tensor]
    ) -> None:
        """Read the bank; its vectors come from `vectors` when first needed."""
        self._traits = traits
        self._vectors = vectors
        self.bank = read_bank(traits.neutral_bank)

    def evidence(self, cosines: torch.Tensor, videos: torch.Tensor) -> torch.Tensor:
        """Return the evidence, (N, L), for N videos with L texts.

        Args:
            cosines: (N, L), of the videos with the texts.
            videos: (N, D) unit vectors.
        """
        neutral = videos @ self._vectors(self.bank).T
        weight = self._traits.neutral_weight
        return evidence(cosines, neutral, scale=LOGIT_SCALE, weight=weight)

    def verdict(self, value: float) -> Verdict:
        """Return what a piece of evidence means."""
        return verdict_of(value, self._traits.text_thresholds)

    def score(self, values: torch.Tensor) -> torch.Tensor:
        """Return evidence of any shape as 0..1: half where a verdict is as unsure as can be.

        A sigmoid about 0 would be full everywhere for a model whose evidence is large.
        """
        low, high = self._traits.text_thresholds
        return (values.double() - (low + high) / 2).sigmoid()

    def searched(
        self, index: int, plan: WindowPlan, vectors: torch.Tensor, word: torch.Tensor, top_k: int
    ) -> SearchedVideo:
        """Return the moments of one video.

        Args:
            index: the video's position among those given.
            plan: its windows.
            vectors: (N, D) unit vectors of the windows, 0 where one could not be read.
            word: (1, D) unit vector of the query.
            top_k: most moments.
        """
        cosines = vectors @ word.T
        found = self.evidence(cosines, vectors)[:, 0]
        values = np.where(vectors.any(dim=1).numpy(), found.double().numpy(), -np.inf)
        edges = (plan.video_start_s, plan.video_end_s)
        peaks = find_peaks(values, plan.starts_s, plan.ends_s, edges, top_k)
        centres = (plan.starts_s + plan.ends_s) / 2
        scores = self.score(found).tolist()
        moments = [
            Moment(
                start_s=start,
                end_s=end,
                score=scores[peak],
                cosine=float(cosines[peak, 0]),
                evidence=float(values[peak]),
                verdict=self.verdict(float(values[peak])),
                key_s=float(np.clip(centres[peak], start, end)),
            )
            for start, end, peak in peaks
        ]
        curve = [
            (float(centre), score)
            for centre, score, value in zip(centres, scores, values, strict=True)
            if np.isfinite(value)
        ]
        return SearchedVideo(
            index=index, moments=tuple(moments), curve=tuple(curve), end_s=plan.video_end_s
        )
