"""Text vectors are kept in memory and on disk, and never a word of the text."""

from pathlib import Path

import torch

from pipelines.clip.vectors import VectorCache


class Source:
    """Makes a vector for each key and remembers what it was asked for."""

    def __init__(self) -> None:
        self.computed: list[str] = []

    def fill(self, cache: VectorCache, keys: list[str]) -> torch.Tensor:
        def compute(positions: list[int]) -> torch.Tensor:
            self.computed += [keys[index] for index in positions]
            return torch.stack([torch.full((4,), float(len(keys[i]))) for i in positions])

        return cache.get(keys, compute)


def test_only_what_is_missing_is_computed(tmp_path: Path) -> None:
    source, cache = Source(), VectorCache(tmp_path / "v.sqlite", "model")
    source.fill(cache, ["a", "bb"])
    found = source.fill(cache, ["bb", "ccc", "a", "ccc"])
    assert found[:, 0].tolist() == [2.0, 3.0, 1.0, 3.0]
    assert source.computed == ["a", "bb", "ccc"]


def test_the_disk_survives_a_restart_and_belongs_to_one_model(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "v.sqlite"
    first = VectorCache(file, "model")
    Source().fill(first, [f"text {i}" for i in range(1200)])
    first.close()
    again = Source()
    found = again.fill(VectorCache(file, "model"), [f"text {i}" for i in range(1200)])
    assert again.computed == []
    assert found.shape == (1200, 4)
    other = Source()
    other.fill(VectorCache(file, "another model"), ["text 1"])
    assert other.computed == ["text 1"]


def test_the_text_itself_is_not_written(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "v.sqlite", "model")
    Source().fill(cache, ["my very private label"])
    cache.close()
    for file in tmp_path.iterdir():
        assert b"private" not in file.read_bytes()


def test_a_damaged_file_costs_only_the_cache(tmp_path: Path) -> None:
    file = tmp_path / "v.sqlite"
    file.write_bytes(b"this is no database" * 100)
    source, cache = Source(), VectorCache(file, "model")
    assert source.fill(cache, ["a"]).tolist() == [[1.0] * 4]
    assert source.fill(cache, ["a"]).tolist() == [[1.0] * 4]
    assert source.computed == ["a"]


def test_a_folder_that_cannot_be_made_costs_only_the_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    source, cache = Source(), VectorCache(tmp_path / "file" / "v.sqlite", "model")
    source.fill(cache, ["a"])
    source.fill(cache, ["a"])
    assert source.computed == ["a"]


def test_memory_and_disk_are_bounded(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "v.sqlite", "m", memory_bytes=16 * 10, disk_bytes=16 * 30)
    source = Source()
    for i in range(100):
        source.fill(cache, [f"text {i}"])
    assert len(cache._memory) <= 10
    assert cache._disk is not None
    (rows,) = cache._disk.execute("SELECT COUNT(*) FROM vectors").fetchone()
    assert rows <= 31
    source.computed.clear()
    source.fill(cache, ["text 99"])
    assert source.computed == [], "the newest is still there"


def test_two_processes_may_share_the_file(tmp_path: Path) -> None:
    one, two = (VectorCache(tmp_path / "v.sqlite", "m") for _ in range(2))
    Source().fill(one, ["a"])
    source = Source()
    source.fill(two, ["a", "b"])
    assert source.computed == ["b"]
