"""VideoChat-Flash's original files: every tensor used, every parameter filled, or a clear error."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from demo_models.training.videochat.model import original_tensors
from pipelines.compute.packed_linear import can_pack, pack_linear
from pipelines.core.errors import WeightsError
from pipelines.models.videochat_flash.configuration_videochat_flash import (
    Dropping,
    parse_config,
    read_config,
)
from pipelines.models.videochat_flash.conversion_videochat_flash import (
    load_model,
    model_origins,
)
from pipelines.models.videochat_flash.kv_cache import KeyValues
from pipelines.models.videochat_flash.modeling_language import prefill
from pipelines.models.videochat_flash.modeling_videochat_flash import VideoChatFlashModel
from tests.support.videochat_golden import (  # noqa: F401
    GOLDEN,
    error,
    expected,
    model,
    one_thread,
    prompt,
    table,
)

QUERY = "model.layers.3.self_attn.q_proj.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        shutil.copy(GOLDEN / name, tmp_path / name)
    return tmp_path


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def write(folder: Path, tensors: dict[str, torch.Tensor], parts: int = 1) -> None:
    if parts == 1:
        save_file(tensors, folder / "model.safetensors")
        return
    (folder / "model.safetensors").unlink()
    where = {}
    for part in range(parts):
        name = f"model-{part + 1:05}-of-{parts:05}.safetensors"
        mine = {key: tensors[key] for key in sorted(tensors)[part::parts]}
        save_file(mine, folder / name)
        where |= dict.fromkeys(mine, name)
    index = {"metadata": {}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")


def edit(folder: Path, **fields: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | fields), "utf-8")


def logits(loaded: VideoChatFlashModel) -> torch.Tensor:
    return prefill(loaded.language, prompt("v8.turn1"), KeyValues()).logits


def test_every_tensor_is_used_and_comes_back() -> None:
    original, ours = weights(GOLDEN), original_tensors(model())
    assert set(ours) == set(original)
    for name, tensor in ours.items():
        assert torch.equal(tensor, original[name]), name


def test_weights_in_parts(folder: Path) -> None:
    write(folder, weights(folder), parts=4)
    assert error(logits(load_model(folder)), expected("v8.turn1.off.logits_last")) < 1e-5


def test_tied_without_the_output_layer(folder: Path) -> None:
    kept = weights(folder)
    del kept["lm_head.weight"]
    write(folder, kept)
    loaded = load_model(folder)
    assert loaded.language.lm_head.weight is loaded.language.model.embed_tokens.weight
    assert error(logits(loaded), logits(model())) < 1e-6


def test_tied_by_name_but_different_stays_apart(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = weights(folder)
    kept["lm_head.weight"] = kept["lm_head.weight"] * 2
    write(folder, kept)
    loaded = load_model(folder)
    assert "differ" in caplog.text
    assert error(logits(loaded), 2 * logits(model())) < 1e-6


def test_untied(folder: Path) -> None:
    edit(folder, tie_word_embeddings=False)
    loaded = load_model(folder)
    assert loaded.language.lm_head.weight is not loaded.language.model.embed_tokens.weight
    assert error(logits(loaded), logits(model())) < 1e-6
    assert set(original_tensors(loaded)) == set(weights(folder))


def test_untied_needs_the_output_layer(folder: Path) -> None:
    edit(folder, tie_word_embeddings=False)
    kept = weights(folder)
    del kept["lm_head.weight"]
    write(folder, kept)
    with pytest.raises(WeightsError, match=r"1 are missing \(lm_head.weight\)"):
        load_model(folder)


@pytest.mark.parametrize("part", sorted(set(model_origins(model()))))
def test_no_parameter_may_be_missing(part: str) -> None:
    """Names and shapes are read from headers, so all of them are tried, with none loaded."""
    from pipelines.models.videochat_flash import conversion_videochat_flash as conversion

    class Lacking:
        def shapes(self) -> dict[str, tuple[int, ...]]:
            found = {name: tuple(value.shape) for name, value in original_tensors(model()).items()}
            gone = model_origins(model())[part].names[-1]
            return {name: shape for name, shape in found.items() if name != gone}

    with pytest.raises(WeightsError, match="1 are missing"):
        parameters = dict(model().named_parameters(remove_duplicate=False))
        conversion._check(parameters, model_origins(model()), Lacking())  # type: ignore[arg-type]


def test_no_tensor_may_be_left_over(folder: Path) -> None:
    write(folder, weights(folder) | {"model.image_newline": torch.zeros(64)})
    with pytest.raises(WeightsError, match=r"1 are unknown \(model.image_newline\)"):
        load_model(folder)


def test_shapes_must_be_the_configurations(folder: Path) -> None:
    write(folder, weights(folder) | {QUERY: torch.zeros(32, 64)})
    with pytest.raises(WeightsError, match=r"must be of shape \[64, 64\], but is \[32, 64\]"):
        load_model(folder)


def test_a_missing_part_of_the_weights(folder: Path) -> None:
    write(folder, weights(folder), parts=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(WeightsError, match="model-00002-of-00003.safetensors is missing"):
        load_model(folder)


def test_an_index_that_names_other_tensors(folder: Path) -> None:
    write(folder, weights(folder), parts=2)
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text("utf-8"))
    del index["weight_map"][QUERY]
    path.write_text(json.dumps(index), "utf-8")
    with pytest.raises(WeightsError, match="differ"):
        load_model(folder)


@pytest.mark.parametrize("content", ["", "{", '{"weight_map": 3}', "[]"])
def test_an_index_that_is_none(folder: Path, content: str) -> None:
    (folder / "model.safetensors.index.json").write_text(content, "utf-8")
    with pytest.raises(WeightsError, match="index"):
        load_model(folder)


def test_an_index_may_not_leave_the_folder(folder: Path) -> None:
    index = {"weight_map": {"lm_head.weight": "../model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    with pytest.raises(WeightsError, match="outside"):
        load_model(folder)


def test_damaged_and_absent_files(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="damaged"):
        load_model(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="holds neither"):
        load_model(folder)
    (folder / "config.json").write_text("no json", "utf-8")
    with pytest.raises(WeightsError, match=r"config.json cannot be read"):
        load_model(folder)


def test_other_dtypes(folder: Path) -> None:
    loaded = load_model(folder, dtype=torch.bfloat16)
    assert {value.dtype for value in loaded.parameters()} == {torch.bfloat16}
    assert loaded.language.model.rotary_emb.inv_freq.dtype == torch.float32
    result = logits(loaded)
    assert result.dtype == torch.float32
    assert bool(result.isfinite().all())


@pytest.mark.skipif(not can_pack(), reason="no packed layers on this machine")
def test_packed_layers_say_what_plain_ones_say(folder: Path) -> None:
    clip = torch.rand(1, 4, 3, 144, 144) - 0.5
    plain, packed = (load_model(folder, dtype=torch.bfloat16) for _ in range(2))
    pack_linear(packed)
    assert error(packed.visual.encode(clip).float(), plain.visual.encode(clip).float()) < 0.05
    assert error(logits(packed), logits(plain)) < 0.05


#: What the published files say, as far as it differs.
PUBLISHED = {
    "VideoChat-Flash-Qwen2_5-2B_res448": ("umt-hd-large", "videochat_flash_qwen", 1536, 12, 2, 448),
    "VideoChat-Flash-Qwen2-7B_res224": ("umt-large", "videochat_flash_qwen", 3584, 28, 4, 224),
    "VideoChat-Flash-Qwen2-7B_res448": ("umt-hd-large", "videochat_flash_qwen", 3584, 28, 4, 448),
    "VideoChat-Flash-Qwen2_5-7B-1M_res224": ("umt-large", "qwen2", 3584, 28, 4, 224),
    "VideoChat-Flash-Qwen2_5-7B_InternVideo2-1B": (
        "internvideo2",
        "videochat_flash_qwen",
        3584,
        28,
        4,
        224,
    ),
}


def published(name: str) -> dict[str, object]:
    tower, kind, width, heads, kv_heads, _ = PUBLISHED[name]
    small = name.endswith("2B_res448")
    fields = dict(table("config"))
    del fields["fixture_vision_config"]
    return fields | {
        "model_type": kind,
        "mm_vision_tower": tower,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "num_hidden_layers": 28,
        "intermediate_size": 8960 if small else 18944,
        "vocab_size": 151936 if small else 152064,
        "tie_word_embeddings": small,
        "mm_hidden_size": 1408 if tower == "internvideo2" else 1024,
        "rms_norm_eps": 1e-5 if kind == "qwen2" else 1e-6,
        "rope_theta": 1e7 if kind == "qwen2" else 1e6,
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_checkpoints_are_known_by_their_fields(name: str) -> None:
    fields = published(name)
    config = parse_config(fields)
    assert config.vision.image_px == PUBLISHED[name][-1]
    assert config.vision.kind == ("internvideo2" if "Intern" in name else "umt")
    assert (config.vision.num_layers, config.vision.num_heads) == (
        (39, 16) if "Intern" in name else (23, 16)
    )
    assert config.dropping is None
    with torch.device("meta"):
        laid_out = VideoChatFlashModel(config)
    total = sum(value.numel() for value in original_tensors(laid_out).values())
    if name.endswith("2B_res448"):
        assert total == 2_071_502_336  # both matrices, 4.14 GB
    elif "Intern" in name:
        assert total == 8_620_852_736
    else:
        assert total == 7_922_617_856  # what the Hub reports
    rotary = laid_out.language.config.rope_parameters
    assert rotary["rope_theta"] == fields["rope_theta"]
    assert laid_out.language.config.rms_norm_eps == fields["rms_norm_eps"]


def test_other_models_are_refused() -> None:
    plain = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
    with pytest.raises(WeightsError, match="another model"):
        parse_config(plain)
    fields = dict(table("config"))
    for name, value in (
        ("mm_vision_tower", "siglip-so400m"),
        ("mm_projector_type", "mlp2x_gelu"),
        ("mm_hidden_size", 1024),
        ("mm_newline_position", "grid"),
    ):
        with pytest.raises(WeightsError):
            parse_config(fields | {name: value})
    for name, value in (
        ("hidden_size", "wide"),
        ("num_hidden_layers", None),
        ("fixture_vision_config", 3),
        ("rope_theta", []),
    ):
        with pytest.raises(WeightsError, match=r"another kind|lacks"):
            parse_config(fields | {name: value})
    for name, value in (("rope_scaling", {"type": "linear"}), ("use_sliding_window", True)):
        with pytest.raises(WeightsError, match=f"{name} must be"):
            parse_config(fields | {name: value})
    del fields["hidden_size"]
    with pytest.raises(WeightsError, match="lacks hidden_size"):
        parse_config(fields)


def test_dropping_that_a_file_turns_on() -> None:
    fields = dict(table("config")) | {"mm_llm_compress": True}
    assert parse_config(fields).dropping == Dropping("attention", (3,), (1.0, 0.5))
    with pytest.raises(WeightsError, match="token dropping"):
        parse_config(fields | {"llm_image_token_ratio_list": [1.0]})


def test_generation_defaults() -> None:
    defaults = read_config(GOLDEN).generation
    assert (defaults.repetition_penalty, defaults.top_k, defaults.top_p) == (1.1, 20, 0.8)
    assert defaults.stop_ids == (258, 256)
    assert parse_config(table("config")).generation.stop_ids == (258,)
