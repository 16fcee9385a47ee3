"""Questions about a video, kept and afresh: `python benchmarks/bench_video_chat.py [--quick]`.

Random weights at the widths of VideoChat-Flash 2B at 448 px; the layers of tower and language
model are cut to what this machine can work off (`--tower-layers`, `--layers`; 23 and 28 are
whole), which leaves both sides of a ratio with the same share of their work. Every figure is CPU
time, over all threads of the process. The last line is JSON; `--write` also keeps it beside this
script.
"""

import argparse
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402

from benchmarks.measuring import Row, compare, cpu_seconds, report, row  # noqa: E402
from benchmarks.numbered_videos import draw, texture, write_video  # noqa: E402
from benchmarks.video_chat_checkpoint import attend_eagerly, make_chat  # noqa: E402
from pipelines.compute.packed_linear import PackedLinear, can_pack  # noqa: E402
from pipelines.core.options import GenerationOptions  # noqa: E402
from pipelines.core.settings import Settings  # noqa: E402
from pipelines.models.video_chat import Part, VideoAnswer  # noqa: E402
from pipelines.models.videochat_flash.estimate import prompt_operations, tower_operations  # noqa: E402
from pipelines.models.videochat_flash.kv_cache import VISUAL, KeyValues  # noqa: E402
from pipelines.models.videochat_flash.modeling_language import VideoPrompt, prefill, splice  # noqa: E402
from pipelines.serving.store import PipelineStore  # noqa: E402

KEY = "videochat-flash-2b-448"
FIRST, SECOND = "What happens in this video?", "And what happens after that?"

#: Blocks of the tower and layers of the language model in the published checkpoint.
WHOLE = (23, 28)


def ask(
    chat: Any, video: Path, question: str, history: Any, part: Part, tokens: int
) -> VideoAnswer:
    """Return the whole answer."""
    options = GenerationOptions(max_new_tokens=tokens)
    *_, last = chat.ask(video, question, history, options, part)
    result: VideoAnswer = last.result
    return result


def second_question(chat: Any, video: Path, num_frames: int, goal: float, tokens: int) -> Row:
    """A second question kept, beside the same question asked of an empty cache.

    The reference reads video and conversation anew at every question: that is the empty cache.
    Timed is the first token; the answers compared have `tokens`.
    """
    part = Part(max_frames=num_frames)
    chat.forget()
    history = ask(chat, video, FIRST, None, part, tokens).history
    answers: list[VideoAnswer] = []

    def once() -> None:
        answers.append(ask(chat, video, SECOND, history, part, 1))

    kept_s = cpu_seconds(once)
    said = ask(chat, video, SECOND, history, part, tokens).text
    chat.forget()
    fresh_s = cpu_seconds(once)
    said_afresh = ask(chat, video, SECOND, history, part, tokens).text
    frames = len(answers[0].seen.times_s)
    made = row(
        f"second question about {frames} frames until its first token / afresh",
        kept_s,
        fresh_s,
        goal,
        same_answer=said == said_afresh,
        answer_tokens=tokens,
        reused_tokens=answers[0].num_reused,
    )
    return {**made, "met": made["met"] and made["same_answer"]}


def one_clip(chat: Any, times: int) -> Row:
    """Four frames through the tower: ours beside the same tower with eager attention."""
    visual = chat._model.visual
    side = visual.config.vision.image_px
    clip = torch.randn(1, 4, 3, side, side, generator=torch.Generator().manual_seed(0))

    def ours() -> torch.Tensor:
        rows: torch.Tensor = visual.encode(clip)
        return rows

    def theirs() -> torch.Tensor:
        with attend_eagerly():
            return ours()

    what = "a clip of 4 frames through the tower, ours / eager attention"
    return row(what, *compare(ours, theirs, times), 0.45)


def last_row(chat: Any, num_frames: int) -> Row:
    """Logits of a prompt: those of its last token only, beside those of all of its tokens."""
    language = chat._model.language
    rows = num_frames * 16
    seen: list[int] = []
    hook = language.lm_head.register_forward_pre_hook(
        lambda module, given: seen.append(given[0].shape[1])
    )
    width = chat._model.config.hidden_size
    prompt = VideoPrompt([1, 2, VISUAL, 3, 4], torch.randn(rows, width))
    prefill(language, prompt, KeyValues())
    hook.remove()
    hidden = splice(language, prompt)
    with torch.inference_mode():
        ours_s = cpu_seconds(lambda: language.lm_head(hidden[:, -1:]))
        theirs_s = cpu_seconds(lambda: language.lm_head(hidden))
    made = row(
        f"output layer at the prompt of {num_frames} frames, last row / all rows",
        ours_s,
        theirs_s,
        0.05,
        rows_computed=seen,
        rows_of_prompt=len(prompt),
    )
    return {**made, "met": made["met"] and seen == [1]}


