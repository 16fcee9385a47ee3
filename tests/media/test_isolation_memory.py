"""Pictures that are decoded at once share a budget of memory; small ones pass by."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.core.errors import MemoryLimitError
from pipelines.media import images, isolation
from pipelines.media.images import decode_image
from pipelines.media.isolation import DecodeBudget, Reservation
from tests.fakes.images import BLUE, RED, halves, near, png, saved
from tests.media.test_images import CLIP_RECIPE

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
MB = 1_000_000


def started(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.1)
    return thread


def test_no_more_than_the_budget_is_held_at_once() -> None:
    budget, lock, held, most = DecodeBudget(100 * MB), threading.Lock(), [0], [0]

    def decode(needed: int) -> None:
        reservation = budget.reserve(needed)
        with lock:
            held[0] += needed
            most[0] = max(most[0], held[0])
        time.sleep(0.005)
        with lock:
            held[0] -= needed
        reservation.release()

    with ThreadPoolExecutor(16) as crowd:
        list(crowd.map(decode, [20 * MB, 45 * MB, 70 * MB, 30 * MB] * 10))
    assert 70 * MB < most[0] <= 100 * MB
    budget.reserve(100 * MB).release()


def test_a_large_one_gets_its_turn_before_later_ones() -> None:
    budget, order = DecodeBudget(100 * MB), []

    def want(needed: int, name: str) -> Callable[[], None]:
        def work() -> None:
            reservation = budget.reserve(needed)
            order.append(name)
            reservation.release()

        return work

    first = budget.reserve(60 * MB)
    threads = [started(want(500 * MB, "larger than all")), started(want(30 * MB, "later"))]
    assert order == []
    budget.reserve(15 * MB)  # a small one passes by
    first.release()
    for thread in threads:
        thread.join(10)
    assert order == ["larger than all", "later"]


def test_waiting_ends_with_need_and_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "WAIT_S", 0.1)
    budget = DecodeBudget(1000 * MB)
    held = budget.reserve(900 * MB)
    with pytest.raises(MemoryLimitError, match=r"needs 0\.48 GB .* budget of 1\.00 GB\. Try again"):
        budget.reserve(480 * MB)
    held.release()
    budget.reserve(480 * MB).release()


def test_what_is_left_over_is_given_back_early_and_once() -> None:
    budget = DecodeBudget(100 * MB)
    reservation = budget.reserve(90 * MB)
    reservation.shrink(20 * MB)
    other = budget.reserve(80 * MB)
    reservation.release()
    reservation.release()
    other.release()
    assert budget._free == 100 * MB


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> DecodeBudget:
    budget = DecodeBudget(200 * MB)
    monkeypatch.setattr(images, "BUDGET", budget)
    return budget


def test_a_large_picture_counts_while_it_is_held(budget: DecodeBudget) -> None:
    data = saved(Image.new("RGB", (3000, 3000)), "PNG")
    picture = decode_image(data)
    assert budget._free == 164 * MB
    small = decode_image(data, draft_px=672)
    assert budget._free == 164 * MB, "a small picture of it does not count"
    del picture
    assert budget._free == 200 * MB
    assert small.size == (750, 750)


def test_an_unreadable_picture_gives_back_what_it_held(budget: DecodeBudget) -> None:
    data = saved(Image.new("RGB", (3000, 3000)), "PNG")
    with pytest.raises(images.MediaError, match="damaged"):
        decode_image(data[: len(data) // 2])
    assert budget._free == 200 * MB


def test_what_a_format_s_decoder_takes_counts(
    budget: DecodeBudget, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def reserve(needed: int) -> Reservation:
        asked.append(needed)
        return Reservation(budget, 0)

    monkeypatch.setattr(budget, "reserve", reserve)
    picture = Image.new("RGB", (3000, 2000))
    for form, options in (
        ("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {"method": 0}),
    ):  # fmt: skip
        decode_image(saved(picture, form, **options), draft_px=600)
    per_pixel = [needed / 6 / MB for needed in asked]
    assert per_pixel == pytest.approx([4.4, 2.0, 8.0, 16.4], abs=0.1)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "L", "CMYK", "I;16"])
def test_a_large_picture_is_shrunk_as_its_full_size_is(mode: str) -> None:
    """99.9 % of the values that the model sees move by two levels at most."""
    rng = np.random.default_rng(3)
    blobs = Image.fromarray(rng.integers(0, 256, (40, 60, 4), dtype=np.uint8), "RGBA")
    scene = blobs.resize((2503, 2101), Image.Resampling.BICUBIC)
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(scene.convert("L")).astype(np.uint16) * 257)
    else:
        picture = scene.convert("RGB").convert(mode) if mode == "P" else scene.convert(mode)
    data = saved(picture, "TIFF") if mode == "CMYK" else saved(picture, "PNG", compress_level=0)
    full, small = decode_image(data), decode_image(data, draft_px=CLIP_RECIPE.draft_px)
    assert full.size == (2503, 2101)
    assert small.size == (835, 701)
    difference = (CLIP_RECIPE.pixels(small) - CLIP_RECIPE.pixels(full)).abs()
    assert difference.flatten().sort().values[int(difference.numel() * 0.999)] <= 2


def test_a_large_picture_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(halves(2600, 2000), "PNG", exif=exif)
    image = decode_image(data, draft_px=600)
    assert image.size == (667, 867)
    assert images.true_box(image) == pytest.approx((0.333, 0.0, 667.0, 866.667), abs=0.01)
    assert near(image.getpixel((300, 100)), RED)
    assert near(image.getpixel((300, 800)), BLUE)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads memory as Linux tells it")
def test_several_large_pictures_at_once_stay_within_the_budget(tmp_path: Path) -> None:
    """One of 120 megapixels with alpha took 1 GB and five at once 7 GB; here 25 megapixels."""
    (tmp_path / "large.png").write_bytes(png(5000, 5000, 8, 6, b"\0" * 5000 * 20_001))
    code = f"""
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from pipelines.media import images
from pipelines.media.isolation import DecodeBudget
from tests.fakes.images import halves, saved
images.decode_image(saved(halves(), "PNG"))
images.BUDGET = DecodeBudget(200_000_000)
def now(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1000
before = now("VmRSS")
path = Path({str(tmp_path / "large.png")!r})
with ThreadPoolExecutor(6) as crowd:
    list(crowd.map(lambda _: images.open_image(path, draft_px=672), range(6)))
print(now("VmHWM") - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 250
