"""Clips and conversations found by content: one thread's work serves all, nothing is crossed."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from pipelines.core.cancel import NEVER, Cancelled, CancelToken
from pipelines.models.videochat_flash.configuration_videochat_flash import CARD_DROPPING
from pipelines.models.videochat_flash.kv_cache import VISUAL, Conversations, KeyValues
from pipelines.models.videochat_flash.video_features import ClipFeatures


def read(*ids: int, tokens: int = 10) -> KeyValues:
    values = KeyValues(ids=list(ids))
    values.update(torch.zeros(1, 1, tokens, 4), torch.zeros(1, 1, tokens, 4), 0)
    return values


def test_a_clip_that_many_want_is_encoded_once() -> None:
    clips, asked, go = ClipFeatures(10_000), [], threading.Event()

    def encode() -> torch.Tensor:
        asked.append(1)
        go.wait(10)
        return torch.ones(2, 3)

    with ThreadPoolExecutor(4) as crowd:
        jobs = [crowd.submit(clips.get_or_encode, "a", encode, NEVER) for _ in range(4)]
        go.set()
        assert all(torch.equal(job.result(10), torch.ones(2, 3)) for job in jobs)
    assert len(asked) == 1
    assert clips.weight == 24


def test_whoever_waits_can_stop_and_a_failure_is_tried_again() -> None:
    clips, begun, go = ClipFeatures(10_000), threading.Event(), threading.Event()

    def fail() -> torch.Tensor:
        begun.set()
        go.wait(10)
        raise ValueError("broken")

    with ThreadPoolExecutor(1) as other:
        job = other.submit(clips.get_or_encode, "a", fail, NEVER)
        assert begun.wait(10)
        with pytest.raises(Cancelled):
            clips.get_or_encode("a", lambda: torch.ones(1), CancelToken(lambda: True))
        go.set()
        with pytest.raises(ValueError, match="broken"):
            job.result(10)
    assert torch.equal(clips.get_or_encode("a", lambda: torch.ones(1), NEVER), torch.ones(1))


def test_a_conversation_is_found_by_its_longest_beginning() -> None:
    kept = Conversations(1_000_000)
    short, long = read(1, VISUAL, 2), read(1, VISUAL, 2, 3, 4)
    kept.give_back(short, "video")
    kept.give_back(long, "video")
    assert kept.take([1, VISUAL, 2, 3, 9], "video", None) == (long, 4)
    assert kept.take([1, VISUAL, 2, 3, 9], "video", None) == (short, 3)
    assert kept.take([1, VISUAL, 2, 3, 9], "video", None) == (KeyValues(), 0)


def test_what_does_not_hold_the_same_video_is_left_alone() -> None:
    kept = Conversations(1_000_000)
    kept.give_back(read(1, VISUAL, 2), "video")
    for ids, frames, dropping in (
        ([1, VISUAL, 2], "other video", None),
        ([1, VISUAL, 2], "video", CARD_DROPPING),
        ([5, VISUAL, 2], "video", None),
        ([1, 2], "video", None),
    ):
        assert kept.take(ids, frames, dropping) == (KeyValues(), 0)
    assert kept.take([1, VISUAL], "video", None)[1] == 2


def test_the_oldest_conversation_goes_first() -> None:
    size = read(1, VISUAL).num_bytes
    kept = Conversations(2 * size)
    for frames in "abc":
        kept.give_back(read(1, VISUAL), frames)
    assert kept.weight == 2 * size
    assert [kept.take([1, VISUAL], frames, None)[1] for frames in "abc"] == [0, 2, 2]
    kept.give_back(read(1, VISUAL, tokens=9000), "large")
    kept.give_back(KeyValues(), "nothing was read")
    assert kept.weight == 0
