"""What makes a checkpoint: which files are fetched, and what a folder has to hold."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipelines.models.catalogue import CATALOGUE
from pipelines.weights.files import choose_files, is_complete
from pipelines.weights.locate import BUNDLE
from tests.fakes.tiny_clip import MAKERS

#: The files of real repositories at the pinned revisions, weights apart, and of what we save.
OPENAI = ("config.json", "preprocessor_config.json", "tokenizer.json", "vocab.json", "merges.txt")
CHINESE = ("config.json", "preprocessor_config.json", "vocab.txt")
SIGLIP = ("config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer.model")
SAVED = ("config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json")

WHOLE, PICKLED = "model.safetensors", "pytorch_model.bin"
PARTS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = f"{WHOLE}.index.json"
TENSORS = {"a": torch.zeros(3), "b": torch.ones(2, 2)}


def lay_out(folder: Path, names: tuple[str, ...], *weights: str) -> Path:
    for name in names:
        (folder / name).write_text("{}")
    for name in weights:
        if name.endswith(".index.json"):
            part_of = dict(zip("ab", PARTS, strict=True))
            (folder / name).write_text(f'{{"weight_map": {part_of}}}'.replace("'", '"'))
        elif name.endswith(".bin"):
            (folder / name).write_bytes(b"PK")
        else:
            save_file(TENSORS, folder / name)
    return folder


@pytest.mark.parametrize(
    ("names", "weights"),
    [
        (OPENAI, (PICKLED,)),
        (OPENAI, (WHOLE, PICKLED)),
        (("config.json", "preprocessor_config.json", "vocab.json", "merges.txt"), (WHOLE,)),
        (CHINESE, (PICKLED,)),
        (SIGLIP, (WHOLE,)),
        (SAVED, (WHOLE,)),
        (SAVED, (*PARTS, INDEX)),
        (SAVED, (*PARTS, INDEX, f"{PICKLED}.index.json")),
    ],
)
def test_real_layouts_are_complete(
    names: tuple[str, ...], weights: tuple[str, ...], tmp_path: Path
) -> None:
    assert is_complete(lay_out(tmp_path, names, *weights))


@pytest.mark.parametrize("key", MAKERS)
def test_what_transformers_saves_is_complete(key: str, tmp_path: Path) -> None:
    assert is_complete(MAKERS[key](tmp_path))


def test_the_bundled_checkpoints_are_complete() -> None:
    folders = [path for path in BUNDLE.iterdir() if path.is_dir()]
    assert folders
    for folder in folders:
        assert is_complete(folder, CATALOGUE[folder.name].stock_files), folder.name


@pytest.mark.parametrize("missing", [*CHINESE, PICKLED])
def test_a_checkpoint_without_one_of_its_files_is_none(missing: str, tmp_path: Path) -> None:
    folder = lay_out(tmp_path, CHINESE, PICKLED)
    (folder / missing).unlink()
    assert not is_complete(folder)


def test_half_a_vocabulary_is_no_tokenizer(tmp_path: Path) -> None:
    names = ("config.json", "preprocessor_config.json", "vocab.json")
    assert not is_complete(lay_out(tmp_path, names, WHOLE))


@pytest.mark.parametrize("missing", PARTS)
def test_a_missing_part_is_noticed(missing: str, tmp_path: Path) -> None:
    folder = lay_out(tmp_path, SAVED, *PARTS, INDEX)
    (folder / missing).unlink()
    assert not is_complete(folder)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (WHOLE, lambda content: content[:-1]),
        (WHOLE, lambda content: content + b"x"),
        (WHOLE, lambda content: content[:20]),
        (WHOLE, lambda content: b""),
        (WHOLE, lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:0"),
        (WHOLE, lambda content: b"\x05" + b"\0" * 7 + b"hello"),
        (WHOLE, lambda content: b"\x02" + b"\0" * 7 + b"[]"),
        (INDEX, lambda content: b"no json"),
        (INDEX, lambda content: b'{"weight_map": []}'),
        (INDEX, lambda content: b'{"weight_map": {}}'),
        (INDEX, lambda content: b'{"weight_map": {"a": 1}}'),
        (PARTS[1], lambda content: content[:-1]),
    ],
)
def test_a_damaged_checkpoint_is_none(
    name: str, damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    weights = (WHOLE,) if name == WHOLE else (*PARTS, INDEX)
    folder = lay_out(tmp_path, SAVED, *weights)
    assert is_complete(folder)
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    assert not is_complete(folder)


def test_a_pointer_to_pickled_weights_is_none(tmp_path: Path) -> None:
    folder = lay_out(tmp_path, CHINESE, PICKLED)
    (folder / PICKLED).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0")
    assert not is_complete(folder)


def test_a_file_or_nothing_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert not is_complete(tmp_path / "file")
    assert not is_complete(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("there", "fetched"),
    [
        ((WHOLE, PICKLED, "flax_model.msgpack", "tf_model.h5"), (WHOLE,)),
        ((PICKLED, "clip_cn_vit-b-16.pt", "rust_model.ot"), (PICKLED,)),
        ((*PARTS, INDEX, "onnx/model.safetensors", "model.fp16.safetensors"), (*PARTS, INDEX)),
        (("README.md", ".gitattributes", "merges.txt"), ("merges.txt",)),
        (("onnx/config.json", "tokenizer.model", "chat.jinja"), ("tokenizer.model", "chat.jinja")),
    ],
)
def test_which_files_are_fetched(there: tuple[str, ...], fetched: tuple[str, ...]) -> None:
    assert set(choose_files(there)) == set(fetched)
