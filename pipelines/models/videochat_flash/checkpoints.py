"""Catalogue of the video-chat checkpoints.

Memory is that of the parameters in float32 (counts in NOTES.md) and 1.5 GB for caches of videos
and conversations. The publisher's pages name no licence for the weights.
"""

from pipelines.core.spec import ModelSpec, VideoChatTraits

PIPELINE = "pipelines.models.videochat_flash.pipeline:VideoChatPipeline"

#: Memory of videos and conversations in GB, and bytes of a float32 parameter.
_ROOM_GB = 1.5
_FLOAT32 = 4

#: Parameters of the 2B, the three 7B with UMT and the 7B with InternVideo2, in billions.
_SMALL, _LARGE, _LARGEST = 2.071502336, 7.922617856, 8.620852736


def _published(key: str, title: str, name: str, parameters: float) -> ModelSpec:
    return ModelSpec(
        key=key,
        title=title,
        task="video-chat",
        family="VideoChat-Flash",
        pipeline=PIPELINE,
        repo=f"OpenGVLab/{name}",
        revision="main",
        licence="not stated",
        memory_gb=round(_FLOAT32 * parameters + _ROOM_GB, 1),
        download_gb=round(2 * parameters, 2),
        video_chat=VideoChatTraits(),
    )


CHAT_7B_448 = _published(
    "videochat-flash-7b-448",
    "VideoChat-Flash 7B, frames of 448 px",
    "VideoChat-Flash-Qwen2-7B_res448",
    _LARGE,
)
CHAT_7B_INTERNVIDEO2 = _published(
    "videochat-flash-7b-internvideo2",
    "VideoChat-Flash 7B, InternVideo2",
    "VideoChat-Flash-Qwen2_5-7B_InternVideo2-1B",
    _LARGEST,
)
CHAT_7B_1M = _published(
    "videochat-flash-7b-1m",
    "VideoChat-Flash 7B-1M, frames of 224 px",
    "VideoChat-Flash-Qwen2_5-7B-1M_res224",
    _LARGE,
)
CHAT_7B_224 = _published(
    "videochat-flash-7b-224",
    "VideoChat-Flash 7B, frames of 224 px",
    "VideoChat-Flash-Qwen2-7B_res224",
    _LARGE,
)
CHAT_2B_448 = _published(
    "videochat-flash-2b-448",
    "VideoChat-Flash 2B, frames of 448 px",
    "VideoChat-Flash-Qwen2_5-2B_res448",
    _SMALL,
)

DEMO_VIDEOCHAT = ModelSpec(
    key="demo-videochat",
    title="Demo: drawn moving shapes only",
    task="video-chat",
    family="VideoChat-Flash",
    pipeline=PIPELINE,
    repo="",
    revision="",
    licence="Apache-2.0",
    memory_gb=0.05,
    download_gb=0.0,
    demo=True,
    video_chat=VideoChatTraits(languages=("en",)),
)

#: The best one first, the demo last.
VIDEO_CHAT_MODELS = (
    CHAT_7B_448,
    CHAT_7B_INTERNVIDEO2,
    CHAT_7B_1M,
    CHAT_7B_224,
    CHAT_2B_448,
    DEMO_VIDEOCHAT,
)
