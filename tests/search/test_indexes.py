"""The vector database: exact beside brute force, changed while it is read, opened again."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines.core.cancel import Cancelled, CancelToken
from pipelines.core.errors import InputError
from pipelines.models.search_query import FileVectors
from pipelines.search.indexes import LEAST_KEY, IndexEntry, Indexes, owner_of
from pipelines.search.results import IndexedFile
from pipelines.search.tables import Database, IndexUnavailable, VectorTables

DIM = 64
ROOT = Path(__file__).parent.parent.parent


def clustered(count: int, seed: int = 0) -> np.ndarray:
    """Return unit vectors in clusters, as those of pictures are."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(200, DIM))
    vectors = centres[rng.integers(0, 200, count)] + 0.6 * rng.normal(size=(count, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def entry(number: int, vectors: np.ndarray, name: str = "") -> tuple[IndexedFile, FileVectors]:
    file = IndexedFile(
        content=f"{number:040x}",
        name=name or f"{number}.png",
        kind="picture",
        path=f"/there/{number}.png",
        num_parts=len(vectors),
        thumbnail=b"JPEG-%d-END" % number,
    )
    zeros = np.zeros(len(vectors))
    return file, FileVectors(starts_s=zeros, ends_s=zeros, vectors=vectors)


def entries(vectors: np.ndarray, start: int = 0) -> list[tuple[IndexedFile, FileVectors]]:
    return [entry(start + row, vectors[row : row + 1]) for row in range(len(vectors))]


@pytest.fixture
def indexes(tmp_path: Path) -> Indexes:
    return Indexes(str(tmp_path / "index"))


@pytest.fixture
def tables(indexes: Indexes) -> VectorTables:
    return indexes.tables("owner", "picture.model.1")


def numbers(contents: tuple[str, ...]) -> list[int]:
    return [int(content, 16) for content in contents]


def recall(tables: VectorTables, vectors: np.ndarray, queries: np.ndarray) -> float:
    hits = 0
    for query in queries:
        true = set(np.argsort(-(vectors @ query), kind="stable")[:10].tolist())
        hits += len(true & set(numbers(tables.nearest(query, 10).contents)))
    return hits / (10 * len(queries))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[VectorTables, np.ndarray]]:
    vectors = clustered(20_000)
    tables = Indexes(str(tmp_path_factory.mktemp("large"))).tables("o", "picture.m.1")
    for start in range(0, len(vectors), 4000):
        tables.add(entries(vectors[start : start + 4000], start))
    yield tables, vectors


def test_what_lancedb_keeps_goes_when_nobody_asks(indexes: Indexes, tables: VectorTables) -> None:
    vectors = clustered(50)
    tables.add(entries(vectors))
    kept = indexes._database._connection
    indexes.release_idle(60.0)
    assert indexes._database._connection is kept
    indexes.release_idle(0.0)
    assert "_connection" not in vars(indexes._database)
    assert numbers(tables.nearest(vectors[7], 1).contents) == [7], "it is opened again"


def test_an_index_in_memory_stays() -> None:
    indexes = Indexes("memory://test")
    tables, vectors = indexes.tables("owner", "picture.model.1"), clustered(5)
    tables.add(entries(vectors))
    indexes.release_idle(0.0)
    assert numbers(tables.nearest(vectors[3], 1).contents) == [3]


def test_recall_at_20_000_vectors(large: tuple[VectorTables, np.ndarray]) -> None:
    tables, vectors = large
    assert tables.summary().vectors == 20_000
    assert recall(tables, vectors, clustered(50, seed=1)) >= 0.99


def test_recall_of_a_large_index_in_cells(large: tuple[VectorTables, np.ndarray]) -> None:
    """Beyond a number of vectors only the nearest cells are looked into; what is added later
    counts all the same."""
    tables, vectors = large
    tables.compact(most_exact=10_000)
    assert recall(tables, vectors, clustered(50, seed=2)) >= 0.99
    late = clustered(1, seed=3)
    tables.add([entry(30_000, late)])
    assert numbers(tables.nearest(late[0], 1).contents) == [30_000]
    tables.delete([f"{30_000:040x}"])
    assert 30_000 not in numbers(tables.nearest(late[0], 10).contents)


def test_the_nearest_come_first_with_their_vectors(tables: VectorTables) -> None:
    vectors = clustered(50)
    tables.add(entries(vectors))
    near = tables.nearest(vectors[7], 5)
    assert numbers(near.contents)[0] == 7
    assert near.vectors == pytest.approx(vectors[numbers(near.contents)])
    cosines = near.vectors @ vectors[7]
    assert cosines.tolist() == sorted(cosines.tolist(), reverse=True)
    assert tables.sample(20).shape == (20, DIM)
    assert tables.sample(500).shape == (50, DIM)


def test_an_index_that_is_not_there_is_empty(tables: VectorTables) -> None:
    assert tables.files() == {}
    assert tables.nearest(clustered(1)[0], 5).contents == ()
    assert tables.sample().shape == (0, 0)
    assert tables.summary().vectors == 0
    tables.delete(["a" * 40])
    tables.drop()


def test_added_and_deleted_while_searched(tables: VectorTables) -> None:
    """Ten vectors stay; a search sees each of them every time, whatever comes and goes."""
    stays, comes = clustered(10), clustered(400, seed=5)
    tables.add(entries(stays))
    over, seen, failures = threading.Event(), [0], list[BaseException]()

    def search() -> None:
        try:
            while not over.is_set():
                for row in range(10):
                    assert numbers(tables.nearest(stays[row], 1).contents) == [row]
                    assert tables.files()[f"{row:040x}"].num_parts == 1
                seen[0] += 1
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=search) for _ in range(2)]
    for reader in readers:
        reader.start()
    for start in range(0, 400, 40):
        added = entries(comes[start : start + 40], 1000 + start)
        tables.add(added)
        tables.delete([file.content for file, _ in added[::2]])
        tables.compact()
    over.set()
    for reader in readers:
        reader.join()
    assert failures == []
    assert seen[0] > 0
    assert tables.summary().vectors == 10 + 200


