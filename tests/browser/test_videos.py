"""The Match and Moments tabs, as a person uses them."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from components.widgets.examples import drawn_videos
from tests.browser.browsing import (
    at_both_widths,
    click_example,
    close_toast,
    open_tab,
    press,
    rows,
    toast,
)
from tests.browser.conftest import Visit
from tests.browser.contrast import contrasts
from tests.fakes.videos import FPS, HEIGHT, WIDTH, encode, number_of

#: The red values of what a video shows, row by row.
PAINTED = """video => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
    return [...pixels].filter((_, at) => at % 4 === 0);
}"""


def entry_with(field: str) -> dict[str, Any]:
    return next(entry for entry in drawn_videos() if entry[field])


def enter(visit: Visit, tab: str, width: int = 1280, theme: str = "light") -> Page:
    page = visit(width, theme)
    open_tab(page, tab)
    return page


def upload(page: Page, file: Path | str) -> None:
    """Upload a video in the tab that is shown, and wait until it is there."""
    page.locator("[role=tabpanel]:visible input[type=file]").first.set_input_files(file)
    shown = page.locator("video:visible").or_(page.get_by_role("row", name=Path(file).name))
    expect(shown.first).to_be_visible()


def player_time(video: Locator) -> float:
    return float(video.evaluate("video => video.currentTime"))


#: Drop a file without a type on an upload area, or choose it there.
DROP = """(input, name) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File(["x"], name));
    input.parentElement.dispatchEvent(
        new DragEvent("drop", {dataTransfer: transfer, bubbles: true}));
}"""
CHOOSE = """(input, name) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File(["x"], name));
    input.files = transfer.files;
    input.dispatchEvent(new Event("change"));
}"""


@pytest.mark.parametrize("way", [DROP, CHOOSE], ids=["drop", "choose"])
@pytest.mark.parametrize(
    ("tab", "name"),
    [("Match", "IMG_0001.MOV"), ("Match", "film.ts"), ("Similarity", "scan.jp2")],
)
def test_a_file_without_a_known_type_is_uploaded(
    visit: Visit, tab: str, name: str, way: str
) -> None:
    """Browsers know no type for some names; the API reads all of these."""
    page = enter(visit, tab)
    area = page.locator("[role=tabpanel]:visible input[type=file]").last
    with page.expect_response(lambda answer: "/upload?" in answer.url, timeout=10_000) as answered:
        area.evaluate(way, name)
    assert answered.value.ok


@at_both_widths
def test_a_video_is_uploaded_and_matched(visit: Visit, width: int) -> None:
    page = enter(visit, "Match", width)
    entry = entry_with("texts")
    upload(page, entry["path"])
    page.locator("[role=tabpanel]:visible").get_by_label("Texts").fill("\n".join(entry["texts"]))
    press(page, "Match")
    expect(rows(page)).to_have_count(len(entry["texts"]))
    expect(rows(page).first.locator(".name")).to_have_text(entry["true_texts"][0])
    expect(rows(page).first.locator(".pill")).to_have_text("match")
    frames = page.locator(".frames:visible button:has(img)")
    expect(frames).to_have_count(8)
    expect(page.locator(".demo-badge:visible")).to_contain_text("moving")
    frames.nth(6).click()
    video = page.locator("video:visible").first
    page.wait_for_function("video => video.currentTime > 2.5", arg=video.element_handle())
    with page.expect_download() as download:
        press(page, "Download as CSV")
    head, *lines = csv.reader(io.StringIO(Path(download.value.path()).read_text("utf-8")))
    assert head == ["label", "probability", "cosine", "verdict", "note"]
    assert len(lines) == len(entry["texts"])


@at_both_widths
def test_a_moment_is_found_and_played(visit: Visit, width: int) -> None:
    page = enter(visit, "Moments", width)
    entry = entry_with("query")
    upload(page, entry["path"])
    page.get_by_label("What happens").fill(entry["query"])
    press(page, "Find")
    expect(rows(page).first.locator(".pill")).to_be_visible()
    moments = page.locator(".frames:visible button:has(img)")
    count = rows(page).count()
    assert count > 1
    expect(moments).to_have_count(count)  # the pictures come a moment after the table
    video = page.locator(".player:visible video")
    first = player_time(video)
    last = moments.nth(count - 1)
    start = re.search(r"(\d+):(\d+\.\d)", last.inner_text())
    assert start is not None
    wanted = 60 * int(start[1]) + float(start[2])
    last.click()
    page.wait_for_function(
        "([video, wanted]) => Math.abs(video.currentTime - wanted) < 0.6",
        arg=[video.element_handle(), wanted],
    )
    assert abs(player_time(video) - first) > 0.5
    press(page, f"Cut out moment {count}")
    with page.expect_download() as download:
        press(page, f"Download clip {count}")
    assert Path(download.value.path()).read_bytes()[4:8] == b"ftyp"


def test_a_click_shows_the_frame_whose_picture_started_late(visit: Visit, tmp_path: Path) -> None:
    """The picture starts 1.5 s after the sound: a player counts from the sound."""
    times = [45 + number for number in range(90)]
    size = (2 * HEIGHT, 2 * WIDTH)
    path = encode(tmp_path / "late.mp4", "libx264", times=times, sound=True, size=size)
    page = enter(visit, "Match")
    upload(page, path)
    page.locator("[role=tabpanel]:visible").get_by_label("Texts").fill("a bar\na dog")
    press(page, "Match")
    frames = page.locator(".frames:visible button:has(img)")
    expect(frames).to_have_count(8)
    video = page.locator("video:visible").first
    for place in (6, 1):
        clock = re.search(r"(\d+):(\d+\.\d)", frames.nth(place).inner_text())
        assert clock is not None
        time_s = 60 * int(clock[1]) + float(clock[2])
        frames.nth(place).click()
        page.wait_for_function(
            "([video, wanted]) => Math.abs(video.currentTime - wanted) < 0.06 && !video.seeking",
            arg=[video.element_handle(), time_s],
        )
        page.wait_for_timeout(500)  # until what was decoded is painted
        number = number_of(np.array(video.evaluate(PAINTED), np.uint8).reshape(*size, 1))
        assert abs(number - (time_s - 1.5) * FPS) < 3


@pytest.mark.parametrize("tab", ["Match", "Moments"])
def test_an_example_is_worked_off_at_a_click(visit: Visit, tab: str) -> None:
    page = enter(visit, tab)
    click_example(page, 0)
    expect(rows(page).first).to_be_visible()
    expect(page.locator(".demo-badge:visible")).to_be_visible()
    if tab == "Moments":
        expect(page.locator(".curve:visible svg")).to_be_visible()


@pytest.mark.parametrize("tab", ["Match", "Moments"])
def test_another_video_takes_the_answer_away(visit: Visit, tab: str) -> None:
    """A click on a frame of the first video would have moved the second one."""
    page = enter(visit, tab)
    entry = entry_with("texts" if tab == "Match" else "query")
    upload(page, entry["path"])
    if tab == "Match":
        page.get_by_label("Texts").locator("visible=true").fill("a\nb")
    else:
        page.get_by_label("What happens").fill(entry["query"])
    press(page, "Match" if tab == "Match" else "Find")
    expect(page.locator(".frames:visible button:has(img)").first).to_be_visible()
    page.locator("[role=tabpanel]:visible").get_by_label("Clear", exact=False).first.click()
    other = next(e for e in drawn_videos() if e["file"] != entry["file"])
    upload(page, other["path"])
    expect(rows(page)).to_have_count(0)
    expect(page.locator(".frames:visible button:has(img)")).to_have_count(0)


@pytest.mark.parametrize("tab", ["Match", "Moments"])
def test_what_is_missing_is_told(visit: Visit, tab: str) -> None:
    page = enter(visit, tab)
    press(page, "Match" if tab == "Match" else "Find")
    expect(toast(page)).to_contain_text("Upload")
    close_toast(page)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("tab", ["Match", "Moments"])
def test_texts_can_be_read(visit: Visit, tab: str, theme: str) -> None:
    page = enter(visit, tab, theme=theme)
    click_example(page, 0)
    expect(rows(page).first).to_be_visible()
    selectors = [
        ".scores td",
        ".scores th",
        ".pill",
        ".demo-badge summary",
        ".frames .caption-label",
    ]
    seen = {selector: contrasts(page, selector) for selector in selectors}
    assert all(seen.values()), "each kind must be on the page"
    weak = {
        f"{kind} {text!r}": round(ratio, 2)
        for kind, found in seen.items()
        for text, ratio in found.items()
        if ratio < 4.5
    }
    assert weak == {}
