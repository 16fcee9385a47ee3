"""Options of text generation and of frame preparation."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from pipelines.core.errors import InputError, shown

MAX_NEW_TOKENS = 2048
MAX_BEAMS = 16
MAX_TEMPERATURE = 5.0
#: Below it, logits divided by the temperature overflow; decoding is then greedy, as at 0.
MIN_TEMPERATURE = 1e-4
MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class GenerationOptions:
    """Options of text generation.

    Attributes:
        max_new_tokens: maximum number of generated tokens, 1..2048.
        num_beams: 1 for no beam search, up to 16; with beams, the text streams as one piece.
        temperature: 0.0..5.0; below 1e-4 decoding is greedy.
        top_p: nucleus sampling, 0 < top_p <= 1; no effect at temperature 0.
        seed: seed of sampling, 0..2**32 - 1.

    Raises:
        InputError: a value is out of range, or beams and temperature are combined.
    """

    max_new_tokens: int = 40
    num_beams: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
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
    """Return an integer, which may be given as a float.

    Raises:
        InputError: it is not an integer within `low`..`high`.
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
    """Return a number as a float, or raise `InputError`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError("{name} must be a number but got {given}.", name=name, given=shown(value))
    try:
        return float(value)
    except OverflowError as error:  # a whole number of hundreds of digits
        raise InputError("{name} must be a number of ordinary size.", name=name) from error


#: Resizing of a frame to a square: "squash" changes the aspect ratio, "letterbox" adds bars,
#: "centre-crop" cuts off the ends of the longer side.
SquareFit = Literal["squash", "letterbox", "centre-crop"]


def check_fit(value: Any) -> SquareFit | None:
    """Return a `SquareFit`, or None (the model's default) for "" and None.

    Raises:
        InputError: another value.
    """
    if value is None or value == "":
        return None
    if value in get_args(SquareFit):
        return value  # type: ignore[no-any-return]
    raise InputError(
        "fit must be one of {choices} but got {given}.",
        choices=", ".join(get_args(SquareFit)),
        given=shown(value),
    )
