"""The network equals the reference's recorded outputs, and a formulation written from scratch."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pipelines.models.viclip.configuration_viclip import ViClipConfig
from pipelines.models.viclip.conversion_viclip import load_viclip
from pipelines.models.viclip.modeling_viclip import LOGIT_SCALE, ViClipModel, end_positions, unit
from tests.support.viclip_golden import EXACT, golden, make_golden_folder

pytestmark = pytest.mark.usefixtures("one_thread")

OTHER = ViClipConfig(
    image_size=24,
    patch_size=8,
    num_frames=5,
    vision_width=32,
    vision_layers=2,
    vision_heads=4,
    text_width=24,
    text_layers=2,
    text_heads=2,
    context_length=12,
    vocab_size=50,
    embed_dim=16,
)


#: Of states up to 7.6 large, where the reference's own float32 lies 1.02e-5 from float64.
STATES = 2e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_golden_folder(tmp_path_factory.mktemp("viclip"))


@pytest.fixture(scope="module")
def model(folder: Path) -> ViClipModel:
    return load_viclip(folder)


@pytest.fixture(scope="module")
def other() -> ViClipModel:
    """Other sizes, random weights with a spread that lets every part count."""
    return shaken(ViClipModel(OTHER))


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@torch.no_grad()
def shaken(model: ViClipModel) -> ViClipModel:
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.eval()


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = EXACT) -> bool:
    assert found.shape == expected.shape
    return torch.allclose(found.float(), expected.float(), atol=tolerance, rtol=0)


def states_of(tower: torch.nn.Module, given: torch.Tensor) -> list[torch.Tensor]:
    """The input of the first block and the output of each."""
    states: list[torch.Tensor] = []
    blocks = tower.transformer.resblocks
    hooks = [blocks[0].register_forward_pre_hook(lambda _, given: states.append(given[0]))]
    hooks += [
        block.register_forward_hook(lambda _, given, made: states.append(made)) for block in blocks
    ]
    tower(given)
    for hook in hooks:
        hook.remove()
    return states


def compare(model: ViClipModel, pixels: torch.Tensor, ids: torch.Tensor) -> SimpleNamespace:
    vision, text = model.vision_encoder(pixels), model.text_encoder(ids)
    videos, texts = unit(vision), unit(text)
    return SimpleNamespace(
        vision_model_output=vision,
        text_model_output=text,
        video_embeds=videos,
        text_embeds=texts,
        logits_per_video=LOGIT_SCALE * videos @ texts.T,
    )


def test_vectors_equal_the_reference(model: ViClipModel) -> None:
    inputs, expected = golden("inputs"), golden("expected")
    output = compare(model, inputs["pixel_values"], inputs["input_ids"])
    assert close(output.vision_model_output, expected["video_embeds_raw"])
    assert close(output.text_model_output, expected["text_embeds_raw"])
    assert close(output.video_embeds, expected["video_features"])
    assert close(output.text_embeds, expected["text_features"])
    assert close(output.video_embeds @ output.text_embeds.T, expected["cosine"])
    assert close(output.logits_per_video, expected["logits"], 1e-3)
    probabilities = output.logits_per_video.softmax(dim=-1)
    assert close(probabilities, expected["probs"], 1e-5)
    best = probabilities.topk(5)
    assert best.indices.equal(expected["topk_indices"])
    assert close(best.values, expected["topk_probs"])


def test_a_still_equals_the_reference(model: ViClipModel) -> None:
    inputs, expected = golden("inputs"), golden("expected")
    raw = model.vision_encoder(inputs["pixel_values_image"])
    assert close(raw, expected["image_embeds_raw"])
    assert close(unit(raw), expected["image_features"])
    texts = unit(model.text_encoder(inputs["input_ids"]))
    assert close(unit(raw) @ texts.T, expected["cosine_image"])
    one_frame = model.vision_encoder(inputs["pixel_values_image"][:, None])
    assert one_frame.equal(raw)


def test_vision_states_equal_the_reference(model: ViClipModel) -> None:
    expected, tower = golden("expected"), model.vision_encoder
    pixels = golden("inputs")["pixel_values"]
    grid = expected["hidden.vision.patch_embed"]  # (1, W, T, G, G)
    patches = tower.patches(pixels[:1])  # (1, T, G*G, W)
    assert close(patches, grid.flatten(3).permute(0, 2, 3, 1))
    assert close(tower.embeddings(pixels[:1]), expected["hidden.vision.embeddings"])
    states = states_of(tower, pixels[:1])
    names = ["ln_pre", "block_0", "block_1", "block_2"]
    assert len(states) == len(names)
    for state, name in zip(states, names, strict=True):
        assert close(state, expected[f"hidden.vision.{name}"], STATES), name
    last = states_of(tower, pixels)[-1]
    assert close(tower.ln_post(last[:, 0]), expected["hidden.vision.ln_post_cls"])


def test_text_states_equal_the_reference(model: ViClipModel) -> None:
    expected, tower = golden("expected"), model.text_encoder
    ids = golden("inputs")["input_ids"]
    states = states_of(tower, ids[:4])
    names = ["embeddings", "block_0", "block_1"]
    assert len(states) == len(names)
    for state, name in zip(states, names, strict=True):
        assert close(state, expected[f"hidden.text.{name}"]), name
    assert close(tower.ln_final(states[-1]), expected["hidden.text.ln_final"])
    assert end_positions(ids).equal(expected["eot_index"])


def naive_norm(row: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    spread = ((row - row.mean()) ** 2).mean()
    return (row - row.mean()) / (spread + 1e-5) ** 0.5 * weight + bias


def naive_block(
    tokens: list[torch.Tensor], state: dict[str, torch.Tensor], start: str, heads: int
) -> list[torch.Tensor]:
    """One pre-norm block, token by token and head by head, every token looking at every other."""
    part = {name.removeprefix(start): t for name, t in state.items() if name.startswith(start)}
    width = len(tokens[0])
    size = width // heads
    normed = [naive_norm(token, part["ln_1.weight"], part["ln_1.bias"]) for token in tokens]
    whole, shift = part["attn.in_proj.weight"], part["attn.in_proj.bias"]
    projected = [
        [whole[k * width :][:width] @ token + shift[k * width :][:width] for token in normed]
        for k in range(3)
    ]
    mixed = []
    for query in projected[0]:
        seen = []
        for head in range(heads):
            mine = slice(head * size, (head + 1) * size)
            scores = torch.stack([query[mine] @ key[mine] for key in projected[1]])
            weights = (scores / size**0.5).exp() / (scores / size**0.5).exp().sum()
            seen.append(sum(w * value[mine] for w, value in zip(weights, projected[2])))  # noqa: B905
        mixed.append(part["attn.out_proj.weight"] @ torch.cat(seen) + part["attn.out_proj.bias"])
    tokens = [token + step for token, step in zip(tokens, mixed, strict=True)]
    done = []
    for token in tokens:
        normal = naive_norm(token, part["ln_2.weight"], part["ln_2.bias"])
        hidden = part["mlp.c_fc.weight"] @ normal + part["mlp.c_fc.bias"]
        hidden = hidden / (1 + torch.exp(-1.702 * hidden))
        done.append(token + part["mlp.c_proj.weight"] @ hidden + part["mlp.c_proj.bias"])
    return done


def naive_video_vector(model: ViClipModel, clip: torch.Tensor) -> torch.Tensor:
    """(T, 3, H, W) -> (D,), from the parameters alone, in frame-by-frame order."""
    config = model.config
    state = {n.removeprefix("vision_encoder."): t.double() for n, t in model.state_dict().items()}
    clip, patch = clip.double(), config.patch_size
    side = config.image_size // patch
    times = state["temporal_positional_embedding"][0]
    if len(clip) == 1:
        times = times.mean(dim=0, keepdim=True)
    places = state["positional_embedding"]
    tokens = [state["class_embedding"] + places[0]]
    for t, frame in enumerate(clip):
        for y in range(side):
            for x in range(side):
                cut = frame[:, y * patch : (y + 1) * patch, x * patch : (x + 1) * patch]
                token = torch.einsum("wchv,chv->w", state["conv1.weight"][:, :, 0], cut)
                tokens.append(token + places[1 + y * side + x] + times[t])
    tokens = [naive_norm(t, state["ln_pre.weight"], state["ln_pre.bias"]) for t in tokens]
    for layer in range(config.vision_layers):
        start = f"transformer.resblocks.{layer}."
        tokens = naive_block(tokens, state, start, config.vision_heads)
    first = naive_norm(tokens[0], state["ln_post.weight"], state["ln_post.bias"])
    return torch.einsum("w,wd->d", first, state["proj"])


@pytest.mark.parametrize("frames", [5, 1])
def test_joint_attention_equals_plain_loops(other: ViClipModel, frames: int) -> None:
    clip = torch.randn(frames, 3, 24, 24, generator=torch.Generator().manual_seed(frames))
    found = other.vision_encoder(clip[None])[0]
    expected = naive_video_vector(other, clip)
    assert close(found, expected, 1e-5 * float(expected.abs().max()))
    moved = other.vision_encoder(clip[None].flip(1))[0]
    assert frames == 1 or not close(moved, found, 1e-3), "the order of frames counts"


def test_text_tower_equals_stock_clip(model: ViClipModel) -> None:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=24,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=3,
        max_position_embeddings=32,
        projection_dim=24,
        eos_token_id=49407,
    )
    stock, tower = CLIPTextModelWithProjection(config).eval(), model.text_encoder
    state = {
        "text_model.embeddings.token_embedding.weight": tower.token_embedding.weight,
        "text_model.embeddings.position_embedding.weight": tower.positional_embedding,
        "text_model.final_layer_norm.weight": tower.ln_final.weight,
        "text_model.final_layer_norm.bias": tower.ln_final.bias,
        "text_projection.weight": tower.text_projection.T,
    }
    names = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1"}
    names |= {"mlp.c_proj": "mlp.fc2", "attn.out_proj": "self_attn.out_proj"}
    for index, block in enumerate(tower.transformer.resblocks):
        start = f"text_model.encoder.layers.{index}."
        for kind in ("weight", "bias"):
            for ours, theirs in names.items():
                state[f"{start}{theirs}.{kind}"] = getattr(block.get_submodule(ours), kind)
            thirds = getattr(block.attn.in_proj, kind).chunk(3)
            for letter, third in zip("qkv", thirds, strict=True):
                state[f"{start}self_attn.{letter}_proj.{kind}"] = third
    own = stock.state_dict().keys()
    stock.load_state_dict({n if n in own else n.removeprefix("text_model."): t
                           for n, t in state.items()})  # fmt: skip
    ids = golden("inputs")["input_ids"].long()
    assert close(model.text_encoder(ids), stock(input_ids=ids).text_embeds)


def test_a_batch_equals_its_parts(model: ViClipModel) -> None:
    inputs = golden("inputs")
    pixels, ids = inputs["pixel_values"], inputs["input_ids"]
    together = compare(model, pixels, ids)
    videos = torch.cat([model.vision_encoder(one[None]) for one in pixels])
    texts = torch.cat([model.text_encoder(one[None]) for one in ids])
    assert close(together.vision_model_output, videos)
    assert close(together.text_model_output, texts)


def test_padding_counts_for_nothing(model: ViClipModel) -> None:
    ids = golden("inputs")["input_ids"]
    whole = model.text_encoder(ids)
    for row, vector, end in zip(ids, whole, end_positions(ids).tolist(), strict=True):
        shorter = model.text_encoder(row[None, : end + 1])[0]
        assert close(shorter, vector)


def test_every_norm_is_as_trained(model: ViClipModel) -> None:
    """At the class token the usual 1e-6 moves the recorded vectors by less than they agree."""
    norms = [module for module in model.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert len(norms) == 2 * 5 + 3
    assert {norm.eps for norm in norms} == {1e-5}


def test_the_first_of_several_end_tokens_counts() -> None:
    ids = torch.tensor([[9, 3, 9, 9], [1, 2, 3, 9], [9, 9, 9, 9], [3, 2, 1, 0]])
    assert end_positions(ids).tolist() == [0, 3, 0, 0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_come_close(folder: Path, model: ViClipModel, dtype: torch.dtype) -> None:
    """The reference's text tower fails in all of them."""
    inputs, expected = golden("inputs"), golden("expected")
    output = compare(load_viclip(folder, dtype=dtype), inputs["pixel_values"], inputs["input_ids"])
    assert output.text_model_output.dtype == dtype
    tolerance = {torch.bfloat16: 2e-2, torch.float16: 3e-3, torch.float64: EXACT}[dtype]
    assert close(output.video_embeds, expected["video_features"], tolerance)
    assert close(output.text_embeds, expected["text_features"], tolerance)
    assert output.logits_per_video.dtype == torch.float32


