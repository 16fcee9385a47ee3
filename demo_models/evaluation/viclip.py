"""Measures the demo ViCLIP kind by kind on video files and writes `eval.json` beside it.

`python -m demo_models.evaluate_viclip` asks the app's own pipeline;
`--via app` asks an app that it starts, or that of `--url`, through `/match_video`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demo_models.evaluation.app_client import AppClient, running_app
from demo_models.evaluation.held_out import evaluation_rng, weights_hash
from demo_models.evaluation.held_out_videos import VideoQuestion, video_questions
from demo_models.evaluation.scene_hint import CALIBRATION_SEED, best_threshold, real_photos
from demo_models.language.statement_wording import article
from demo_models.training.viclip.data import film, non_scene
from demo_models.world.motion import clip_times
from demo_models.world.motion_sampling import sample_motion
from demo_models.world.vocabulary import ALL_PAIRS
from pipelines.runtime import Device
from pipelines.settings import Settings
from pipelines.sources import BUNDLE
from pipelines.viclip.checkpoints import DEMO_VICLIP
from pipelines.viclip.pipeline import ViClipPipeline

TEST_SEED = 11
CHECKPOINT = BUNDLE / DEMO_VICLIP.key
GATES_PERCENT = {"direction_of_4": 95.0, "text_of_20": 95.0}

SCENE_TEXTS = [f"{article(colour)} {colour} {shape}" for colour, shape in ALL_PAIRS]

Figures = dict[str, dict[str, float | int]]
Ask = Callable[[Path, Sequence[str]], str]
"""A back end: (video file, texts) -> the best text."""


@contextmanager
def open_pipeline(checkpoint: Path = CHECKPOINT) -> Iterator[ViClipPipeline]:
    """Load a checkpoint folder as the app does, on the CPU in float32."""
    with TemporaryDirectory() as cache:
        device = Device("cpu", "float32", False, "evaluation")
        pipeline = ViClipPipeline(DEMO_VICLIP, checkpoint, device, Settings(cache_dir=Path(cache)))
        pipeline.load()
        yield pipeline
        pipeline.unload()


def asks(pipeline: ViClipPipeline) -> Ask:
    """Return the back end over the pipeline in this process."""

    def ask(video: Path, texts: Sequence[str]) -> str:
        return pipeline.match(video, texts).answer.scores[0].label

    return ask


def asks_app(client: AppClient) -> Ask:
    """Return the back end over the public endpoint of a running app."""

    def ask(video: Path, texts: Sequence[str]) -> str:
        label, _ = client.predict_video(
            video, texts="\n".join(texts), model=DEMO_VICLIP.key, api_name="/match_video"
        )
        return str(label["label"])

    return ask


def measure(ask: Ask, asked: Iterable[VideoQuestion], workers: int = 1) -> Figures:
    """Return the share of right first choices, in percent, and n, for each kind."""
    right: dict[str, list[bool]] = defaultdict(list)

    def answer(question: VideoQuestion) -> tuple[VideoQuestion, bool]:
        return question, ask(question.path, question.texts) == question.right

    with ThreadPoolExecutor(workers) as pool:
        for question, is_right in pool.map(answer, asked):
            for kind in (question.kind, *question.also):
                right[kind].append(is_right)
    return {
        kind: {"percent": round(100 * sum(values) / len(values), 2), "n": len(values)}
        for kind, values in sorted(right.items())
    }


def foreign_videos(seed: int, num: int) -> list[NDArray[np.uint8]]:
    """Return videos (8, H, W, 3) of what this world does not have: blobs, stripes, photographs."""
    rng = evaluation_rng(seed, "foreign videos")
    videos = [non_scene(rng, held_out=bool(index % 2)) for index in range(num)]
    return videos + [np.repeat(np.asarray(photo)[None], 8, axis=0) for photo in real_photos()]


def scene_scores(pipeline: ViClipPipeline, videos: Sequence[NDArray[np.uint8]]) -> list[float]:
    """Return the highest cosine of each video with the texts of the scene bank."""
    bank = pipeline.embed_texts(SCENE_TEXTS).vectors
    scores: list[float] = (pipeline.embed_frames(videos) @ bank.T).max(dim=1).values.tolist()
    return scores


def measure_hint(pipeline: ViClipPipeline, num: int) -> tuple[float, Figures]:
    """Return the threshold of the hint and how often it is shown, in percent.

    The threshold comes from another seed than the figures; photographs have no say in it.
    """
    found = {}
    for seed in (CALIBRATION_SEED, TEST_SEED):
        rng = evaluation_rng(seed, "hint")
        times = clip_times(8)
        scenes = [film(sample_motion(rng), times, rng) for _ in range(num)]
        found[seed] = (
            scene_scores(pipeline, scenes),
            scene_scores(pipeline, foreign_videos(seed, num)),
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
        name: {"percent": round(100 * float(np.mean(np.array(s) < threshold)), 2), "n": len(s)}
        for name, s in groups.items()
    }


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--via", choices=("pipeline", "app"), default="pipeline")
    parser.add_argument("--url", default="", help="of a running app; one is started without")
    parser.add_argument("--num", type=int, default=500, help="questions of each main kind")
    parser.add_argument("--num-hint", type=int, default=500, help="videos of each side of the hint")
    parser.add_argument("--seed", type=int, default=TEST_SEED)
    parser.add_argument("--workers", type=int, default=1)
    chosen = parser.parse_args(arguments)
    about = chosen.checkpoint / "demo.json"
    demo = json.loads(about.read_text(encoding="utf-8"))
    result: dict[str, Any] = {"seed": chosen.seed, "num": chosen.num}
    with TemporaryDirectory() as folder:
        asked = video_questions(chosen.seed, chosen.num, Path(folder))
        if chosen.via == "app":
            with running_app(chosen.url) as url:
                ask = asks_app(AppClient(url))
                result["accuracy"] = measure(ask, asked, chosen.workers)
        else:
            with open_pipeline(chosen.checkpoint) as pipeline:
                threshold, result["hint"] = measure_hint(pipeline, chosen.num_hint)
                demo.update(scene_bank=SCENE_TEXTS, scene_score="cosine", scene_threshold=threshold)
                about.write_text(json.dumps(demo, indent=1) + "\n", encoding="utf-8")
                result["accuracy"] = measure(asks(pipeline), asked, chosen.workers)
    path = chosen.checkpoint / "eval.json"
    report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    head = {"script": "demo_models.evaluate_viclip", "checkpoint_seed": demo["seed"],
            "checkpoint_steps": demo["steps"], "gates_percent": GATES_PERCENT,
            "weights_sha256": weights_hash(chosen.checkpoint)}  # fmt: skip
    if any(report.get(key) != value for key, value in head.items()):
        report = {}  # figures of another checkpoint
    report.update(head)
    report[chosen.via] = result
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
