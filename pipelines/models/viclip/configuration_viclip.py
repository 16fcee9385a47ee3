"""Dimensions of a ViCLIP model."""

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class ViClipConfig(PreTrainedConfig):  # type: ignore[misc]
    """Dimensions of both towers; the defaults are those of ViCLIP-L/14.

    `image_size` and `patch_size`, which divides it, are in pixels. Widths are multiples of heads.
    `context_length` is the most tokens of a text, including start and end tokens; `embed_dim` the
    size of the output vectors; `mlp_ratio` the size of a block's hidden layer, in widths of its
    tower; `initializer_range` the standard deviation of fresh weights.

    Raises:
        StrictDataclassError: a value is of another type, or dimensions do not divide.
    """

    model_type = "viclip"

    image_size: int = 224
    patch_size: int = 14
    num_frames: int = 8
    vision_width: int = 1024
    vision_layers: int = 24
    vision_heads: int = 16
    text_width: int = 768
    text_layers: int = 12
    text_heads: int = 12
    context_length: int = 32
    vocab_size: int = 49408
    embed_dim: int = 768
    mlp_ratio: int = 4
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02

    def validate_architecture(self) -> None:
        """Check that heads divide widths and patches divide frames."""
        for whole, part in (
            ("vision_width", "vision_heads"),
            ("text_width", "text_heads"),
            ("image_size", "patch_size"),
        ):
            if getattr(self, part) < 1 or getattr(self, whole) % getattr(self, part):
                raise ValueError(
                    f"{whole} must be a multiple of {part} but got "
                    f"{getattr(self, whole)} and {getattr(self, part)}"
                )
