"""Caption a folder, or a zip, of images: `python -m pipelines.caption_folder FOLDER`.

A ledger beside the results records finished captions, so the same command continues an interrupted
run. Ctrl-C ends after the current batch. Tables of a run that ended early have names such as
`captions.partial.csv`; whole ones of an earlier run stay.
"""

import argparse
import logging
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.batch.captioner import TASK, Captioner, make_captioner
from pipelines.batch.engine import BatchRun, EngineOptions
from pipelines.batch.export import FORMATS, Exports
from pipelines.batch.ledger import Ledger
from pipelines.batch.progress import RunProgress
from pipelines.core.cancel import CancelToken
from pipelines.core.errors import InputError
from pipelines.core.options import MAX_TEMPERATURE, GenerationOptions
from pipelines.core.settings import Settings
from pipelines.media.archive import is_zip, open_inputs
from pipelines.media.inputs import FileSource, Inputs
from pipelines.serving import command
from pipelines.serving.command import DONE, STOPPED, WITH_ERRORS
from pipelines.serving.memory import start_trimming
from pipelines.serving.store import PipelineStore


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's own arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.caption_folder",
        description="Caption a folder, or a zip, of images. Start it again to take up a run.",
        epilog="The flags of the app are taken as well, as --device=cpu or --models-dir=FOLDER.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("source", type=Path, metavar="FOLDER", help="a folder of images, or a .zip")
    add("--output", type=Path, help="folder of the results; default: FOLDER, or the zip's folder")
    add("--model", default="", help="key of the model; default: what the app starts with")
    add("--prompt", default="", help="what every caption continues or answers")
    add(
        "--existing",
        choices=("skip", "overwrite", "append", "prepend"),
        default="skip",
        help="what becomes of a .txt beside an image that has text in it; default: skip the image, "
        "unless the .txt holds the caption of an earlier run with other settings",
    )
    add("--separator", default=", ", help="between the texts of append and prepend")
    add(
        "--formats",
        type=_formats,
        help=f"any of {','.join(FORMATS)}; default: all but zip, and for a zip: zip",
    )
    add("--no-recursive", action="store_true", help="leave out the folders within FOLDER")
    add("--batch-size", type=_at_least_1, default=8, help="pictures at once; default 8")
    add("--workers", type=_at_least_1, default=2, help="threads that open pictures; default 2")
    add("--max-new-tokens", type=_at_least_1, default=40, help="length of a caption; default 40")
    add("--num-beams", type=_at_least_1, default=1, help="beams of a search; default 1, greedy")
    add(
        "--temperature",
        type=_within(0, MAX_TEMPERATURE),
        default=0.0,
        help="0 (default): always the same; up to 5",
    )
    add("--top-p", type=_within(0, 1), default=1.0, help="share of likely words, 0..1; default 1")
    add(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="ray: on the machines of a Ray cluster, which all see FOLDER at the same place; "
        "needs requirements-ray.txt",
    )
    add(
        "--ray-address",
        default=os.environ.get("RAY_ADDRESS", ""),
        metavar="HOST:PORT",
        help="the cluster; auto for the one of this machine; default: RAY_ADDRESS, or none, "
        "which begins one on this machine alone",
    )
    add("--seed", type=int, default=0, help="of the chance at a temperature above 0")
    return parser


def _formats(text: str) -> list[str]:
    chosen = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in chosen if name not in FORMATS]:
        raise argparse.ArgumentTypeError(
            f"must be among {', '.join(FORMATS)} but got {', '.join(unknown)}"
        )
    return chosen


