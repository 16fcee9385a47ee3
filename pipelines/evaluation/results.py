"""Results of an evaluation: frozen, of plain Python values."""

from dataclasses import dataclass
from math import sqrt

from pipelines.models.linear_probe import NUM_GUESSES, Guess

#: Quantile of the normal distribution for intervals of 95 %.
Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Accuracy:
    """How many of a number of pictures were recognised.

    Attributes:
        correct: pictures whose class was found, 0..total.
        total: pictures, at least 1.
    """

    correct: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.correct <= self.total or not self.total:
            raise ValueError(f"correct must be within 0..total > 0 but got {self}")

    @property
    def share(self) -> float:
        """The accuracy, 0..1."""
        return self.correct / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval at 95 %, within 0..1.

        Source: Wilson 1927, "Probable inference, the law of succession, and statistical
        inference"; unlike the normal approximation it is right for few pictures and for
        accuracies near 0 and 1.
        """
        share, total, square = self.share, self.total, Z_95**2
        centre = share + square / (2 * total)
        half = Z_95 * sqrt(share * (1 - share) / total + square / (4 * total**2))
        scale = 1 + square / total
        low = 0.0 if not self.correct else max(0.0, (centre - half) / scale)
        high = 1.0 if self.correct == total else min(1.0, (centre + half) / scale)
        return low, high


@dataclass(frozen=True)
class Prediction:
    """What one picture was taken for.

    Attributes:
        file: name of the picture in the archive.
        label: class that it belongs to.
        predicted: class that it was taken for.
        probability: of that class, 0..1.
    """

    file: str
    label: str
    predicted: str
    probability: float

    @property
    def correct(self) -> bool:
        """Whether it was taken for what it is."""
        return self.label == self.predicted


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How well classes were told apart.

    Attributes:
        labels: the L classes.
        top1: how often the likeliest class is the right one.
        top5: how often the right one is among the likeliest five; None where there are no more
            than five classes.
        classes: accuracy of each class, None where it has no picture here.
        confusion: L rows (the true class) of L counts (what it was taken for).
        predictions: one for each picture, in order.
    """

    labels: tuple[str, ...]
    top1: Accuracy
    top5: Accuracy | None
    classes: tuple[Accuracy | None, ...]
    confusion: tuple[tuple[int, ...], ...]
    predictions: tuple[Prediction, ...]

    @property
    def mistakes(self) -> list[Prediction]:
        """The pictures that were taken for another class, the surest mistake first."""
        wrong = [one for one in self.predictions if not one.correct]
        return sorted(wrong, key=lambda one: -one.probability)

    def taken_for(self, index: int) -> tuple[str, int]:
        """Return what a class is most often mistaken for and how often; ("", 0) if it is not."""
        row = [0 if i == index else count for i, count in enumerate(self.confusion[index])]
        most = max(row)
        return (self.labels[row.index(most)], most) if most else ("", 0)


def measure(
    labels: tuple[str, ...], files: list[str], true: list[int], guesses: list[Guess]
) -> Measured:
    """Return how well pictures were recognised.

    Args:
        labels: the L classes.
        files: names of N pictures, at least one.
        true: N positions of their classes.
        guesses: N.
    """
    confusion = [[0] * len(labels) for _ in labels]
    for index, guess in zip(true, guesses, strict=True):
        confusion[index][guess.classes[0]] += 1
    among = sum(index in guess.classes for index, guess in zip(true, guesses, strict=True))
    return Measured(
        labels=labels,
        top1=Accuracy(sum(confusion[i][i] for i in range(len(labels))), len(true)),
        top5=Accuracy(among, len(true)) if len(labels) > NUM_GUESSES else None,
        classes=tuple(
            Accuracy(row[i], sum(row)) if sum(row) else None for i, row in enumerate(confusion)
        ),
        confusion=tuple(tuple(row) for row in confusion),
        predictions=tuple(
            Prediction(file, labels[index], labels[guess.classes[0]], guess.probabilities[0])
            for file, index, guess in zip(files, true, guesses, strict=True)
        ),
    )
