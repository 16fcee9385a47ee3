"""First use of a real model: weights come from the hub, with progress, and nobody else waits."""

from pathlib import Path

from gradio_client import handle_file
from playwright.sync_api import Browser, expect

from tests.conftest import connect
from tests.fakes.hub import FakeHub
from tests.fakes.tiny_clip import make_tiny_clip
from tests.support.app_process import serve

REPO = "openai/clip-vit-base-patch32"


def test_the_tab_shows_the_download_and_the_rest_answers(
    browser: Browser, tmp_path: Path, red_circle: Path
) -> None:
    make_tiny_clip(tmp_path / "repositories" / REPO)
    with FakeHub(tmp_path / "repositories") as hub:
        hub.faults.bytes_per_s = 600_000
        endpoint = hub.url
        with serve(tmp_path, "--models", "hub", HF_ENDPOINT=endpoint) as app:
            page = browser.new_page()
            page.goto(app.url)
            hint = page.locator(".model-hint:visible").first
            expect(hint).to_contain_text("downloaded on first use")
            page.locator("input[type=file]").first.set_input_files(red_circle)
            page.get_by_label("Labels").fill("red circle\nblue star")
            page.get_by_role("button", name="Classify", exact=True).click()
            expect(page.get_by_text("Downloading CLIP ViT-B/32").first).to_be_visible()
            client = connect(app.url)
            label, _ = client.predict(
                image=handle_file(red_circle),
                labels="red circle\nblue star",
                model="demo-clip",
                api_name="/classify_image",
            )
            assert label["label"] == "red circle"
            expect(page.locator(".scores .pill")).to_have_count(0)
            hub.faults.bytes_per_s = 0
            expect(page.locator(".scores .pill")).to_have_count(2)
            assert page.locator(".demo-badge").count() == 0, "a real model has no demo badge"
            page.close()
