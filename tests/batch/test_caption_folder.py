"""`python -m pipelines.caption_folder` with the bundled model, as people start it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.caption_folder import LEDGER
from pipelines.serving.command import DONE, FAILED, WITH_ERRORS
from tests.conftest import draw_circle
from tests.fakes.batch_captioner import ROOT, lines
from tests.support.app_process import FOREIGN


def caption(
    folder: Path, *flags: str, models: str = "bundled"
) -> "subprocess.CompletedProcess[str]":
    env = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pipelines.caption_folder",
            str(folder),
            f"--models={models}",
            *flags,
        ],
        cwd=ROOT,
        env={**env, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=180,
    )


@pytest.mark.long
def test_a_folder_is_captioned_and_taken_up_again(tmp_path: Path) -> None:
    for name, colour in (("red", "#e4202c"), ("sub/blue", "#1c4ed8")):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        draw_circle(colour).save(path)
    (tmp_path / "broken.png").write_bytes((tmp_path / "red.png").read_bytes()[:200])
    ended = caption(tmp_path)
    assert ended.returncode == WITH_ERRORS, ended.stderr
    assert "Loading weights" not in ended.stderr
    assert "Model: demo-blip2\n" in ended.stderr
    assert "red circle" in (tmp_path / "red.txt").read_text("utf-8")
    assert "blue circle" in (tmp_path / "sub" / "blue.txt").read_text("utf-8")
    rows = {row["file"]: row for row in lines(tmp_path / "captions.jsonl")}
    assert set(rows) == {"red.png", "sub/blue.png", "broken.png"}
    assert "damaged or cut off" in rows["broken.png"]["error"]
    assert [row["file_name"] for row in lines(tmp_path / "metadata.jsonl")] == [
        "red.png",
        "sub/blue.png",
    ]

    draw_circle("#19a34a").save(tmp_path / "green.png")
    (tmp_path / "red.png").rename(tmp_path / "renamed.png")
    (tmp_path / "red.txt").unlink()
    before = lines(tmp_path / LEDGER)
    assert caption(tmp_path).returncode == WITH_ERRORS
    new = lines(tmp_path / LEDGER)[len(before) :]
    assert [row["file"] for row in new] == ["green.png"]
    assert "red circle" in (tmp_path / "renamed.txt").read_text("utf-8")


@pytest.mark.long
def test_a_demo_model_captions_only_where_it_is_asked_for(tmp_path: Path) -> None:
    draw_circle("#e4202c").save(tmp_path / "red.png")
    empty = tmp_path / "models"
    empty.mkdir()
    flags = (f"--models-dir={empty}", f"--cache-dir={empty}")
    refused = caption(tmp_path, *flags, models="auto")
    assert refused.returncode == FAILED
    assert "only demo-blip2 is left" in refused.stderr
    assert "--models=bundled" in refused.stderr and "--model" in refused.stderr
    assert not (tmp_path / "red.txt").exists() and not (tmp_path / LEDGER).exists()
    asked = caption(tmp_path, *flags, "--model", "demo-blip2", models="auto")
    assert asked.returncode == DONE, asked.stderr
    assert "Model: demo-blip2\n" in asked.stderr
    assert "red circle" in (tmp_path / "red.txt").read_text("utf-8")