@pytest.mark.parametrize("size", [(24, 8, 5), (16, 4, 3)])
def test_other_sizes_work(size: tuple[int, int, int]) -> None:
    config = ViClipConfig(**{**OTHER.to_dict(), "image_size": size[0], "patch_size": size[1],
                             "num_frames": size[2]})  # fmt: skip
    model = ViClipModel(config).eval()
    pixels = torch.randn(2, size[2], 3, size[0], size[0])
    output = compare(model, pixels, torch.randint(0, 50, (3, 12)))
    assert output.logits_per_video.shape == (2, 3)
    assert output.logits_per_video.isfinite().all()
    tokens = 1 + size[2] * (size[0] // size[1]) ** 2
    states = states_of(model.vision_encoder, pixels)
    assert [state.shape for state in states] == [(2, tokens, 32)] * 3


def test_wrong_sizes_are_refused(other: ViClipModel) -> None:
    for shape in [(1, 4, 3, 24, 24), (1, 5, 3, 24, 32), (1, 5, 1, 24, 24), (5, 3, 16, 16), (3,)]:
        with pytest.raises(ValueError, match=r"must be \(B, 5 or 1, 3, 24, 24\) but got"):
            other.vision_encoder(torch.zeros(shape))
    with pytest.raises(ValueError, match="at most 12 tokens long but got 13"):
        other.text_encoder(torch.zeros(1, 13, dtype=torch.long))


@pytest.mark.parametrize(
    ("config", "parameters", "tensors"),
    [
        (ViClipConfig(), 427_590_145, 447),
        (
            ViClipConfig(
                patch_size=16,
                vision_width=768,
                vision_layers=12,
                vision_heads=12,
                text_width=512,
                text_heads=8,
                embed_dim=512,
            ),
            149_603_841,
            303,
        ),
    ],
)
def test_real_sizes_agree_with_the_reference(
    config: ViClipConfig, parameters: int, tensors: int
) -> None:
    """Built on the meta device, where upstream's constructors fail."""
    with torch.device("meta"):
        model = ViClipModel(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert len(model.state_dict()) == tensors


def test_fresh_weights_are_finite_and_spread() -> None:
    model = ViClipModel(OTHER)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert model.temp.detach() == pytest.approx(0.01)
    assert model.vision_encoder.proj.std() > 0.01
    assert model.vision_encoder.ln_pre.weight.eq(1).all()


def test_stock_saving_and_loading_changes_nothing(other: ViClipModel, tmp_path: Path) -> None:
    other.save_pretrained(tmp_path)
    again = ViClipModel.from_pretrained(tmp_path).eval()
    pixels = torch.randn(1, 5, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    ids = torch.arange(12)[None]
    assert compare(again, pixels, ids).logits_per_video.equal(
        compare(other, pixels, ids).logits_per_video
    )
    assert again.temp == other.temp
    assert again.config.to_dict()["num_frames"] == 5
