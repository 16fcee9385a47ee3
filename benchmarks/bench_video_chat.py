"""Questions about a video, kept and afresh: `python benchmarks/bench_video_chat.py [--quick]`.

Random weights at the widths of VideoChat-Flash 2B at 448 px; the layers of tower and language
model are cut to what this machine can work off (`--tower-layers`, `--layers`; 23 and 28 are
whole), which leaves both sides of a ratio with the same share of their work. Every figure is CPU
time, over all threads of the process. The last line is JSON; `--write` also keeps it beside this
script.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402

from benchmarks.numbered_videos import draw, texture  # noqa: E402
from benchmarks.video_chat_checkpoint import attend_eagerly, make_chat  # noqa: E402
from pipelines.generation import GenerationOptions  # noqa: E402
from pipelines.settings import Settings  # noqa: E402
from pipelines.store import PipelineStore  # noqa: E402
from pipelines.video_writing import write_frames  # noqa: E402
from pipelines.videochat_flash.key_values import KeyValues  # noqa: E402
from pipelines.videochat_flash.modeling_language import (  # noqa: E402
    VISUAL,
    Prompt,
    prefill,
    splice,
)
from pipelines.videochat_flash.part import Part  # noqa: E402
from pipelines.videochat_flash.results import VideoAnswer  # noqa: E402

KEY = "videochat-flash-2b-448"
FIRST, SECOND = "What happens in this video?", "And what happens after that?"
Row = dict[str, Any]


def cpu_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU time of one call, over all threads, and what it returned."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def row(what: str, ours_s: float, theirs_s: float, goal: float, **more: Any) -> Row:
    """Return one line of the table."""
    ratio = ours_s / theirs_s
    shown = f"1/{1 / ratio:.0f}" if ratio < 0.1 else f"{ratio:.2f}"
    target = f"≤ 1/{1 / goal:.0f}" if goal < 0.1 else f"≤ {goal:g}"
    return {"what": what, "ours_s": round(ours_s, 4), "theirs_s": round(theirs_s, 4),
            "ratio": shown, "value": round(ratio, 6), "goal": target, "met": ratio <= goal,
            **more}  # fmt: skip


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
    kept_s, kept = cpu_seconds(lambda: ask(chat, video, SECOND, history, part, 1))
    said = ask(chat, video, SECOND, history, part, tokens).text
    chat.forget()
    fresh_s, _ = cpu_seconds(lambda: ask(chat, video, SECOND, history, part, 1))
    said_afresh = ask(chat, video, SECOND, history, part, tokens).text
    made = row(
        f"second question about {len(kept.seen.times_s)} frames until its first token / afresh",
        kept_s,
        fresh_s,
        goal,
        same_answer=said == said_afresh,
        answer_tokens=tokens,
        reused_tokens=kept.num_reused,
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

    ours(), theirs()
    pairs = [(cpu_seconds(ours)[0], cpu_seconds(theirs)[0]) for _ in range(times)]
    best = min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)
    return row("a clip of 4 frames through the tower, ours / eager attention", *best, 0.45)


def last_row(chat: Any, num_frames: int) -> Row:
    """Logits of a prompt: those of its last token only, beside those of all of its tokens."""
    language = chat._model.language
    rows = num_frames * 16
    seen: list[int] = []
    hook = language.lm_head.register_forward_pre_hook(
        lambda module, given: seen.append(given[0].shape[1])
    )
    width = chat._model.config.hidden_size
    prompt = Prompt([1, 2, VISUAL, 3, 4], torch.randn(rows, width))
    prefill(language, prompt, KeyValues())
    hook.remove()
    hidden = splice(language, prompt)
    with torch.inference_mode():
        ours_s, _ = cpu_seconds(lambda: language.lm_head(hidden[:, -1:]))
        theirs_s, _ = cpu_seconds(lambda: language.lm_head(hidden))
    made = row(
        f"output layer at the prompt of {num_frames} frames, last row / all rows",
        ours_s,
        theirs_s,
        0.05,
        rows_computed=seen,
        rows_of_prompt=len(prompt),
    )
    return {**made, "met": made["met"] and seen == [1]}


def write_video(path: Path, seconds: int, *, tiny: bool) -> Path:
    """Write a video of a frame a second, so that as many frames are looked at as allowed."""
    height, width = (90, 160) if tiny else (720, 1280)
    background = texture(height, width)
    frames = (draw(number, background, width) for number in range(seconds + 8))
    write_frames(frames, path, fps=1.0)
    return path


def machine(args: argparse.Namespace, dtype: str) -> str:
    """Return what was measured where, in one line."""
    widths = "tiny widths" if args.quick else "the widths of VideoChat-Flash 2B at 448 px"
    return (
        f"Measured on {os.cpu_count()} cores in {dtype}, torch {torch.__version__}: random weights "
        f"at {widths}, {args.tower_layers} of 23 blocks of the "
        f"tower and {args.layers} of 28 layers of the language model; CPU time of all threads."
    )


def main() -> None:
    """Measure, print, and keep where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--tower-layers", type=int, default=23)
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--frames", type=int, nargs="*", default=[64, 512])
    parser.add_argument("--tokens", type=int, default=8, help="tokens of compared answers")
    parser.add_argument("--write", action="store_true", help="keep the figures")
    args = parser.parse_args()
    if args.quick:
        args.tower_layers, args.layers, args.frames = 2, 2, [16, 32]
    with TemporaryDirectory() as name:
        work = Path(name)
        make_chat(work / "models" / KEY, args.tower_layers, args.layers, tiny=args.quick)
        video = write_video(work / "video.mp4", max(args.frames), tiny=args.quick)
        settings = Settings(
            models_dir=work / "models", device="cpu", memory_gb=1000.0, cache_dir=work / "cache"
        )
        store = PipelineStore(settings)
        with store.use(KEY, "video-chat") as chat:
            times = 2 if args.quick else 4
            rows = [one_clip(chat, times), last_row(chat, args.frames[0])]
            for frames in args.frames:
                goal = 1 / 500 if frames >= 512 else 1 / 100
                rows.append(second_question(chat, video, frames, goal, args.tokens))
            dtype = chat.device.dtype
    for each in rows:
        print(f"{each['what']:<100} {each['ratio']:>9}  goal {each['goal']}")
    facts = {"machine": machine(args, dtype), "quick": args.quick, "rows": rows}
    if args.write:
        target = Path(__file__).with_suffix(".json")
        target.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(facts, ensure_ascii=False))


if __name__ == "__main__":
    main()
