"""Streaming ends with its reader, and tells the truth about errors."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, TextIteratorStreamer

from pipelines.streaming import stream_generate

STEPS = 60


class Words:
    """The least of a tokeniser that a streamer needs."""

    def decode(self, ids: Any, **_: Any) -> str:
        return "".join(f"{int(i)} " for i in ids)


class Slow:
    """A model whose `generate` counts its steps."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        config = GPT2Config(vocab_size=50, n_positions=128, n_embd=16, n_layer=1, n_head=2)
        self.model = GPT2LMHeadModel(config).eval()
        self.steps = 0

    def generate(self, **inputs: Any) -> Any:
        def count(module: Any, args: Any, output: Any) -> None:
            self.steps += 1
            threading.Event().wait(0.002)

        hook = self.model.register_forward_hook(count)
        try:
            return self.model.generate(**inputs)
        finally:
            hook.remove()


def inputs() -> dict[str, Any]:
    ids = torch.tensor([[1, 2, 3]])
    return {"inputs": ids, "attention_mask": torch.ones_like(ids), "max_new_tokens": STEPS,
            "min_new_tokens": STEPS, "do_sample": False, "pad_token_id": 0}  # fmt: skip


def stream(model: Any) -> Iterator[str]:
    return stream_generate(model, TextIteratorStreamer(Words(), skip_prompt=True), **inputs())


def test_the_stream_is_the_text() -> None:
    slow = Slow()
    whole = slow.model.generate(**inputs())[0, 3:]
    assert "".join(stream(slow)) == Words().decode(whole)


def test_closing_the_stream_stops_the_computation() -> None:
    slow = Slow()
    pieces = stream(slow)
    next(pieces)
    pieces.close()
    steps = slow.steps
    assert steps < STEPS / 2
    threading.Event().wait(0.1)
    assert slow.steps == steps, "nothing runs on"


def test_the_true_error_arrives_in_the_reader() -> None:
    class Broken:
        def generate(self, **_: Any) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        list(stream(Broken()))


def test_any_thread_may_advance_and_close_it() -> None:
    """Gradio advances a generator from whichever thread is free: no lock or mode may be held."""
    slow = Slow()
    pieces = stream(slow)
    seen: list[str] = []

    def advance() -> None:
        seen.append(next(pieces))
        assert not torch.is_inference_mode_enabled()

    for _ in range(5):
        thread = threading.Thread(target=advance)
        thread.start()
        thread.join(10)
    closer = threading.Thread(target=pieces.close)
    closer.start()
    closer.join(10)
    assert len(seen) == 5
    assert not closer.is_alive()
    assert not torch.is_inference_mode_enabled()
