"""A real peer, `transformers serve` over a tiny LLaVA with random weights, through our endpoints.

What it says must be what the stock processor and `generate` say of the same pictures and turns.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file
from PIL import Image

from tests.conftest import connect, draw_circle
from tests.fakes.tiny_captioning import make_llava
from tests.fakes.videos import encode
from tests.support.app_process import FOREIGN, serve

#: What LLaVA reads for a conversation; its processor is saved without one.
TEMPLATE = (
    "{% for m in messages %}{{ m['role'].upper() }}: "
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %} {% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)

NEW_TOKENS = 12
START_LIMIT_S = 180.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_llava(tmp_path_factory.mktemp("tiny-llava"))
    (folder / "chat_template.jinja").write_text(TEMPLATE, "utf-8")
    return folder


@pytest.fixture(scope="module")
def peer(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path_factory.mktemp("home")
    (home / "hub").mkdir()
    env = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
    env |= {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
    command += ["--device", "cpu", "--dtype", "float32", "--port", str(port)]
    log = home / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT)
    try:
        _await_health(process, f"http://localhost:{port}", log)
        yield f"http://localhost:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def _await_health(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise RuntimeError(f"transformers serve did not start:\n{log.read_text('utf-8')[-3000:]}")


@pytest.fixture(scope="module")
def asker(peer: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    app_folder = tmp_path_factory.mktemp("app")
    with serve(app_folder, "--remote", f"tiny={peer}") as app:
        yield connect(app.url)


@pytest.fixture(scope="module")
def stock(folder: Path) -> Any:
    """What stock transformers says of pictures and messages, greedily."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()

    def say(images: list[Image.Image], *messages: str) -> str:
        said: list[dict[str, Any]] = [
            {"role": ("user", "assistant")[turn % 2], "content": text}
            for turn, text in enumerate(messages)
        ]
        first = [{"type": "image"}] * len(images) + [{"type": "text", "text": messages[0]}]
        said[0]["content"] = first
        prompt = processor.apply_chat_template(said, add_generation_prompt=True)
        inputs = processor(images=images, text=prompt, return_tensors="pt")
        with torch.inference_mode():
            ids = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
        return whole(processor.decode(ids[0, inputs["input_ids"].shape[1] :], True).strip())

    return say


def whole(text: str) -> str:
    """Return a text without half a character at its end, which the server's stream leaves out."""
    return text.rstrip("\ufffd")


ASK: dict[str, Any] = {"model": "tiny", "max_new_tokens": NEW_TOKENS}
PROMPT = "Describe this image in one sentence."


def test_a_caption_streams(asker: Client, stock: Any, red_circle: Path) -> None:
    job = asker.submit(image=handle_file(red_circle), api_name="/caption_image", **ASK)
    assert whole(job.result(timeout=60)) == stock([draw_circle()], PROMPT)
    assert len({text for text in job.outputs() if text}) > 2


def test_questions_and_turns(asker: Client, stock: Any, red_circle: Path) -> None:
    image, circle = handle_file(red_circle), draw_circle()
    answer = asker.predict(
        image=image, question="What colour is it?", api_name="/answer_image", **ASK
    )
    assert whole(answer) == stock([circle], "What colour is it?")
    first, history = asker.predict(image=image, message="Which?", api_name="/chat_image", **ASK)
    second, _ = asker.predict(
        image=image, message="And where?", history=history, api_name="/chat_image", **ASK
    )
    assert whole(second) == stock([circle], "Which?", first, "And where?")


def test_a_batch(asker: Client, stock: Any, tmp_path: Path) -> None:
    colours = ("#e4202c", "#1c4ed8", "#15803d")
    for name, colour in enumerate(colours):
        draw_circle(colour).save(tmp_path / f"{name}.png")
    files = [handle_file(path) for path in sorted(tmp_path.glob("*.png"))]
    rows, _ = asker.predict(files=files, api_name="/caption_images", **ASK)
    assert [row["error"] for row in rows] == [""] * 3
    assert [whole(row["caption"]) for row in rows] == [
        stock([draw_circle(colour)], PROMPT) for colour in colours
    ]


def test_several_frames_of_a_video(asker: Client, tmp_path: Path) -> None:
    video = handle_file(encode(tmp_path / "a.mp4", "libx264"))
    text, history = asker.predict(
        video=video, question="What happens?", max_frames=4, api_name="/ask_video", **ASK
    )
    assert text
    assert history[-1]["content"] == text
