"""Results: frozen dataclasses of plain Python values, checked on creation."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["match", "unsure", "no match"]
Kind = Literal["text", "image"]

#: Reason why generation ended: end token, `max_new_tokens`, repetition (cut off), stop text.
Finish = Literal["end", "length", "loop", "stop"]


@dataclass(frozen=True, kw_only=True)
class LabelScore:
    """Score of one label, as given, for an image, and a note on the label or "".

    Attributes:
        probability: 0..1; over all labels (softmax) or for this label alone (sigmoid).
        cosine: cosine similarity of the two vectors, -1..1.
        evidence: verdict score, in nats above the soft maximum of the neutral texts.
        verdict: class of `evidence`; independent of the other labels.
    """

    label: str
    probability: float
    cosine: float
    evidence: float
    verdict: Verdict
    note: str = ""

    def __post_init__(self) -> None:
        if not 0.0 <= self.probability <= 1.0:
            raise ValueError(f"probability must be within 0..1 but got {self.probability}")
        if not -1.001 <= self.cosine <= 1.001:
            raise ValueError(f"cosine must be within -1..1 but got {self.cosine}")


@dataclass(frozen=True, kw_only=True)
class Classification:
    """Scores of an image for one or more labels, best first, by the model with this key."""

    scores: tuple[LabelScore, ...]
    model: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.scores:
            raise ValueError("a classification must hold at least one score but got none")
        values = [score.probability for score in self.scores]
        if values != sorted(values, reverse=True):
            raise ValueError("scores must be ordered best first")


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """One candidate, a text or a file name, of a ranking; other fields are as in `LabelScore`.

    `rank` is 1 for the best, `index` the position among the candidates of its kind, from 0;
    `cosine` is None if the file could not be read.
    """

    rank: int
    index: int
    candidate: str
    kind: Kind
    cosine: float | None
    evidence: float
    verdict: Verdict
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Candidates ordered by similarity to one query."""

    rows: tuple[Ranked, ...]
    model: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Unit vectors of inputs.

    `vectors` has for each input `dim` floats of norm 1, or None if it could not be read; `errors`
    has the name and the reason of each of those.
    """

    vectors: tuple[tuple[float, ...] | None, ...]
    names: tuple[str, ...]
    model: str
    dim: int
    errors: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.vectors) != len(self.names):
            raise ValueError(f"{len(self.vectors)} vectors for {len(self.names)} names")
        if any(vector is not None and len(vector) != self.dim for vector in self.vectors):
            raise ValueError(f"every vector must have {self.dim} values")


@dataclass(frozen=True, kw_only=True)
class SimilarityMatrix:
    """Similarity of N rows and M columns: N tuples of M cosines, -1..1, and of M verdicts."""

    row_names: tuple[str, ...]
    column_names: tuple[str, ...]
    cosines: tuple[tuple[float, ...], ...]
    verdicts: tuple[tuple[Verdict, ...], ...]
    model: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Relevance:
    """Relevance of the parts of an image for a text.

    Attributes:
        label: the text.
        grid: rows of relevance of the model's patches, 0..1.
        box: visible part of the image: left, top, right, bottom, as fractions 0..1.
    """

    label: str
    grid: tuple[tuple[float, ...], ...]
    box: tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Step:
    """Progress of a long request; `unit` names the counted items, in the plural."""

    done: int
    total: int
    unit: str


@dataclass(frozen=True, kw_only=True)
class ContextUse:
    """Use of a model's context window.

    Attributes:
        used_tokens: tokens of the image, the turns and the prompt.
        limit_tokens: maximum of `used_tokens` beside the requested answer; 0 if unknown.
        dropped_turns: number of the oldest turns (question and answer) that are left out.
        read_chars: characters of the prompt or question that were read, of `given_chars`.
    """

    used_tokens: int
    limit_tokens: int
    dropped_turns: int = 0
    read_chars: int = 0
    given_chars: int = 0

    def __post_init__(self) -> None:
        if self.limit_tokens and self.used_tokens > self.limit_tokens:
            raise ValueError(f"{self.used_tokens} tokens used of {self.limit_tokens}")
        if self.read_chars > self.given_chars:
            raise ValueError(f"{self.read_chars} characters read of {self.given_chars}")

    @property
    def cut(self) -> bool:
        """Return whether the prompt or question was longer than the model reads."""
        return self.read_chars < self.given_chars


FileKind = Literal["picture", "video"]


@dataclass(frozen=True)
class DeviceSpeed:
    """Measured speed of a device in `dtype`.

    `flops` are operations per second of a matrix product, a multiply-add is two; `read_bytes` are
    bytes of weights per second for one row, as in a decoding step.
    """

    flops: float
    read_bytes: float
    dtype: str
