"""VideoChat-Flash against the reference code's outputs: integers equal, floats to 1e-5.

Two float32 implementations differ by 3e-6 at most here; the tanh form of GELU in the tower alone
would give 2e-4.
"""

import pytest
import torch
from safetensors.torch import load_file

from pipelines.models.videochat_flash.configuration_videochat_flash import (
    VideoChatFlashConfig,
    vision_config,
)
from pipelines.models.videochat_flash.conversion_videochat_flash import Files, fill, visual_origins
from pipelines.models.videochat_flash.generation import Decoding, generate
from pipelines.models.videochat_flash.kv_cache import KeyValues
from pipelines.models.videochat_flash.modeling_language import prefill, splice, step
from pipelines.models.videochat_flash.modeling_umt import position_table
from pipelines.models.videochat_flash.modeling_vision import VisualEncoder
from pipelines.models.videochat_flash.processing_videochat_flash import (
    resize_frame,
    to_pixels,
)
from tests.support.videochat_golden import (  # noqa: F401
    CASES,
    GOLDEN,
    MODES,
    VIDEOS,
    clips_of,
    dropping,
    error,
    expected,
    features,
    given,
    model,
    one_thread,
    prompt,
    table,
    tensors,
)

CLOSE = 1e-5


def test_pixels_are_the_references() -> None:
    clips = clips_of(given("v8.frames_u8"), 144)
    assert error(clips[0], given("v8.pixel_values_first_clip")) < CLOSE


@pytest.mark.parametrize("name", ["preprocess", "preprocess_upscale"])
def test_frames_are_resized_as_by_the_reference(name: str) -> None:
    """Torch's own resizing is up to 11 grey levels off."""
    frames = [resize_frame(frame, 144) for frame in given(f"{name}.raw_frames").numpy()]
    assert error(to_pixels(frames), expected(f"{name}.pixel_values")) < CLOSE


@pytest.mark.parametrize("side", [144, 224, 448])
@pytest.mark.parametrize(("kind", "frames"), [("video", 4), ("image", 1)])
def test_position_tables(kind: str, frames: int, side: int) -> None:
    golden = tensors("pos_embed")
    width = 64 if side == 144 else 32
    ours = position_table(frames, side // 16, width)
    assert error(ours, golden[f"{kind}_{side}_d{width}"]) < 1e-6
    if side == 448:
        rows = position_table(frames, 28, 1024)[0, golden[f"{kind}_448_d1024_row_ids"]]
        assert error(rows, golden[f"{kind}_448_d1024_rows"]) < 1e-6


@pytest.mark.parametrize("video", VIDEOS)
def test_video_through_tower_merging_and_projector(video: str) -> None:
    visual = model().visual
    clips = clips_of(given(f"{video}.frames_u8"), 144)
    with torch.inference_mode():
        seen = visual.tower(clips)
        merged = visual.merge(seen)
        assert error(seen, expected(f"{video}.vision")) < CLOSE
        assert error(merged, expected(f"{video}.tome")) < CLOSE
        assert error(visual.projector(merged), expected(f"{video}.projector")) < CLOSE
    assert error(features(video), expected(f"{video}.projector").flatten(0, 1)) < CLOSE


def test_single_frames_through_the_tower() -> None:
    tiles = expected("img.tiles")
    with torch.inference_mode():
        assert error(model().visual.tower(tiles[:, None]), expected("img.vision")) < CLOSE
    encoded = torch.cat([model().visual.encode(tile[None, None]) for tile in tiles])
    assert error(encoded, expected("img.projector")) < CLOSE


@pytest.mark.parametrize("kind", ["video", "image"])
def test_internvideo2(kind: str) -> None:
    folder = GOLDEN / "internvideo2"
    fields = table("internvideo2/config")
    config = VideoChatFlashConfig(vision=vision_config(fields), text={"hidden_size": 64})
    visual = VisualEncoder(config).eval()
    fill(visual, visual_origins(visual), Files(folder), dtype=torch.float32, device="cpu")
    golden = load_file(folder / "expected.safetensors")
    clips = clips_of(load_file(folder / "inputs.safetensors")["frames_u8"], 126)
    pixels = clips if kind == "video" else clips[0, :2, None]
    with torch.inference_mode():
        seen = visual.tower(pixels)
        merged = visual.merge(seen)
        assert error(seen, golden[f"{kind}.vision"]) < CLOSE
        if kind == "video":
            assert error(merged, golden["video.tome"]) < CLOSE
        assert error(visual.encode(pixels), golden[f"{kind}.projector"]) < CLOSE


@pytest.mark.parametrize("case", ["v8.turn1", "v20.turn1", "img"])
def test_rows_are_spliced_into_the_prompt(case: str) -> None:
    spliced = splice(model().language, prompt(case))
    assert spliced.shape[1] == len(prompt(case))
    assert error(spliced[0], expected(f"{case}.inputs_embeds")) < CLOSE


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_reading_a_prompt(case: str, mode: str) -> None:
    language = model().language
    hidden: list[torch.Tensor] = []
    hooks = [
        layer.register_forward_pre_hook(lambda _, given: hidden.append(given[0][0, -1]))
        for layer in language.model.layers
    ]
    hooks.append(
        language.model.norm.register_forward_hook(lambda _, __, out: hidden.append(out[0, -1]))
    )
    read = prefill(language, prompt(case), KeyValues(), dropping=dropping(mode))
    for hook in hooks:
        hook.remove()
    assert error(torch.stack(hidden), expected(f"{case}.{mode}.hidden_last")) < CLOSE
    assert error(read.logits, expected(f"{case}.{mode}.logits_last")) < CLOSE
    stages = dropping(mode)
    assert len(read.kept) == (0 if stages is None else len(stages.layers))
    for stage, kept in enumerate(read.kept):
        assert kept.tolist() == expected(f"{case}.{mode}.stage{stage}.kept").tolist()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_answers(case: str, mode: str) -> None:
    language, name = model().language, f"{case}.{mode}"
    for penalty, golden in ((1.0, "generated"), (1.1, "generated_rp1.1")):
        cache = KeyValues()
        decoding = Decoding(max_new_tokens=12, repetition_penalty=penalty)
        ids = generate(language, prompt(case), decoding, cache=cache, dropping=dropping(mode))
        assert list(ids) == expected(f"{name}.{golden}").tolist()
        assert cache.lengths() == expected(f"{name}.kv_lengths").tolist()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_logits_of_every_step(case: str, mode: str) -> None:
    language, cache = model().language, KeyValues()
    rows = [prefill(language, prompt(case), cache, dropping=dropping(mode)).logits]
    for token in expected(f"{case}.{mode}.generated").tolist()[:-1]:
        rows.append(step(language, token, cache))
    assert error(torch.stack(rows), expected(f"{case}.{mode}.step_logits")) < CLOSE
