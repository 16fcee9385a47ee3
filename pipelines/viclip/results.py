"""What ViCLIP answers: frozen, of plain Python values. Torch-free."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class VideoTextScores:
    """N videos against M texts.

    Attributes:
        cosines: N tuples of M values, -1..1.
        probabilities: N tuples of M values, 0..1, the softmax of 100 times the cosines; each
            adds up to 1.
        notes: what a person should know, one sentence each.
    """

    cosines: tuple[tuple[float, ...], ...]
    probabilities: tuple[tuple[float, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that both tables are of one shape, and the ranges."""
        shapes = [[len(row) for row in table] for table in (self.cosines, self.probabilities)]
        if shapes[0] != shapes[1] or len(set(shapes[0])) > 1:
            raise ValueError(f"cosines and probabilities must be of one shape but got {shapes}")
        if any(not -1.001 <= value <= 1.001 for row in self.cosines for value in row):
            raise ValueError("every cosine must be within -1..1")
        if any(not 0.0 <= value <= 1.0 for row in self.probabilities for value in row):
            raise ValueError("every probability must be within 0..1")

    def best(self, video: int, count: int = 5) -> tuple[tuple[int, float], ...]:
        """Return up to `count` pairs of a text's index and its probability, best first."""
        row = self.probabilities[video]
        order = sorted(range(len(row)), key=lambda index: -row[index])
        return tuple((index, row[index]) for index in order[: max(count, 0)])
