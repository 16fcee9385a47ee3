"""Measures the demo BLIP-2 kind by kind and writes `eval.json` beside the checkpoint.

`python -m demo_models.evaluate_blip2` asks the stock processor and `generate`; the weights are
those of the files, that is rounded to float16. `--via app` asks the kinds that have a
gate of /caption_image and /answer_image, of an app that it starts or of the one at `--url`.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from demo_models.evaluation.app_client import AppClient, running_app
from demo_models.evaluation.blip2_questions import (
    GATES_PERCENT,
    REWORDED,
    Case,
    all_cases,
    gated_cases,
    reworded,
)
from demo_models.evaluation.held_out import weights_hash
from demo_models.evaluation.scene_hint import CALIBRATION_SEED, hint_pictures, real_photos
from demo_models.language.questions import MIDDLE

TEST_SEED = 11
CHECKPOINT = Path("assets/checkpoints/demo-blip2")
BATCH = 64
MAX_NEW_TOKENS = 48
FALSE_HINTS = 0.01
"""Share of the scenes of calibration that may be hinted at."""

Figures = dict[str, dict[str, float | int]]
"""By kind: "percent" and "n", the number of cases."""


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
        """Ask in batches, captions and questions apart."""
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


class RunningApp(AppClient):
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
        with ThreadPoolExecutor(self.workers) as pool:
            return list(pool.map(self._one, cases))


def _share(values: Sequence[bool]) -> dict[str, float | int]:
    return {"percent": round(100 * sum(values) / len(values), 2), "n": len(values)}


def object_names(caption: str) -> list[str]:
    """Return the counted names of a caption in alphabetic order, without the background."""
    objects = caption.rsplit(" on a ", 1)[0]
    return sorted(re.split(r", | and ", objects))


def measure(ask: Ask, asked: Iterable[Case], wrong: list[str] | None = None) -> Figures:
    """Return the share of exactly right answers, in percent, and n, for each kind.

    Args:
        ask: The model.
        asked: The cases.
        wrong: Gets one line for each wrong answer, to read.
    """
    cases = list(asked)
    right: dict[str, list[bool]] = defaultdict(list)
    for case, text in zip(cases, ask.answers(cases), strict=True):
        right[case.kind].append(text == case.answer)
        if case.kind == "caption_of_1_to_4":
            right["objects_of_1_to_4"].append(object_names(text) == object_names(case.answer))
        if case.kind.endswith("where") and case.answer != MIDDLE:
            right[f"{case.kind}_off_the_middle"].append(text == case.answer)
        if wrong is not None and text != case.answer:
            wrong.append(f"{case.kind} | {case.prompt} | {case.answer} | {text}")
    return {kind: _share(values) for kind, values in right.items()}


def measure_reworded(ask: Ask, seed: int, num: int) -> Figures:
    """Return how often a question in other words gets the answer of the canonical one."""
    pairs = list(reworded(seed, num, held_out=False))
    plain = ask.answers([first for first, _ in pairs])
    other = ask.answers([second for _, second in pairs])
    return {
        "same_answer_in_other_words": _share([a == b for a, b in zip(plain, other, strict=True)])
    }


def calibrate_hint(ask: StockBlip2, answer: str, num: int) -> float:
    """Return the probability of the unknown answer from which a picture gets the hint."""
    pictures = hint_pictures(CALIBRATION_SEED, num)
    scenes = [*pictures["scene_of_1_to_4"], *pictures["paint_picture"]]
    highest = sorted(ask.unknown(scenes, answer), reverse=True)
    return float(f"{highest[math.floor(FALSE_HINTS * len(scenes))]:.3g}")


def measure_hint(ask: StockBlip2, demo: dict[str, Any], seed: int, num: int) -> Figures:
    """Return how often the hint is shown, in percent, for each kind of picture."""
    pictures = {**hint_pictures(seed, num), "real_photo": real_photos()}
    return {
        kind: _share(
            [p >= demo["unknown_threshold"] for p in ask.unknown(images, demo["unknown_answer"])]
        )
        for kind, images in pictures.items()
    }


def evaluate(
    ask: Ask, cases: Iterable[Case], chosen: argparse.Namespace, wrong: list[str]
) -> dict[str, Any]:
    """Return what one back end is measured on, and which gates it missed."""
    figures = measure(ask, cases, wrong)
    figures.update(measure_reworded(ask, chosen.seed, math.ceil(chosen.num / len(REWORDED))))
    missed = [kind for kind, gate in GATES_PERCENT.items() if figures[kind]["percent"] < gate]
    return {
        "seed": chosen.seed,
        "num": chosen.num,
        "accuracy": figures,
        "gates_missed": missed,
    }


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--via", choices=("transformers", "app"), default="transformers")
    parser.add_argument("--url", default="", help="of a running app; else one is started")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--num", type=int, default=600, help="questions of each kind")
    parser.add_argument("--seed", type=int, default=TEST_SEED)
    parser.add_argument("--wrong", type=Path, help="file for the wrong answers, to read")
    chosen = parser.parse_args(arguments)
    about, path = chosen.checkpoint / "demo.json", chosen.checkpoint / "eval.json"
    demo = json.loads(about.read_text())
    wrong: list[str] = []
    if chosen.via == "app":
        with running_app(chosen.url) as url:
            ask = RunningApp(url, chosen.workers)
            found = evaluate(ask, gated_cases(chosen.seed, chosen.num), chosen, wrong)
    else:
        stock = StockBlip2(chosen.checkpoint)
        found = evaluate(stock, all_cases(chosen.seed, chosen.num), chosen, wrong)
        demo["unknown_threshold"] = calibrate_hint(stock, demo["unknown_answer"], 1000)
        about.write_text(json.dumps(demo, indent=1) + "\n")
        found["hint"] = measure_hint(stock, demo, chosen.seed, 1000)
    report = json.loads(path.read_text()) if path.exists() else {}
    head = {"script": "demo_models.evaluate_blip2", "checkpoint_seed": demo["seed"],
            "checkpoint_steps": demo["steps"], "gates_percent": GATES_PERCENT,
            "weights_sha256": weights_hash(chosen.checkpoint)}  # fmt: skip
    if any(report.get(key) != value for key, value in head.items()):
        report = {}  # figures of another checkpoint
    report.update(head)
    report[chosen.via] = found
    path.write_text(json.dumps(report, indent=1) + "\n")
    if chosen.wrong:
        chosen.wrong.write_text("\n".join(wrong) + "\n")
    for kind, figure in found["accuracy"].items():
        print(f"{kind:34} {figure['percent']:6.2f} {figure['n']:6} {GATES_PERCENT.get(kind, '')}")


if __name__ == "__main__":
    main(sys.argv[1:])
