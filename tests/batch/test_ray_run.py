"""A batch over many machines: how it is laid out, its ledgers, and a cluster that loses a node."""

import colorsys
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from pipelines import caption_folder
from pipelines.batch import ray_run as cluster_run
from pipelines.batch.engine import EngineOptions
from pipelines.batch.export import BatchResult
from pipelines.batch.ledger import CaptionSettings, Ledger, LedgerEntry
from pipelines.batch.ray_run import (
    FOLDER,
    ClusterPlan,
    ClusterRun,
    Node,
    collect_shards,
    plan_work,
)
from pipelines.batch.ray_worker import ClusterWork, WorkItem, failure_row, of_failure
from pipelines.caption_folder import LEDGER
from pipelines.core.cancel import CancelToken
from pipelines.core.errors import InputError, MemoryLimitError, NotBegunError
from pipelines.core.options import GenerationOptions
from pipelines.core.settings import Settings
from pipelines.media.inputs import BatchInput, UnreadableSource
from pipelines.models.catalogue import demo_of
from pipelines.serving.command import FAILED
from tests.conftest import draw_circle
from tests.fakes.batch_captioner import lines
from tests.fakes.chat_server import PIECES, FakeChatServer
from tests.support.app_process import FOREIGN, ROOT

GB = 1_000_000_000
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="requirements-ray.txt")


@pytest.mark.parametrize(
    ("nodes", "pictures", "model_gb", "plan"),
    [
        ([Node(1, 0, 3 * GB)] * 2, 1000, 0.05, ClusterPlan(2, 1, 0, 750_000_000, 64)),
        ([Node(16, 0, 64 * GB)] * 3, 100_000, 15.0, ClusterPlan(12, 4, 0, 15_700_000_000, 64)),
        ([Node(16, 0, 20 * GB)] * 3, 100_000, 15.0, ClusterPlan(3, 4, 0, 15_700_000_000, 64)),
        (
            [Node(16, 2, 64 * GB), Node(64, 0, 512 * GB)],
            100_000,
            7.5,
            ClusterPlan(2, 1, 1, 8_200_000_000, 64),
        ),
        ([Node(8, 0, 32 * GB)], 20, 1.0, ClusterPlan(2, 4, 0, 1_700_000_000, 8)),
        ([Node(8, 1, 32 * GB)] * 2, 1000, 0.0, ClusterPlan(16, 1, 0, 700_000_000, 16)),
        ([Node(4, 0, 32 * GB)], 0, 1.0, ClusterPlan(1, 4, 0, 1_700_000_000, 8)),
    ],
)
def test_the_work_is_laid_out_by_what_there_is(
    nodes: list[Node], pictures: int, model_gb: float, plan: ClusterPlan
) -> None:
    assert plan_work(nodes, pictures, model_gb, batch_size=8) == plan


def test_a_cluster_without_room_is_told_of() -> None:
    with pytest.raises(MemoryLimitError, match="15.7 GB"):
        plan_work([Node(8, 0, 8 * GB)] * 9, 1000, 15.0, batch_size=8)
    assert plan_work([Node(8, 0, 8 * GB)], 9, 0.0, batch_size=8, most_workers=2).num_workers == 2


def test_ledgers_side_by_side_become_one(tmp_path: Path) -> None:
    settings, other = CaptionSettings(model="a"), CaptionSettings(model="b")
    for shard, names in (("1", "ab"), ("2", "bc")):
        with Ledger(tmp_path / FOLDER / f"{shard}.jsonl", settings) as ledger:
            ledger.add([LedgerEntry(name, f"hash {name}", f"caption {name}", "") for name in names])
            ledger.add([LedgerEntry("x", "hash x", "", "no picture")])
    with Ledger(tmp_path / FOLDER / "3.jsonl", other) as ledger:
        ledger.add([LedgerEntry("d", "hash d", "caption d", "")])
    with (tmp_path / FOLDER / "2.jsonl").open("ab") as torn:
        torn.write(b'{"file": "e", "hash": "hash e", "capt')
    with Ledger(tmp_path / LEDGER, settings) as whole:
        whole.add([LedgerEntry("a", "hash a", "caption a", "")])
        assert collect_shards(tmp_path / FOLDER, whole) == 2
        assert collect_shards(tmp_path / FOLDER, whole) == 0
    assert not (tmp_path / FOLDER).exists()
    with Ledger(tmp_path / LEDGER, settings) as whole:
        assert [whole.caption(f"hash {name}") for name in "abcdex"] == [
            *("caption a", "caption b", "caption c"),
            *(None, None, None),
        ]


def test_what_a_cluster_cannot_do_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_circle().save(tmp_path / "a.png")
    argv = [str(tmp_path), "--models=bundled", "--decoders=inside", "--engine=ray"]
    monkeypatch.setattr(cluster_run, "find_spec", lambda name: None)
    assert caption_folder.main(argv) == FAILED
    assert "pip install -r requirements-ray.txt" in capsys.readouterr().err


