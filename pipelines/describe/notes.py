"""What a person should know about a text. Torch-free."""

from pipelines.answer_notes import cut_note, dropped_note, finish_notes, script_notes
from pipelines.core.results import Finish
from pipelines.models.captioning.prompts import Prompt
from pipelines.models.captioning.traits import GenerativeTraits


def notes_on(prompt: Prompt, finish: Finish, traits: GenerativeTraits) -> tuple[str, ...]:
    """Return one sentence for each thing that a person may not expect."""
    context, notes = prompt.context, []
    if context.cut:
        notes.append(cut_note(context.read_chars, context.given_chars))
    if context.dropped_turns:
        notes.append(dropped_note(context.dropped_turns))
    notes += script_notes(prompt.written, traits.languages)
    return (*notes, *finish_notes(finish))
