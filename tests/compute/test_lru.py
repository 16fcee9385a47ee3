"""What was used last is kept, as much as fits; a file is known by its content."""

import os
from pathlib import Path

from pipelines.compute.lru import FileDigests, LruCache


def test_the_value_used_longest_ago_goes_first() -> None:
    kept: LruCache[str, str] = LruCache(10, len)
    for value in ("aaaa", "bbb", "ccc"):
        kept.put(value[0], value)
    assert kept.get("a") == "aaaa"
    kept.put("d", "dddd")
    assert [kept.get(key) for key in "abcd"] == ["aaaa", None, None, "dddd"]
    assert kept.weight == 8
    kept.put("a", "aa")
    assert (kept.weight, len(kept)) == (6, 2)


def test_what_is_too_large_is_not_kept() -> None:
    kept: LruCache[str, str] = LruCache(3, len)
    kept.put("a", "aaaa")
    assert (kept.get("a"), kept.weight) == (None, 0)


def test_a_value_is_computed_once() -> None:
    kept: LruCache[str, int] = LruCache(2)
    asked: list[int] = []

    def compute() -> int:
        asked.append(1)
        return 5

    assert [kept.get_or_compute("a", compute), kept.get_or_compute("a", compute)] == [5, 5]
    assert len(asked) == 1
    kept.clear()
    assert (kept.get_or_compute("a", compute), len(asked)) == (5, 2)


def test_of_many_only_the_missing_are_computed_each_once() -> None:
    kept: LruCache[str, str] = LruCache(10, len)
    kept.put("a", "aa")
    asked: list[list[int]] = []

    def compute(missing: list[int]) -> list[str]:
        asked.append(missing)
        return [f"new {index}" for index in missing]

    assert kept.get_many(["b", "a", "b"], compute, keep=False) == ["new 0", "aa", "new 0"]
    assert kept.get_many(["a", "b"], compute) == ["aa", "new 1"]
    assert kept.get_many(["b", "a"], compute) == ["new 1", "aa"]
    assert asked == [[0], [1]]
    kept.put("c", "cccc")
    assert list(kept.snapshot()) == ["a", "c"], "of a request the first is the oldest"


def test_a_value_that_is_taken_out_is_gone() -> None:
    kept: LruCache[str, str] = LruCache(10, len)
    kept.put("a", "aa")
    assert (kept.pop("a"), kept.pop("a"), kept.weight) == ("aa", None, 0)


def test_what_is_too_large_drops_nothing_else() -> None:
    kept: LruCache[str, str] = LruCache(3, len)
    kept.put("a", "a")
    kept.put("b", "bbbb")
    assert list(kept.snapshot()) == ["a"]


def test_a_changed_file_has_another_digest(tmp_path: Path) -> None:
    digests, file, copy = FileDigests(), tmp_path / "a", tmp_path / "b"
    file.write_bytes(b"one")
    copy.write_bytes(b"one")
    before = digests.of(file)
    assert digests.of(copy) == before
    file.write_bytes(b"two")
    os.utime(file, (1, 1))
    assert digests.of(file) != before