def test_opened_again_after_a_restart(tmp_path: Path) -> None:
    vectors = clustered(30)
    Indexes(str(tmp_path)).tables("o", "picture.m.1").add(entries(vectors))
    again = Indexes(str(tmp_path)).tables("o", "picture.m.1")
    assert numbers(again.nearest(vectors[3], 1).contents) == [3]
    file = again.find([f"{3:040x}"], thumbnails=True)[f"{3:040x}"]
    assert (file.name, file.thumbnail) == ("3.png", b"JPEG-3-END")


def test_content_that_comes_again_is_there_once(tables: VectorTables) -> None:
    """As after a kill between the vectors and the file that they belong to."""
    vectors = clustered(3)
    tables.add([entry(1, vectors)])
    tables.add([entry(1, vectors[:2], name="new.png")])
    assert tables.summary().vectors == 2
    assert [file.name for file in tables.files().values()] == ["new.png"]


def test_a_renamed_file_keeps_its_thumbnail(tables: VectorTables) -> None:
    made = entries(clustered(2))
    tables.add(made)
    file, _ = entry(1, clustered(1), name="new.png")
    tables.rename([file])
    found = tables.find([file.content], thumbnails=True)[file.content]
    assert (found.name, found.thumbnail) == ("new.png", b"JPEG-1-END")
    assert tables.summary().vectors == 2


def test_what_is_deleted_is_gone_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import timedelta

    monkeypatch.setattr("pipelines.search.tables.KEEP_VERSIONS", timedelta(0))
    tables = Indexes(str(tmp_path)).tables("o", "picture.m.1")
    tables.add(entries(clustered(20)))

    def on_disk(text: bytes) -> bool:
        return any(text in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())

    assert on_disk(b"JPEG-7-END")
    with pytest.warns(UserWarning, match="cleanup"):
        tables.purge([f"{7:040x}"])
    assert not on_disk(b"JPEG-7-END") and on_disk(b"JPEG-8-END")


