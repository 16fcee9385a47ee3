"""What a person should know about a text. Torch-free."""

import re

from pipelines.describe.prompts import Prompt
from pipelines.describe.results import Finish
from pipelines.describe.traits import GenerativeTraits

#: Language code -> its letters, its name.
_SCRIPTS = {
    "ja": (re.compile("[\u3040-\u30ff]"), "Japanese"),
    "ko": (re.compile("[\uac00-\ud7af]"), "Korean"),
    "zh": (re.compile("[\u3400-\u4dbf\u4e00-\u9fff]"), "Chinese"),
    "ru": (re.compile("[\u0400-\u04ff]"), "Cyrillic"),
}


def notes_on(prompt: Prompt, finish: Finish, traits: GenerativeTraits) -> tuple[str, ...]:
    """Return one sentence for each thing that a person may not expect."""
    context, notes = prompt.context, []
    if context.cut:
        notes.append(
            f"Your text is longer than the model reads: only its first {context.read_chars} of "
            f"{context.given_chars} characters were used."
        )
    if context.dropped_turns:
        turns = "turn" if context.dropped_turns == 1 else f"{context.dropped_turns} turns"
        notes.append(
            f"The conversation is longer than the model reads: its oldest {turns} "
            "did not count for this answer."
        )
    for code, (letters, name) in _SCRIPTS.items():
        if code not in traits.languages and letters.search(prompt.written):
            notes.append(
                f"Your text looks {name}, which this model was not trained on: do not trust the "
                "answer, or write in English."
            )
            break
    if finish == "length":
        notes.append("The text stopped at the longest length that was asked for (max_new_tokens).")
    if finish == "loop":
        notes.append("The model began to repeat itself; the repetition was cut off.")
    return tuple(notes)
