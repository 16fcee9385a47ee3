"""Conversion of decoded frames to BT.709 colours, in which all frames are returned.

Wide gamuts (BT.2020, P3) and high dynamic range (PQ and HLG, ITU-R BT.2100) are converted in linear
light. White is 203 cd/m2 (ITU-R BT.2408); brighter light is compressed. Formulas are those of
SMPTE ST 2084, ITU-R BT.1886, BT.2020 and BT.2100; the tone curve is the "mobius" of libavfilter.
"""

from functools import cache
from typing import Any

import numpy as np
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

Light = NDArray[np.float32]

#: Code points of transfer characteristics and primaries in ITU-T H.273.
_PQ, _HLG = 16, 18
_BT2020, _P3_DCI, _P3_D65 = 9, 11, 12

#: Code point of unspecified colours, which players take for BT.709 from this height on.
_UNSPECIFIED, _HD_HEIGHT = 2, 720

#: Luminance of white and of the brightest light in cd/m2.
_WHITE, _PEAK = 203.0, 1000.0

#: Gamma of a BT.709 screen (ITU-R BT.1886).
_GAMMA = 2.4

#: Exponent from the light of a scene in HLG to that of a screen with a peak of 1000 cd/m2; applied
#: to each channel, as in zimg and ffmpeg's zscale.
_SYSTEM_GAMMA = 1.2

#: Light below this fraction of white is not compressed.
_KNEE = 0.8

#: Linear RGB of BT.709 from that of other primaries with the white point D65.
_TO_BT709 = {
    _BT2020: (
        (1.660491, -0.587641, -0.072850),
        (-0.124551, 1.132900, -0.008349),
        (-0.018151, -0.100579, 1.118730),
    ),
    _P3_D65: (
        (1.224940, -0.224940, 0.0),
        (-0.042057, 1.042057, 0.0),
        (-0.019638, -0.078636, 1.098274),
    ),
}
_TO_BT709[_P3_DCI] = _TO_BT709[_P3_D65]


def to_rgb(frame: Any, reformatter: VideoReformatter, width: int, height: int) -> NDArray[np.uint8]:
    """Return a decoded frame scaled to (height, width, 3), uint8, RGB with BT.709 colours."""
    transfer, primaries = int(frame.color_trc), int(frame.color_primaries)
    wide = transfer in {_PQ, _HLG} or primaries in _TO_BT709
    scaled = reformatter.reformat(
        frame,
        width,
        height,
        "rgb48le" if wide else "rgb24",
        src_colorspace=_guessed_matrix(frame),
        interpolation=Interpolation.BICUBIC,
        threads=1,
    )
    pixels: Any = scaled.to_ndarray()
    return _converted(pixels, transfer, primaries) if wide else pixels


def _guessed_matrix(frame: Any) -> Colorspace | None:
    """Return the matrix that players take for a video without one; None to keep the frame's."""
    unknown = int(frame.colorspace) == _UNSPECIFIED and not frame.format.is_rgb
    return Colorspace.ITU709 if unknown and frame.height >= _HD_HEIGHT else None


def _converted(pixels: NDArray[np.uint16], transfer: int, primaries: int) -> NDArray[np.uint8]:
    """Return BT.709 colours of RGB pixels (H, W, 3) of another transfer or other primaries."""
    light = _linear(transfer)[pixels]
    matrix = _TO_BT709.get(primaries, _TO_BT709[_BT2020] if transfer in {_PQ, _HLG} else None)
    if matrix is not None:
        light = np.maximum(light @ np.array(matrix, np.float32).T, 0)
    if transfer in {_PQ, _HLG}:
        light = _compressed(light)
    curve = _bt709_curve()
    converted: NDArray[np.uint8] = curve[
        (np.clip(light, 0, 1) * (len(curve) - 1) + 0.5).astype(int)
    ]
    return converted


def _compressed(light: Light) -> Light:
    """Return light in which the highest channel of each pixel is at most 1; the hue is kept."""
    peak, knee = _PEAK / _WHITE, _KNEE
    high = np.maximum(light.max(-1, keepdims=True), 1e-6)
    a = -knee * knee * (peak - 1) / (knee * knee - 2 * knee + peak)
    b = (knee * knee - 2 * knee * peak + peak) / (peak - 1)
    scale = (b * b + 2 * b * knee + knee * knee) / (b - a)
    bounded = np.minimum(high, peak)
    target = np.where(bounded > knee, scale * (bounded + a) / (bounded + b), bounded)
    compressed: Light = light * (target / high)
    return compressed


@cache
def _linear(transfer: int) -> Light:
    """Return the linear light of each 16-bit code on a screen, 1.0 for white."""
    code = np.arange(65536) / 65535
    if transfer == _PQ:
        power = code ** (32 / 2523)
        light = np.maximum(power - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * power)
        light = light ** (8192 / 1305) * 10000 / _WHITE
    elif transfer == _HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
        light = scene**_SYSTEM_GAMMA * _PEAK / _WHITE
    else:
        light = code**_GAMMA
    return light.astype(np.float32)


@cache
def _bt709_curve() -> NDArray[np.uint8]:
    """Return the 8-bit BT.709 codes of 65536 steps of linear light from 0 to 1."""
    return np.rint((np.arange(65536) / 65535) ** (1 / _GAMMA) * 255).astype(np.uint8)
