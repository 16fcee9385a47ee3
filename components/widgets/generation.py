"""Settings of text generation: the same accordion in every tab that generates."""

from typing import Any

import gradio as gr

from components.server.translate import say
from components.widgets.queues import PAGE_EVENT
from pipelines.core.options import GenerationOptions
from pipelines.models.catalogue import CATALOGUE

#: Largest length that can be chosen, whatever the model.
LONGEST = 512


class GenerationControls:
    """Accordion of the settings; their values are the generation parameters of the endpoints.

    Args:
        max_new_tokens: length that it starts with, in tokens.
        longest: largest length that can be chosen.
        beams: whether the model searches with beams.
    """

    def __init__(self, max_new_tokens: int, *, longest: int = LONGEST, beams: bool = True) -> None:
        with gr.Accordion("Generation settings", open=False):
            self.max_new_tokens = gr.Slider(
                1,
                longest,
                max_new_tokens,
                step=1,
                label="Longest answer",
                info="In tokens; a token is a word or a part of one.",
            )
            self.num_beams = (
                gr.Slider(
                    1,
                    8,
                    1,
                    step=1,
                    label="Beams",
                    info="More beams search for a likelier text, take longer, and show it all at "
                    "once.",
                )
                if beams
                else None
            )
            self.temperature = gr.Slider(
                0.0,
                2.0,
                0.0,
                step=0.1,
                label="Temperature",
                info="0 always gives the same, likeliest text; higher is more varied.",
            )
            self.top_p = gr.Slider(
                0.05,
                1.0,
                1.0,
                step=0.05,
                label="Top-p",
                info="Below 1, unlikely words are left out. Counts only above temperature 0.",
            )
            self.seed = gr.Number(
                0,
                label="Seed",
                precision=0,
                minimum=0,
                info="The same seed gives the same text. Counts only above temperature 0.",
            )
        every = [self.max_new_tokens, self.num_beams, self.temperature, self.top_p, self.seed]
        self.inputs: list[Any] = [each for each in every if each is not None]

    def options(self, values: dict[Any, Any]) -> GenerationOptions:
        """Return what is set, of a request's values by component.

        Raises:
            InputError: a value is out of its range.
        """
        beams = 1 if self.num_beams is None else values[self.num_beams]
        others = [values[each] for each in (self.temperature, self.top_p, self.seed)]
        return GenerationOptions(values[self.max_new_tokens], beams, *others)


def wire_longest(settings: GenerationControls, model: gr.Dropdown, page: gr.Blocks) -> None:
    """Keep the length within what the chosen caption model writes."""

    def limit(key: str, length: float) -> Any:
        spec = CATALOGUE.get(key)  # None for a remote model
        traits = spec.generative if spec is not None else None
        longest = LONGEST if traits is None else min(LONGEST, traits.longest_answer)
        info = say(
            "In tokens, words or parts of words. This model writes at most {limit}.", limit=longest
        )
        return gr.update(maximum=longest, value=min(length, longest), info=info)

    slider = settings.max_new_tokens
    gr.on([page.load, model.change], limit, [model, slider], slider, **PAGE_EVENT)
