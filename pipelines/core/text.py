"""Turn what a person typed into a list of texts. Torch-free."""

from pipelines.core.errors import InputError, kind_of

#: Most texts of one request, and most characters of them together.
MAX_TEXTS = 5000
MAX_CHARS = 1_000_000


def split_labels(text: str) -> tuple[list[str], list[str]]:
    """Split labels: one per line, or comma-separated where there is only one line.

    Args:
        text: what was typed; full-width commas count as commas.

    Returns:
        The distinct labels in order, and those that were given more than once.

    Raises:
        InputError: there is none, or there are too many.
    """
    text = _checked(text, "labels")
    one_line = "\n" not in text.strip()
    parts = text.replace("，", ",").split(",") if one_line else text.splitlines()
    return _distinct(parts, "labels", "Write them one per line or separated by commas.")


def split_lines(text: str, name: str, *, distinct: bool = True) -> tuple[list[str], list[str]]:
    """Split texts given one per line; otherwise as `split_labels`.

    With `distinct=False` a text that comes twice stays twice, and nothing counts as repeated.
    """
    text = _checked(text, name)
    lines = text.splitlines()
    kept, repeated = _distinct(lines, name, "Write one per line.")
    if distinct:
        return kept, repeated
    every = [line.strip() for line in lines if line.strip()]
    if len(every) > MAX_TEXTS:
        raise _too_many(name, len(every))
    return every, []


def mend_surrogates(text: str) -> str:
    """Return `text` with lone surrogates, which no encoding can hold, as U+FFFD.

    JSON can carry them ("\ud800"); tokenisers and the answer's own encoding refuse them.
    """
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _checked(text: str, name: str) -> str:
    if not isinstance(text, str):
        raise InputError(f"{name} must be text but got {kind_of(text)}.")
    if len(text) > MAX_CHARS:
        raise InputError(
            f"{name} must be at most {MAX_CHARS:,} characters in all but got {len(text):,}. "
            "Send fewer at once."
        )
    return mend_surrogates(text)


def _distinct(parts: list[str], name: str, hint: str) -> tuple[list[str], list[str]]:
    kept: dict[str, int] = {}
    for part in parts:
        stripped = part.strip()
        if stripped:
            kept[stripped] = kept.get(stripped, 0) + 1
    if not kept:
        raise InputError(f"{name} must hold at least one text but is empty. {hint}")
    if len(kept) > MAX_TEXTS:
        raise _too_many(name, len(kept))
    return list(kept), [label for label, times in kept.items() if times > 1]


def _too_many(name: str, count: int) -> InputError:
    return InputError(
        f"{name} must be at most {MAX_TEXTS:,} texts but got {count:,}. "
        "Split them over several requests."
    )
