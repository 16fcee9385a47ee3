"""Many visitors at once: everybody gets their own answer, and the next one too."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from tests.conftest import FakeApp, connect, draw_circle
from tests.support.app_process import RunningApp
from tests.support.raw_http import press, upload

VISITORS = 16

#: Seconds after which the whole crowd counts as hung.
HANG_S = 120.0


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A picture for each visitor, no two alike."""
    folder = tmp_path_factory.mktemp("visitors")
    paths = []
    for index in range(VISITORS):
        colour = f"#{255 - 15 * index:02x}{15 * index:02x}{(index * 90) % 256:02x}"
        path = folder / f"visitor-{index}.png"
        draw_circle(colour, 120 + 8 * index).save(path)
        paths.append(path)
    return paths


def ask(client: Client, index: int, picture: Path) -> dict[str, float]:
    labels = f"red circle\ngreen circle\nblue circle\nvisitor {index}"
    image = handle_file(picture)
    _, scores = client.predict(image=image, labels=labels, api_name="/classify_image")
    return {row["label"]: row["cosine"] for row in scores}


def test_sixteen_at_once_get_their_own_answers(
    running_app: RunningApp, client: Client, pictures: list[Path]
) -> None:
    alone = [ask(client, index, picture) for index, picture in enumerate(pictures)]
    assert len({round(answer["red circle"], 5) for answer in alone}) == VISITORS

    def visit(index: int) -> list[dict[str, float]]:
        own = connect(running_app.url)
        return [ask(own, index, pictures[index]) for _ in range(2)]

    with ThreadPoolExecutor(VISITORS) as crowd:
        answers = list(crowd.map(visit, range(VISITORS), timeout=HANG_S))
    for expected, found in zip(alone, answers, strict=True):
        for answer in found:
            assert answer == pytest.approx(expected, abs=1e-4)


def test_bad_requests_between_good_ones_cost_only_themselves(
    running_app: RunningApp, client: Client, pictures: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(pictures[0].read_bytes()[:300])
    expected = ask(client, 0, pictures[0])

    def visit(index: int) -> Any:
        own = connect(running_app.url)
        if index % 2:
            with pytest.raises(AppError, match=r"broken\.png"):
                ask(own, index, broken)
            return None
        return ask(own, 0, pictures[0])

    with ThreadPoolExecutor(VISITORS) as crowd:
        answers = list(crowd.map(visit, range(VISITORS), timeout=HANG_S))
    for answer in answers[::2]:
        assert answer == pytest.approx(expected, abs=1e-4)


def test_requests_of_one_visitor_do_not_mix(fake_app: FakeApp, pictures: list[Path]) -> None:
    """One `Client`, many requests at the same time: labels go back to whoever sent them."""
    jobs = [
        fake_app.client.submit(
            image=handle_file(pictures[index]), labels=f"a{index}", api_name="/classify_image"
        )
        for index in range(VISITORS)
    ]
    for index, job in enumerate(jobs):
        label, _ = job.result(timeout=HANG_S)
        assert label["label"] == f"a{index}"


def overlay_of(app: RunningApp, path: str, visitor: str) -> str:
    """Classify on the page, then ask where the model looks; returns a hash of that picture."""
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    labels, model = "red circle\nblue circle", "demo-clip"
    press(app.url, "classify", [file, None, labels, model, "", None, "picture"], visitor)
    where = [file, None, model, "", True, "picture", "red circle"]
    output = press(app.url, "show_where", where, visitor)
    assert "data" in output, output
    return hashlib.sha256(Path(output["data"][0]["path"]).read_bytes()).hexdigest()


def test_everybody_sees_where_in_their_own_picture(
    running_app: RunningApp, pictures: list[Path]
) -> None:
    """The map hooks into a model that all share: others' pictures must not come through."""
    paths = [upload(running_app.url, picture) for picture in pictures]
    alone = [overlay_of(running_app, path, f"alone{i}") for i, path in enumerate(paths)]
    assert len(set(alone)) == VISITORS

    def visit(index: int) -> str:
        return overlay_of(running_app, paths[index], f"crowd{index}")

    with ThreadPoolExecutor(VISITORS) as crowd:
        assert list(crowd.map(visit, range(VISITORS), timeout=HANG_S)) == alone
