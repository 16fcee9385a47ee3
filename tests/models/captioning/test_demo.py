"""What the bundled caption model tells of pictures that it does not know."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio.media import get_image
from PIL import Image

from pipelines.core.settings import Settings
from pipelines.models.captioning.checkpoints import DEMO_BLIP2
from pipelines.models.captioning.pipeline import CaptionPipeline
from tests.conftest import draw_circle
from tests.support.captioning import EXACT, candidates, one_thread

FOLDER = Path(__file__).parents[3] / "assets" / "checkpoints" / "demo-blip2"
FOREIGN = "not look like a drawing of coloured shapes"


@pytest.fixture(scope="module")
def demo() -> Iterator[CaptionPipeline]:
    pipeline = CaptionPipeline(DEMO_BLIP2, FOLDER, EXACT, Settings())
    with one_thread():
        pipeline.load()
        yield pipeline


@pytest.fixture
def circle(tmp_path: Path) -> Path:
    draw_circle().save(tmp_path / "circle.png")
    return tmp_path / "circle.png"


def hints(notes: tuple[str, ...]) -> list[str]:
    return [note for note in notes if FOREIGN in note]


def test_a_photo_gets_the_hint_and_a_drawing_does_not(demo: CaptionPipeline, circle: Path) -> None:
    photo = Path(get_image("lion.jpg"))
    drawn, foreign = demo.caption([circle, photo])
    assert not hints(drawn.notes)
    assert len(hints(foreign.notes)) == 1


def test_answers_get_the_hint_too_whatever_is_asked(demo: CaptionPipeline, circle: Path) -> None:
    photo = Path(get_image("lion.jpg"))
    assert hints(demo.chat(photo, "What colour is it?").notes)
    assert hints(demo.chat(photo, "How many shapes are there?", []).notes)
    assert not hints(demo.chat(circle, "What is the capital of France?").notes)


def test_the_hint_is_about_the_picture_not_its_neighbours(
    demo: CaptionPipeline, circle: Path
) -> None:
    grey = Image.effect_noise((64, 64), 90).convert("RGB")
    made = demo.caption([circle, grey, circle])
    assert [len(hints(one.notes)) for one in made] == [0, 1, 0]


def test_several_captions_carry_the_hint(demo: CaptionPipeline) -> None:
    found = candidates(demo, Path(get_image("lion.jpg")), 3)
    assert all(hints(one.notes) for one in found)
