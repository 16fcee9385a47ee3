"""Measures the demo VideoChat-Flash kind by kind and writes `eval.json` beside the checkpoint.

`python -m demo_models.evaluate_videochat` asks the model package; with `--via app` every video is
written as an mp4 file and asked about through a running app. The weights are those of the files,
that is rounded to float16; earlier answers in a conversation are the model's own.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from demo_models.evaluation.app_client import AppClient, running_app
from demo_models.evaluation.held_out import weights_hash
from demo_models.evaluation.held_out_videos import FORMATS, write_motion
from demo_models.evaluation.videochat_questions import (
    CHANCE_PERCENT,
    GATES_PERCENT,
    MAX_TURN_GAP,
    Conversation,
    conversations,
    reworded_questions,
    single_questions,
)
from demo_models.training.videochat.data import NUM_FRAMES
from pipelines.videochat_flash.conversion_videochat_flash import load_model
from pipelines.videochat_flash.generation import Decoding
from pipelines.videochat_flash.key_values import KeyValues
from pipelines.videochat_flash.modeling_language import Prompt
from pipelines.videochat_flash.processing_videochat_flash import (
    chat_prompt,
    clean_answer,
    encode_prompt,
    first_question,
    iter_clips,
    stream_text,
    time_message,
)

TEST_SEED = 11
CHECKPOINT = Path("assets/checkpoints/demo-videochat")
MAX_NEW_TOKENS = 64

Answers = Callable[[Conversation], list[str]]
"""Asks the questions of a conversation one after another."""
Figures = dict[str, dict[str, Any]]
"""By kind: "percent", "n", and what the most frequent right answer alone would get."""


class PackageChat:
    """A checkpoint behind the model package."""

    def __init__(self, checkpoint: Path) -> None:
        """Load a checkpoint folder in float32, without any network."""
        from transformers import AutoTokenizer

        self.model = load_model(checkpoint)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
        self.decoding = Decoding.of(self.model.config.generation, max_new_tokens=MAX_NEW_TOKENS)

    def __call__(self, talk: Conversation) -> list[str]:
        """Return the answers, each given with the earlier ones before it."""
        frames = talk.video.frames(NUM_FRAMES)
        side = self.model.config.vision.image_px
        rows = self.model.visual.encode_video(iter_clips(frames, side))
        message = time_message(talk.video.duration_s, NUM_FRAMES)
        turns: list[tuple[str, str]] = []
        cache = KeyValues()
        for number, asked in enumerate(talk.asked):
            question = asked.question if number else first_question(asked.question, message)
            ids = encode_prompt(self.tokenizer, chat_prompt(turns, question))
            written = self.model.answer(Prompt(ids, rows), self.decoding, cache=cache)
            turns.append((question, clean_answer("".join(stream_text(self.tokenizer, written)))))
        return [answer for _, answer in turns]


class AppChat:
    """A running app, asked over `/ask_video` with video files; any number of threads may ask."""

    def __init__(self, url: str) -> None:
        """Connect to the app on the first request."""
        self.client = AppClient(url)

    def __call__(self, talk: Conversation) -> list[str]:
        """Return the answers, each asked with the history that the app returned."""
        form = FORMATS[talk.video.harm % len(FORMATS)]
        answers: list[str] = []
        history: list[dict[str, str]] = []
        with TemporaryDirectory() as folder:
            file = Path(folder) / "video.mp4"
            write_motion(file, talk.video.motion, form)
            for asked in talk.asked:
                answer, history = self.client.predict_video(
                    file,
                    question=asked.question,
                    history=history,
                    model=CHECKPOINT.name,
                    api_name="/ask_video",
                )
                answers.append(answer.strip())
        return answers


def _figure(kind: str, entries: list[tuple[str, str]]) -> dict[str, Any]:
    """Return the figure of (right answer, answer) pairs."""
    right = sum(wanted == told for wanted, told in entries)
    _, most = Counter(wanted for wanted, _ in entries).most_common(1)[0]
    figure = {
        "percent": round(100 * right / len(entries), 2),
        "n": len(entries),
        "most_frequent_answer_percent": round(100 * most / len(entries), 2),
    }
    chance = CHANCE_PERCENT.get(kind)
    return figure if chance is None else {**figure, "chance_percent": chance}


def measure(
    ask: Answers, talks: Iterable[Conversation], wrong: list[str], workers: int = 1
) -> Figures:
    """Return the share of exactly right answers for each kind, and for each turn.

    Args:
        ask: The model.
        talks: The conversations.
        wrong: Gets one line for each wrong answer, to read.
        workers: How many conversations are held at once.
    """
    told: dict[str, list[tuple[str, str]]] = defaultdict(list)
    talks = list(talks)
    with ThreadPoolExecutor(workers) as pool:
        answered = list(pool.map(ask, talks))
    for talk, answers in zip(talks, answered, strict=True):
        for turn, (asked, answer) in enumerate(zip(talk.asked, answers, strict=True), 1):
            told[asked.kind].append((asked.answer, answer))
            if len(talk.asked) > 1:
                told[f"turn_{turn}"].append((asked.answer, answer))
            if asked.answer != answer:
                line = (asked.kind, str(turn), asked.question, asked.answer, answer)
                wrong.append(" | ".join((*line, talk.video.facts.description())))
    return {kind: _figure(kind, entries) for kind, entries in told.items()}


def missed(figures: Figures) -> list[str]:
    """Return which gates are missed, "turn_2" and "turn_3" where they fall behind the first."""
    found = [
        kind
        for kind, gate in GATES_PERCENT.items()
        if kind in figures and figures[kind]["percent"] < gate
    ]
    first = figures["turn_1"]["percent"]
    late = ("turn_2", "turn_3")
    return found + [turn for turn in late if figures[turn]["percent"] < first - MAX_TURN_GAP]


def _report(checkpoint: Path) -> dict[str, Any]:
    """Return the report so far, or a new one where the checkpoint is another."""
    demo = json.loads((checkpoint / "demo.json").read_text())
    head = {
        "script": "demo_models.evaluate_videochat",
        "checkpoint_seed": demo["seed"],
        "checkpoint_steps": demo["steps"],
        "tower_steps": demo["tower_steps"],
        "weights_sha256": weights_hash(checkpoint),
        "gates_percent": GATES_PERCENT,
        "max_turn_gap": MAX_TURN_GAP,
    }
    file = checkpoint / "eval.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    same = all(known.get(name) == value for name, value in head.items())
    return known if same else head


def _measure_all(ask: Answers, chosen: argparse.Namespace, wrong: list[str]) -> Figures:
    workers = chosen.workers if chosen.via == "app" else 1
    figures = measure(ask, conversations(chosen.seed, chosen.num), wrong, workers)
    if chosen.more:
        singles = single_questions(chosen.seed, chosen.more)
        figures.update(measure(ask, singles, wrong, workers))
        others = reworded_questions(chosen.seed, chosen.more // 4)
        figures.update(measure(ask, others, wrong, workers))
    return figures


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--num", type=int, default=510, help="questions of each gated kind")
    parser.add_argument("--more", type=int, default=300, help="questions of each other kind")
    parser.add_argument("--seed", type=int, default=TEST_SEED)
    parser.add_argument("--via", choices=("package", "app"), default="package")
    parser.add_argument("--url", default="", help="of an app; one is started where there is none")
    parser.add_argument("--workers", type=int, default=2, help="conversations with an app at once")
    parser.add_argument("--wrong", type=Path, help="file for the wrong answers, to read")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    wrong: list[str] = []
    if chosen.via == "package":
        figures = _measure_all(PackageChat(chosen.checkpoint), chosen, wrong)
    else:
        with running_app(chosen.url) as url:
            figures = _measure_all(AppChat(url), chosen, wrong)
    report = _report(chosen.checkpoint)
    report[chosen.via] = {
        "seed": chosen.seed,
        "gates_missed": missed(figures),
        "accuracy": figures,
    }
    (chosen.checkpoint / "eval.json").write_text(json.dumps(report, indent=1) + "\n")
    if chosen.wrong:
        chosen.wrong.write_text("\n".join(wrong) + "\n")
    for kind, figure in figures.items():
        more = figure.get("chance_percent", figure["most_frequent_answer_percent"])
        gate = GATES_PERCENT.get(kind, "")
        print(f"{kind:28} {figure['percent']:6.2f} {figure['n']:6} chance {more:6.2f} {gate}")


if __name__ == "__main__":
    main(sys.argv[1:])
