"""Streaming ends with its reader, and tells the truth about errors."""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from threading import Event
from time import sleep
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, TextStreamer

from pipelines.compute import background
from pipelines.core.cancel import CancelToken
from pipelines.models.captioning.decoding import StopOnCancel, generate, stream_generation

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


class Handing(TextStreamer):
    """Hands each piece on."""

    def __init__(self, emit: Callable[[str], None]) -> None:
        super().__init__(Words(), skip_prompt=True)  # type: ignore[arg-type]
        self._emit = emit

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        if text:
            self._emit(text)


def stream(model: Any) -> Iterator[str]:
    def work(emit: Callable[[str], None]) -> None:
        generate(model, streamer=Handing(emit), **inputs())

    running = stream_generation(work)
    with closing(running) as pieces:
        yield from (piece for piece in pieces if piece is not None)


def test_the_stream_is_the_text() -> None:
    slow = Slow()
    whole = slow.model.generate(**inputs())[0, 3:]
    assert "".join(stream(slow)) == Words().decode(whole)


@pytest.mark.parametrize("read", [1, 5])
def test_closing_the_stream_stops_the_computation(read: int) -> None:
    slow = Slow()
    pieces = stream(slow)
    for _ in range(read):
        next(pieces)
    before = slow.steps
    pieces.close()
    steps = slow.steps
    assert steps <= before + 3, "stopped within a token or two"
    threading.Event().wait(0.05)
    assert slow.steps == steps, "nothing runs on"
    assert [t.name for t in threading.enumerate() if t.name == "work"] == []


def test_a_stream_that_is_forgotten_stops_as_well() -> None:
    slow = Slow()
    pieces = stream(slow)
    next(pieces)
    del pieces
    gc.collect()
    steps = slow.steps
    assert steps < STEPS / 2
    threading.Event().wait(0.05)
    assert slow.steps == steps


def test_a_stream_that_nobody_reads_computes_nothing() -> None:
    slow = Slow()
    stream(slow).close()
    assert slow.steps == 0


def test_every_row_of_a_batch_is_stopped() -> None:
    cancel = CancelToken()
    criterion = StopOnCancel(cancel)
    ids = torch.zeros(3, 5, dtype=torch.long)
    assert criterion(ids, None).tolist() == [False] * 3
    cancel.cancel()
    assert criterion(ids, None).tolist() == [True] * 3


def test_the_true_error_arrives_in_the_reader() -> None:
    class Broken:
        def generate(self, **_: Any) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        list(stream(Broken()))


def test_an_error_on_the_way_comes_after_the_text_so_far() -> None:
    class Breaks:
        def generate(self, *, streamer: Any, **_: Any) -> None:
            streamer.put(torch.tensor([[1]]))  # the prompt, which is skipped
            for token in (7, 8, 9):
                streamer.put(torch.tensor([token]))
            raise ValueError("half way")

    pieces, seen = stream(Breaks()), []
    with pytest.raises(ValueError, match="half way"):
        for piece in pieces:
            seen.append(piece)
    assert "".join(seen).split() == ["7", "8", "9"]


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


def test_work_streams_its_items_and_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "HEARTBEAT_S", 0.01)
    go = Event()

    def work(emit: Callable[[int], None], cancel: CancelToken) -> None:
        emit(1)
        go.wait(10)
        emit(2)

    items = background.stream_work(work)
    assert [next(items), next(items)] == [1, None]
    go.set()
    assert [item for item in items if item is not None] == [2]


def test_closing_work_tells_it_to_stop_and_waits_for_it() -> None:
    ended = Event()

    def work(emit: Callable[[int], None], cancel: CancelToken) -> None:
        emit(1)
        while not cancel.is_cancelled:
            sleep(0.001)
        ended.set()

    items = background.stream_work(work)
    assert next(items) == 1
    items.close()  # type: ignore[attr-defined]
    assert ended.is_set()


def test_what_work_raises_comes_after_its_items() -> None:
    def work(emit: Callable[[int], None], cancel: CancelToken) -> None:
        emit(1)
        raise ValueError("broken")

    items = background.stream_work(work)
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken"):
        next(items)


def test_work_pauses_when_its_items_are_not_taken() -> None:
    done: list[int] = []

    def work(emit: Callable[[int], None], cancel: CancelToken) -> None:
        for number in range(10):
            done.append(number)
            emit(number)

    with closing(background.stream_work(work, max_ahead=1)) as items:
        assert next(item for item in items if item is not None) == 0
        sleep(0.5)
        assert len(done) <= 2
        assert [item for item in items if item is not None] == list(range(1, 10))


def test_work_that_waits_for_its_reader_ends_with_it() -> None:
    ended = Event()

    def work(emit: Callable[[int], None], cancel: CancelToken) -> None:
        try:
            for number in range(1000):
                emit(number)
        finally:
            ended.set()

    items = background.stream_work(work, max_ahead=1)
    next(items)
    items.close()
    assert ended.is_set()
