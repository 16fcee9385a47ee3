"""Results: frozen, of plain Python values, checked when made. Torch-free."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["match", "unsure", "no match"]
Kind = Literal["text", "image"]

#: Why a text ended: the model ended it, it reached `max_new_tokens`, it began to repeat itself
#: and was cut before that, or it reached a text at which answers end.
Finish = Literal["end", "length", "loop", "stop"]


@dataclass(frozen=True, kw_only=True)
class LabelScore:
    """How well one label fits an image.

    Attributes:
        label: the label as given.
        probability: 0..1; over all labels (softmax) or for this label alone (sigmoid).
        cosine: cosine similarity of the two vectors, -1..1.
        evidence: verdict score, in nats above the soft maximum of the neutral texts.
        verdict: what `evidence` means, whatever other labels were given.
        note: something to know about this label, or "".
    """

    label: str
    probability: float
    cosine: float
    evidence: float
    verdict: Verdict
    note: str = ""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0.0 <= self.probability <= 1.0:
            raise ValueError(f"probability must be within 0..1 but got {self.probability}")
        if not -1.001 <= self.cosine <= 1.001:
            raise ValueError(f"cosine must be within -1..1 but got {self.cosine}")


@dataclass(frozen=True, kw_only=True)
class Classification:
    """An image against labels.

    Attributes:
        scores: best first.
        model: key of the model that answered.
        notes: what a person should know about this answer, one sentence each.
    """

    scores: tuple[LabelScore, ...]
    model: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that there is an answer, and its order."""
        if not self.scores:
            raise ValueError("a classification must hold at least one score but got none")
        values = [score.probability for score in self.scores]
        if values != sorted(values, reverse=True):
            raise ValueError("scores must be ordered best first")


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """One candidate of a ranking.

    Attributes:
        rank: 1 for the best.
        index: position of the candidate among those of its kind, from 0.
        candidate: the text, or the file's name.
        kind: "text" or "image".
        cosine: -1..1, or None where the file could not be read.
        evidence: verdict score.
        verdict: what `evidence` means.
        note: something to know about it, or "".
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
    """Unit vectors.

    Attributes:
        vectors: one tuple of `dim` floats for each input, in order, of length 1; None where the
            input could not be read.
        names: what each vector belongs to.
        model: key of the model.
        dim: length of a vector.
        errors: (name, reason) of each input that could not be read.
        notes: what a person should know.
    """

    vectors: tuple[tuple[float, ...] | None, ...]
    names: tuple[str, ...]
    model: str
    dim: int
    errors: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the shape."""
        if len(self.vectors) != len(self.names):
            raise ValueError(f"{len(self.vectors)} vectors for {len(self.names)} names")
        if any(vector is not None and len(vector) != self.dim for vector in self.vectors):
            raise ValueError(f"every vector must have {self.dim} values")


@dataclass(frozen=True, kw_only=True)
class SimilarityMatrix:
    """N rows against M columns.

    Attributes:
        row_names: N names.
        column_names: M names.
        cosines: N tuples of M values, -1..1.
        verdicts: N tuples of M verdicts.
        model: key of the model.
        notes: what a person should know.
    """

    row_names: tuple[str, ...]
    column_names: tuple[str, ...]
    cosines: tuple[tuple[float, ...], ...]
    verdicts: tuple[tuple[Verdict, ...], ...]
    model: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Relevance:
    """Where in a picture a model finds a text.

    Attributes:
        label: the text.
        grid: rows of relevance of the model's patches, 0..1, 1 for the most relevant.
        box: part of the picture that the model sees: left, top, right, bottom, as shares 0..1.
    """

    label: str
    grid: tuple[tuple[float, ...], ...]
    box: tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Step:
    """How far a long request is.

    Attributes:
        done: of `total`.
        total: how many there are.
        unit: what is counted, in the plural.
    """

    done: int
    total: int
    unit: str


@dataclass(frozen=True, kw_only=True)
class ContextUse:
    """How much of what was given the model could read.

    Attributes:
        used_tokens: tokens that the model read: of the image, the turns and the prompt.
        limit_tokens: most tokens that it could have read beside the answer asked for; 0 where
            its server does not tell.
        dropped_turns: turns (a question with its answer) left out, the oldest ones.
        read_chars: characters of the prompt or question that were read.
        given_chars: characters of it that were given.
    """

    used_tokens: int
    limit_tokens: int
    dropped_turns: int = 0
    read_chars: int = 0
    given_chars: int = 0

    def __post_init__(self) -> None:
        """Check that no more was read than there is room for, or than was given."""
        if self.limit_tokens and self.used_tokens > self.limit_tokens:
            raise ValueError(f"{self.used_tokens} tokens used of {self.limit_tokens}")
        if self.read_chars > self.given_chars:
            raise ValueError(f"{self.read_chars} characters read of {self.given_chars}")

    @property
    def cut(self) -> bool:
        """Whether the prompt or question was longer than the model reads."""
        return self.read_chars < self.given_chars


FileKind = Literal["picture", "video"]


@dataclass(frozen=True)
class DeviceSpeed:
    """How fast the device is, measured.

    Attributes:
        flops: operations per second in a product of matrices, two for each multiplication.
        read_bytes: bytes of weights per second that one row passes, as each written word does.
        dtype: what it was measured in.
    """

    flops: float
    read_bytes: float
    dtype: str
