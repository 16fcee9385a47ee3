"""Notes on an answer for the person who asked."""

from collections.abc import Iterable, Sequence

import regex

from pipelines.core.messages import Message, joined
from pipelines.core.results import ContextUse, Finish
from pipelines.core.spec import Task
from pipelines.models.catalogue import MODELS

#: Language code -> its script and name; Japanese first, since it also uses Han characters.
_SCRIPTS = {
    "ja": (regex.compile(r"[\p{Hiragana}\p{Katakana}]"), "Japanese"),
    "ko": (regex.compile(r"\p{Hangul}"), "Korean"),
    "zh": (regex.compile(r"\p{Han}"), "Chinese"),
    "ru": (regex.compile(r"\p{Cyrillic}"), "Cyrillic"),
}
_LATIN = regex.compile(r"\p{Latin}{2,}")

#: Error for a video without a readable frame.
VIDEO_LOST = (
    "Not one of the frames that the model would look at can be read: the video is damaged. "
    "Save it again, or choose another video."
)

#: The same for a part of a video.
PART_LOST = (
    "Not one of the frames that the model would look at can be read: the video is damaged there. "
    "Choose another part, or save the video again."
)


def language_notes(texts: Iterable[str], languages: tuple[str, ...], task: Task) -> list[str]:
    """Return a note if texts are in a language that the model was not trained on.

    They are answered all the same; the note names a model of `task` that reads the language.
    """
    text = "\n".join(texts)[:20_000]
    if found := _foreign_script(text, languages):
        return [_hint(*found, languages, task)]
    if "en" not in languages and _LATIN.search(text):
        return [_hint("en", "English", languages, task)]
    return []


def script_notes(text: str, languages: Sequence[str]) -> list[str]:
    """Return a note if a question is in a language that the model was not trained on."""
    if not (found := _foreign_script(text, languages)):
        return []
    return [
        Message(
            "Your text looks {script}, which this model was not trained on: do not "
            "trust the answer, or write in English.",
            script=Message(found[1]),
        )
    ]


def _foreign_script(text: str, languages: Sequence[str]) -> tuple[str, str] | None:
    """Return code and name of the first language whose script a text has and a model lacks."""
    for code, (script, name) in _SCRIPTS.items():
        if code not in languages and script.search(text):
            return code, name
    return None


def _hint(code: str, name: str, languages: tuple[str, ...], task: Task) -> str:
    found = [
        (spec.contrastive.languages.index(code), spec)
        for spec in MODELS
        if spec.contrastive is not None and not spec.demo and code in spec.contrastive.languages
    ]
    # a model made for the language comes before one that reads it among others
    able = [spec for _, spec in sorted(found, key=lambda pair: pair[0]) if spec.task == task]
    reads = "English" if languages[:1] == ("en",) else "other languages"
    if not able:
        return Message(
            "Your text looks {script}; this model reads {languages}, so do not trust the scores.",
            script=Message(name),
            languages=Message(reads),
        )
    named = joined([f"{spec.key} ({spec.title})" for spec in able[:2]], "{first} or {rest}")
    return Message(
        "Your text looks {script}, which this model was not trained on: do not trust "
        "these scores. Choose the model {models}.",
        script=Message(name),
        models=named,
    )


def lost_frames_notes(num_lost: int, num_frames: int) -> list[str]:
    """Return a note if frames could not be read."""
    if not num_lost:
        return []
    return [
        Message(
            "{lost} of {count} frames could not be read because the video is damaged there; "
            "their neighbours are used.",
            lost=num_lost,
            count=num_frames,
        )
    ]


def repeated_notes(repeated: Iterable[str]) -> list[str]:
    """Return a note on texts that were given more than once and count once."""
    names = list(repeated)
    if not names:
        return []
    shown = ", ".join(f"“{name[:40]}”" for name in names[:3])
    more = Message(" and {count} more", count=len(names) - 3) if len(names) > 3 else ""
    return [
        Message("Given more than once and counted once: {names}{more}.", names=shown, more=more)
    ]


def answer_notes(context: ContextUse, finish: Finish, between: Iterable[str] = ()) -> list[str]:
    """Return notes on a text that was cut, on dropped turns, `between`, and on the answer's end."""
    notes: list[str] = []
    if context.cut:
        notes.append(
            Message(
                "Your text is longer than the model reads: only its first {read} of {given} "
                "characters were used.",
                read=context.read_chars,
                given=context.given_chars,
            )
        )
    if dropped := context.dropped_turns:
        turns = Message("turn") if dropped == 1 else Message("{count} turns", count=dropped)
        notes.append(
            Message(
                "The conversation is longer than the model reads: its oldest {turns} did not "
                "count for this answer.",
                turns=turns,
            )
        )
    notes += between
    if finish == "length":
        notes.append("The text stopped at the longest length that was asked for (max_new_tokens).")
    if finish == "loop":
        notes.append("The model began to repeat itself; the repetition was cut off.")
    return notes
