"""How a frame becomes the square that the model reads."""

from typing import Any, Literal, get_args

from pipelines.core.errors import InputError, shown

#: "squash" gives up the proportions, as the model was trained; "letterbox" keeps all of the frame
#: between bars; "centre-crop" keeps the middle square only.
Fit = Literal["squash", "letterbox", "centre-crop"]


def check_fit(value: Any) -> Fit | None:
    """Return how frames are made square; None, for the model's own way, where `value` is "".

    Raises:
        InputError: it is nothing of the kind.
    """
    if value is None or value == "":
        return None
    for fit in get_args(Fit):
        if value == fit:
            return fit  # type: ignore[no-any-return]
    raise InputError(f"fit must be one of {', '.join(get_args(Fit))} but got {shown(value)}.")