def _at_least_1(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1 but got {value}")
    return value


def _within(least: float, most: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = float(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be within {least}..{most} but got {value}")
        return value

    return number


if TYPE_CHECKING:
    from pipelines.batch.ray_run import ClusterRun

#: The ledger's file name, in the folder of the results.
LEDGER = "seesay-ledger.jsonl"

#: Seconds between two progress lines, on a terminal and in a log.
_TERMINAL_S, _LOG_S = 0.2, 10.0


def _captioner(
    store: PipelineStore, model: str, prompt: str, options: GenerationOptions
) -> Captioner:
    spec = command.choose_model(store, model, TASK)
    if spec.remote is None:
        command.hide_progress_of_libraries()
    for progress in store.fetch(spec.key, TASK):
        logging.getLogger(__name__).debug("%s", progress)
    return make_captioner(store, spec, prompt, options)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status.

    0: every image has a caption; 1: some have an error; 130: interrupted; 2: not possible.
    """
    args, flags = command.parse(make_parser(), argv)

    def work(settings: Settings) -> int:
        if not args.source.exists():
            raise InputError(
                f"There is no {args.source.name!r}. Give a folder of images, or a zip."
            )
        with open_inputs([args.source], recursive=not args.no_recursive) as inputs:
            return _run(args, settings, inputs)

    interrupted = "Ended at once. Start again to go on; what was saved is safe."
    return command.run(flags, work, interrupted)


def _run(args: argparse.Namespace, settings: Settings, inputs: Inputs) -> int:
    zipped, source = is_zip(args.source), args.source
    output: Path = args.output or (source if source.is_dir() else source.parent)
    formats = args.formats or [name for name in FORMATS if (name == "zip") == zipped]
    _check_writable(source, zipped, formats)
    names = ("max_new_tokens", "num_beams", "temperature", "top_p", "seed")
    options = GenerationOptions(**{name: getattr(args, name) for name in names})
    cancel, failed, num_kept = CancelToken(), [], 0
    notes: Counter[str] = Counter()
    with ExitStack() as stack:
        make = _on_cluster if args.engine == "ray" else _on_this_machine
        arguments = _Arguments(args, settings, options, inputs, output / LEDGER)
        run = make(arguments, cancel, stack)
        exports = stack.enter_context(
            Exports(output, inputs.items, formats, f"{source.stem}-captions", partial_apart=True)
        )
        stack.enter_context(_interruptible(cancel))
        line = _Line()
        for result in run.results():
            exports.add(result)
            if result.error:
                failed.append((result.file, result.error))
            num_kept += result.origin == "existing"
            notes.update(result.notes)
            line.show(run.progress())
        line.show(run.progress(), last=True)
    if num_kept:
        print(
            f"{num_kept:,} kept the caption file beside them; --existing overwrite replaces it",
            file=sys.stderr,
        )
    for note, count in notes.most_common():
        print(f"{count:,} with the note: {note}", file=sys.stderr)
    shared = _shared_names(inputs) if "txt" in formats else []
    _summarise(inputs, failed, exports.unwritten, output, shared)
    if exports.is_partial:
        print(
            "Tables of this run have .partial in their names: some images are missing",
            file=sys.stderr,
        )
    if cancel.is_cancelled:
        return STOPPED
    return WITH_ERRORS if failed or exports.unwritten else DONE


@dataclass(frozen=True)
class _Arguments:
    """Arguments of a run."""

    args: argparse.Namespace
    settings: Settings
    options: GenerationOptions
    inputs: Inputs
    ledger: Path

    @property
    def engine(self) -> EngineOptions:
        return EngineOptions(
            batch_size=self.args.batch_size,
            num_workers=self.args.workers,
            max_pixels=int(self.settings.max_pixels_mp * 1e6),
            existing=self.args.existing,
            separator=self.args.separator,
        )


def _on_this_machine(arguments: _Arguments, cancel: CancelToken, stack: ExitStack) -> BatchRun:
    """Return the run on this machine; its open files go to `stack`."""
    args, items = arguments.args, arguments.inputs.items
    store = PipelineStore(arguments.settings)
    start_trimming(store)
    captioner = _captioner(store, args.model, args.prompt, arguments.options)
    ledger = stack.enter_context(Ledger(arguments.ledger, captioner.settings))
    return BatchRun(items, captioner.caption_batch, ledger, arguments.engine, cancel=cancel)


def _on_cluster(arguments: _Arguments, cancel: CancelToken, stack: ExitStack) -> "ClusterRun":
    """Return the run on the machines of a Ray cluster; its open files go to `stack`.

    Raises:
        InputError: Ray is missing, there is no such cluster, or the pictures are in a zip.
    """
    from pipelines.batch import ray_run as cluster
    from pipelines.batch.ray_worker import ClusterWork

    cluster.check_installed()
    args, settings = arguments.args, arguments.settings
    if is_zip(args.source):
        raise InputError("--engine ray reads a folder that every machine sees, no zip: unpack it.")
    spec = command.choose_model(PipelineStore(settings), args.model, TASK)
    nodes = stack.enter_context(cluster.cluster(args.ray_address))
    work = ClusterWork(settings, spec, args.prompt, arguments.options)
    work = cluster.with_precision(work, nodes)
    ledger = stack.enter_context(Ledger(arguments.ledger, work.caption_settings()))
    return cluster.ClusterRun(arguments.inputs.items, work, ledger, nodes, arguments.engine, cancel)


def _check_writable(source: Path, zipped: bool, formats: Sequence[str]) -> None:
    """Check that caption files can be written beside the images.

    Raises:
        InputError: the images' folder takes no files.
    """
    folder = source if source.is_dir() else source.parent
    if "txt" in formats and not zipped and not os.access(folder, os.W_OK):
        raise InputError(
            f"The folder {folder.name!r} is read-only, so no caption file can lie beside an "
            "image. Start again with --formats jsonl,csv and an --output elsewhere."
        )


@contextmanager
def _interruptible(cancel: CancelToken) -> Iterator[None]:
    """End the run after the current batch on Ctrl-C, at once on a second one."""

    def stop(number: int, frame: object) -> None:
        print("\nEnding after this batch; once more ends at once.", file=sys.stderr)
        signal.signal(signal.SIGINT, before)
        cancel.cancel()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Line:
    """Progress line: rewritten in place on a terminal, a new one at intervals in a log."""

    def __init__(self) -> None:
        self._inplace = sys.stderr.isatty()
        self._next = 0.0

    def show(self, progress: RunProgress, *, last: bool = False) -> None:
        now = time.monotonic()
        if now < self._next and not last:
            return
        self._next = now + (_TERMINAL_S if self._inplace else _LOG_S)
        text = describe(progress)
        end = "" if self._inplace and not last else "\n"
        text = command.in_place(text) if self._inplace else text
        print(text, end=end, file=sys.stderr, flush=True)


def describe(progress: RunProgress) -> str:
    """Return a progress line."""
    parts = [f"{progress.done:,} of {progress.total:,}"]
    if progress.errors:
        parts.append(f"{progress.errors:,} with an error")
    if progress.rate_per_s is not None:
        parts.append(f"{progress.rate_per_s:.1f} a second")
    if progress.time_left_s is not None and progress.state != "done":
        minutes, seconds = divmod(round(progress.time_left_s), 60)
        hours, minutes = divmod(minutes, 60)
        parts.append(f"{hours}:{minutes:02}:{seconds:02} left")
    if progress.state != "running":
        parts.append(progress.state)
    if progress.recent:
        parts.append(": ".join(progress.recent[-1]))
    return " | ".join(" ".join(part.split()) for part in parts)


def _shared_names(inputs: Inputs) -> list[tuple[str, str]]:
    """Return the images whose caption file no trainer reads, with its name."""
    return [
        (item.name, item.source.caption_path.name)
        for item in inputs.items
        if isinstance(item.source, FileSource)
        and item.source.shares_name
        and item.source.caption_path.exists()
    ]


def _summarise(
    inputs: Inputs,
    failed: Sequence[tuple[str, str]],
    unwritten: Sequence[tuple[str, str]],
    output: Path,
    shared: Sequence[tuple[str, str]],
) -> None:
    lines = []
    if failed:
        lines = [f"{len(failed):,} without a caption:"]
        lines += command.named(failed, "; all are in the results")
    if unwritten:
        what = "whose caption file could not be written; the tables have it"
        lines += [f"{len(unwritten):,} {what}:", *command.named(unwritten)]
    if shared:
        what = "have the name of another image but for the ending; trainers read one .txt for both"
        lines += [f"{len(shared):,} {what}:", *command.named(shared)]
        lines.append("Rename one of them, or write the caption that you choose to that .txt.")
    if inputs.skipped:
        first = inputs.skipped[0]
        lines.append(f"{len(inputs.skipped):,} left out, such as {first.name}: {first.reason}")
    print("\n".join([*lines, f"The results are in {output}"]), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