@needs_ray
@pytest.mark.parametrize("per_life", [0, 3])
def test_a_cluster_that_loses_the_work_is_given_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, per_life: int
) -> None:
    """Each time it hands on `per_life` pictures before it is lost."""
    from ray.exceptions import RayError

    starts: list[int] = []

    def blocks(
        work_item: WorkItem, plan: ClusterPlan, first: int, end: int
    ) -> Iterator[dict[str, list[Any]]]:
        starts.append(first)
        for number in range(first, min(first + per_life, end)):
            name = work_item.items[number].name
            made = BatchResult(
                index=number,
                file=name,
                caption=f"caption of {name}",
                text="",
                error="",
                hash=f"hash {number}",
                origin="model",
            )
            yield {"result": [asdict(made)], "failure": [None]}
        if first + per_life < end:
            raise RayError("a node died")

    monkeypatch.setattr(cluster_run, "_blocks", blocks)
    items = [
        BatchInput(f"{number}.png", f"{number}.txt", UnreadableSource("")) for number in range(10)
    ]
    work = ClusterWork(Settings(models="bundled"), demo_of("caption"), "", GenerationOptions())
    nodes = [Node(1, 0, 9 * GB)]
    with Ledger(tmp_path / LEDGER, CaptionSettings(model="a")) as ledger:
        run = ClusterRun(items, work, ledger, nodes, EngineOptions(), CancelToken())
        if not per_life:
            with pytest.raises(NotBegunError, match="again and again"):
                list(run.results())
            assert len(starts) == 4
            return
        results = list(run.results())
        assert [one.file for one in results] == [item.name for item in items]
        assert starts == [0, 3, 6, 9]
        assert len(ledger) == run.progress().done == run.progress().from_model == 10


def test_what_ends_a_run_travels() -> None:
    for error in (InputError("a", title="b"), NotBegunError("c")):
        back = of_failure(json.loads(json.dumps(failure_row(error))))
        assert (type(back), back.message, back.title) == (type(error), error.message, error.title)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thousand small pictures, no two alike, and one that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(1000):
        red, green, blue = colorsys.hsv_to_rgb(number / 1000, 1.0, 0.9)
        image = Image.new("RGB", (48, 48), "white")
        box = (8 + number % 7, 8 + number % 5, 36, 36)
        draw = ImageDraw.Draw(image)
        shape = (draw.ellipse, draw.rectangle)[number % 2]
        shape(box, fill=(int(red * 255), int(green * 255), int(blue * 255)))
        image.save(folder / f"{number:04}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def start(*command: str, **more: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
    env |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **more}
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=900,
    )


FLAGS = ("--models=bundled", "--formats=jsonl", "--max-new-tokens=12")


@pytest.fixture(scope="module")
def local(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the results of the engine of one machine are."""
    output = tmp_path_factory.mktemp("local")
    ran = start("pipelines.caption_folder", str(pictures), f"--output={output}", *FLAGS)
    assert ran.returncode == 1, ran.stderr[-2000:]  # one is no picture
    return output


@needs_ray
@pytest.mark.slow
def test_a_node_that_is_killed_costs_no_picture(
    pictures: Path, local: Path, tmp_path: Path
) -> None:
    flags = (f"--output={tmp_path}", *FLAGS)
    ran = start("tests.support.ray_cluster", "1", str(pictures), *flags)
    assert ran.returncode == 1, ran.stdout[-1000:] + ran.stderr[-3000:]
    assert "of 2 workers" in ran.stdout
    rows = lines(tmp_path / "captions.jsonl")
    assert len(rows) == 1001
    assert rows == lines(local / "captions.jsonl")
    kept = [row for row in lines(tmp_path / LEDGER) if row.get("caption")]
    assert len(kept) == len({row["hash"] for row in kept}) == 1000
    assert not (tmp_path / FOLDER).exists()


@needs_ray
@pytest.mark.slow
def test_a_run_takes_up_another_engines(pictures: Path, local: Path, tmp_path: Path) -> None:
    """From a ledger of this machine and a worker's of a run that was cut off."""
    written = (local / LEDGER).read_text("utf-8").splitlines(keepends=True)
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "cut.jsonl").write_text("".join(written[:1] + written[401:901]), "utf-8")
    (tmp_path / LEDGER).write_text("".join(written[:401]), "utf-8")
    flags = (f"--output={tmp_path}", *FLAGS)
    ran = start("tests.support.ray_cluster", "0", str(pictures), *flags)
    assert ran.returncode == 1, ran.stderr[-3000:]
    assert lines(tmp_path / "captions.jsonl") == lines(local / "captions.jsonl")
    kept = [row for row in lines(tmp_path / LEDGER) if row.get("caption")]
    assert len(kept) == 1000


@pytest.fixture
def server() -> Iterator[FakeChatServer]:
    with FakeChatServer() as fake:
        yield fake


@needs_ray
@pytest.mark.slow
def test_workers_ask_a_remote_model(pictures: Path, server: FakeChatServer, tmp_path: Path) -> None:
    """The key is each machine's own: it travels in no message of the cluster."""
    key = "sk-very-secret-0123456789"
    flags = (
        f"--output={tmp_path}",
        "--formats=jsonl",
        "--model=fake",
        f"--remote=fake={server.url}",
    )
    ran = start("tests.support.ray_cluster", "0", str(pictures), *flags, SEESAY_REMOTE_KEY=key)
    assert ran.returncode == 1, ran.stderr[-3000:]
    rows = lines(tmp_path / "captions.jsonl")
    assert [row["caption"] for row in rows] == ["".join(PIECES)] * 1000 + [""]
    assert {asked.headers["authorization"] for asked in server.questions} == {f"Bearer {key}"}
    assert len(server.questions) == 1000
    assert server.most_at_once <= 8
    assert key not in ran.stdout + ran.stderr + json.dumps(rows)
