"""Evaluation of demo-clip: accuracy by kind of question, AUROC of pairs, and the scene hint.

The model is asked through the stock transformers classes, or through /classify_image of an app.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForZeroShotImageClassification, AutoProcessor

from demo_models.evaluation.app_client import AppClient
from demo_models.evaluation.clip_questions import PAIR_LABELS, PHOTO, Question, questions
from demo_models.evaluation.held_out import labelled_pairs
from demo_models.evaluation.localisation import measure_occlusion
from demo_models.evaluation.metrics import Figures, auroc, in_parallel, share, shares
from demo_models.evaluation.request import Request, read_json, update_card
from demo_models.evaluation.scene_hint import (
    CALIBRATION_SEED,
    HintRule,
    choose_rule,
    hint_images,
    real_photos,
)


@dataclass(frozen=True)
class Answer:
    """Answer of a back end: the probability and the cosine of each label."""

    probabilities: dict[str, float]
    cosines: dict[str, float]

    @property
    def best(self) -> str:
        """The most probable label."""
        return max(self.probabilities, key=lambda label: self.probabilities[label])


Ask = Callable[[Image.Image, Sequence[str], str], Answer]
"""A back end: (image, labels, template) -> answer."""


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
        """Return unit image embeddings (B, D)."""
        inputs = self.processor(images=list(images), return_tensors="pt")
        features = self.model.get_image_features(**inputs).pooler_output
        return functional.normalize(features, dim=-1)

    def match(self, images: Sequence[Image.Image], text: str) -> list[float]:
        """Return the cosine of each image with one text."""
        cosines: list[float] = (self.embed_images(images) @ self.embed_texts([text])[0]).tolist()
        return cosines

    def __call__(self, image: Image.Image, labels: Sequence[str], template: str) -> Answer:
        """Classify one image."""
        texts = self.embed_texts([template.format(label) for label in labels])
        cosines = (texts @ self.embed_images([image])[0]).tolist()
        scale = self.model.logit_scale.exp().item()
        probabilities = torch.tensor([scale * cosine for cosine in cosines]).softmax(0).tolist()
        return Answer(
            dict(zip(labels, probabilities, strict=True)), dict(zip(labels, cosines, strict=True))
        )


class ClipApp(AppClient):
    """The back end over the public endpoint of a running app."""

    def __call__(self, image: Image.Image, labels: Sequence[str], template: str) -> Answer:
        """Classify one image."""
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


def measure_questions(ask: Ask, asked: Iterable[Question], workers: int = 1) -> Figures:
    """Return the share of right first choices of each kind."""

    def answer(question: Question) -> tuple[str, bool]:
        found = ask(question.image, question.labels, question.template)
        return question.kind, found.best == question.right

    return shares(in_parallel(answer, asked, workers))


def measure_pairs(ask: Ask, seed: int, num: int, workers: int = 1) -> Figures:
    """Return the AUROC of the cosine by kind of false pair, against the true pairs of all kinds."""
    pairs = labelled_pairs(seed, num)
    cosines = in_parallel(lambda p: ask(p.image, [p.text], "{}").cosines[p.text], pairs, workers)
    true_ones = [score for pair, score in zip(pairs, cosines, strict=True) if pair.is_true]
    false_ones: dict[str, list[float]] = {}
    for pair, score in zip(pairs, cosines, strict=True):
        if not pair.is_true:
            false_ones.setdefault(pair.kind, []).append(score)
    result: Figures = {
        kind: {"auroc": round(auroc(true_ones, scores), 4), "n": len(scores)}
        for kind, scores in false_ones.items()
    }
    every = [score for scores in false_ones.values() for score in scores]
    result["all"] = {"auroc": round(auroc(true_ones, every), 4), "n": len(pairs)}
    return result


def bank_scores(
    ask: Ask, images: Sequence[Image.Image], workers: int = 1
) -> dict[str, list[float]]:
    """Return for each image the highest "softmax" and "cosine" over the scene bank."""
    answers = in_parallel(lambda image: ask(image, PAIR_LABELS, PHOTO), images, workers)
    return {
        "softmax": [max(answer.probabilities.values()) for answer in answers],
        "cosine": [max(answer.cosines.values()) for answer in answers],
    }


def calibrate_hint(ask: Ask, num: int) -> HintRule:
    """Choose the score and threshold of the hint on the calibration seed."""
    by_kind = {
        kind: bank_scores(ask, images)
        for kind, images in hint_images(CALIBRATION_SEED, num).items()
    }
    return choose_rule(
        {name: {kind: s[name] for kind, s in by_kind.items()} for name in ("softmax", "cosine")}
    )


def measure_hint(ask: Ask, rule: HintRule, seed: int, num: int, workers: int = 1) -> Figures:
    """Return how often the hint is shown, for each kind of image."""
    by_kind = {**hint_images(seed, num), "real_photo": real_photos()}
    return {
        kind: share([s < rule.threshold for s in bank_scores(ask, images, workers)[rule.score]])
        for kind, images in by_kind.items()
    }


def evaluate(request: Request) -> dict[str, Any]:
    """Return all figures of one back end; the stock classes also set the rule of the hint."""
    figures: dict[str, Any] = {}
    ask: Ask
    if request.url:
        ask = ClipApp(request.url)
    else:
        ask = stock = StockClip(request.checkpoint)
        rule = calibrate_hint(stock, 400)
        threshold = round(rule.threshold, 4)
        update_card(request.checkpoint, scene_score=rule.score, scene_threshold=threshold)
        figures["occlusion_pointing"] = measure_occlusion(stock.match, request.seed, 200)
    card = read_json(request.checkpoint / "demo.json")
    rule = HintRule(card["scene_score"], card["scene_threshold"])
    seed, num, workers = request.seed, request.num, request.workers
    return {
        "accuracy": measure_questions(ask, questions(seed, num), workers),
        "pairs": measure_pairs(ask, seed, 8 * num, workers),
        "hint": measure_hint(ask, rule, seed, num, workers),
        **figures,
    }
