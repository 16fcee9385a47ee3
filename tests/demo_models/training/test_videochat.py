"""Training of demo-videochat: labels, merging, packing, the tower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from demo_models.language.dialogues import Turn
from demo_models.training.videochat.data import (
    GRID,
    MAX_OBJECTS,
    NUM_FRAMES,
    SIDE_PX,
    Flip,
    ObjectTables,
    draw_video,
    flipped_motion,
    flipped_owners,
    flipped_pixels,
    flipped_tables,
    object_tables,
    patch_owners,
)
from demo_models.training.videochat.features import attention_loss
from demo_models.training.videochat.initialisation import (
    add_time_codes,
    clips_of,
    encode,
    scale_stream,
    warm_start,
)
from demo_models.training.videochat.labels import merge_with, speeds
from demo_models.training.videochat.model import NUM_VISUAL_TOKENS, build_model
from demo_models.training.videochat.text import DialogueCoder, pack
from demo_models.training.videochat.train import dialogue_loss
from demo_models.world.motion import clip_times
from demo_models.world.motion_sampling import sample_motion
from pipelines.models.videochat_flash.conversion_videochat_flash import load_model
from pipelines.models.videochat_flash.kv_cache import KeyValues
from pipelines.models.videochat_flash.modeling_language import VideoPrompt, prefill
from pipelines.models.videochat_flash.modeling_vision import merge_tokens
from pipelines.models.videochat_flash.processing_videochat_flash import (
    chat_prompt,
    encode_prompt,
    first_question,
    time_message,
)
from tests.demo_models.bundled import CHECKPOINTS, smoke_train, weights

FLIPS = [Flip(mirror, backwards) for mirror in (False, True) for backwards in (False, True)]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint of a few tiny steps."""
    return smoke_train("demo-videochat", tmp_path_factory.mktemp("videochat"))


def _one_row(tables: ObjectTables) -> ObjectTables:
    names = ("shape", "colour", "track", "actions", "events")
    return ObjectTables(*(getattr(tables, name)[None] for name in names))


@pytest.mark.parametrize("flip", FLIPS)
def test_turned_tables_are_those_of_the_turned_motion(flip: Flip) -> None:
    rng = np.random.default_rng(5)
    times = clip_times(NUM_FRAMES)
    for _ in range(40):
        motion = sample_motion(rng)
        got = flipped_tables(_one_row(object_tables(motion, times)), 0, flip)
        want = object_tables(flipped_motion(motion, flip), times)
        there, visible = want.shape >= 0, want.track[..., 3] > 0
        assert np.array_equal(got.shape, want.shape)
        assert np.array_equal(got.actions[there], want.actions[there])
        assert np.array_equal(got.events[there], want.events[there])
        assert np.allclose(got.track[there], want.track[there], atol=1e-4)
        assert np.array_equal(got.colour[visible], want.colour[visible])


def test_a_turned_video_is_turned_in_pixels_and_owners_alike() -> None:
    motion, pixels, owners, _ = draw_video(np.random.default_rng(6))
    flip = Flip(mirror=True, backwards=True)
    assert np.array_equal(flipped_pixels(pixels, flip)[0], pixels[-1][:, ::-1])
    turned = flipped_owners(owners, flip).reshape(NUM_FRAMES, GRID, GRID)
    assert np.array_equal(turned[0], owners[-1].reshape(GRID, GRID)[:, ::-1])
    assert len(motion.movers) <= MAX_OBJECTS


def test_a_tiny_object_owns_a_patch() -> None:
    maps = np.full((1, SIDE_PX, SIDE_PX), 255, dtype=np.uint8)
    maps[0, 7:9, 7:9] = 1
    assert (patch_owners(maps) == 1).sum() == 1


def test_merging_with_labels_is_the_checkpoints_merging() -> None:
    torch.manual_seed(1)
    tokens = torch.randn(3, 324, 32)
    merged, sizes = merge_with(tokens, torch.ones(3, 324, 1), 4, 64)
    assert torch.equal(merged, merge_tokens(tokens, 4))
    assert sizes.sum(dim=1).flatten().tolist() == [324.0] * 3


