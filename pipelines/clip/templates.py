"""Prompt templates: how a label becomes the texts that a model reads. Torch-free."""

from pipelines.core.errors import InputError, kind_of

#: The template set that leaves a label as it is.
NONE = ""

#: Sets by language; "ensemble" is averaged in the space of the text vectors.
TEMPLATE_SETS: dict[str, dict[str, tuple[str, ...]]] = {
    "ensemble": {
        "en": (
            "a photo of a {}.",
            "a photo of the {}.",
            "a picture of one {}.",
            "a close-up photo of a {}.",
            "a bright photo of a {}.",
            "a dark photo of a {}.",
            "a blurry photo of a {}.",
            "a cropped photo of a {}.",
            "a drawing of a {}.",
            "a painting of a {}.",
            "a small {} in a picture.",
            "a large {} in a picture.",
        ),
        "zh": (
            "一张{}的照片。",
            "一张清晰的{}的照片。",
            "一张模糊的{}的照片。",
            "一张{}的特写。",
            "一幅{}的画。",
            "一张有{}的图片。",
        ),
    },
    "photo": {"en": ("a photo of a {}.",), "zh": ("一张{}的照片。",)},
}

#: Most characters of a template that a person writes.
MAX_TEMPLATE_CHARS = 300


def resolve_templates(choice: str, languages: tuple[str, ...]) -> tuple[str, ...]:
    """Return the templates that `choice` stands for.

    Args:
        choice: name of a set, one template that holds `{}`, or "" for the label as it is.
        languages: languages of the model; the first for which the set has templates is taken.

    Returns:
        At least one template; each holds `{}` exactly once.

    Raises:
        InputError: neither a known name nor a template.
    """
    if not isinstance(choice, str):
        raise InputError(f"templates must be text but got {kind_of(choice)}.")
    choice = choice.strip()
    if not choice:
        return ("{}",)
    if choice in TEMPLATE_SETS:
        by_language = TEMPLATE_SETS[choice]
        language = next((code for code in languages if code in by_language), "en")
        return by_language[language]
    if choice.count("{}") != 1 or len(choice) > MAX_TEMPLATE_CHARS:
        names = ", ".join(f'"{name}"' for name in TEMPLATE_SETS)
        raise InputError(
            f"templates must be {names}, empty, or one text of at most {MAX_TEMPLATE_CHARS} "
            f"characters that holds {{}} once where the label goes, but got {choice[:60]!r}."
        )
    return (choice,)


def fill(template: str, label: str) -> str:
    """Put `label` into `template`; braces inside the label stay as they are."""
    return template.replace("{}", label)
