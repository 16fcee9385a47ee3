"""The command writes each figure into the report of its kind, and drops those of other weights."""

import json
import shutil

import pytest

from demo_models import evaluate
from tests.demo_models.bundled import CHECKPOINTS


@pytest.fixture
def copied(tmp_path):
    def copy(model):
        return shutil.copytree(CHECKPOINTS / model, tmp_path / model)

    return copy


def test_a_report_of_one_part_is_written_whole(copied):
    folder = copied("demo-clip")
    command = ["demo-clip", "localisation", "--num", "3", "--seed", "5"]
    evaluate.main([*command, "--checkpoint", str(folder)])
    old = json.loads((CHECKPOINTS / "demo-clip" / "where.json").read_text("utf-8"))
    new = json.loads((folder / "where.json").read_text("utf-8"))
    assert set(new) == set(old)
    assert (new["n"], new["seed"]) == (3, 5)
    assert (new["script"], new["weights_sha256"]) == (old["script"], old["weights_sha256"])


def test_figures_of_the_app_stay_beside_those_of_the_model(copied, tmp_path):
    folder, wrong = copied("demo-videochat"), tmp_path / "wrong.txt"
    command = ["demo-videochat", "--num", "1", "--more", "0", "--wrong", str(wrong)]
    evaluate.main([*command, "--checkpoint", str(folder)])
    old = json.loads((CHECKPOINTS / "demo-videochat" / "eval.json").read_text("utf-8"))
    new = json.loads((folder / "eval.json").read_text("utf-8"))
    assert new["app"] == old["app"]
    assert new["package"]["num"] == 1
    assert wrong.exists()
    (folder / "demo.json").write_text(json.dumps({"seed": 8, "steps": 1}), encoding="utf-8")
    evaluate.main([*command, "--checkpoint", str(folder)])
    other = json.loads((folder / "eval.json").read_text("utf-8"))
    assert "app" not in other
    assert other["checkpoint_seed"] == 8


def test_a_kind_that_an_app_cannot_be_asked_is_refused(capsys):
    with pytest.raises(SystemExit):
        evaluate.main(["demo-clip", "verdict", "--via", "app"])
    assert "no kind 'verdict' via app" in capsys.readouterr().err
