"""Published files become the model: strictly, and without running what a pickle holds."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from demo_models.training.viclip.model import save_viclip
from pipelines.core.errors import WeightsError
from pipelines.models.viclip.conversion_viclip import (
    find_weights,
    load_viclip,
    strip_prefixes,
)
from pipelines.models.viclip.modeling_viclip import ViClipModel
from tests.support.viclip_golden import EXACT, HEADS, golden, make_golden_folder

pytestmark = pytest.mark.usefixtures("one_thread")

STEM = "vision_encoder.conv1.weight"

DIMENSIONS = {
    "image_size": 56,
    "patch_size": 14,
    "num_frames": 8,
    "vision_width": 48,
    "vision_layers": 3,
    "vision_heads": 3,
    "text_width": 24,
    "text_layers": 2,
    "text_heads": 3,
    "context_length": 32,
    "vocab_size": 49408,
    "embed_dim": 24,
    "mlp_ratio": 4,
}

State = dict[str, torch.Tensor]


@pytest.fixture
def state() -> State:
    """The published names, with a vocabulary of 100 words."""
    small = dict(golden("model"))
    name = "text_encoder.token_embedding.weight"
    small[name] = small[name][:100].clone()
    return small


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(HEADS), "utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ViClipModel:
    return load_viclip(make_golden_folder(tmp_path_factory.mktemp("golden")))


@pytest.fixture
def easy_dict(monkeypatch: pytest.MonkeyPatch) -> Iterator[type]:
    """A class as the reference's settings are of: a dict that is its own attributes."""
    module = types.ModuleType("utils.easydict")

    class EasyDict(dict[str, Any]):
        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            super().__setitem__(name, value)

    EasyDict.__module__, EasyDict.__qualname__ = "utils.easydict", "EasyDict"
    module.EasyDict = EasyDict  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "utils", types.ModuleType("utils"))
        patch.setitem(sys.modules, "utils.easydict", module)
        yield EasyDict


def write(folder: Path, state: State) -> Path:
    save_file({name: t.contiguous() for name, t in state.items()}, folder / "model.safetensors")
    return folder


def embed(model: ViClipModel) -> torch.Tensor:
    with torch.no_grad():
        return model.vision_encoder(golden("inputs")["pixel_values"])


def test_dimensions_come_from_the_shapes(model: ViClipModel) -> None:
    written = model.config.to_dict()
    assert {key: written[key] for key in DIMENSIONS} == DIMENSIONS
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "viclip.", "module.model."])
def test_wrappers_prefixes_are_taken_off(folder: Path, state: State, prefix: str) -> None:
    write(folder, {prefix + name: tensor for name, tensor in state.items()})
    found = load_viclip(folder)
    for name, tensor in found.state_dict().items():
        assert tensor.equal(state[name.replace("in_proj.", "in_proj_")]), name
    assert len(found.state_dict()) == len(state)


def test_a_prefix_that_not_all_share_stays() -> None:
    assert strip_prefixes({"model.a": 1, "b": 2}) == {"model.a": 1, "b": 2}
    assert strip_prefixes({}) == {}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s.pop("temp"), r"1 missing \(temp\)"),
        (lambda s: s.pop("text_encoder.ln_final.bias"), r"1 missing \(text_encoder.ln_final.bias"),
        (lambda s: s.update(extra=torch.zeros(2)), r"1 unexpected \(extra\)"),
        (
            lambda s: s.update({"vision_encoder.ln_post.bias": torch.zeros(7)}),
            r"1 of another shape \(vision_encoder.ln_post.bias is \(7,\) and not \(48,\)\)",
        ),
        (
            lambda s: s.update({STEM: torch.zeros(48, 3, 2, 14, 14)}),
            r"is \(48, 3, 2, 14, 14\) and not \(48, 3, 1, 14, 14\)",
        ),
        (
            lambda s: [s.pop(n) for n in list(s) if "resblocks.1.mlp" in n and "vision" in n],
            r"4 missing \(.*, …\)",
        ),
        (lambda s: s.pop(STEM), f"not those of a ViCLIP model. It lacks {STEM}"),
        (lambda s: s.update({STEM: torch.zeros(48)}), "missing|another shape|not those"),
        (lambda s: s.clear() or s.update(a=torch.zeros(1)), "not those of a ViCLIP model"),
        (
            lambda s: s.update(
                {"vision_encoder.transformer.resblocks.999999999.ln_1.bias": torch.zeros(48)}
            ),
            "not those of a ViCLIP model",
        ),
    ],
)
def test_loading_is_strict_both_ways(
    folder: Path, state: State, change: Callable[[State], object], told: str
) -> None:
    change(state)
    with pytest.raises(WeightsError, match=told) as caught:
        load_viclip(write(folder, state))
    assert str(folder) not in caught.value.message


def test_unknown_heads_are_not_guessed(tmp_path: Path, state: State) -> None:
    """48 values were taken for one head, and the vectors were wrong without a word."""
    with pytest.raises(
        WeightsError, match="must state vision_heads, since 48 is no multiple of 64"
    ):
        load_viclip(write(tmp_path, state))


@pytest.mark.parametrize("heads", [5, "3", -3, 2.5, 0, None])
def test_heads_that_cannot_be_are_refused(folder: Path, state: State, heads: object) -> None:
    (folder / "config.json").write_text(json.dumps({**HEADS, "vision_heads": heads}), "utf-8")
    with pytest.raises(WeightsError, match="not those of a ViCLIP model"):
        load_viclip(write(folder, state))