def test_owners_do_not_see_each_other(indexes: Indexes) -> None:
    mine, theirs = owner_of("mine" * 8), owner_of("theirs" * 8)
    indexes.record_use(mine, "picture.m.1")
    indexes.tables(mine, "picture.m.1").add(entries(clustered(5)))
    assert indexes.spaces(theirs) == []
    assert indexes.tables(theirs, "picture.m.1").nearest(clustered(1)[0], 5).contents == ()
    assert indexes.forget(theirs) == 0
    assert indexes.summary(mine).pictures == 5
    assert indexes.forget(mine) == 5
    assert indexes.spaces(mine) == [] and indexes.summary(mine).pictures == 0


def test_who_deletes_waits_for_who_writes(indexes: Indexes) -> None:
    """Tables that came after their entry in the register was gone, nobody would ever delete."""
    mine = owner_of("mine" * 8)
    deleter = threading.Thread(target=lambda: indexes.forget(mine))
    with indexes.locked(mine):
        indexes.record_use(mine, "picture.m.1")
        deleter.start()
        deleter.join(0.5)
        assert deleter.is_alive()
        indexes.tables(mine, "picture.m.1").add(entries(clustered(3)))
    deleter.join(30)
    assert indexes.spaces(mine) == []
    assert indexes.tables(mine, "picture.m.1").summary().vectors == 0


@pytest.mark.long
@pytest.mark.parametrize("how", ["library", "tables"])
def test_two_processes_lose_nothing_of_each_other(tmp_path: Path, how: str) -> None:
    """Tables that one process wrote anew, to delete for good, were once without what the other
    had added meanwhile."""
    folder, count = str(tmp_path / "index"), 6
    run = [sys.executable, "-m", "tests.support.index_writer", folder]
    processes = [
        subprocess.Popen([*run, str(first), str(count), how], cwd=ROOT, stderr=subprocess.PIPE)
        for first in (0, 3 * count)
    ]
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said.decode()[-2000:]
    tables = Indexes(folder).tables("owner", "picture.m.1")
    left = [number for number in range(6 * count) if number % 3 != 1]
    assert sorted(numbers(tuple(tables.files()))) == left
    assert tables.summary().vectors == len(left)


def test_a_process_that_writes_for_long_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.serving.locks.WAIT_S", 0.1)
    first, second = (Indexes(str(tmp_path / "index")) for _ in range(2))
    held, over = threading.Event(), threading.Event()

    def write() -> None:
        with first.locked("owner"):
            held.set()
            over.wait(60)

    writer = threading.Thread(target=write)
    writer.start()
    assert held.wait(60)
    with pytest.raises(IndexUnavailable, match="Try again"), second.locked("owner"):
        pass
    over.set()
    writer.join(60)
    with second.locked("owner"), second.locked("owner"):
        pass


@pytest.fixture
def busy(indexes: Indexes) -> Iterator[Indexes]:
    """Yield the indexes while another thread writes for "owner"."""
    held, over = threading.Event(), threading.Event()

    def write() -> None:
        with indexes.locked("owner"):
            held.set()
            over.wait(60)

    writer = threading.Thread(target=write)
    writer.start()
    assert held.wait(60)
    yield indexes
    over.set()
    writer.join(60)


@pytest.mark.parametrize("where", ["thread", "process"])
def test_a_wait_for_who_writes_can_be_given_up(busy: Indexes, tmp_path: Path, where: str) -> None:
    """It once took five minutes, and within a process it had no end."""
    waiting = busy if where == "thread" else Indexes(str(tmp_path / "index"))
    asked = iter([False, False])
    cancel = CancelToken(lambda: next(asked, True))
    with pytest.raises(Cancelled), waiting.locked("owner", cancel):
        pass
    with pytest.raises(IndexUnavailable), waiting.locked("owner", wait_s=0.0):
        pass
    with waiting.locked("another", CancelToken(lambda: True)):
        pass


