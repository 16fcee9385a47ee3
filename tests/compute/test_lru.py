"""What was used last is kept, as much as fits; a file is known by its content."""

import os
from pathlib import Path

from pipelines.compute.lru import FileDigests, LruCache


def test_the_value_used_longest_ago_goes_first() -> None:
    kept: LruCache[str, str] = LruCache(10, len)
    for value in ("aaaa", "bbb", "ccc"):
        kept.keep(value[0], value)
    assert kept.find("a") == "aaaa"
    kept.keep("d", "dddd")
    assert [kept.find(key) for key in "abcd"] == ["aaaa", None, None, "dddd"]
    assert kept.weight == 8
    kept.keep("a", "aa")
    assert (kept.weight, len(kept)) == (6, 2)


def test_what_is_too_large_is_not_kept() -> None:
    kept: LruCache[str, str] = LruCache(3, len)
    kept.keep("a", "aaaa")
    assert (kept.find("a"), kept.weight) == (None, 0)


def test_a_value_is_computed_once() -> None:
    kept: LruCache[str, int] = LruCache(2)
    asked: list[int] = []

    def compute() -> int:
        asked.append(1)
        return 5

    assert [kept.get("a", compute), kept.get("a", compute)] == [5, 5]
    assert len(asked) == 1
    kept.clear()
    assert (kept.get("a", compute), len(asked)) == (5, 2)


def test_a_changed_file_has_another_digest(tmp_path: Path) -> None:
    digests, file, copy = FileDigests(), tmp_path / "a", tmp_path / "b"
    file.write_bytes(b"one")
    copy.write_bytes(b"one")
    before = digests.of(file)
    assert digests.of(copy) == before
    file.write_bytes(b"two")
    os.utime(file, (1, 1))
    assert digests.of(file) != before
