"""What a person should know about a text that a model wrote. Torch-free."""

import re
from collections.abc import Sequence

from pipelines.core.results import Finish

#: Language code -> its letters, its name.
_SCRIPTS = {
    "ja": (re.compile("[\u3040-\u30ff]"), "Japanese"),
    "ko": (re.compile("[\uac00-\ud7af]"), "Korean"),
    "zh": (re.compile("[\u3400-\u4dbf\u4e00-\u9fff]"), "Chinese"),
    "ru": (re.compile("[\u0400-\u04ff]"), "Cyrillic"),
}


def script_notes(written: str, languages: Sequence[str]) -> list[str]:
    """Return a note where a person wrote in a language that the model was not trained on."""
    for code, (letters, name) in _SCRIPTS.items():
        if code not in languages and letters.search(written):
            return [
                f"Your text looks {name}, which this model was not trained on: do not trust the "
                "answer, or write in English."
            ]
    return []


def finish_notes(finish: Finish) -> list[str]:
    """Return a note where a text did not end by itself."""
    if finish == "length":
        return ["The text stopped at the longest length that was asked for (max_new_tokens)."]
    if finish == "loop":
        return ["The model began to repeat itself; the repetition was cut off."]
    return []


def cut_note(read_chars: int, given_chars: int) -> str:
    """Return the note that only the beginning of a text was read."""
    return (
        f"Your text is longer than the model reads: only its first {read_chars} of "
        f"{given_chars} characters were used."
    )


def dropped_note(num_turns: int) -> str:
    """Return the note that the oldest turns of a conversation did not count."""
    turns = "turn" if num_turns == 1 else f"{num_turns} turns"
    return (
        f"The conversation is longer than the model reads: its oldest {turns} "
        "did not count for this answer."
    )
