"""Frames are chosen, fitted and normalised as the reference does it, to the bit."""

import cv2
import numpy as np
import pytest
import torch

from pipelines.core.errors import InputError
from pipelines.models.viclip.processing_viclip import (
    BAR_COLOUR,
    IMAGE_MEAN,
    IMAGE_STD,
    Pixels,
    ViClipProcessor,
    fit_frames,
    normalise_frames,
    resize_frames,
    spread_indices,
)
from tests.support.viclip_golden import golden, golden_json, stride_indices

CLIPS = ("a", "b", "c")
CASES = [name[4:] for name in golden("resize_cases") if name.startswith("src.")]


def noise(*shape: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("row", golden_json("frame_index_table")["rows"])
def test_chosen_frames_equal_the_reference(row: dict[str, object]) -> None:
    available, wanted = row["n_frames"], row["num_frames"]
    assert spread_indices(available, wanted) == row["eval_middle_indices"]
    if row["demo_indices"] is not None:
        assert stride_indices(available, wanted) == row["demo_indices"]


@pytest.mark.parametrize("wanted", [1, 3, 8, 16])
def test_the_spread_reaches_over_the_whole_range(wanted: int) -> None:
    """The demo's stride leaves out the last 7 of 15 frames."""
    for available in range(1, 400):
        chosen = spread_indices(available, wanted)
        assert len(chosen) == wanted
        assert chosen == sorted(chosen)
        assert 0 <= chosen[0] <= available // wanted
        assert available - 1 - available // wanted <= chosen[-1] < available
        if available >= wanted:
            assert len(set(chosen)) == wanted
            gaps = np.diff(chosen)
            assert gaps.size == 0 or gaps.max() - gaps.min() <= 2
        else:
            assert set(chosen) == set(range(available))
    with pytest.raises(InputError, match="no frame"):
        spread_indices(0, wanted)


@pytest.mark.parametrize("case", CASES)
def test_resizing_equals_the_recorded_opencv(case: str) -> None:
    source, target = (golden("resize_cases")[f"{kind}.{case}"].numpy() for kind in ("src", "dst"))
    assert np.array_equal(resize_frames(source[None], *target.shape[:2])[0], target)


def test_resizing_equals_the_installed_opencv() -> None:
    rng = np.random.default_rng(5)
    sizes = [tuple(rng.integers(1, 300, 4)) for _ in range(150)]
    sizes += [(*rng.integers(1, 500, 2), 224, 224) for _ in range(50)]
    sizes += [(448, 448, 224, 224), (448, 447, 224, 224), (1, 500, 224, 224), (112, 112, 224, 224)]
    sizes += [(64, 20, 32, 10), (1, 1, 512, 2048), (3, 2, 300, 512), (1080, 1920, 224, 224)]
    for number, (height, width, down, across) in enumerate(sizes):
        frame = noise(height, width, 3, seed=number)
        expected = cv2.resize(frame, (int(across), int(down)))
        assert np.array_equal(resize_frames(frame[None], down, across)[0], expected), sizes[number]


def test_frames_are_resized_apart_and_left_as_they_were() -> None:
    frames = noise(4, 50, 70, 3)
    before = frames.copy()
    together = resize_frames(frames, 31, 22)
    apart = [resize_frames(frame[None], 31, 22)[0] for frame in frames]
    assert np.array_equal(together, np.stack(apart))
    same = resize_frames(frames, 50, 70)
    same[:] = 0
    assert np.array_equal(frames, before)


@pytest.mark.parametrize("index", range(3))
def test_pixels_equal_the_reference(index: int) -> None:
    inputs, clip = golden("inputs"), CLIPS[index]
    raw = inputs[f"frames_bgr.{clip}"].numpy()
    bgr = raw[stride_indices(len(raw))]
    rgb = bgr[..., ::-1]
    resized = fit_frames(rgb, 56)
    assert np.array_equal(resized, inputs[f"resized_rgb.{clip}"].numpy())
    processor = ViClipProcessor(image_size=56)
    values = processor.pixel_values(rgb)
    assert values.equal(processor.pixel_values(np.ascontiguousarray(rgb)))
    assert values.dtype == torch.float32
    assert values.equal(inputs["pixel_values"][index])
    assert not processor.pixel_values(bgr).equal(values)
    still = processor.pixel_values(rgb[4:5])
    assert still.shape == (1, 3, 56, 56)
    assert still[0].equal(inputs["pixel_values_image"][index])


def test_normalising_is_the_formula_in_float64() -> None:
    frames = noise(2, 9, 11, 3)
    expected = (frames / 255.0 - np.array(IMAGE_MEAN)) / np.array(IMAGE_STD)
    found = normalise_frames(frames).numpy()
    assert np.array_equal(found, expected.transpose(0, 3, 1, 2).astype(np.float32))


def test_other_numbers_of_frames_are_spread() -> None:
    processor = ViClipProcessor(image_size=24, num_frames=8)
    for count in (2, 7, 9, 30):
        frames = noise(count, 20, 30, 3, seed=count)
        expected = processor.pixel_values(frames[spread_indices(count)])
        assert processor.pixel_values(frames).equal(expected)
        assert expected.shape == (8, 3, 24, 24)


@pytest.mark.parametrize(("height", "width"), [(40, 90), (90, 40), (31, 31), (1, 300), (300, 1)])
def test_letterbox_keeps_the_proportions(height: int, width: int) -> None:
    frames = noise(2, height, width, 3)
    boxed = fit_frames(frames, 48, "letterbox")
    inner = [max(1, round(side * 48 / max(height, width))) for side in (height, width)]
    top, left = (48 - inner[0]) // 2, (48 - inner[1]) // 2
    picture = boxed[:, top : top + inner[0], left : left + inner[1]]
    assert np.array_equal(picture, resize_frames(frames, *inner))
    bars = np.ones((48, 48), bool)
    bars[top : top + inner[0], left : left + inner[1]] = False
    assert (boxed[:, bars] == BAR_COLOUR).all()
    assert (normalise_frames(boxed)[:, :, torch.from_numpy(bars)].abs() < 0.01).all()


def test_centre_crop_sees_the_middle_square() -> None:
    wide = noise(2, 40, 90, 3)
    expected = resize_frames(wide[:, :, 25:65], 48, 48)
    assert np.array_equal(fit_frames(wide, 48, "centre-crop"), expected)
    tall = np.ascontiguousarray(wide.transpose(0, 2, 1, 3))
    found = fit_frames(tall, 48, "centre-crop")
    assert np.array_equal(found, resize_frames(tall[:, 25:65], 48, 48))


def test_a_square_is_fitted_alike_in_every_way() -> None:
    frames = noise(3, 60, 60, 3)
    squashed = fit_frames(frames, 56)
    assert np.array_equal(fit_frames(frames, 56, "letterbox"), squashed)
    assert np.array_equal(fit_frames(frames, 56, "centre-crop"), squashed)


@pytest.mark.parametrize(
    "frames",
    [
        noise(8, 20, 20, 3).astype(np.float32),
        noise(8, 20, 20),
        noise(8, 20, 20, 4),
        noise(0, 20, 20, 3),
        noise(8, 0, 20, 3),
        noise(20, 20, 3),
        "frames",
        None,
    ],
)
def test_what_is_no_clip_is_refused(frames: object) -> None:
    with pytest.raises(InputError, match=r"frames must be \(T, H, W, 3\) of uint8"):
        ViClipProcessor().pixel_values(frames)  # type: ignore[arg-type]


def test_unknown_options_are_refused() -> None:
    frames = noise(8, 20, 20, 3)
    with pytest.raises(InputError, match="fit must be one of squash, letterbox, centre-crop"):
        fit_frames(frames, 56, "stretch")  # type: ignore[arg-type]
