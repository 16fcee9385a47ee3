"""Evaluation of demo-videochat: the share of exactly right answers by kind and by turn.

The model package is asked, or an app through /ask_video with mp4 files. Earlier answers in a
dialogue are those of the model.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoTokenizer

from demo_models.evaluation.app_client import AppClient
from demo_models.evaluation.metrics import Figure, Figures, in_parallel, missed_gates, share
from demo_models.evaluation.request import Request
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
from demo_models.world.video_files import FORMATS, write_motion
from pipelines.models.videochat_flash.conversion_videochat_flash import load_model
from pipelines.models.videochat_flash.generation import Decoding
from pipelines.models.videochat_flash.kv_cache import KeyValues
from pipelines.models.videochat_flash.modeling_language import VideoPrompt
from pipelines.models.videochat_flash.processing_videochat_flash import (
    chat_prompt,
    encode_prompt,
    first_question,
    resize_frame,
    stream_text,
    time_message,
    to_pixels,
)

MAX_NEW_TOKENS = 64

Answers = Callable[[Conversation], list[str]]
"""Asks the questions of a conversation one after another."""


class PackageChat:
    """A checkpoint behind the model package."""

    def __init__(self, checkpoint: Path) -> None:
        """Load a checkpoint folder in float32, without any network."""
        self.model = load_model(checkpoint)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
        self.decoding = Decoding.of(self.model.config.generation, max_new_tokens=MAX_NEW_TOKENS)

    def __call__(self, dialogue: Conversation) -> list[str]:
        """Return the answers, each given with the earlier ones before it."""
        frames = dialogue.video.frames(NUM_FRAMES)
        side = self.model.config.vision.image_px
        clips = to_pixels([resize_frame(frame, side) for frame in frames]).split(4)
        rows = torch.cat([self.model.visual.encode(clip[None])[0] for clip in clips])
        message = time_message(dialogue.video.duration_s, NUM_FRAMES)
        turns: list[tuple[str, str]] = []
        cache = KeyValues()
        for number, asked in enumerate(dialogue.asked):
            question = asked.question if number else first_question(asked.question, message)
            ids = encode_prompt(self.tokenizer, chat_prompt(turns, question))
            written = self.model.answer(VideoPrompt(ids, rows), self.decoding, cache=cache)
            turns.append((question, "".join(stream_text(self.tokenizer, written))))
        return [answer for _, answer in turns]


class AppChat:
    """A running app, asked over `/ask_video` with video files; any number of threads may ask."""

    def __init__(self, url: str) -> None:
        """Connect to the app on the first request."""
        self.client = AppClient(url)

    def __call__(self, dialogue: Conversation) -> list[str]:
        """Return the answers, each asked with the history that the app returned."""
        form = FORMATS[dialogue.video.degradation_seed % len(FORMATS)]
        answers: list[str] = []
        history: list[dict[str, str]] = []
        with TemporaryDirectory() as folder:
            file = Path(folder) / "video.mp4"
            write_motion(file, dialogue.video.motion, form)
            for asked in dialogue.asked:
                answer, history = self.client.predict_video(
                    file,
                    question=asked.question,
                    history=history,
                    model="demo-videochat",
                    api_name="/ask_video",
                )
                answers.append(answer.strip())
        return answers


def _figure(kind: str, entries: list[tuple[str, str]]) -> Figure:
    """Return the share of (right answer, answer) pairs, and that of the most frequent answer."""
    _, most = Counter(wanted for wanted, _ in entries).most_common(1)[0]
    figure = {
        **share([wanted == answer for wanted, answer in entries]),
        "most_frequent_answer_percent": round(100 * most / len(entries), 2),
    }
    chance = CHANCE_PERCENT.get(kind)
    return figure if chance is None else {**figure, "chance_percent": chance}


def measure(
    ask: Answers, dialogues: Iterable[Conversation], wrong: list[str], workers: int = 1
) -> Figures:
    """Return the share of exactly right answers for each kind, and for each turn.

    Args:
        ask: The model.
        dialogues: The conversations.
        wrong: Gets one line for each wrong answer, to read.
        workers: How many conversations are held at once.
    """
    answered_by_kind: dict[str, list[tuple[str, str]]] = defaultdict(list)
    dialogues = list(dialogues)
    answered = in_parallel(ask, dialogues, workers)
    for dialogue, answers in zip(dialogues, answered, strict=True):
        for turn, (asked, answer) in enumerate(zip(dialogue.asked, answers, strict=True), 1):
            answered_by_kind[asked.kind].append((asked.answer, answer))
            if len(dialogue.asked) > 1:
                answered_by_kind[f"turn_{turn}"].append((asked.answer, answer))
            if asked.answer != answer:
                line = (asked.kind, str(turn), asked.question, asked.answer, answer)
                wrong.append(" | ".join((*line, dialogue.video.facts.description())))
    return {kind: _figure(kind, entries) for kind, entries in answered_by_kind.items()}


def missed(figures: Figures) -> list[str]:
    """Return the missed gates, with "turn_2" and "turn_3" where they fall behind the first."""
    first, late = figures["turn_1"]["percent"], ("turn_2", "turn_3")
    behind = [turn for turn in late if figures[turn]["percent"] < first - MAX_TURN_GAP]
    return missed_gates(figures, GATES_PERCENT) + behind


def _measure_all(ask: Answers, request: Request, workers: int) -> Figures:
    figures = measure(ask, conversations(request.seed, request.num), request.wrong, workers)
    if request.more:
        singles = single_questions(request.seed, request.more)
        figures.update(measure(ask, singles, request.wrong, workers))
        others = reworded_questions(request.seed, request.more // 4)
        figures.update(measure(ask, others, request.wrong, workers))
    return figures


def evaluate(request: Request) -> dict[str, Any]:
    """Return all figures of one back end."""
    torch.set_num_threads(1)
    if request.url:
        figures = _measure_all(AppChat(request.url), request, request.workers)
    else:
        figures = _measure_all(PackageChat(request.checkpoint), request, 1)
    return {"gates_missed": missed(figures), "accuracy": figures}
