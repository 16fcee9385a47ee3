"""What a model is: one entry of the catalogue. Torch-free."""

from dataclasses import dataclass
from typing import Literal

from pipelines.core.remote import Remote

Task = Literal["image-text", "caption", "video-text", "video-chat"]

#: What prepares images or texts, as files that transformers reads.
StockFile = Literal["image processor", "tokenizer"]


@dataclass(frozen=True, kw_only=True)
class ContrastiveTraits:
    """What differs between the image-text models that one pipeline runs.

    Attributes:
        probability: "softmax" over the given labels, or "sigmoid", each label by itself.
        pooling: how the vision tower sums up its patches: "class token" or "attention head".
        padding: "longest" where padding never changes a vector, else "max_length".
        max_text_tokens: tokens that the text tower reads, its special tokens included.
        cleaning: "openai" for the cleaning that CLIP was trained with, "lower", or "none".
        languages: ISO 639-1 codes of the languages that it reads well.
        neutral_bank: file stem in `pipelines/models/banks/`, the texts a verdict compares with.
        neutral_weight: share of the neutral texts' soft maximum that the evidence takes off.
        text_thresholds: of the evidence for an image with a text: below the first is "no match",
            from the second on is "match", in between is "unsure".
        pair_of_texts_thresholds: likewise for two texts.
        pair_of_images_thresholds: likewise for the overlap of two images.
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
    """What differs between the video-text models that one pipeline runs.

    Attributes:
        max_text_tokens: tokens that the text tower reads, its special tokens included.
        languages: ISO 639-1 codes of the languages that it reads well.
        fit: how a frame comes into the square that the model reads.
        neutral_bank: file stem in `pipelines/models/banks/`, the texts a verdict compares with.
        neutral_weight: share of the neutral texts' soft maximum that the evidence takes off.
        text_thresholds: of the evidence for a video with a text: below the first is "no match",
            from the second on is "match", in between is "unsure".
        calibrated: whether the thresholds were measured on this checkpoint.
    """

    max_text_tokens: int = 32
    languages: tuple[str, ...] = ("en",)
    fit: Literal["squash", "letterbox", "centre-crop"] = "squash"
    neutral_bank: str = "everyday"
    neutral_weight: float = 1.0
    text_thresholds: tuple[float, float] = (-4.0, -1.5)
    calibrated: bool = False


@dataclass(frozen=True, kw_only=True)
class VideoChatTraits:
    """What differs between the models that answer questions about videos.

    Everything else is read from the fields of their files.

    Attributes:
        languages: ISO 639-1 codes of the languages that it reads and writes well.
    """

    languages: tuple[str, ...] = ("en", "zh")


#: How the language model gets to see the image.
#: - "query tokens": a Q-Former sums it up in a few tokens before the text (BLIP-2);
#: - "instructed query tokens": likewise, having read the question (InstructBLIP);
#: - "cross attention": the decoder looks at the patches at every layer (BLIP captions);
#: - "question encoder": likewise, through an encoder that reads the question (BLIP answers);
#: - "projected patches": every patch becomes a token of the text (LLaVA, InternVL, Florence-2);
#: - "gridded patches": likewise, at the image's own proportions (Qwen-VL);
#: - "sized patches": likewise, in one view of the whole image (MiniCPM-V).
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
    """What differs between the models.

    The templates hold `{image}`, `{prompt}`, `{question}` and `{answer}`; None means that the
    model cannot do it. In a conversation `{image}` is filled in the first turn only.

    Attributes:
        model_class: name of the stock class in transformers.
        bridge: how the language model sees the image.
        decoder: "causal", which reads the prompt and goes on from it, or "seq2seq", whose
            encoder reads the prompt.
        caption: the text for a caption without a prompt.
        continuation: the text for a caption with a prompt.
        question: the text for a question, and for the last turn of a conversation.
        turn: the text of an earlier turn of a conversation.
        opening: what stands before the first turn.
        image_text: what `{image}` becomes where the image's tokens stand in the text: the text of
            one image token, with what frames it.
        image_first: whether the image's tokens stand before the start token that the tokeniser
            adds; `{image}` is then empty.
        special_tokens: whether the tokeniser adds its start and end tokens.
        image_options: options of the stock image processor that its own file leaves out.
        max_image_pixels: where the image keeps its proportions, most pixels it is brought to, if
            its processor's own file allows more; 0 for no other limit.
        context_tokens: tokens of prompt, image and, for a causal decoder, answer together.
        prompt_tokens: most tokens of prompt and image where the model was taught no longer ones;
            0 for no other limit than `context_tokens`.
        stops: texts at which an answer ends, such as a next question that the model makes up.
        languages: ISO 639-1 codes of the languages that it reads well.
    """

    model_class: str
    bridge: Connector
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
        """Most tokens of an answer that leave room for a picture and what is asked of it.

        An encoder reads them apart from the answer; a causal decoder holds all of them together.
        """
        if self.decoder == "seq2seq":
            return self.context_tokens
        return self.context_tokens - (self.prompt_tokens or self.context_tokens // 4)

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it does: "caption", "prompt", "question", "chat"."""
        able = {
            "caption": self.caption,
            "prompt": self.continuation,
            "question": self.question,
            "chat": self.turn,
        }
        return tuple(task for task, template in able.items() if template is not None)


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """One checkpoint. `key` is public: scripts send it as `model=`.

    Attributes:
        key: the public name.
        title: what the picker shows.
        task: what it can do.
        family: the family it belongs to, as in docs/models.md.
        pipeline: "module:Class", imported on first use.
        repo: hub repository; empty for a bundled checkpoint.
        revision: full commit hash where established, else "main"; empty for a bundled one.
        licence: SPDX identifier where there is one, else the licence's name.
        memory_gb: memory it takes when live in float32; 1 GB = 1e9 bytes.
        download_gb: size of the files fetched on first use.
        demo: whether it is a bundled checkpoint that knows drawn shapes only.
        contrastive: traits of an image-text model, None for others.
        generative: traits of a caption model, None for others.
        video_text: traits of a video-text model, None for others.
        video_chat: traits of a video-chat model, None for others.
        remote: the server that runs it, None for a model of this machine.
    """

    key: str
    title: str
    task: Task
    family: str
    pipeline: str
    repo: str
    revision: str
    licence: str
    memory_gb: float
    download_gb: float
    demo: bool = False
    contrastive: ContrastiveTraits | None = None
    generative: GenerativeTraits | None = None
    video_text: VideoTextTraits | None = None
    video_chat: VideoChatTraits | None = None
    remote: Remote | None = None

    @property
    def languages(self) -> tuple[str, ...]:
        """ISO 639-1 codes of the languages that it reads well; none where that is not known."""
        traits = self.contrastive or self.generative or self.video_text or self.video_chat
        return () if traits is None else traits.languages

    @property
    def stock_files(self) -> frozenset[StockFile]:
        """What its files hold that transformers reads; for the rest the pipeline has its own."""
        if self.video_text is not None:
            return frozenset()
        if self.video_chat is not None:
            return frozenset({"tokenizer"})
        return frozenset({"image processor", "tokenizer"})
