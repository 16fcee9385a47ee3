"""Evaluation of demo-viclip: accuracy by kind of question on video files, and the scene hint.

The app's own pipeline is asked, or an app through /match_video.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demo_models.evaluation.app_client import AppClient
from demo_models.evaluation.held_out import evaluation_rng
from demo_models.evaluation.held_out_videos import VideoQuestion, video_questions
from demo_models.evaluation.metrics import Figures, best_threshold, in_parallel, share, shares
from demo_models.evaluation.request import TEST_SEED, Request, open_pipeline, update_card
from demo_models.evaluation.scene_hint import CALIBRATION_SEED, real_photos
from demo_models.language.statement_wording import article
from demo_models.training.viclip.data import render_clip, unrelated_video
from demo_models.world.motion import clip_times
from demo_models.world.motion_sampling import sample_motion
from demo_models.world.vocabulary import ALL_PAIRS
from pipelines.models.viclip.checkpoints import DEMO_VICLIP
from pipelines.models.viclip.pipeline import ViClipPipeline
from pipelines.weights.locate import BUNDLE

CHECKPOINT = BUNDLE / DEMO_VICLIP.key
GATES_PERCENT = {"direction_of_4": 95.0, "text_of_20": 95.0}
SCENE_TEXTS = [f"{article(colour)} {colour} {shape}" for colour, shape in ALL_PAIRS]

Ask = Callable[[Path, Sequence[str]], str]
"""A back end: (video file, texts) -> the best text."""


def open_viclip(checkpoint: Path = CHECKPOINT) -> AbstractContextManager[ViClipPipeline]:
    """Load a checkpoint folder for the length of a block."""
    return open_pipeline(ViClipPipeline, DEMO_VICLIP, checkpoint)


def pipeline_backend(pipeline: ViClipPipeline) -> Ask:
    """Return the back end over the pipeline in this process."""

    def ask(video: Path, texts: Sequence[str]) -> str:
        return pipeline.match(video, texts).answer.scores[0].label

    return ask


def app_backend(client: AppClient) -> Ask:
    """Return the back end over the public endpoint of a running app."""

    def ask(video: Path, texts: Sequence[str]) -> str:
        label, _ = client.predict_video(
            video, texts="\n".join(texts), model=DEMO_VICLIP.key, api_name="/match_video"
        )
        return str(label["label"])

    return ask


def measure(ask: Ask, asked: Iterable[VideoQuestion], workers: int = 1) -> Figures:
    """Return the share of right first choices of each kind."""

    def answer(question: VideoQuestion) -> list[tuple[str, bool]]:
        right = ask(question.path, question.texts) == question.right
        return [(kind, right) for kind in (question.kind, *question.also)]

    answered = in_parallel(answer, asked, workers)
    return dict(sorted(shares(each for part in answered for each in part).items()))


def unrelated_videos(seed: int, num: int) -> list[NDArray[np.uint8]]:
    """Return videos (8, H, W, 3) of what this world does not have: blobs, stripes, photographs."""
    rng = evaluation_rng(seed, "foreign videos")
    videos = [unrelated_video(rng, held_out=bool(index % 2)) for index in range(num)]
    return videos + [np.repeat(np.asarray(photo)[None], 8, axis=0) for photo in real_photos()]


def scene_scores(pipeline: ViClipPipeline, videos: Sequence[NDArray[np.uint8]]) -> list[float]:
    """Return the highest cosine of each video with the texts of the scene bank."""
    bank = pipeline.encoder.embed_texts(SCENE_TEXTS)
    scores: list[float] = (
        (pipeline.encoder.embed_frames(videos) @ bank.T).max(dim=1).values.tolist()
    )
    return scores


def measure_hint(pipeline: ViClipPipeline, num: int) -> tuple[float, Figures]:
    """Return the threshold of the hint and how often it is shown, in percent.

    The threshold comes from another seed than the figures; photographs have no say in it.
    """
    found = {}
    for seed in (CALIBRATION_SEED, TEST_SEED):
        rng = evaluation_rng(seed, "hint")
        times = clip_times(8)
        scenes = [render_clip(sample_motion(rng), times, rng) for _ in range(num)]
        found[seed] = (
            scene_scores(pipeline, scenes),
            scene_scores(pipeline, unrelated_videos(seed, num)),
        )
    scenes_then, foreign_then = found[CALIBRATION_SEED]
    threshold = round(best_threshold(scenes_then, foreign_then[:num])[0], 4)
    scenes_now, foreign_now = found[TEST_SEED]
    groups = {
        "motion": scenes_now,
        "non_scene": foreign_now[:num:2],
        "non_scene_of_unseen_kind": foreign_now[1:num:2],
        "real_photo": foreign_now[num:],
    }
    return threshold, {
        name: share([score < threshold for score in scores]) for name, scores in groups.items()
    }


def evaluate(request: Request) -> dict[str, Any]:
    """Return all figures of one back end; the pipeline also sets the threshold of the hint."""
    with TemporaryDirectory() as folder:
        asked = video_questions(request.seed, request.num, Path(folder))
        if request.url:
            ask = app_backend(AppClient(request.url))
            return {"accuracy": measure(ask, asked, request.workers)}
        with open_viclip(request.checkpoint) as viclip:
            threshold, hint = measure_hint(viclip, request.num)
            card = {"scene_score": "cosine", "scene_threshold": threshold}
            update_card(request.checkpoint, scene_bank=SCENE_TEXTS, **card)
            return {
                "hint": hint,
                "accuracy": measure(pipeline_backend(viclip), asked, request.workers),
            }
