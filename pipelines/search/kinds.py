"""The two kinds of files of an index, each with the models that read it. Torch-free.

Pictures are read by image-text models. Videos are read by video-text models, in the windows of the
Moments tab: what happens in them counts, which single frames do not tell. The two have spaces of
their own, in which a query is looked for separately.
"""

from dataclasses import dataclass
from pathlib import Path

from pipelines.core.results import FileKind
from pipelines.core.spec import ModelSpec, Task
from pipelines.media.inputs import is_image_name
from pipelines.serving.store import PipelineStore

#: Which models read which files.
TASKS: dict[FileKind, Task] = {"picture": "image-text", "video": "video-text"}

#: Raised when vectors or tables come out otherwise than before, so that old ones are not mixed in.
FORMAT = 1

#: Endings of files that are videos where their first bytes do not tell.
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"}
    | {".wmv", ".flv", ".3gp", ".ogv"}
)

#: First bytes of films: (offset, bytes there).
_FILMS = (
    (0, b"\x1aE\xdf\xa3"),
    (8, b"AVI "),
    (0, b"FLV\x01"),
    (0, b"\x00\x00\x01\xba"),
    (0, b"OggS"),
    (0, b"0&\xb2u\x8ef\xcf\x11"),
)

#: Brands of MP4's family that are pictures.
_STILL = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1")


@dataclass(frozen=True, kw_only=True)
class SearchKind:
    """Pictures or videos, with the model that reads them.

    Attributes:
        kind: which.
        spec: the model.
        space: names the vectors of this model, its weights and their format.
    """

    kind: FileKind
    spec: ModelSpec
    space: str

    @property
    def task(self) -> Task:
        """What the model is for."""
        return self.spec.task


def side_of(store: PipelineStore, kind: FileKind, model: str) -> SearchKind:
    """Return a side; `model` is a key, "" for the default.

    Raises:
        InputError: unknown key.
    """
    spec = store.resolve(model, TASKS[kind])
    weights = store.sources.revision(spec)[:12]
    return SearchKind(kind=kind, spec=spec, space=f"{kind}.{spec.key}.{weights}.{FORMAT}")


def model_of(space: str) -> str:
    """Return the key of the model whose vectors a space holds."""
    return space.split(".", 1)[1].rsplit(".", 2)[0]


def kind_of(path: Path, name: str) -> FileKind:
    """Return what a file is, by its first bytes, or where they do not tell by its name.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(16)
    if head[4:8] == b"ftyp":
        return "picture" if head[8:12] in _STILL else "video"
    if any(head[at : at + len(sign)] == sign for at, sign in _FILMS):
        return "video"
    return "video" if Path(name).suffix.lower() in VIDEO_SUFFIXES else "picture"


def may_be_indexed(name: str) -> bool:
    """Whether a file's name ends as that of a picture or a video does."""
    return is_image_name(name) or Path(name).suffix.lower() in VIDEO_SUFFIXES
