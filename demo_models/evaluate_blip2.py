"""Measures the demo BLIP-2 kind by kind and writes `eval.json` beside the checkpoint.

`python -m demo_models.evaluate_blip2` asks the stock processor and `generate`; the weights are
those of the files, that is rounded to float16.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from demo_models.blip2_questions import GATES_PERCENT, Case, all_cases, reworded
from demo_models.questions import MIDDLE

TEST_SEED = 11
CHECKPOINT = Path("assets/checkpoints/demo-blip2")
BATCH = 64
MAX_NEW_TOKENS = 48

Figures = dict[str, dict[str, float | int]]
"""By kind: "percent" and "n", the number of cases."""


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


def answers_to(ask: StockBlip2, cases: Sequence[Case]) -> list[str]:
    """Return the answers, asked in batches, captions and questions apart."""
    found = [""] * len(cases)
    for captions in (True, False):
        rows = [row for row, case in enumerate(cases) if (not case.prompt) == captions]
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            texts = ask([cases[row].image for row in part], [cases[row].prompt for row in part])
            for row, text in zip(part, texts, strict=True):
                found[row] = text
    return found


def _share(values: Sequence[bool]) -> dict[str, float | int]:
    return {"percent": round(100 * sum(values) / len(values), 2), "n": len(values)}


def object_names(caption: str) -> list[str]:
    """Return the counted names of a caption in alphabetic order, without the background."""
    objects = caption.rsplit(" on a ", 1)[0]
    return sorted(re.split(r", | and ", objects))


def measure(ask: StockBlip2, asked: Iterable[Case], wrong: list[str] | None = None) -> Figures:
    """Return the share of exactly right answers, in percent, and n, for each kind.

    Args:
        ask: The model.
        asked: The cases.
        wrong: Gets one line for each wrong answer, to read.
    """
    cases = list(asked)
    right: dict[str, list[bool]] = defaultdict(list)
    for case, text in zip(cases, answers_to(ask, cases), strict=True):
        right[case.kind].append(text == case.answer)
        if case.kind == "caption_of_1_to_4":
            right["objects_of_1_to_4"].append(object_names(text) == object_names(case.answer))
        if case.kind.endswith("where") and case.answer != MIDDLE:
            right[f"{case.kind}_off_the_middle"].append(text == case.answer)
        if wrong is not None and text != case.answer:
            wrong.append(f"{case.kind} | {case.prompt} | {case.answer} | {text}")
    return {kind: _share(values) for kind, values in right.items()}


def measure_reworded(ask: StockBlip2, seed: int, num: int) -> Figures:
    """Return how often a question in other words gets the answer of the canonical one."""
    pairs = list(reworded(seed, num, held_out=False))
    plain = answers_to(ask, [first for first, _ in pairs])
    other = answers_to(ask, [second for _, second in pairs])
    return {
        "same_answer_in_other_words": _share([a == b for a, b in zip(plain, other, strict=True)])
    }


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--num", type=int, default=600, help="questions of each kind")
    parser.add_argument("--seed", type=int, default=TEST_SEED)
    parser.add_argument("--wrong", type=Path, help="file for the wrong answers, to read")
    chosen = parser.parse_args(arguments)
    demo = json.loads((chosen.checkpoint / "demo.json").read_text())
    ask = StockBlip2(chosen.checkpoint)
    wrong: list[str] = []
    figures = measure(ask, all_cases(chosen.seed, chosen.num), wrong)
    figures.update(measure_reworded(ask, chosen.seed, max(1, chosen.num // 4)))
    report = {
        "script": "demo_models.evaluate_blip2",
        "checkpoint_seed": demo["seed"],
        "checkpoint_steps": demo["steps"],
        "gates_percent": GATES_PERCENT,
        "gates_missed": [k for k, gate in GATES_PERCENT.items() if figures[k]["percent"] < gate],
        "transformers": {"seed": chosen.seed, "num": chosen.num, "accuracy": figures},
    }
    (chosen.checkpoint / "eval.json").write_text(json.dumps(report, indent=1) + "\n")
    if chosen.wrong:
        chosen.wrong.write_text("\n".join(wrong) + "\n")
    for kind, figure in figures.items():
        print(f"{kind:34} {figure['percent']:6.2f} {figure['n']:6} {GATES_PERCENT.get(kind, '')}")


if __name__ == "__main__":
    main(sys.argv[1:])
