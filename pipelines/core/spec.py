"""Model specification: an entry of the catalogue."""

from dataclasses import dataclass
from typing import Literal

from pipelines.core.options import SquareFit
from pipelines.core.remote import Remote

Task = Literal["image-text", "caption", "video-text", "video-chat"]

#: Preprocessing files in the format of transformers.
StockFile = Literal["image processor", "tokenizer"]


@dataclass(frozen=True, kw_only=True)
class ContrastiveTraits:
    """Traits of an image-text model.

    Attributes:
        probability: "softmax" over the given labels, or "sigmoid" for each label.
        pooling: pooling of the vision tower.
        padding: "longest" if padding never changes a vector, else "max_length".
        max_text_tokens: maximum number of tokens, special tokens included.
        cleaning: text cleaning: "openai" as in the training of CLIP, "lower", or "none".
        languages: supported languages, ISO 639-1 codes.
        neutral_bank: file stem of the neutral texts in `pipelines/models/banks/`.
        neutral_weight: weight of the neutral texts' soft maximum, subtracted from the evidence.
        text_thresholds: evidence of an image and a text: "no match" below the first, "match"
            from the second on, else "unsure".
        pair_of_texts_thresholds: the same for two texts.
        pair_of_images_thresholds: the same for two images.
        calibrated: whether the thresholds were measured on this checkpoint.
    """

    probability: Literal["softmax", "sigmoid"]
    pooling: Literal["class token", "attention head"]
    padding: Literal["longest", "max_length"]
    max_text_tokens: int
    cleaning: Literal["openai", "lower", "none"]
    languages: tuple[str, ...]
    neutral_bank: str
    neutral_weight: float = 1.0
    text_thresholds: tuple[float, float] = (-4.0, -1.5)
    pair_of_texts_thresholds: tuple[float, float] = (-4.0, -1.5)
    pair_of_images_thresholds: tuple[float, float] = (0.3, 0.6)
    calibrated: bool = False


@dataclass(frozen=True, kw_only=True)
class VideoTextTraits:
    """Traits of a video-text model; fields not listed are as in `ContrastiveTraits`.

    Attributes:
        fit: resizing of frames, see `SquareFit`.
    """

    max_text_tokens: int = 32
    languages: tuple[str, ...] = ("en",)
    fit: SquareFit = "squash"
    neutral_bank: str = "everyday"
    neutral_weight: float = 1.0
    text_thresholds: tuple[float, float] = (-4.0, -1.5)
    calibrated: bool = False


@dataclass(frozen=True, kw_only=True)
class VideoChatTraits:
    """Traits of a video-chat model; the rest comes from the files of the checkpoint."""

    languages: tuple[str, ...] = ("en", "zh")


#: Connection of the vision tower to the language model:
#: - "query tokens": tokens of a Q-Former before the text (BLIP-2);
#: - "instructed query tokens": the same, with the question as input (InstructBLIP);
#: - "cross attention": cross attention to the patches in every layer (BLIP captions);
#: - "question encoder": the same, through an encoder of the question (BLIP answers);
#: - "projected patches": one token for each patch (LLaVA, InternVL, Florence-2);
#: - "gridded patches": the same, at the aspect ratio of the image (Qwen-VL);
#: - "sized patches": the same, in one view of the whole image (MiniCPM-V).
Connector = Literal[
    "query tokens",
    "instructed query tokens",
    "cross attention",
    "question encoder",
    "projected patches",
    "gridded patches",
    "sized patches",
]


