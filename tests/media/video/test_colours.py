"""Colours of frames: high dynamic range, wide gamuts and videos without a tag."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray

from pipelines.media.video.reader import VideoReader
from pipelines.media.video.writer import write_clip

#: Patches side by side, in linear light of BT.709, 1.0 for white.
PATCHES = np.array(
    [
        (1.0, 1.0, 1.0),
        (0.5, 0.5, 0.5),
        (0.2, 0.2, 0.2),
        (0.02, 0.02, 0.02),
        (0.7, 0.02, 0.02),
        (0.02, 0.6, 0.02),
        (0.02, 0.02, 0.7),
        (0.7, 0.6, 0.05),
    ]
)

#: Linear BT.2020 RGB from that of BT.709, ITU-R BT.2087.
TO_BT2020 = np.array([(0.6274, 0.3293, 0.0433), (0.0691, 0.9195, 0.0114), (0.0164, 0.0880, 0.8956)])

PATCH_PX = 32


def pq(light: NDArray[Any]) -> NDArray[Any]:
    """Return the code of linear light, 1.0 for 203 cd/m2: the inverse EOTF of SMPTE ST 2084."""
    power = (light * 203 / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg(light: NDArray[Any]) -> NDArray[Any]:
    """Return the code of linear light, 1.0 for 203 of 1000 cd/m2: the OETF of ITU-R BT.2100."""
    scene = (light * 203 / 1000) ** (1 / 1.2)
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)


def gamma(light: NDArray[Any]) -> NDArray[Any]:
    return light ** (1 / 2.4)


def write_colours(
    path: Path,
    codes: NDArray[Any],
    transfer: ColorTrc,
    primaries: ColorPrimaries,
    matrix: Colorspace,
) -> Path:
    """Write three frames of patches with these codes (N, 3), 10 bits and losslessly."""
    rows = np.repeat(np.repeat(codes[None], PATCH_PX, 1), 64, 0)
    pixels = np.rint(np.clip(rows, 0, 1) * 65535).astype(np.uint16)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(
            "libx265", rate=10, options={"x265-params": "lossless=1"}
        )
        stream.height, stream.width = pixels.shape[:2]
        stream.pix_fmt = "yuv444p10le"
        codec = stream.codec_context
        codec.time_base = Fraction(1, 10)
        codec.color_primaries, codec.color_trc = primaries, transfer
        codec.colorspace, codec.color_range = matrix, ColorRange.MPEG
        for number in range(3):
            rgb = av.VideoFrame.from_ndarray(pixels, "rgb48le")
            frame = rgb.reformat(
                format="yuv444p10le", dst_colorspace=matrix, dst_color_range=ColorRange.MPEG
            )
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def patches_of(path: Path) -> NDArray[Any]:
    """Return the 8-bit RGB values (N, 3) in the middle of each patch of the second frame."""
    with VideoReader(path) as reader:
        frame = reader.frames_at([1]).pixels[0]
    side = frame.shape[1] // len(PATCHES)
    return frame[frame.shape[0] // 2, side // 2 :: side].astype(int)


HDR = {"pq": (pq, ColorTrc.SMPTE2084), "hlg": (hlg, ColorTrc.ARIB_STD_B67)}


def write_hdr(path: Path, kind: str, light: NDArray[Any]) -> Path:
    """Write patches of linear light of BT.709 in high dynamic range, with BT.2020 primaries."""
    encode, transfer = HDR[kind]
    codes = encode(light @ TO_BT2020.T)
    return write_colours(path, codes, transfer, ColorPrimaries.BT2020, Colorspace.BT2020)


@pytest.mark.parametrize("kind", HDR)
def test_high_dynamic_range_has_the_colours_of_its_scene(kind: str, tmp_path: Path) -> None:
    """Light up to 0.8 of white is kept; white is close to 255."""
    path = write_hdr(tmp_path / "hdr.mp4", kind, PATCHES)
    read = patches_of(path)
    assert read[0].min() > 240
    assert np.abs(read[1:] - gamma(PATCHES[1:]) * 255).max() <= 4


@pytest.mark.parametrize("kind", HDR)
def test_light_above_white_keeps_its_hue(kind: str, tmp_path: Path) -> None:
    bright = np.repeat([(3.0, 3.0, 3.0), (3.0, 1.5, 1.5)], 4, axis=0)
    path = write_hdr(tmp_path / "hdr.mp4", kind, bright)
    read = patches_of(path)
    assert read[0].min() > 248
    assert read[-1, 0] > 248
    assert np.abs(read[-1, 1:] - 255 * 0.5 ** (1 / 2.4)).max() < 6


@pytest.mark.parametrize("primaries", [ColorPrimaries.BT2020, ColorPrimaries.SMPTE432])
def test_a_wide_gamut_is_converted(primaries: ColorPrimaries, tmp_path: Path) -> None:
    """Display P3 from BT.709: Apple's published matrix, rounded."""
    p3 = np.array([(0.8225, 0.1774, 0.0), (0.0332, 0.9669, 0.0), (0.0171, 0.0724, 0.9108)])
    matrix = TO_BT2020 if primaries == ColorPrimaries.BT2020 else p3
    path = write_colours(
        tmp_path / "wide.mp4",
        gamma(PATCHES @ matrix.T),
        ColorTrc.BT709,
        primaries,
        Colorspace.ITU709,
    )
    assert np.abs(patches_of(path) - gamma(PATCHES) * 255).max() <= 4


@pytest.mark.parametrize(("height", "matrix"), [(720, Colorspace.ITU709), (480, Colorspace.ITU601)])
def test_without_a_tag_the_height_decides(height: int, matrix: Colorspace, tmp_path: Path) -> None:
    """As browsers do: BT.709 from 720 lines on, else BT.601."""
    patch = (200, 40, 90)
    path = tmp_path / "untagged.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10, options={"crf": "10"})
        stream.height, stream.width, stream.pix_fmt = height, 320, "yuv420p"
        rgb = av.VideoFrame.from_ndarray(np.full((height, 320, 3), patch, np.uint8), "rgb24")
        for number in range(3):
            frame = rgb.reformat(
                format="yuv420p", dst_colorspace=matrix, dst_color_range=ColorRange.MPEG
            )
            frame.colorspace = 2
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path)) as written:
        assert next(written.decode(video=0)).colorspace == 2, "the file has no tag"
    assert np.abs(patches_of(path) - patch).max() <= 3


def test_a_clip_has_the_colours_of_its_video_and_says_which(tmp_path: Path) -> None:
    path = write_hdr(tmp_path / "hdr.mp4", "pq", PATCHES)
    write_clip(path, 0.0, 0.0, tmp_path / "clip.mp4")
    with av.open(str(tmp_path / "clip.mp4")) as clip:
        frame = next(clip.decode(video=0))
        tags = (frame.colorspace, frame.color_trc, frame.color_primaries)
        rgb = frame.reformat(format="rgb24", src_colorspace=Colorspace.ITU709).to_ndarray()
    assert tags == (1, 1, 1)
    side = rgb.shape[1] // len(PATCHES)
    shown = rgb[rgb.shape[0] // 2, side // 2 :: side].astype(int)
    assert np.abs(shown - patches_of(path)).max() < 12
