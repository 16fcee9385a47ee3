"""Measures the demo CLIP kind by kind and writes `eval.json` beside the checkpoint.

`python -m demo_models.evaluate_clip` asks the stock transformers classes;
`--via app` asks an app that it starts, or the one at `--url`, as a visitor's script does.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForZeroShotImageClassification, AutoProcessor

from demo_models.evaluation.app_client import AppClient, running_app
from demo_models.evaluation.clip_questions import (
    GATES_PERCENT,
    PAIR_LABELS,
    PHOTO,
    Question,
    questions,
)
from demo_models.evaluation.held_out import labelled_pairs, weights_hash
from demo_models.evaluation.localisation import measure_pointing
from demo_models.evaluation.scene_hint import (
    CALIBRATION_SEED,
    HintRule,
    area_under_curve,
    choose_rule,
    hint_pictures,
    real_photos,
)

TEST_SEED = 11
CHECKPOINT = Path("assets/checkpoints/demo-clip")


@dataclass(frozen=True)
class Answer:
    """What a back end says: for each label its probability and its cosine."""

    probabilities: dict[str, float]
    cosines: dict[str, float]

    @property
    def best(self) -> str:
        """The most probable label."""
        return max(self.probabilities, key=lambda label: self.probabilities[label])


Figures = dict[str, dict[str, float | int]]
"""By kind: "percent" or "auroc", and "n", the number of cases."""

Ask = Callable[[Image.Image, Sequence[str], str], Answer]
"""A back end: (picture, labels, template) -> answer."""


class StockClip:
    """The back end over the stock classes; text embeddings are computed once."""

    def __init__(self, checkpoint: Path) -> None:
        """Load a checkpoint folder in float32, without any network."""
        self.model: Any = AutoModelForZeroShotImageClassification.from_pretrained(
            checkpoint, dtype=torch.float32, local_files_only=True
        ).eval()
        self.processor: Any = AutoProcessor.from_pretrained(checkpoint, local_files_only=True)
        self.known_texts: dict[str, Tensor] = {}

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Return unit text embeddings (T, D)."""
        new = [text for text in dict.fromkeys(texts) if text not in self.known_texts]
        if new:
            inputs = self.processor(
                text=new, padding=True, truncation=True, max_length=32, return_tensors="pt"
            )
            features = self.model.get_text_features(**inputs).pooler_output
            self.known_texts.update(zip(new, functional.normalize(features, dim=-1), strict=True))
        return torch.stack([self.known_texts[text] for text in texts])

    @torch.inference_mode()
    def embed_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Return unit picture embeddings (B, D)."""
        inputs = self.processor(images=list(images), return_tensors="pt")
        features = self.model.get_image_features(**inputs).pooler_output
        return functional.normalize(features, dim=-1)

    def match(self, images: Sequence[Image.Image], text: str) -> list[float]:
        """Return the cosine of each picture with one text."""
        cosines: list[float] = (self.embed_images(images) @ self.embed_texts([text])[0]).tolist()
        return cosines

    def __call__(self, image: Image.Image, labels: Sequence[str], template: str) -> Answer:
        """Classify one picture."""
        texts = self.embed_texts([template.format(label) for label in labels])
        cosines = (texts @ self.embed_images([image])[0]).tolist()
        scale = self.model.logit_scale.exp().item()
        probabilities = torch.tensor([scale * cosine for cosine in cosines]).softmax(0).tolist()
        return Answer(
            dict(zip(labels, probabilities, strict=True)), dict(zip(labels, cosines, strict=True))
        )


class RunningApp(AppClient):
    """The back end over the public endpoint of a running app."""

    def __call__(self, image: Image.Image, labels: Sequence[str], template: str) -> Answer:
        """Classify one picture."""
        # A single line would be split at its commas, so it gets company, which is dropped below.
        lines = [*labels, "nothing"] if len(labels) == 1 else labels
        _, scores = self.predict(
            image,
            labels="\n".join(lines),
            templates=template,
            model="demo-clip",
            api_name="/classify_image",
        )
        asked = [score for score in scores if score["label"] in set(labels)]
        return Answer(
            {score["label"]: score["probability"] for score in asked},
            {score["label"]: score["cosine"] for score in asked},
        )


def _share(values: Sequence[bool]) -> dict[str, float | int]:
    return {"percent": round(100 * sum(values) / len(values), 2), "n": len(values)}


def measure_questions(ask: Ask, asked: Iterable[Question], workers: int = 1) -> Figures:
    """Return the share of right first choices, in percent, and n, for each kind."""
    with ThreadPoolExecutor(workers) as pool:
        listed = list(asked)
        answers = pool.map(lambda q: ask(q.image, q.labels, q.template).best == q.right, listed)
        right: dict[str, list[bool]] = defaultdict(list)
        for question, answer in zip(listed, answers, strict=True):
            right[question.kind].append(answer)
    return {kind: _share(values) for kind, values in right.items()}


def measure_pairs(ask: Ask, seed: int, num: int, workers: int = 1) -> Figures:
    """Return how well the cosine separates true from false pairs, as AUROC by kind.

    Every kind's false pairs are held against the true pairs of all kinds.
    """
    pairs = labelled_pairs(seed, num)
    with ThreadPoolExecutor(workers) as pool:
        asked = pool.map(lambda p: ask(p.image, [p.text], "{}").cosines[p.text], pairs)
        scored = list(zip(pairs, asked, strict=True))
    true_ones = [score for pair, score in scored if pair.is_true]
    result: Figures = {}
    for kind in dict.fromkeys(pair.kind for pair in pairs if not pair.is_true):
        false_ones = [score for pair, score in scored if pair.kind == kind and not pair.is_true]
        curve = area_under_curve(true_ones, false_ones)
        result[kind] = {"auroc": round(curve, 4), "n": len(false_ones)}
    all_false = [score for pair, score in scored if not pair.is_true]
    result["all"] = {"auroc": round(area_under_curve(true_ones, all_false), 4), "n": len(pairs)}
    return result


def bank_scores(
    ask: Ask, images: Sequence[Image.Image], workers: int = 1
) -> dict[str, list[float]]:
    """Return for each picture the highest "softmax" and "cosine" over the scene bank."""
    with ThreadPoolExecutor(workers) as pool:
        answers = list(pool.map(lambda image: ask(image, PAIR_LABELS, PHOTO), images))
    return {
        "softmax": [max(answer.probabilities.values()) for answer in answers],
        "cosine": [max(answer.cosines.values()) for answer in answers],
    }


def calibrate_hint(ask: Ask, num: int) -> HintRule:
    """Choose the score and threshold of the hint on the calibration seed."""
    by_kind = {
        kind: bank_scores(ask, images)
        for kind, images in hint_pictures(CALIBRATION_SEED, num).items()
    }
    return choose_rule(
        {name: {kind: s[name] for kind, s in by_kind.items()} for name in ("softmax", "cosine")}
    )


def measure_hint(ask: Ask, rule: HintRule, seed: int, num: int, workers: int = 1) -> Figures:
    """Return how often the hint is shown, in percent, for each kind of picture."""
    pictures = {**hint_pictures(seed, num), "real_photo": real_photos()}
    return {
        kind: _share([s < rule.threshold for s in bank_scores(ask, images, workers)[rule.score]])
        for kind, images in pictures.items()
    }


def _rule_from(demo: dict[str, Any]) -> HintRule:
    return HintRule(demo["scene_score"], demo["scene_threshold"])


def evaluate(ask: Ask, rule: HintRule, seed: int, num: int, workers: int) -> dict[str, Any]:
    """Return everything that one back end is measured on."""
    return {
        "accuracy": measure_questions(ask, questions(seed, num), workers),
        "pairs": measure_pairs(ask, seed, 8 * num, workers),
        "hint": measure_hint(ask, rule, seed, num, workers),
    }


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--via", choices=("transformers", "app"), default="transformers")
    parser.add_argument("--url", default="", help="of a running app; else one is started")
    parser.add_argument("--num", type=int, default=600, help="questions of each kind")
    parser.add_argument("--seed", type=int, default=TEST_SEED)
    parser.add_argument("--workers", type=int, default=1)
    chosen = parser.parse_args(arguments)
    about = chosen.checkpoint / "demo.json"
    demo = json.loads(about.read_text())
    if chosen.via == "app":
        with running_app(chosen.url) as url:
            ask = RunningApp(url)
            result = evaluate(ask, _rule_from(demo), chosen.seed, chosen.num, chosen.workers)
    else:
        stock = StockClip(chosen.checkpoint)
        rule = calibrate_hint(stock, 400)
        demo.update(scene_score=rule.score, scene_threshold=round(rule.threshold, 4))
        about.write_text(json.dumps(demo, indent=1) + "\n")
        result = evaluate(stock, _rule_from(demo), chosen.seed, chosen.num, chosen.workers)
        result["occlusion_pointing"] = measure_pointing(stock.match, chosen.seed, 200)
    path = chosen.checkpoint / "eval.json"
    report = json.loads(path.read_text()) if path.exists() else {}
    head = {"script": "demo_models.evaluate_clip", "checkpoint_seed": demo["seed"],
            "checkpoint_steps": demo["steps"], "gates_percent": GATES_PERCENT,
            "weights_sha256": weights_hash(chosen.checkpoint)}  # fmt: skip
    if any(report.get(key) != value for key, value in head.items()):
        report = {}  # figures of another checkpoint
    report.update(head)
    report[chosen.via] = {"seed": chosen.seed, "num": chosen.num, **result}
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report[chosen.via], indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
