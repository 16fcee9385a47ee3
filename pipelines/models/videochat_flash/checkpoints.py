"""Catalogue of the video-chat checkpoints.

Memory is that of the parameters in float32 (counts in NOTES.md) and 1.5 GB for caches of videos
and conversations. The publisher's pages name no licence for the weights.
"""

from functools import partial

from pipelines.core.spec import ModelSpec, VideoChatTraits

_video_chat = partial(
    ModelSpec,
    task="video-chat",
    family="VideoChat-Flash",
    pipeline="pipelines.models.videochat_flash.pipeline:VideoChatPipeline",
)

#: Parameters of the 2B, the three 7B with UMT and the 7B with InternVideo2, in billions.
_SMALL, _LARGE, _LARGEST = 2.071502336, 7.922617856, 8.620852736


def _published(key: str, title: str, repo: str, parameters: float) -> ModelSpec:
    return _video_chat(
        key=key,
        title=title,
        repo=repo,
        revision="main",
        licence="not stated",
        memory_gb=round(4 * parameters + 1.5, 1),
        download_gb=round(2 * parameters, 2),
        video_chat=VideoChatTraits(),
    )


CHAT_2B_448 = _published(
    "videochat-flash-2b-448",
    "VideoChat-Flash 2B, frames of 448 px",
    "OpenGVLab/VideoChat-Flash-Qwen2_5-2B_res448",
    _SMALL,
)

DEMO_VIDEOCHAT = _video_chat(
    key="demo-videochat",
    title="Demo: drawn moving shapes only",
    demo=True,
    video_chat=VideoChatTraits(languages=("en",)),
)

#: The best one first, the demo last.
VIDEO_CHAT_MODELS = (
    _published(
        "videochat-flash-7b-448",
        "VideoChat-Flash 7B, frames of 448 px",
        "OpenGVLab/VideoChat-Flash-Qwen2-7B_res448",
        _LARGE,
    ),
    _published(
        "videochat-flash-7b-internvideo2",
        "VideoChat-Flash 7B, InternVideo2",
        "OpenGVLab/VideoChat-Flash-Qwen2_5-7B_InternVideo2-1B",
        _LARGEST,
    ),
    _published(
        "videochat-flash-7b-1m",
        "VideoChat-Flash 7B-1M, frames of 224 px",
        "OpenGVLab/VideoChat-Flash-Qwen2_5-7B-1M_res224",
        _LARGE,
    ),
    _published(
        "videochat-flash-7b-224",
        "VideoChat-Flash 7B, frames of 224 px",
        "OpenGVLab/VideoChat-Flash-Qwen2-7B_res224",
        _LARGE,
    ),
    CHAT_2B_448,
    DEMO_VIDEOCHAT,
)
