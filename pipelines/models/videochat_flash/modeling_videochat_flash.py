"""The whole model: visual encoder and language model."""

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from pipelines.core.cancel import NEVER, CancelToken
from pipelines.core.errors import InputError
from pipelines.models.videochat_flash.configuration_videochat_flash import (
    Dropping,
    VideoChatFlashConfig,
)
from pipelines.models.videochat_flash.generation import Decoding, generate
from pipelines.models.videochat_flash.kv_cache import KeyValues
from pipelines.models.videochat_flash.modeling_language import VideoPrompt
from pipelines.models.videochat_flash.modeling_vision import VisualEncoder


class VideoChatFlashModel(nn.Module):
    """VideoChat-Flash with random weights: `visual` from frames to embeddings, stock `language`."""

    def __init__(self, config: VideoChatFlashConfig) -> None:
        super().__init__()
        self.config = config
        self.visual = VisualEncoder(config)
        self.language: Any = Qwen2ForCausalLM(text_config(config))
        self.eval()

    def answer(
        self,
        prompt: VideoPrompt,
        decoding: Decoding,
        *,
        cache: KeyValues | None = None,
        dropping: Dropping | None = None,
        cancel: CancelToken = NEVER,
    ) -> Generator[int, None, None]:
        """Yield the token ids of an answer; see `generate`. The checkpoint's stop tokens end it.

        Raises:
            InputError: the prompt is longer than the model takes.
        """
        if len(prompt) > self.config.max_tokens:
            raise InputError(
                "Video and conversation must be {limit} tokens at most, but are {count}. Use "
                "fewer frames or begin a new conversation.",
                limit=self.config.max_tokens,
                count=len(prompt),
            )
        stop_ids = (*decoding.stop_ids, *self.config.generation.stop_ids)
        return generate(
            self.language,
            prompt,
            replace(decoding, stop_ids=stop_ids),
            cache=cache,
            dropping=dropping,
            cancel=cancel,
        )


def text_config(config: VideoChatFlashConfig) -> Any:
    """Return the `Qwen2Config` of the language model, with SDPA attention."""
    return Qwen2Config(**config.text, attn_implementation="sdpa")
