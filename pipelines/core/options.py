"""How text is generated. Torch-free."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from pipelines.core.errors import InputError, shown

MAX_NEW_TOKENS = 2048
MAX_BEAMS = 16
MAX_TEMPERATURE = 5.0
#: Below it, logits divided by the temperature overflow; it draws the likeliest text, as 0 does.
MIN_TEMPERATURE = 1e-4
MAX_SEED = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """How text is generated; checked when made.

    Attributes:
        max_new_tokens: most tokens of the text, 1..2048.
        num_beams: 1 takes the likeliest next token each time, 2..16 searches that many texts at
            once; a searched text streams as one piece.
        temperature: 0.0 is greedy and always the same, and so is less than 1e-4; up to
            5.0 draws at random.
        top_p: draws only from the likeliest tokens that have this share of the probability
            together, above 0 up to 1; no effect at temperature 0.
        seed: of the random draws, 0..2**32 - 1.

    Raises:
        InputError: a value is not within its range, or beams and temperature are both asked for.
    """

    max_new_tokens: int = 40
    num_beams: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every value; whole numbers may come as floats."""
        for name, low, high in (
            ("max_new_tokens", 1, MAX_NEW_TOKENS),
            ("num_beams", 1, MAX_BEAMS),
            ("seed", 0, MAX_SEED),
        ):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), low, high))
        temperature = number("temperature", self.temperature)
        if not 0.0 <= temperature <= MAX_TEMPERATURE:
            raise InputError(
                "temperature must be from 0 to 5 but got {given}.", given=shown(self.temperature)
            )
        if temperature < MIN_TEMPERATURE:
            temperature = 0.0
        object.__setattr__(self, "temperature", temperature)
        top_p = number("top_p", self.top_p)
        if not 0.0 < top_p <= 1.0:
            raise InputError(
                "top_p must be above 0 and at most 1 but got {given}.", given=shown(self.top_p)
            )
        if self.num_beams > 1 and temperature > 0.0:
            raise InputError(
                "num_beams={beams} searches for the likeliest text and "
                "temperature={temperature} draws at random. Set num_beams to 1 or temperature "
                "to 0.",
                beams=self.num_beams,
                temperature=self.temperature,
            )


def whole_number(name: str, value: object, low: int, high: int) -> int:
    """Return a whole number, which may come as a float.

    Raises:
        InputError: it is none, or not within its range.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or value != value or not low <= value <= high or value != int(value):  # type: ignore[operator,call-overload]
        raise InputError(
            "{name} must be a whole number from {low} to {high} but got {given}.",
            name=name,
            low=low,
            high=high,
            given=shown(value),
        )
    return int(value)  # type: ignore[call-overload, no-any-return]


def number(name: str, value: object) -> float:
    """Return a number.

    Raises:
        InputError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError("{name} must be a number but got {given}.", name=name, given=shown(value))
    try:
        return float(value)
    except OverflowError as error:  # a whole number of hundreds of digits
        raise InputError("{name} must be a number of ordinary size.", name=name) from error


#: "squash" gives up the proportions, as the model was trained; "letterbox" keeps all of the frame
#: between bars; "centre-crop" keeps the middle square only.
SquareFit = Literal["squash", "letterbox", "centre-crop"]


def check_fit(value: Any) -> SquareFit | None:
    """Return how frames are made square; None, for the model's own way, where `value` is "".

    Raises:
        InputError: it is nothing of the kind.
    """
    if value is None or value == "":
        return None
    for fit in get_args(SquareFit):
        if value == fit:
            return fit  # type: ignore[no-any-return]
    raise InputError(
        "fit must be one of {choices} but got {given}.",
        choices=", ".join(get_args(SquareFit)),
        given=shown(value),
    )
