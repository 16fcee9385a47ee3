"""What the tests of the batch share: pictures, a model that is none, and the command in a process.

`python -m tests.fakes.batch_captioner FOLDER ...` is the real command with the fake model.
"""

import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

import pipelines.caption_folder as command
from pipelines.batch.ledger import CaptionSettings
from pipelines.core.options import GenerationOptions

ROOT = Path(__file__).parents[2]


def mean_colour(image: Image.Image) -> str:
    """Return what the fake model says: exact, and of this picture only."""
    red, green, blue = image.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))  # type: ignore[misc]
    return f"a picture of {red:02x}{green:02x}{blue:02x}"


def caption_batch(images: list[Image.Image]) -> list[str]:
    return [mean_colour(image) for image in images]


def make_picture(path: Path, number: int, size: int = 16) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = (number % 256, number // 256 % 256, 128)
    Image.new("RGB", (size, size), colour).save(path)


def make_folder(folder: Path, num_images: int, *, damaged_every: int = 0, size: int = 16) -> None:
    """Draw pictures, no two alike; every so many-th is cut off."""
    for number in range(num_images):
        path = folder / f"{number // 100:02}" / f"{number:05}.png"
        make_picture(path, number, size)
        if damaged_every and number % damaged_every == damaged_every // 2:
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) // 2] + b"%d" % number)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def result_lines(ledger: Path) -> list[dict[str, Any]]:
    """Return the results of a ledger; every line of it must be whole."""
    assert ledger.read_bytes().endswith(b"\n")
    return [row for row in lines(ledger) if "values" not in row]


def arguments(folder: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "tests.fakes.batch_captioner", str(folder), *more]


def run_command(
    folder: Path, *more: str, env: dict[str, str] | None = None, **options: Any
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        arguments(folder, *more),
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


def fake_captioner(store: Any, model: str, prompt: str, options: GenerationOptions) -> Any:
    """Stand in for the model at the command's seam.

    `FAKE_SLEEP_S` makes each picture take a while; each is noted in the file `FAKE_CALLS`.
    """
    pause_s, calls = float(os.environ.get("FAKE_SLEEP_S", "0")), os.environ.get("FAKE_CALLS")

    def caption(images: list[Image.Image]) -> list[str]:
        time.sleep(pause_s * len(images))
        captions = [prompt + mean_colour(image) for image in images]
        if calls:
            with Path(calls).open("a", encoding="utf-8") as file:
                file.write("".join(f"{caption}\n" for caption in captions))
        return captions

    settings = CaptionSettings(model=model or "fake", prompt=prompt, options=asdict(options))
    return command.Captioner(settings, caption)


def pick_moments(seed: int, count: int, longest_s: float) -> list[float]:
    chance = random.Random(seed)
    return [chance.uniform(0.0, longest_s) for _ in range(count)]


def peak_kb() -> int:
    """Return the most memory that this process ever took.

    `ru_maxrss` is no use on Linux: it starts with the peak of the process that started this one.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000  # bytes, on macOS
    return int(status.read_text().split("VmHWM:")[1].split()[0])


def main(argv: Sequence[str]) -> int:
    command._captioner = fake_captioner
    status = command.main(argv)
    print(f"peak_kb {peak_kb()}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
