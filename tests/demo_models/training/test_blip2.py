"""Training of demo-blip2: texts, labels, losses, and a checkpoint that stock classes load."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from transformers import Blip2ForConditionalGeneration, Blip2Processor, CLIPModel

from demo_models.evaluation.held_out import scene_cases
from demo_models.language.questions import (
    PLACES_OF_OBJECTS,
    place_name,
)
from demo_models.language.statements import has_size
from demo_models.language.unanswerable import (
    DONT_KNOW,
)
from demo_models.training.blip2 import train as train_blip2
from demo_models.training.blip2.data import (
    MAX_PACKED,
    TextCoder,
    TextPair,
    attention_mask,
    pack,
    question_corpus,
    sample_text,
)
from demo_models.training.blip2.heads import IGNORE, attention_loss, slot_labels, slots_of
from demo_models.training.blip2.model import (
    build_model,
    build_processor,
    build_tokenizer,
)
from demo_models.training.blip2.vision import fold_clip, to_pixels
from demo_models.world.scenes import render, sample_scene
from demo_models.world.vocabulary import HELD_OUT_PAIRS, SHAPES
from tests.demo_models.bundled import CHECKPOINTS, smoke_train, weights


def test_training_texts_never_name_a_held_out_pair():
    rng = np.random.default_rng(6)
    for _ in range(1500):
        scene = sample_scene(rng)
        text = sample_text(rng, scene, scene.background, True)
        if text.answer == DONT_KNOW or DONT_KNOW in text.prompt:
            continue
        told = f"{text.prompt} {text.answer}"
        assert not [pair for pair in HELD_OUT_PAIRS if " ".join(pair) in told], told


def test_no_scene_is_answered_with_i_do_not_know():
    rng = np.random.default_rng(7)
    scene = sample_scene(rng)
    assert {sample_text(rng, scene, None, False).answer for _ in range(100)} == {DONT_KNOW}
    blank = {sample_text(rng, scene, "pink", False).answer for _ in range(300)}
    assert blank == {DONT_KNOW, "pink", "zero", "no", "a pink background"}


def test_tokenizer_reads_lower_case_and_writes_i_do_not_know():
    tokenizer = build_tokenizer(question_corpus(1, 600))
    assert tokenizer("A RED Circle")["input_ids"] == tokenizer("a red circle")["input_ids"]
    ids = tokenizer(f" {DONT_KNOW}", add_special_tokens=False)["input_ids"]
    assert len(ids) == 1
    assert tokenizer.decode(ids, skip_special_tokens=True) == DONT_KNOW
    assert tokenizer.decode(tokenizer("再见 🐈")["input_ids"][1:]) == "再见 🐈"


def test_every_object_has_its_own_slot_near_its_place():
    rng = np.random.default_rng(9)
    for _ in range(200):
        scene = sample_scene(rng)
        cells = slots_of(scene)
        assert len(set(cells)) == len(scene.objects)
        largest = max(range(len(cells)), key=lambda i: scene.objects[i].radius)
        item = scene.objects[largest]
        assert cells[largest] == 4 * min(3, int(item.y * 4)) + min(3, int(item.x * 4))
        labels = slot_labels([scene, None], [scene.background, None])
        assert (labels["shape"] < len(SHAPES)).sum(dim=1).tolist() == [len(cells), 0]


def test_slots_name_place_and_size_of_what_lies_there():
    rng = np.random.default_rng(10)
    for _ in range(100):
        scene = sample_scene(rng)
        labels, cells = slot_labels([scene], [scene.background]), slots_of(scene)
        assert labels["number"].tolist() == [len(cells)]
        assert labels["cells"][0].tolist() == [*cells, *[-1] * (4 - len(cells))]
        for cell, item in zip(cells, scene.objects, strict=True):
            place, size = int(labels["place"][0, cell]), int(labels["size"][0, cell])
            assert (PLACES_OF_OBJECTS[place] if place != IGNORE else None) == place_name(item)
            assert size == IGNORE or has_size(item, ("small", "large")[size]) is True


def test_pointing_is_the_share_that_the_answer_looks_at_the_right_query():
    coder = TextCoder(build_tokenizer(question_corpus(1, 300)))
    texts = [TextPair("where is the ring", "at the top", (1,)), TextPair("", "a red ring")]
    packed = pack([texts], coder, 4)
    _, targets = coder(texts[0])
    written = [index for index, target in enumerate(targets) if target >= 0]
    assert (packed.about >= 0).any(dim=1)[0].nonzero().flatten().tolist() == written
    attention = torch.full((1, 2, 4 + packed.ids.shape[1], 4 + packed.ids.shape[1]), 0.1)
    attention[0, 0, :, 3] = 0.5  # the first head looks at the second object, which is in cell 3
    loss = attention_loss(attention, packed.about, torch.tensor([[0, 3, -1, -1]]))
    assert loss.item() == pytest.approx(-(np.log(0.501) + np.log(0.101)) / 2, abs=1e-5)


def test_packed_texts_read_the_picture_and_themselves_only():
    coder = TextCoder(build_tokenizer(question_corpus(1, 300)))
    pair, other = TextPair("what shape", "ring"), TextPair("", "a red ring")
    packed = pack([[pair, other], [other]], coder, 4)
    first, second = len(coder(pair)[0]), len(coder(other)[0])
    assert packed.positions[0].tolist() == [*range(4, 4 + first), *range(4, 4 + second)]
    assert packed.targets[0, first + second - 1] == coder.tokenizer.eos_token_id
    assert (packed.segments[1, second:] == -1).all()
    mask = attention_mask(packed.segments, 4)[0, 0]
    assert mask[4 + first, :4].all()  # the second text reads the picture
    assert not mask[4 + first :, 4 : 4 + first].any()  # and nothing of the first
    assert torch.equal(mask, mask.tril())
    long = [TextPair("", "ring " * MAX_PACKED), other]
    assert pack([long], coder, 4).ids.shape[1] == second


CHECKPOINT = CHECKPOINTS / "demo-blip2"


@pytest.fixture(scope="module")
def untrained():
    torch.manual_seed(1)
    processor = build_processor(build_tokenizer(question_corpus(1, 300)))
    return build_model(processor.tokenizer).eval(), processor


def test_smoke_training_makes_a_checkpoint_that_stock_classes_load(tmp_path):
    out = smoke_train("demo-blip2", tmp_path)
    assert weights(out) == weights(smoke_train("demo-blip2", tmp_path, "again"))
    model = Blip2ForConditionalGeneration.from_pretrained(out, dtype=torch.float32)
    processor = Blip2Processor.from_pretrained(out)
    image = torch.zeros(3, 90, 160, dtype=torch.uint8)
    inputs = processor(images=image, text="a Photo of 再见", return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 3, 64, 64)
    assert model.generate(**inputs, max_new_tokens=3).shape[0] == 1


def test_the_recipe_still_makes_the_tokenizer_of_the_checkpoint():
    """The first stages' texts must stay as they were, or the stages no longer fit together."""
    recipe = train_blip2.Recipe()
    made = build_tokenizer(question_corpus(recipe.seed, recipe.num_corpus_texts))
    shipped = Blip2Processor.from_pretrained(CHECKPOINT).tokenizer.get_vocab()
    assert made.get_vocab().items() <= shipped.items()


