"""Device, dtype and memory budget; packed layers agree with plain ones."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.compute import device as runtime
from pipelines.compute import packed_linear
from pipelines.compute.device import (
    Device,
    choose_device,
    likely_budget_gb,
    memory_budget_gb,
    warm_up,
)
from pipelines.compute.packed_linear import PackedLinear, bfloat16_gain, can_pack, pack_linear
from pipelines.core.errors import PipelineError
from pipelines.core.settings import Settings
from pipelines.models.catalogue import DEMO_CLIP
from pipelines.serving.store import build_pipeline

needs_packing = pytest.mark.skipif(not can_pack(), reason="no packed bfloat16 layers here")


def machine(
    monkeypatch: pytest.MonkeyPatch,
    *,
    cuda: tuple[int, int] | None = None,
    mps: bool = False,
    gain: float = 0.0,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda is not None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Some GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(packed_linear, "bfloat16_gain", lambda: gain)


@pytest.mark.parametrize(
    ("has", "asked", "kind", "dtype", "packed"),
    [
        ({"cuda": (9, 0)}, {}, "cuda", "bfloat16", False),
        ({"cuda": (8, 0)}, {}, "cuda", "bfloat16", False),
        ({"cuda": (7, 5)}, {}, "cuda", "float32", False),
        ({"cuda": (7, 5)}, {"dtype": "bfloat16"}, "cuda", "bfloat16", False),
        ({"cuda": (9, 0)}, {"dtype": "float32"}, "cuda", "float32", False),
        ({"cuda": (9, 0)}, {"device": "cpu"}, "cpu", "float32", False),
        ({"mps": True}, {}, "mps", "float32", False),
        ({"gain": 3.1}, {}, "cpu", "bfloat16", True),
        ({"gain": 1.1}, {}, "cpu", "float32", False),
        ({"gain": 0.0}, {}, "cpu", "float32", False),
        ({"gain": 3.1}, {"dtype": "float32"}, "cpu", "float32", False),
        ({"gain": 3.1, "mps": True}, {"device": "cpu"}, "cpu", "bfloat16", True),
    ],
)
def test_device_and_dtype_are_chosen(
    has: Any, asked: Any, kind: str, dtype: str, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, **has)
    device = choose_device(Settings(**asked))
    assert (device.kind, device.dtype, device.packed) == (kind, dtype, packed)
    assert device.reason


def test_the_choice_is_logged_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine(monkeypatch, gain=0.7)
    with caplog.at_level("INFO", "pipelines.compute.device"):
        choose_device(Settings())
    assert "cpu, float32" in caplog.text
    assert "0.7 times" in caplog.text


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_said_so(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch)
    with pytest.raises(
        PipelineError, match=f"{kind} but torch finds no such device.*--device auto"
    ):
        choose_device(Settings(device=kind))


def test_asking_for_float32_runs_no_self_test(monkeypatch: pytest.MonkeyPatch) -> None:
    def timed() -> float:
        raise AssertionError("timed")

    machine(monkeypatch)
    monkeypatch.setattr(packed_linear, "bfloat16_gain", timed)
    assert choose_device(Settings(dtype="float32")).dtype == "float32"


def test_the_self_test_ends_and_is_kept() -> None:
    gain = bfloat16_gain()
    assert gain >= 0.0
    assert bfloat16_gain() is gain
    assert (gain > 0.0) == can_pack()


@needs_packing
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 48), (2, 3, 48), (1, 1, 48), (0, 48), (300, 48)])
@torch.inference_mode()
def test_a_packed_layer_agrees_with_a_plain_one(shape: tuple[int, ...], bias: bool) -> None:
    linear = torch.nn.Linear(48, 80, bias=bias)
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = PackedLinear(linear)(rows)
    assert found.dtype == torch.bfloat16
    assert found.shape == (*shape[:-1], 80)
    # 48 products, each rounded to 8 bits of about 0.1 to 0.5
    assert torch.allclose(found.float(), linear(rows), atol=0.03, rtol=0.02)


@needs_packing
@torch.inference_mode()
def test_packing_replaces_every_linear_but_those_of_multihead_attention() -> None:
    attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    model = torch.nn.ModuleDict(
        {"a": torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU()), "b": attention}
    ).bfloat16()
    pack_linear(model)
    assert isinstance(model["a"][0], PackedLinear)
    assert type(attention.out_proj) is not PackedLinear
    rows = torch.randn(1, 3, 8).bfloat16()
    assert attention(rows, rows, rows)[0].isfinite().all()


def test_the_budget_is_what_was_asked_for_or_a_part_of_what_there_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert memory_budget_gb(Settings(memory_gb=3.5), "cpu") == 3.5
    monkeypatch.setattr(runtime, "CONTAINER_LIMITS", ())
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    assert memory_budget_gb(Settings(), "cpu") == pytest.approx(0.7 * whole)
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(runtime, "CONTAINER_LIMITS", (tmp_path / "none", limit))
    for text, expected in (("1000000000\n", 0.7), ("max\n", 0.7 * whole), ("9" * 25, 0.7 * whole)):
        limit.write_text(text)
        assert memory_budget_gb(Settings(), "cpu") == pytest.approx(expected)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1e9, 80e9))
    assert memory_budget_gb(Settings(), "cuda") == pytest.approx(56.0)


def test_the_likely_budget_is_of_the_smaller_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(runtime, "machine_memory_bytes", lambda: 64_000_000_000)
    monkeypatch.setattr(runtime, "_gpu_memory_bytes", lambda: (80 * 2**30, 10_000_000_000))
    assert likely_budget_gb(Settings(memory_gb=3.5)) == 3.5
    assert likely_budget_gb(Settings()) == pytest.approx(7.0)
    assert likely_budget_gb(Settings(device="cpu")) == pytest.approx(44.8)
    monkeypatch.undo()
    tool = tmp_path / "nvidia-smi"
    for said, sizes in (
        ("echo 24564; echo 8192", (24564, 8192)),
        ("echo '[N/A]'", ()),
        ("exit 9", ()),
    ):
        tool.write_text(f"#!/bin/sh\n{said}\n")
        tool.chmod(0o755)
        monkeypatch.setattr("shutil.which", lambda name: str(tool))
        runtime._gpu_memory_bytes.cache_clear()
        assert runtime._gpu_memory_bytes() == tuple(size * 2**20 for size in sizes)
    runtime._gpu_memory_bytes.cache_clear()


def test_warming_up_ends() -> None:
    thread = warm_up()
    thread.join(60)
    assert not thread.is_alive()
    assert thread.daemon


def test_a_model_waits_for_the_libraries() -> None:
    """A first request while they were imported was told that its model's files are damaged."""
    device, made = Device("cpu", "float32", False, "test"), []

    def build() -> None:
        made.append(build_pipeline(DEMO_CLIP, Path("/nowhere"), device, Settings()))

    thread = threading.Thread(target=build)
    with runtime._IMPORTING:
        thread.start()
        thread.join(0.3)
        assert made == []
    thread.join(60)
    assert made[0].spec is DEMO_CLIP


@pytest.mark.gpu
def test_a_gpu_is_found_and_used() -> None:
    device = choose_device(Settings())
    assert device.kind == "cuda"
    assert memory_budget_gb(Settings(), "cuda") > 1.0