@dataclass(frozen=True, kw_only=True)
class GenerativeTraits:
    """Traits of a caption model.

    Templates contain `{image}` (in a conversation in the first turn only), `{prompt}`,
    `{question}` and `{answer}`; None if the model does not support the use.

    Attributes:
        model_class: class name in transformers.
        connector: connection of the vision tower to the language model.
        decoder: "causal", or "seq2seq" with an encoder for the prompt.
        caption: template of a caption without a prompt.
        continuation: template of a caption with a prompt.
        question: template of a question, and of the last turn of a conversation.
        turn: template of an earlier turn of a conversation.
        opening: text before the first turn.
        image_text: value of `{image}`: one image token with its frame; "" for none in the text.
        image_first: whether the image tokens precede the start token; `{image}` is then empty.
        special_tokens: whether the tokenizer adds start and end tokens.
        image_options: options that the image processor's file lacks.
        max_image_pixels: maximum size of an image that keeps its aspect ratio; 0 for no limit
            beside the image processor's.
        context_tokens: maximum of prompt, image and, with a causal decoder, answer.
        prompt_tokens: maximum of prompt and image; 0 for no limit beside `context_tokens`.
        stops: texts that end an answer, such as a further question.
        languages: supported languages, ISO 639-1 codes.
    """

    model_class: str
    connector: Connector
    decoder: Literal["causal", "seq2seq"]
    caption: str | None = "{image}"
    continuation: str | None = "{image}{prompt}"
    question: str | None = "{image}Question: {question} Answer:"
    turn: str | None = "{image}Question: {question} Answer: {answer}. "
    opening: str = ""
    image_text: str = ""
    image_first: bool = False
    special_tokens: bool = True
    image_options: tuple[tuple[str, bool | int], ...] = ()
    max_image_pixels: int = 0
    context_tokens: int = 512
    prompt_tokens: int = 0
    stops: tuple[str, ...] = ()
    languages: tuple[str, ...] = ("en",)

    @property
    def longest_answer(self) -> int:
        """Maximum number of tokens of an answer beside an image and a question."""
        if self.decoder == "seq2seq":
            return self.context_tokens
        return self.context_tokens - (self.prompt_tokens or self.context_tokens // 4)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Supported tasks: "caption", "prompt", "question", "chat"."""
        templates = (self.caption, self.continuation, self.question, self.turn)
        tasks = ("caption", "prompt", "question", "chat")
        return tuple(task for task, text in zip(tasks, templates, strict=True) if text is not None)


Traits = ContrastiveTraits | GenerativeTraits | VideoTextTraits | VideoChatTraits


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """One checkpoint; it has the traits of its task. Defaults are those of a bundled one.

    Attributes:
        key: public name; scripts send it as `model=`.
        title: title in the picker.
        task: task of the model.
        family: family in docs/models.md.
        pipeline: "module:Class", imported on first use.
        repo: hub repository; "" for a bundled checkpoint.
        revision: commit hash or "main"; "" for a bundled checkpoint.
        licence: SPDX identifier or name of the licence.
        memory_gb: memory of the loaded model in float32; 1 GB = 1e9 bytes.
        download_gb: size of the downloaded files.
        demo: whether it is a bundled checkpoint, which only knows drawn shapes.
        contrastive: traits of an image-text model.
        generative: traits of a caption model.
        video_text: traits of a video-text model.
        video_chat: traits of a video-chat model.
        remote: server that runs the model; None for a local model.
    """

    key: str
    title: str
    task: Task
    family: str
    pipeline: str
    repo: str = ""
    revision: str = ""
    licence: str = "Apache-2.0"
    memory_gb: float = 0.05
    download_gb: float = 0.0
    demo: bool = False
    contrastive: ContrastiveTraits | None = None
    generative: GenerativeTraits | None = None
    video_text: VideoTextTraits | None = None
    video_chat: VideoChatTraits | None = None
    remote: Remote | None = None

    @property
    def traits(self) -> Traits | None:
        """Traits of the model's task; None for a server's model without any."""
        return self.contrastive or self.generative or self.video_text or self.video_chat

    @property
    def languages(self) -> tuple[str, ...]:
        """Supported languages, ISO 639-1 codes; empty if unknown."""
        return self.traits.languages if self.traits else ()

    @property
    def stock_files(self) -> frozenset[StockFile]:
        """Preprocessing files of the checkpoint that transformers reads."""
        if self.video_text is not None:
            return frozenset()
        if self.video_chat is not None:
            return frozenset({"tokenizer"})
        return frozenset({"image processor", "tokenizer"})