def test_packed_loss_is_that_of_the_stock_model_text_by_text(untrained, monkeypatch):
    model, processor = untrained
    monkeypatch.setattr(train_blip2.torch, "autocast", lambda *_: nullcontext())
    rng, coder = np.random.default_rng(0), TextCoder(processor.tokenizer)
    scenes = [sample_scene(rng) for _ in range(2)]
    texts = [[sample_text(rng, s, s.background, True) for _ in range(3)] for s in scenes]
    pixels = processor(images=[render(s) for s in scenes], return_tensors="pt")["pixel_values"]
    losses, shares = [], []
    with torch.no_grad():
        features = model.vision_model(pixel_values=pixels).last_hidden_state
        queries = train_blip2.query_image(model, features)
        mine, pointing = train_blip2.text_loss(model, queries, pack(texts, coder, 16))
        for row, own in enumerate(texts):
            for text in own:
                whole = f"{text.prompt} {text.answer}" if text.prompt else text.answer
                inputs = processor(images=render(scenes[row]), text=whole, return_tensors="pt")
                ids, targets = coder(text)
                assert inputs["input_ids"][0, 16:].tolist() == ids
                logits = model(**inputs).logits[0, 16:]
                goals = torch.tensor(targets)
                losses.append(torch.nn.functional.cross_entropy(logits, goals))
                shares.append((goals >= 0).sum() ** 0.5)
    expected = (torch.stack(losses) * torch.stack(shares)).sum() / torch.stack(shares).sum()
    assert torch.allclose(mine, expected, atol=1e-4)
    assert pointing == 0


def test_folded_tower_is_near_the_clip_it_comes_from(untrained):
    vision = untrained[0].vision_model
    images = np.stack([np.asarray(case.image) for case in scene_cases(5, 24, None)])
    fold_clip(CHECKPOINTS / "demo-clip", vision, images)
    clip = CLIPModel.from_pretrained(CHECKPOINTS / "demo-clip", dtype=torch.float32)
    with torch.no_grad():
        states = clip.vision_model(to_pixels(images), output_hidden_states=True).hidden_states
        wanted = torch.nn.functional.layer_norm(states[-2], (128,))
        tokens = vision(pixel_values=to_pixels(images)).last_hidden_state
    assert (tokens - wanted).square().mean() < 0.25  # of a variance of 1; 1.0 would be unrelated
