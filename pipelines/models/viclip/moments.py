"""Moments of a video that fit a query."""

import numpy as np
import torch

from pipelines.models.verdict import Judge
from pipelines.models.viclip.results import Moment, SearchedVideo
from pipelines.models.viclip.videos import WindowPlan
from pipelines.models.viclip.windows import find_peaks


def find_moments(
    judge: Judge,
    index: int,
    plan: WindowPlan,
    vectors: torch.Tensor,
    word: torch.Tensor,
    top_k: int,
) -> SearchedVideo:
    """Return the moments of one video for a query with unit vector (1, D).

    `vectors` are (N, D) unit vectors of the windows, 0 for an unreadable one.
    """
    cosines = vectors @ word.T
    found = judge.text_evidence(cosines, vectors)[:, 0]
    values = np.where(vectors.any(dim=1).numpy(), found.double().numpy(), -np.inf)
    edges = (plan.video_start_s, plan.video_end_s)
    peaks = find_peaks(values, plan.starts_s, plan.ends_s, edges, top_k)
    centres = (plan.starts_s + plan.ends_s) / 2
    scores = judge.score(found).tolist()
    moments = [
        Moment(
            start_s=start,
            end_s=end,
            score=scores[peak],
            cosine=float(cosines[peak, 0]),
            evidence=float(values[peak]),
            verdict=judge.verdict(float(values[peak])),
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
