"""Index a folder of pictures and videos, and search it: `python -m pipelines.index_folder FOLDER`.

Files are not copied; the index holds their paths. Started again, the command adds what is missing,
updates renamed files, and removes files from the index that are no longer in the folder. `--query`
searches.
"""

import argparse
import csv
import os
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from pipelines.core.errors import InputError
from pipelines.core.results import FileKind
from pipelines.core.settings import Settings
from pipelines.core.text import safe_cells
from pipelines.media.images import NamedImage
from pipelines.search.index_run import IndexProgress, IndexRequest, add_files
from pipelines.search.indexes import Indexes, owner_of
from pipelines.search.kinds import TASKS, SearchKind, may_be_indexed, resolve_kind
from pipelines.search.query import Query, kinds_to_search, merged, search_kind
from pipelines.search.results import FileOutcome, SearchResult
from pipelines.serving import command
from pipelines.serving.command import DONE, WITH_ERRORS
from pipelines.serving.memory import start_trimming
from pipelines.serving.store import PipelineStore

#: File of the user's own index key, in the cache folder.
KEY_FILE = "index-key"

_COLUMNS = ("rank", "path", "kind", "start_s", "end_s", "cosine", "strength", "verdict", "alike")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status.

    0: all indexed or found; 1: some files have an error; 130: interrupted; 2: not possible.
    """
    parser = _parser()
    args, flags = command.parse(parser, argv)
    if args.folder is None and not (args.query or args.like):
        parser.error("give a FOLDER to index, or --query or --like to search")
    interrupted = "Ended. Start again to go on; what was written is safe."
    return command.run(flags, lambda settings: _run(args, settings), interrupted)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.index_folder",
        description="Index a folder of pictures and videos, or search what was indexed.",
        epilog="The flags of the app are taken as well, as --device=cpu or --index=URI.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("folder", nargs="?", type=Path, metavar="FOLDER", help="a folder of pictures and videos")
    add("--no-recursive", action="store_true", help="leave out the folders within FOLDER")
    add("--keep-missing", action="store_true", help="keep files that are no longer in FOLDER")
    add("--model", default="", help="key of the model for pictures; default: that of the app")
    add("--video-model", default="", help="key of the model for videos; default: that of the app")
    add("--query", default="", help="search with a text")
    add("--like", type=Path, help="search with a picture; with --query too, with both")
    add("--text-weight", type=float, default=0.5, help="share of the text in both; default 0.5")
    add("--top-k", type=int, default=20, help="most results; default 20")
    add("--csv", type=Path, help="write the results to this file as well")
    add("--index-key", default="", help="whose index it is; default: a key of your own")
    return parser


def _run(args: argparse.Namespace, settings: Settings) -> int:
    store, indexes = PipelineStore(settings), Indexes(settings.index_uri)
    start_trimming(store)
    owner = owner_of(args.index_key or own_key(settings.cache_dir))
    models: dict[FileKind, str] = {"picture": args.model, "video": args.video_model}
    kinds = {kind: resolve_kind(store, kind, models[kind]) for kind in TASKS}
    failed = 0
    if args.folder is not None:
        failed = _index(args, store, indexes, owner, kinds)
    if args.query or args.like:
        _search(args, store, indexes, owner, models)
    return WITH_ERRORS if failed else DONE


def own_key(cache_dir: Path) -> str:
    """Return the key of the user's own index, created at first use."""
    path = cache_dir / KEY_FILE
    if not path.is_file():
        cache_dir.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
            file.write(secrets.token_urlsafe(24))
    return path.read_text(encoding="ascii").strip()


