"""The two kinds of files of an index, each with the models that encode it.

Image-text models encode pictures, video-text models encode videos in the windows of the Moments
tab. Their vectors are not comparable, so a query searches each kind separately.
"""

from dataclasses import dataclass
from pathlib import Path

from pipelines.core.results import FileKind
from pipelines.core.spec import ModelSpec, Task
from pipelines.media.inputs import is_image_name
from pipelines.serving.store import PipelineStore

#: Task of the models of each kind.
TASKS: dict[FileKind, Task] = {"picture": "image-text", "video": "video-text"}

#: Raised whenever vectors or tables change, so that old and new ones are not mixed.
FORMAT = 1

#: Endings of videos, for files whose first bytes are not known.
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"}
    | {".wmv", ".flv", ".3gp", ".ogv"}
)

#: First bytes of videos: (offset, bytes there).
_VIDEO_SIGNATURES = (
    (0, b"\x1aE\xdf\xa3"),
    (8, b"AVI "),
    (0, b"FLV\x01"),
    (0, b"\x00\x00\x01\xba"),
    (0, b"OggS"),
    (0, b"0&\xb2u\x8ef\xcf\x11"),
)

#: Brands of the MP4 family that are pictures.
_STILL = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1")


@dataclass(frozen=True, kw_only=True)
class SearchKind:
    """Pictures or videos, with the model that encodes them.

    `space` is the name of the vectors of this model, its weights and their format.
    """

    kind: FileKind
    spec: ModelSpec
    space: str

    @property
    def task(self) -> Task:
        """Task of the model."""
        return self.spec.task


def resolve_kind(store: PipelineStore, kind: FileKind, model: str) -> SearchKind:
    """Return a kind with its model; `model` is a key, "" for the default.

    Raises `InputError` for an unknown key.
    """
    spec = store.resolve(model, TASKS[kind])
    weights = store.revision(spec)[:12]
    return SearchKind(kind=kind, spec=spec, space=f"{kind}.{spec.key}.{weights}.{FORMAT}")


def model_of(space: str) -> str:
    """Return the key of the model of a space."""
    return space.split(".", 1)[1].rsplit(".", 2)[0]


def kind_of(path: Path, name: str) -> FileKind:
    """Return the kind of a file, by its first bytes or else by the ending of its name.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(16)
    if head[4:8] == b"ftyp":
        return "picture" if head[8:12] in _STILL else "video"
    if any(head[at : at + len(sign)] == sign for at, sign in _VIDEO_SIGNATURES):
        return "video"
    return "video" if Path(name).suffix.lower() in VIDEO_SUFFIXES else "picture"


def may_be_indexed(name: str) -> bool:
    """Return whether a name ends like that of a picture or a video."""
    return is_image_name(name) or Path(name).suffix.lower() in VIDEO_SUFFIXES