def test_speeds_of_an_even_motion_are_even() -> None:
    track = torch.zeros(1, 4, 4)
    track[0, :, 0] = torch.tensor([0.1, 0.2, 0.3, 0.4])
    assert torch.allclose(speeds(track)[0, :, 0], torch.full((4,), 0.1))


DIALOGUES = [
    [Turn("What does the circle do?", "it moves left", "action")],
    [
        Turn("which way does it go", "left", "direction"),
        Turn("And its shape?", "circle", "shape"),
        Turn("Who are you?", "I don't know", "strange"),
    ],
]


def test_packed_tokens_are_those_of_the_checkpoints_prompt(smoke: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(smoke, local_files_only=True)
    coder = DialogueCoder(tokenizer)
    for turns in DIALOGUES:
        first, *rest = [turn.question for turn in turns]
        asked = [first_question(first, time_message(3.25, NUM_FRAMES)), *rest]
        history = list(zip(asked[:-1], [turn.answer for turn in turns], strict=False))
        ids = encode_prompt(tokenizer, chat_prompt(history, asked[-1]))
        mine, targets, *_ = coder(turns)
        answer = coder.encode(turns[-1].answer)
        whole = [*coder.before, -200, *coder.message(3.25), *mine[: -len(answer) - 1]]
        assert whole == ids
        assert targets[-len(answer) - 2 : -1] == [*answer, coder.end]


def test_packed_loss_is_that_of_each_conversation_alone(smoke: Path) -> None:
    model = load_model(smoke)
    model.language.config._attn_implementation = "eager"  # as in training
    tokenizer: Any = AutoTokenizer.from_pretrained(smoke, local_files_only=True)
    coder = DialogueCoder(tokenizer)
    torch.manual_seed(2)
    features = torch.randn(1, NUM_VISUAL_TOKENS, 128)
    packed = pack([DIALOGUES], [3.25], coder, NUM_VISUAL_TOKENS, 300)
    with torch.no_grad():
        loss = dialogue_loss(model, features, packed).loss
        rows = model.visual.projector(features)[0]
    parts, weights = [], []
    for turns in DIALOGUES:
        ids, targets, shares, _ = coder(turns)
        for place, target in enumerate(targets):
            if target >= 0:
                read = [*coder.before, -200, *coder.message(3.25), *ids[: place + 1]]
                logits = prefill(model.language, VideoPrompt(read, rows), KeyValues()).logits
                parts.append(-logits.log_softmax(-1)[target].item() * shares[place])
                weights.append(shares[place])
    assert loss.item() == pytest.approx(sum(parts) / sum(weights), rel=0.02)  # bfloat16


def test_pointing_is_the_share_that_an_answer_looks_at_its_object(smoke: Path) -> None:
    """Two conversations: one about object 1, one about object 0 and then about nobody."""
    tokenizer: Any = AutoTokenizer.from_pretrained(smoke, local_files_only=True)
    coder = DialogueCoder(tokenizer)
    dialogues = [
        [Turn("What does the circle do?", "it moves left", "action", 1)],
        [Turn("Its shape?", "star", "shape", 0), Turn("How many?", "two", "count")],
    ]
    packed = pack([dialogues], [3.25], coder, 4, 300)
    told = packed.targets[0] >= 0
    answer = [len(coder.encode(text)) + 1 for text in ("it moves left", "star", "two")]
    whom = [1] * answer[0] + [0] * answer[1] + [-1] * answer[2]
    assert packed.about[0, told].tolist() == whom
    assert set(packed.about[0, ~told].tolist()) == {-1}
    owners = torch.tensor([[1, 0, 1, MAX_OBJECTS]])
    attention = torch.zeros(1, 2, packed.about.shape[1], 4)
    attention[0, 0] = torch.tensor([0.5, 0.25, 0.125, 0.1])
    shares = torch.tensor([0.625] * answer[0] + [0.25] * answer[1])
    want = -(shares + 1e-3).log().mean()
    assert attention_loss(attention, packed.about, owners) == pytest.approx(float(want))
    nobody = torch.full_like(packed.about, -1)
    assert attention_loss(attention, nobody, owners) == 0


def test_training_encodes_as_the_checkpoint_does(smoke: Path) -> None:
    model = load_model(smoke)
    _, pixels, _, _ = draw_video(np.random.default_rng(13))
    clips = clips_of(pixels[None])
    with torch.no_grad():
        mine, stock = encode(model.visual.tower, clips), model.visual.tower(clips)  # type: ignore[arg-type]
    assert (mine - stock).abs().mean() < 0.02 * stock.std()  # bfloat16


@pytest.fixture(scope="module")
def begun(smoke: Path) -> tuple[Any, torch.Tensor]:
    """Return a tower that begins as the demo CLIP, and the clips of four videos."""
    rng = np.random.default_rng(14)
    clips = clips_of(np.stack([draw_video(rng)[1] for _ in range(4)]))
    torch.manual_seed(3)
    tower = build_model(AutoTokenizer.from_pretrained(smoke, local_files_only=True)).visual.tower
    warm_start(CHECKPOINTS / "demo-clip", tower, clips)  # type: ignore[arg-type]
    return tower, clips


def _alike(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return the mean cosine of tokens, without what all of them share."""
    pairs = (rows - rows.mean(dim=(0, 1)) for rows in (first, second))
    return float(torch.nn.functional.cosine_similarity(*pairs, dim=-1).mean())


@torch.no_grad()
def test_the_tower_begins_as_the_demo_clip(begun: tuple[Any, torch.Tensor]) -> None:
    """A still video is to the first blocks what its picture is to the CLIP, in other patches."""
    from transformers import CLIPModel

    tower, clips = begun
    folder = CHECKPOINTS / "demo-clip"
    clip: Any = CLIPModel.from_pretrained(folder, dtype=torch.float32).vision_model
    still = clips[:, :1].expand(-1, 4, -1, -1, -1).contiguous()
    bytes_like = still[:, 0] * torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    bytes_like = bytes_like + torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    theirs = clip(2 * bytes_like - 1, output_hidden_states=True, interpolate_pos_encoding=True)
    patches = theirs.hidden_states[3][:, 1:]
    assert _alike(tower(still)[:, : patches.shape[1]], patches) > 0.85


@torch.no_grad()
def test_the_stream_is_scaled_exactly(begun: tuple[Any, torch.Tensor]) -> None:
    tower, clips = begun
    before = tower(clips)
    scale_stream(tower, 3.0)
    assert torch.allclose(tower(clips), 3 * before, rtol=1e-3, atol=1e-3)
    scale_stream(tower, 1 / 3)


@torch.no_grad()
def test_marked_frames_change_little_else_and_can_be_told(begun: tuple[Any, torch.Tensor]) -> None:
    tower, clips = begun
    before = tower(clips)
    codes_before = tower.pos_embed[0, 1:].unflatten(0, (4, -1)).mean(dim=1)
    add_time_codes(tower, clips)
    after = tower(clips)
    codes = tower.pos_embed[0, 1:].unflatten(0, (4, -1)).mean(dim=1) - codes_before
    told = (after @ codes.T).unflatten(1, (4, -1))  # (B, frames, places, codes)
    assert (told.argmax(dim=-1) == torch.arange(4)[:, None]).float().mean() > 0.95
    unmarked = after - after @ torch.linalg.pinv(codes) @ codes
    assert _alike(unmarked, before) > 0.8


def test_smoke_training_is_repeatable(smoke: Path) -> None:
    assert weights(smoke) == weights(smoke_train("demo-videochat", smoke.parent, "again"))