def matrix_rate(config: Any, dtype: str) -> float:
    """Return operations a CPU second in a Linear layer of the tower's MLP, the best of three."""
    linear = torch.nn.Linear(config.hidden_size, config.mlp_size)
    rows = torch.randn(config.clip_frames * config.grid**2, config.hidden_size)
    layer: Any = PackedLinear(linear) if dtype == "bfloat16" and can_pack() else linear
    rows = rows.bfloat16() if dtype == "bfloat16" else rows
    with torch.inference_mode():
        layer(rows)
        took_s = min(cpu_seconds(lambda: layer(rows)) for _ in range(3))
    return 2 * rows.numel() * config.mlp_size / took_s


def first_token(chat: Any, video: Path, num_frames: int) -> Row:
    """The first token about a video, its decoding too, beside the operations that it takes.

    Those are counted, and taken to run as fast as the largest layers do by themselves.
    """
    config = chat._model.config
    chat.forget()
    answers: list[VideoAnswer] = []
    took_s = cpu_seconds(
        lambda: answers.append(ask(chat, video, FIRST, None, Part(max_frames=num_frames), 1))
    )
    frames, vision = len(answers[0].seen.times_s), config.vision
    clips = frames // vision.clip_frames
    prompt = answers[0].context.used_tokens
    text = chat._model.config.text
    operations = clips * tower_operations(vision) + prompt_operations(text, prompt)
    rate = matrix_rate(vision, chat.device.dtype)
    return row(
        f"first token about {frames} frames / its operations at the rate of the largest layers",
        took_s,
        operations / rate,
        2.0,
        operations=operations,
        operations_a_second=rate,
        prompt_tokens=prompt,
    )


def draw_video(path: Path, seconds: int, *, tiny: bool) -> Path:
    """Write a video of a frame a second, so that as many frames are looked at as allowed."""
    height, width = (90, 160) if tiny else (720, 1280)
    background = texture(height, width)
    frames = (draw(number, background, width) for number in range(seconds + 8))
    write_video(path, frames, 1.0)
    return path


def weights(args: argparse.Namespace, dtype: str) -> str:
    """Return what the weights are, and how much of the model is there."""
    widths = "tiny widths" if args.quick else "the widths of VideoChat-Flash 2B at 448 px"
    return (
        f"random weights in {dtype} at {widths}, {args.tower_layers} of {WHOLE[0]} blocks of the "
        f"tower and {args.layers} of {WHOLE[1]} layers of the language model"
    )


def main() -> None:
    """Measure, print, and keep where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--tower-layers", type=int, default=WHOLE[0])
    parser.add_argument("--layers", type=int, default=WHOLE[1])
    parser.add_argument("--frames", type=int, nargs="*", default=[64, 512])
    parser.add_argument("--tokens", type=int, default=8, help="tokens of compared answers")
    parser.add_argument("--write", action="store_true", help="keep the figures")
    args = parser.parse_args()
    if args.quick:
        args.tower_layers, args.layers, args.frames = 2, 2, [16, 32]
    with TemporaryDirectory() as name:
        work = Path(name)
        make_chat(work / "models" / KEY, args.tower_layers, args.layers, tiny=args.quick)
        video = draw_video(work / "video.mp4", max(args.frames), tiny=args.quick)
        settings = Settings(
            models_dir=work / "models", device="cpu", memory_gb=1000.0, cache_dir=work / "cache"
        )
        store = PipelineStore(settings)
        with store.use(KEY, "video-chat") as chat:
            times = 2 if args.quick else 4
            rows = [one_clip(chat, times), last_row(chat, args.frames[0])]
            rows.append(first_token(chat, video, args.frames[0]))
            for frames in args.frames:
                goal = 1 / 500 if frames >= 512 else 1 / 100
                rows.append(second_question(chat, video, frames, goal, args.tokens))
            dtype = chat.device.dtype
    report(__file__, rows, args, weights(args, dtype))


if __name__ == "__main__":
    main()
