"""Tiny models of every caption family, and images."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.models.captioning.pipeline import CaptionPipeline
from tests.support.captioning import FAMILIES, draw, live, one_thread


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for key, (_, make) in FAMILIES.items():
        make(root / key)
    return root


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return draw(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def models(folder: Path) -> dict[str, CaptionPipeline]:
    return {key: live(folder / key, key) for key in FAMILIES}