def test_saving_and_loading_changes_nothing(model: ViClipModel, tmp_path: Path) -> None:
    save_viclip(model, tmp_path / "published")
    written = load_file(tmp_path / "published" / "model.safetensors")
    assert written.keys() == golden("model").keys()
    assert all(written[name].equal(tensor) for name, tensor in golden("model").items())
    model.save_pretrained(tmp_path / "stock")
    for name in ("published", "stock"):
        again = load_viclip(tmp_path / name)
        assert embed(again).equal(embed(model)), name
        found, expected = again.config.to_dict(), model.config.to_dict()
        assert {key: found[key] for key in DIMENSIONS} == {key: expected[key] for key in DIMENSIONS}


@pytest.mark.parametrize("under", ["model", "module", "state_dict", None])
def test_a_raw_checkpoint(folder: Path, state: State, under: str | None) -> None:
    file = folder / "ViClip-InternVid-10M-FLT.pth"
    torch.save({under: state, "epoch": 3, "optimizer": {"state": {}}} if under else state, file)
    for place in (folder, file):
        found = embed(load_viclip(place))
        assert torch.allclose(found, golden("expected")["video_embeds_raw"], atol=EXACT)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_raw_checkpoint_in_both_formats(folder: Path, state: State, zipped: bool) -> None:
    torch.save({"model": state}, folder / "a.pth", _use_new_zipfile_serialization=zipped)
    assert embed(load_viclip(folder)).isfinite().all()


def test_foreign_settings_are_read_past(folder: Path, state: State, easy_dict: type) -> None:
    """The training run keeps its settings beside the weights, in a class that is not ours."""
    inner = easy_dict()
    inner.num_frames = 8
    config = easy_dict()
    config.model, config.sizes, config.path = inner, [1, 2, inner], "x"
    file = folder / "a.pth"
    torch.save({"model": state, "config": config, "scaler": {"scale": 2.0}}, file)
    with pytest.raises(pickle.UnpicklingError, match="utils.easydict.EasyDict"):
        torch.load(file, weights_only=True)
    del sys.modules["utils.easydict"], sys.modules["utils"]
    assert embed(load_viclip(file)).isfinite().all()
    assert "utils" not in sys.modules
    with pytest.raises(pickle.UnpicklingError, match="utils.easydict.EasyDict"):
        torch.load(file, weights_only=True)  # nothing stays allowed


class _Harm:
    """Pickled as a call."""

    def __init__(self, call: Callable[..., object], *given: object) -> None:
        self._call = (call, given)

    def __reduce__(self) -> Any:
        return self._call


@pytest.mark.parametrize(
    "call", [os.system, subprocess.Popen, exec, eval, getattr, __import__, shutil.rmtree]
)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_harmful_pickle_is_refused(
    folder: Path, state: State, call: Callable[..., object], zipped: bool
) -> None:
    trace = folder / "harm-was-done"
    harm = _Harm(call, f"touch {trace}")
    file = folder / "a.pth"
    torch.save({"model": state, "config": harm}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match="do not trust this file" if zipped else "read safely"):
        load_viclip(file)
    assert not trace.exists()


def test_a_harmful_call_of_a_library_does_nothing(
    folder: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name outside Python's own library is never imported: its call makes an empty dict."""
    trace = folder / "harm-was-done"
    module = types.ModuleType("harmful")
    source = "def run(path):\n    open(path, 'w').close()\n    return {}\n"
    exec(compile(source, "harmful", "exec"), module.__dict__)
    module.run.__module__ = "harmful"
    monkeypatch.setitem(sys.modules, "harmful", module)
    torch.save({"model": state, "config": _Harm(module.run, str(trace))}, folder / "a.pth")
    load_viclip(folder)
    assert not trace.exists()
    with pytest.raises(WeightsError, match="must hold tensors by name"):
        torch.save({"model": _Harm(module.run, str(trace))}, folder / "a.pth")
        load_viclip(folder)
    assert not trace.exists()


def test_plain_pickles_are_refused(folder: Path) -> None:
    trace = folder / "harm-was-done"
    (folder / "a.pth").write_bytes(pickle.dumps(_Harm(os.system, f"touch {trace}"), 2))
    with pytest.raises(WeightsError, match="read safely"):
        load_viclip(folder)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "a.pth"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[: len(whole) // 2],
        lambda whole: b"",
        lambda whole: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        lambda whole: b"\0" * 1000,
        lambda whole: b"PK\x03\x04" + b"\0" * 1000,
        lambda whole: whole[:100] + b"\xff" * 3000 + whole[3100:],
    ],
)
def test_damaged_files_are_refused(
    folder: Path, state: State, name: str, damage: Callable[[bytes], bytes]
) -> None:
    file = folder / name
    if name == "a.pth":
        torch.save({"model": state}, file)
    else:
        write(folder, state)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(WeightsError, match="damaged"):
        load_viclip(folder)


@pytest.mark.parametrize(
    "content", [[1, 2], {"model": {"a": 1}}, {"model": {}}, {1: torch.zeros(1)}, torch.zeros(2), {}]
)
def test_checkpoints_without_named_tensors_are_refused(folder: Path, content: object) -> None:
    torch.save(content, folder / "a.pth")
    with pytest.raises(WeightsError, match="must hold tensors by name"):
        load_viclip(folder)


def test_the_file_of_weights_is_found(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="but got none"):
        find_weights(tmp_path)
    (tmp_path / "one.pth").touch()
    assert find_weights(tmp_path).name == "one.pth"
    (tmp_path / "two.pth").touch()
    with pytest.raises(WeightsError, match="but got one.pth, two.pth"):
        find_weights(tmp_path)
    (tmp_path / "model.safetensors").touch()
    assert find_weights(tmp_path).name == "model.safetensors"
    assert find_weights(tmp_path / "two.pth").name == "two.pth"
