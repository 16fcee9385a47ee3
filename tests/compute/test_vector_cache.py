"""Text vectors are kept in memory and on disk, and never a word of the text."""

import threading
from pathlib import Path

import numpy as np
import torch

from pipelines.compute.vector_cache import VectorCache


class Source:
    """Makes a vector for each key and remembers what it was asked for."""

    def __init__(self, width: int = 4) -> None:
        self.computed: list[str] = []
        self.width = width

    def fill(self, cache: VectorCache, keys: list[str]) -> torch.Tensor:
        def compute(positions: list[int]) -> torch.Tensor:
            self.computed += [keys[index] for index in positions]
            return torch.stack([torch.full((self.width,), float(len(keys[i]))) for i in positions])

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
    Source().fill(cache, ["my very private label", "私人"])
    for closed in (False, True):  # the write-ahead log counts as well
        files = list(tmp_path.iterdir())
        assert files
        for file in files:
            for word in ("private", "私人"):
                for encoding in ("utf-8", "utf-16-le"):
                    assert word.encode(encoding) not in file.read_bytes(), closed
        cache.close()


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


def test_a_file_that_cannot_be_written_is_still_read(tmp_path: Path) -> None:
    """Root may write any file, so the database itself is told to refuse."""
    first = VectorCache(tmp_path / "v.sqlite", "m")
    Source().fill(first, ["a"])
    first.close()
    source, cache = Source(), VectorCache(tmp_path / "v.sqlite", "m")
    assert cache._file._disk is not None
    cache._file._disk.execute("PRAGMA query_only = ON")
    for _ in range(2):
        assert source.fill(cache, ["a", "bb"])[:, 0].tolist() == [1.0, 2.0]
    assert source.computed == ["bb"]


def test_damage_inside_the_file_never_changes_an_answer(tmp_path: Path) -> None:
    """A flipped bit in a stored vector went unnoticed; each now carries a checksum."""
    keys = [f"text {'x' * i}" for i in range(60)]
    first = VectorCache(tmp_path / "good.sqlite", "m")
    expected = Source(width=300).fill(first, keys)
    first.close()
    good = (tmp_path / "good.sqlite").read_bytes()
    rng = np.random.default_rng(0)
    for index in range(25):
        data = bytearray(good)
        for position in rng.integers(0 if index % 2 else 100, len(data), size=1 + 20 * index):
            data[position] = int(rng.integers(256))
        file = tmp_path / f"{index}.sqlite"
        file.write_bytes(bytes(data[: len(data) // 2] if index % 5 == 4 else data))
        cache = VectorCache(file, "m")
        for _ in range(2):
            assert Source(width=300).fill(cache, keys).equal(expected)
        cache.close()


def test_the_memory_is_bounded_and_keeps_the_last_used(tmp_path: Path) -> None:
    cache, source = VectorCache(tmp_path / "v.sqlite", "m", memory_bytes=16 * 10), Source()
    for i in range(100):
        source.fill(cache, ["often", f"text {i}"])
    assert len(cache._memory) == 10
    assert cache._memory.weight == 160
    assert source.computed.count("often") == 1
    assert len(source.fill(cache, [f"text {i}" for i in range(40)])) == 40, "more than it holds"
    assert cache._memory.weight <= 160


def test_the_file_is_bounded_and_keeps_the_newest(tmp_path: Path) -> None:
    file = tmp_path / "v.sqlite"
    cache = VectorCache(file, "m", memory_bytes=1, disk_bytes=300_000)
    source = Source(width=500)
    for start in range(0, 2000, 50):  # 4 MB of vectors
        source.fill(cache, [f"text {i}" for i in range(start, start + 50)])
    cache.close()
    assert 100_000 < file.stat().st_size < 500_000
    source.computed.clear()
    source.fill(VectorCache(file, "m"), ["text 1999", "text 0"])
    assert source.computed == ["text 0"]


def test_many_threads_share_it(tmp_path: Path) -> None:
    cache, source = VectorCache(tmp_path / "v.sqlite", "m", memory_bytes=16 * 5), Source()
    keys = ["x" * i for i in range(1, 30)]
    wrong: list[object] = []

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(20):
            chosen = [keys[i] for i in rng.integers(len(keys), size=5)]
            found = source.fill(cache, chosen)[:, 0].tolist()
            if found != [float(len(key)) for key in chosen]:
                wrong.append((chosen, found))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert wrong == []


def test_two_processes_may_share_the_file(tmp_path: Path) -> None:
    one, two = (VectorCache(tmp_path / "v.sqlite", "m") for _ in range(2))
    Source().fill(one, ["a"])
    source = Source()
    source.fill(two, ["a", "b"])
    assert source.computed == ["b"]