def test_an_index_that_is_written_to_keeps_no_other_from_expiring(
    busy: Indexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.search.indexes.EXPIRE_WAIT_S", 0.1)
    for name in ("owner", "other"):
        busy._write(IndexEntry(owner=name, space="picture.m.1", used_at=1.0, kept=False, vectors=0))
    assert busy.expire(1.0) == 1
    assert busy.spaces("owner") and not busy.spaces("other")


@pytest.mark.parametrize("key", ["", "short", "x" * 201, 7, None])
def test_a_key_that_could_be_guessed_is_refused(key: object) -> None:
    with pytest.raises(InputError, match="index_key"):
        owner_of(key)  # type: ignore[arg-type]
    assert len(owner_of("x" * LEAST_KEY)) == len(owner_of("x" * 200)) == 32


def test_the_key_is_not_stored(tmp_path: Path, indexes: Indexes) -> None:
    key = "a very secret key"
    indexes.record_use(owner_of(key), "picture.m.1")
    indexes.tables(owner_of(key), "picture.m.1").add(entries(clustered(2)))
    for path in tmp_path.rglob("*"):
        assert key not in path.name
        assert not path.is_file() or key.encode() not in path.read_bytes()


def test_unused_indexes_are_deleted(indexes: Indexes) -> None:
    for name, kept in (("old", False), ("folder", True), ("new", False)):
        indexes.record_use(name, "picture.m.1", kept=kept, vectors=5)
        indexes.tables(name, "picture.m.1").add(entries(clustered(5)))
    now = 1e10
    assert indexes.expire(0.0, now=now) == 0
    indexes._recorded.clear()
    entry = next(one for one in indexes._entries() if one.owner == "new")
    indexes._write(type(entry)(**{**entry.__dict__, "used_at": now - 60}))
    assert indexes.expire(3600.0, now=now) == 1
    assert indexes.spaces("old") == [] and indexes.summary("old").pictures == 0
    assert indexes.summary("folder").pictures == indexes.summary("new").pictures == 5


def test_the_index_of_a_folder_is_kept_however_it_is_used_again(indexes: Indexes) -> None:
    """A search notes the use of an index without saying that it is a folder's."""
    indexes.record_use("folder", "picture.m.1", kept=True, vectors=5)
    indexes.tables("folder", "picture.m.1").add(entries(clustered(5)))
    indexes._recorded.clear()  # as after the minutes in which a use is not noted again
    indexes.record_use("folder", "picture.m.1")
    indexes.record_use("folder", "picture.m.1", vectors=4)
    assert indexes.expire(1.0, now=1e10) == 0
    assert indexes.summary("folder").pictures == 5


def test_beyond_a_size_the_longest_unused_goes(indexes: Indexes) -> None:
    for name in ("first", "second", "third"):
        indexes.record_use(name, "picture.m.1", vectors=5)
        indexes.tables(name, "picture.m.1").add(entries(clustered(5)))
    assert indexes.expire(0.0, most=12) == 1
    assert indexes.spaces("first") == []
    assert indexes.spaces("second") and indexes.spaces("third")


def test_no_folder_is_made_before_something_is_indexed(tmp_path: Path) -> None:
    indexes = Indexes(str(tmp_path / "index"))
    assert indexes.expire(1.0) == 0
    assert not (tmp_path / "index").exists()


def test_a_database_that_cannot_be_used_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.search.tables.RETRY_WAIT_S", 0.0)
    file = tmp_path / "file"
    file.write_text("no folder")
    with pytest.raises(IndexUnavailable, match="cannot be read or written") as caught:
        Database(str(file)).put("t", None)
    assert str(tmp_path) not in caught.value.message


def test_other_users_of_the_machine_do_not_read_an_index(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "index"
    tables = VectorTables(Database(str(folder)), "tables")
    tables.add(entries(clustered(3)))
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("before", ["nothing", "open to all"])
def test_other_users_do_not_read_an_index_that_was_locked_first(
    tmp_path: Path, before: str
) -> None:
    """A run takes the lock before it writes; the folder of the index once came with the locks'."""
    folder = tmp_path / "cache" / "index"
    if before == "open to all":
        (folder / "locks").mkdir(parents=True)
        folder.chmod(0o755)
    with Indexes(str(folder)).locked("owner"):
        pass
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_holds_no_index_yet_is_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with Indexes(str(tmp_path)).locked("owner"):
        pass
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "locks").stat().st_mode & 0o777 == 0o700