def _index(
    args: argparse.Namespace,
    store: PipelineStore,
    indexes: Indexes,
    owner: str,
    kinds: dict[FileKind, SearchKind],
) -> int:
    """Add a folder to the index; return the number of files with an error."""
    folder: Path = args.folder.resolve()
    if not folder.is_dir():
        raise InputError(f"Expected a folder but {args.folder.name!r} is none.")
    files = [
        NamedImage(path, path.relative_to(folder).as_posix())
        for path in _walk(folder, recursive=not args.no_recursive)
    ]
    if not files:
        raise InputError("There is no picture and no video in the folder.")
    command.hide_progress_of_libraries()
    request = IndexRequest(
        files=files, owner=owner, kinds=kinds, thumbnails=False, kept=True, most_vectors=sys.maxsize
    )
    outcomes: list[FileOutcome] = []
    with closing(add_files(store, indexes, request)) as steps:
        for step in steps:
            outcomes += [outcome for _, outcome in step.new]
            _show(step)
    removed = 0 if args.keep_missing else _remove_missing(indexes, owner, kinds, folder)
    return _summarise(outcomes, removed)


def _walk(folder: Path, *, recursive: bool) -> Iterator[Path]:
    """Yield pictures and videos by name, without hidden files and linked folders."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if recursive and not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and may_be_indexed(name):
                yield Path(root, name)


def _show(progress: IndexProgress) -> None:
    """Rewrite the progress line on a terminal; a log gets none."""
    if sys.stderr.isatty():
        text = f"{progress.done:,} of {progress.total:,} | {progress.stage}"
        print(command.in_place(text), end="", file=sys.stderr, flush=True)


def _remove_missing(
    indexes: Indexes, owner: str, kinds: dict[FileKind, SearchKind], folder: Path
) -> int:
    """Remove files from the index that are no longer in a folder; return how many."""
    count = 0
    for kind in kinds.values():
        tables = indexes.tables(owner, kind.space)
        with indexes.locked(owner):
            removed = [
                file.content
                for file in tables.files().values()
                if Path(file.path).is_relative_to(folder) and not Path(file.path).exists()
            ]
            tables.delete(removed)
        count += len(removed)
    return count


def _summarise(outcomes: Sequence[FileOutcome], removed: int) -> int:
    counts = {
        name: sum(one.outcome == name for one in outcomes)
        for name in ("added", "known", "renamed", "same", "error")
    }
    said = [
        f"{counts['added']:,} added",
        f"{counts['known']:,} were there",
        f"{counts['renamed']:,} renamed",
        f"{counts['same']:,} twice in the folder",
        f"{removed:,} no longer there",
        f"{counts['error']:,} not readable",
    ]
    print("\n" + ", ".join(said), file=sys.stderr)
    for line in command.named([(one.file, one.error) for one in outcomes if one.error]):
        print(line, file=sys.stderr)
    return counts["error"]


def _search(
    args: argparse.Namespace,
    store: PipelineStore,
    indexes: Indexes,
    owner: str,
    models: dict[FileKind, str],
) -> None:
    if args.like is not None and not args.like.is_file():
        raise InputError(f"Expected a picture for --like but there is no {args.like.name!r}.")
    query = Query(text=args.query, image=args.like, text_weight=args.text_weight, top_k=args.top_k)
    found = []
    command.hide_progress_of_libraries()
    for kind in kinds_to_search(store, indexes, owner, models):
        for _ in store.fetch(kind.spec.key, kind.task):
            continue
        with store.use(kind.spec.key, kind.task) as pipeline:
            found.append(search_kind(pipeline, indexes, owner, kind, query))
    search = merged(found, query)
    for note in search.notes:
        print(note, file=sys.stderr)
    rows = list(_rows(search))
    for row in rows:
        when = f" {row[3]:.1f}-{row[4]:.1f} s" if row[2] == "video" else ""
        print(f"{row[0]:>3}  {row[7] or '-':<8}  {row[5]:.3f}  {row[1]}{when}")
    if args.csv is not None:
        with args.csv.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(safe_cells(row) for row in (_COLUMNS, *rows))


def _rows(search: SearchResult) -> Iterator[tuple[object, ...]]:
    for rank, one in enumerate(search.found, start=1):
        yield (
            rank, one.file.path, one.file.kind, one.start_s, one.end_s, round(one.cosine, 4),
            round(one.strength, 4), one.verdict or "", "; ".join(one.alike),
        )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
