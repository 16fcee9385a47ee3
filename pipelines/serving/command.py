"""What the commands share: arguments, exit status, and lines for people."""

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence

from pipelines.core.errors import InputError, PipelineError
from pipelines.core.settings import Settings, read_settings
from pipelines.core.spec import ModelSpec, Task
from pipelines.media import isolation
from pipelines.models.catalogue import CATALOGUE
from pipelines.serving.store import PipelineStore

#: Exit status: all done, some files with an error, interrupted, not possible.
DONE, WITH_ERRORS, STOPPED, FAILED = 0, 1, 130, 2

#: Files with an error that are named.
_NUM_NAMED = 10


def parse(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None
) -> tuple[argparse.Namespace, list[str]]:
    """Return a command's own arguments, and the flags of the app; exit on any other argument."""
    args, rest = parser.parse_known_args(argv)
    if loose := [text for text in rest if not (text.startswith("--") and "=" in text)]:
        # `--models-dir x photos` would take x for the folder
        parser.error(f"unknown argument {loose[0]}; flags of the app are written --flag=value")
    return args, rest


def run(flags: Sequence[str], work: Callable[[Settings], int], interrupted: str) -> int:
    """Do the work of a command, in decoder processes if its flags ask for them; return its status.

    `interrupted` is printed on Ctrl-C.
    """
    settings = read_settings(flags, taken=CATALOGUE)
    if settings.decoders == "apart":
        isolation.enable()
    try:
        return work(settings)
    except PipelineError as error:
        print(f"\n{error.title}: {error.message}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"\n{interrupted}", file=sys.stderr)
        return STOPPED
    finally:
        isolation.disable()


def choose_model(store: PipelineStore, key: str, task: Task) -> ModelSpec:
    """Return the model of a command, after printing its name.

    Raises:
        InputError: an unknown key; or it would be a demo model, and neither the key nor
            `--models=bundled` asks for one.
    """
    spec = store.resolve(key, task)
    if spec.demo and not key and store.settings.models != "bundled":
        raise InputError(
            f"Without a model on disk and without the hub, only {spec.key} is left, which knows "
            "nothing but drawn shapes. Name a model with --model, fetch one while the hub can be "
            "reached, or give --models-dir=FOLDER; --models=bundled takes the demo model."
        )
    print(f"Model: {spec.key}", file=sys.stderr)
    return spec


def hide_progress_of_libraries() -> None:
    """Keep transformers from drawing progress: the commands draw their own."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()


def in_place(text: str) -> str:
    """Return a text that takes the place of the last line of the terminal."""
    columns = shutil.get_terminal_size().columns - 1
    return f"\r{text[:columns]:<{columns}}"


def named(files: Sequence[tuple[str, str]], rest: str = "") -> list[str]:
    """Return lines that name the first of some (file, reason), and count the others."""
    lines = [f"  {name}: {reason}" for name, reason in files[:_NUM_NAMED]]
    if len(files) > _NUM_NAMED:
        lines.append(f"  and {len(files) - _NUM_NAMED:,} more{rest}")
    return lines
