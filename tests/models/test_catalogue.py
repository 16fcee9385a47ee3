"""The catalogue's entries: what the page, the store and scripts rely on."""

import ast
import re
from pathlib import Path
from typing import get_args

import pytest

from pipelines.core.errors import InputError
from pipelines.core.spec import ModelSpec, Task
from pipelines.models.catalogue import CATALOGUE, HUB_DEFAULTS, MODELS, demo_of, find, keys
from pipelines.weights.locate import BUNDLE
from tests.support.caption_families import FAMILIES

ROOT = Path(__file__).parent.parent.parent
TASKS: tuple[Task, ...] = get_args(Task)

every_model = pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.key)


def test_keys_and_titles_are_unique() -> None:
    assert len({spec.key for spec in MODELS}) == len(MODELS) == len(CATALOGUE)
    assert len({(spec.task, spec.title) for spec in MODELS}) == len(MODELS)
    assert all(CATALOGUE[spec.key] is spec for spec in MODELS)


@every_model
def test_a_key_can_be_typed(spec: ModelSpec) -> None:
    assert re.fullmatch(r"[a-z0-9.]+(-[a-z0-9.]+)*", spec.key)


@every_model
def test_a_pipeline_class_is_where_it_says(spec: ModelSpec) -> None:
    """Read, not imported: an import would load torch."""
    module, _, name = spec.pipeline.partition(":")
    path = ROOT / (module.replace(".", "/") + ".py")
    classes = [
        n.name for n in ast.parse(path.read_text("utf-8")).body if isinstance(n, ast.ClassDef)
    ]
    assert name in classes


@every_model
def test_origin_and_size_are_stated(spec: ModelSpec) -> None:
    assert spec.task in TASKS
    assert spec.family
    assert spec.licence
    assert 0.0 < spec.memory_gb < 200.0
    if spec.demo:
        assert (spec.repo, spec.revision, spec.download_gb) == ("", "", 0.0)
    else:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", spec.repo)
        assert re.fullmatch(r"[0-9a-f]{40}|main", spec.revision)
        assert 0.0 < spec.download_gb <= spec.memory_gb


@every_model
def test_every_model_has_the_traits_of_its_task(spec: ModelSpec) -> None:
    assert (spec.contrastive is not None) == (spec.task == "image-text")
    assert (spec.generative is not None) == (spec.task == "caption")
    assert (spec.video_text is not None) == (spec.task == "video-text")
    assert (spec.video_chat is not None) == (spec.task == "video-chat")


def test_caption_models_are_of_families_that_were_tried() -> None:
    tried = {repo: family.traits for family in FAMILIES for repo in family.repos}
    for spec in MODELS:
        if spec.task == "caption" and not spec.demo:
            assert tried[spec.repo] is spec.generative


@pytest.mark.parametrize(
    "spec", [spec for spec in MODELS if spec.contrastive], ids=lambda spec: spec.key
)
def test_traits_name_what_there_is(spec: ModelSpec) -> None:
    traits = spec.contrastive
    assert traits is not None
    assert (ROOT / "pipelines" / "models" / "banks" / f"{traits.neutral_bank}.txt").is_file()
    assert all(re.fullmatch(r"[a-z]{2}", code) for code in traits.languages)
    assert traits.max_text_tokens > 2
    assert 0.0 <= traits.neutral_weight <= 1.0
    for low, high in (
        traits.text_thresholds,
        traits.pair_of_texts_thresholds,
        traits.pair_of_images_thresholds,
    ):
        assert low < high


@pytest.mark.parametrize("task", TASKS)
def test_one_demo_and_one_default_for_each_task(task: Task) -> None:
    demos = [spec for spec in MODELS if spec.task == task and spec.demo]
    assert demos == [demo_of(task)]
    for default in HUB_DEFAULTS[task]:
        assert default.task == task
        assert CATALOGUE[default.key] is default
        assert not default.demo
    assert set(HUB_DEFAULTS) == set(TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_the_demo_comes_last(task: Task) -> None:
    """The order is the order of preference."""
    assert keys(task)[-1] == demo_of(task).key


@pytest.mark.parametrize("task", TASKS)
def test_a_demo_checkpoint_is_bundled(task: Task) -> None:
    folder = BUNDLE / demo_of(task).key
    for name in ("config.json", "demo.json", "model.safetensors"):
        assert (folder / name).is_file()
    size = sum(file.stat().st_size for file in folder.iterdir())
    assert size < 20_000_000


def test_find() -> None:
    for spec in MODELS:
        assert find(spec.key, spec.task) is spec


@pytest.mark.parametrize("key", ["", "nope", "DEMO-CLIP", "demo-clip ", 5, None, ["demo-clip"]])
def test_an_unknown_key_is_answered_with_the_valid_ones(key: object) -> None:
    with pytest.raises(InputError) as caught:
        find(key, "image-text")  # type: ignore[arg-type]
    for valid in keys("image-text"):
        assert valid in caught.value.message


def test_a_long_key_is_not_thrown_back_whole() -> None:
    with pytest.raises(InputError) as caught:
        find("x" * 10_000, "image-text")
    assert len(caught.value.message) < 400
