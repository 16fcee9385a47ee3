"""Results of an evaluation: frozen, of plain Python values."""

from dataclasses import dataclass
from math import sqrt

from pipelines.models.linear_probe import NUM_GUESSES, Guess

#: Quantile of the normal distribution for intervals of 95 %.
Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Accuracy:
    """Number of correct images, 0..total, among `total`, at least 1."""

    correct: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.correct <= self.total or not self.total:
            raise ValueError(f"correct must be within 0..total > 0 but got {self}")

    @property
    def share(self) -> float:
        """Accuracy, 0..1."""
        return self.correct / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval at 95 %, within 0..1.

        Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference";
        unlike the normal approximation it is right for few images and for accuracies near 0 and 1.
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
    """Predicted class of one image of an archive, and its probability, 0..1."""

    file: str
    label: str
    predicted: str
    probability: float

    @property
    def correct(self) -> bool:
        """Return whether the prediction is right."""
        return self.label == self.predicted


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Accuracy on labelled images.

    Attributes:
        top1: images whose likeliest class is right.
        top5: images whose class is among the likeliest five; None for up to five classes.
        classes: accuracy of each of the L classes, None if it has no image.
        confusion: L rows (true class) of L counts (predicted class).
        predictions: one for each image, in order.
    """

    labels: tuple[str, ...]
    top1: Accuracy
    top5: Accuracy | None
    classes: tuple[Accuracy | None, ...]
    confusion: tuple[tuple[int, ...], ...]
    predictions: tuple[Prediction, ...]

    @property
    def mistakes(self) -> list[Prediction]:
        """Wrong predictions, the surest first."""
        wrong = [one for one in self.predictions if not one.correct]
        return sorted(wrong, key=lambda one: -one.probability)

    def taken_for(self, index: int) -> tuple[str, int]:
        """Return the most frequent wrong prediction for a class and its count; ("", 0) if none."""
        row = [0 if i == index else count for i, count in enumerate(self.confusion[index])]
        most = max(row)
        return (self.labels[row.index(most)], most) if most else ("", 0)


def measure(
    labels: tuple[str, ...], files: list[str], true: list[int], guesses: list[Guess]
) -> Measured:
    """Return the accuracy of N >= 1 guesses for named images of `true` classes, by position."""
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
