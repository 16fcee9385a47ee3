"""Evaluation of demo-blip2: the share of exactly right captions and answers by kind.

The model is asked through the stock processor and `generate`; an app is asked the kinds that have a
gate, through /caption_image and /answer_image.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from demo_models.evaluation.app_client import AppClient
from demo_models.evaluation.blip2_questions import (
    GATES_PERCENT,
    REWORDED,
    Case,
    all_cases,
    gated_cases,
    reworded,
)
from demo_models.evaluation.metrics import (
    Figures,
    in_parallel,
    missed_gates,
    share,
    shares,
)
from demo_models.evaluation.request import Request, read_json, update_card
from demo_models.evaluation.scene_hint import CALIBRATION_SEED, hint_images, real_photos
from demo_models.language.questions import MIDDLE

BATCH = 64
MAX_NEW_TOKENS = 48
FALSE_HINTS = 0.01
"""Share of the scenes of calibration that may be hinted at."""


class Ask(Protocol):
    """A back end."""

    def answers(self, cases: Sequence[Case]) -> list[str]:
        """Return what the model says to each case."""
        ...


class StockBlip2:
    """A checkpoint behind the stock classes."""

    def __init__(self, checkpoint: Path) -> None:
        """Load a checkpoint folder in float32, without any network."""
        self.model: Any = AutoModelForImageTextToText.from_pretrained(
            checkpoint, dtype=torch.float32, local_files_only=True
        ).eval()
        self.processor: Any = AutoProcessor.from_pretrained(checkpoint, local_files_only=True)

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[str]:
        """Return what the model writes after each prompt; prompts are all "" or none is."""
        if not any(prompts):
            inputs = self.processor(images=list(images), return_tensors="pt")
            start = self.model.config.num_query_tokens + 1
        else:
            inputs = self.processor(
                images=list(images), text=list(prompts), padding=True, return_tensors="pt"
            )
            start = inputs["input_ids"].shape[1]  # `generate` repeats the prompt
        written = self.model.generate(**inputs, do_sample=False, max_new_tokens=MAX_NEW_TOKENS)
        texts = self.processor.batch_decode(written[:, start:], skip_special_tokens=True)
        return [text.strip() for text in texts]

    def answers(self, cases: Sequence[Case]) -> list[str]:
        """Ask in batches of captions or of questions."""
        found = [""] * len(cases)
        for captions in (True, False):
            rows = [row for row, case in enumerate(cases) if (not case.prompt) == captions]
            for start in range(0, len(rows), BATCH):
                part = rows[start : start + BATCH]
                texts = self([cases[row].image for row in part], [cases[r].prompt for r in part])
                for row, text in zip(part, texts, strict=True):
                    found[row] = text
        return found

    @torch.inference_mode()
    def unknown(self, images: Sequence[Image.Image], answer: str) -> list[float]:
        """Return how probable it is that the caption is `answer`, which is one token."""
        token = self.processor.tokenizer.convert_tokens_to_ids(answer)
        found: list[float] = []
        for start in range(0, len(images), BATCH):
            part = list(images[start : start + BATCH])
            inputs = self.processor(images=part, text=[""] * len(part), return_tensors="pt")
            logits = self.model(**inputs).logits[:, -1]
            found += logits.softmax(dim=-1)[:, token].tolist()
        return found


class Blip2App(AppClient):
    """The back end over the public endpoints of a running app."""

    def __init__(self, url: str, workers: int) -> None:
        """Connect; `workers` clients ask at a time."""
        super().__init__(url)
        self.workers = workers

    def _one(self, case: Case) -> str:
        fixed = {"model": "demo-blip2", "max_new_tokens": MAX_NEW_TOKENS}
        if not case.prompt:
            text: str = self.predict(case.image, api_name="/caption_image", **fixed)
        else:
            text = self.predict(
                case.image, question=case.question, api_name="/answer_image", **fixed
            )
        return text.strip()

    def answers(self, cases: Sequence[Case]) -> list[str]:
        """Ask case by case."""
        return in_parallel(self._one, cases, self.workers)


def object_names(caption: str) -> list[str]:
    """Return the counted names of a caption in alphabetic order, without the background."""
    objects = caption.rsplit(" on a ", 1)[0]
    return sorted(re.split(r", | and ", objects))


def measure(ask: Ask, asked: Iterable[Case], wrong: list[str] | None = None) -> Figures:
    """Return the share of exactly right answers of each kind.

    Args:
        ask: The model.
        asked: The cases.
        wrong: Gets one line for each wrong answer, to read.
    """
    cases = list(asked)
    answers: list[tuple[str, bool]] = []
    for case, text in zip(cases, ask.answers(cases), strict=True):
        answers.append((case.kind, text == case.answer))
        if case.kind == "caption_of_1_to_4":
            same = object_names(text) == object_names(case.answer)
            answers.append(("objects_of_1_to_4", same))
        if case.kind.endswith("where") and case.answer != MIDDLE:
            answers.append((f"{case.kind}_off_the_middle", text == case.answer))
        if wrong is not None and text != case.answer:
            wrong.append(f"{case.kind} | {case.prompt} | {case.answer} | {text}")
    return shares(answers)


def measure_reworded(ask: Ask, seed: int, num: int) -> Figures:
    """Return the share of questions in other words with the answer of the canonical one."""
    pairs = list(reworded(seed, num, held_out=False))
    plain = ask.answers([first for first, _ in pairs])
    other = ask.answers([second for _, second in pairs])
    return {
        "same_answer_in_other_words": share([a == b for a, b in zip(plain, other, strict=True)])
    }


def calibrate_hint(ask: StockBlip2, answer: str, num: int) -> float:
    """Return the probability of the unknown answer from which an image gets the hint."""
    images = hint_images(CALIBRATION_SEED, num)
    scenes = [*images["scene_of_1_to_4"], *images["paint_picture"]]
    highest = sorted(ask.unknown(scenes, answer), reverse=True)
    return float(f"{highest[math.floor(FALSE_HINTS * len(scenes))]:.3g}")


def measure_hint(ask: StockBlip2, demo: dict[str, Any], seed: int, num: int) -> Figures:
    """Return how often the hint is shown, for each kind of image."""
    by_kind = {**hint_images(seed, num), "real_photo": real_photos()}
    return {
        kind: share(
            [p >= demo["unknown_threshold"] for p in ask.unknown(images, demo["unknown_answer"])]
        )
        for kind, images in by_kind.items()
    }


def evaluate(request: Request) -> dict[str, Any]:
    """Return all figures of one back end; the stock classes also set the threshold of the hint."""
    seed, num = request.seed, request.num
    ask: Ask
    if request.url:
        ask, cases = Blip2App(request.url, request.workers), gated_cases(seed, num)
    else:
        ask = stock = StockBlip2(request.checkpoint)
        cases = all_cases(seed, num)
    figures = measure(ask, cases, request.wrong)
    figures.update(measure_reworded(ask, seed, math.ceil(num / len(REWORDED))))
    result = {"accuracy": figures, "gates_missed": missed_gates(figures, GATES_PERCENT)}
    if not request.url:
        answer = read_json(request.checkpoint / "demo.json")["unknown_answer"]
        threshold = calibrate_hint(stock, answer, 1000)
        card = update_card(request.checkpoint, unknown_threshold=threshold)
        result["hint"] = measure_hint(stock, card, seed, 1000)
    return result
