"""Who imports whom: app -> components -> pipelines -> transformers, torch; never upwards."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "transformers"}
LAYERS = ("app.py", "components", "pipelines", "demo_models", "benchmarks")

#: Modules that the page reads before a model is asked for.
TORCH_FREE = (
    "pipelines/__init__.py",
    "pipelines/answer_notes.py",
    "pipelines/models/base.py",
    "pipelines/batch/__init__.py",
    "pipelines/batch/archive.py",
    "pipelines/batch/arguments.py",
    "pipelines/batch/captioner.py",
    "pipelines/batch/control.py",
    "pipelines/batch/disk.py",
    "pipelines/batch/engine.py",
    "pipelines/batch/export.py",
    "pipelines/batch/gallery.py",
    "pipelines/batch/inputs.py",
    "pipelines/batch/job.py",
    "pipelines/batch/ledger.py",
    "pipelines/batch/names.py",
    "pipelines/batch/prepare.py",
    "pipelines/batch/results.py",
    "pipelines/batch/shelf.py",
    "pipelines/compute/micro_batches.py",
    "pipelines/caption_folder.py",
    "pipelines/models/catalogue.py",
    "pipelines/weights/files.py",
    "pipelines/clip/__init__.py",
    "pipelines/media/named_image.py",
    "pipelines/clip/templates.py",
    "pipelines/cluster/__init__.py",
    "pipelines/cluster/plan.py",
    "pipelines/batch/ray_run.py",
    "pipelines/cluster/shards.py",
    "pipelines/batch/ray_worker.py",
    "pipelines/colour_modes.py",
    "pipelines/conversation.py",
    "pipelines/csv_cells.py",
    "pipelines/decode_budget.py",
    "pipelines/weights/demo_card.py",
    "pipelines/describe/__init__.py",
    "pipelines/describe/notes.py",
    "pipelines/models/captioning/prompts.py",
    "pipelines/models/captioning/results.py",
    "pipelines/models/captioning/support.py",
    "pipelines/models/captioning/traits.py",
    "pipelines/doctor/__init__.py",
    "pipelines/doctor/command.py",
    "pipelines/doctor/checks.py",
    "pipelines/doctor/models.py",
    "pipelines/doctor/page.py",
    "pipelines/doctor/report.py",
    "pipelines/core/errors.py",
    "pipelines/evaluation/__init__.py",
    "pipelines/evaluation/embedding.py",
    "pipelines/evaluation/job.py",
    "pipelines/evaluation/dataset.py",
    "pipelines/evaluation/logistic.py",
    "pipelines/evaluation/mistakes.py",
    "pipelines/models/linear_probe.py",
    "pipelines/evaluation/results.py",
    "pipelines/evaluation/train_probe.py",
    "pipelines/core/options.py",
    "pipelines/media/images.py",
    "pipelines/index_folder.py",
    "pipelines/kept.py",
    "pipelines/core/text.py",
    "pipelines/link_addresses.py",
    "pipelines/media/links.py",
    "pipelines/models/repetition.py",
    "pipelines/models/notes.py",
    "pipelines/compute/lru.py",
    "pipelines/remote/__init__.py",
    "pipelines/remote/answers.py",
    "pipelines/models/remote/client.py",
    "pipelines/serving/remote_registry.py",
    "pipelines/models/remote/errors.py",
    "pipelines/models/remote/video_chat.py",
    "pipelines/models/remote/messages.py",
    "pipelines/models/remote/captions.py",
    "pipelines/models/remote/stream.py",
    "pipelines/core/remote.py",
    "pipelines/core/results.py",
    "pipelines/compute/device.py",
    "pipelines/search/__init__.py",
    "pipelines/search/index_run.py",
    "pipelines/search/database.py",
    "pipelines/search/encoding.py",
    "pipelines/search/query.py",
    "pipelines/search/indexes.py",
    "pipelines/search/ranking.py",
    "pipelines/search/results.py",
    "pipelines/search/tables.py",
    "pipelines/search/kinds.py",
    "pipelines/media/thumbnails.py",
    "pipelines/core/settings.py",
    "pipelines/weights/locate.py",
    "pipelines/serving/store.py",
    "pipelines/compute/background.py",
    "pipelines/serving/work_dir.py",
    "pipelines/texts.py",
    "pipelines/serving/device_queue.py",
    "pipelines/upload_room.py",
    "pipelines/serving/metrics.py",
    "pipelines/viclip/__init__.py",
    "pipelines/models/viclip/results.py",
    "pipelines/media/video/open.py",
    "pipelines/video_apart.py",
    "pipelines/video_bitstream.py",
    "pipelines/video_checks.py",
    "pipelines/media/video/frames.py",
    "pipelines/video_crew.py",
    "pipelines/media/video/decoder.py",
    "pipelines/video_fallback.py",
    "pipelines/video_in_order.py",
    "pipelines/media/video/index.py",
    "pipelines/media/video/container.py",
    "pipelines/video_packets.py",
    "pipelines/video_pixels.py",
    "pipelines/media/video/reader.py",
    "pipelines/video_results.py",
    "pipelines/media/video/writer.py",
    "pipelines/videochat_flash/__init__.py",
    "pipelines/models/videochat_flash/checkpoints.py",
    "pipelines/models/videochat_flash/estimate.py",
    "pipelines/serving/video_prefetch.py",
    "pipelines/videochat_flash/part.py",
    "pipelines/models/videochat_flash/prompts.py",
    "pipelines/models/videochat_flash/results.py",
    "pipelines/weights/revision.py",
    "pipelines/serving/zero_gpu.py",
)


def sources(*names: str) -> list[Path]:
    found = [path for name in names for path in [ROOT / name, *(ROOT / name).rglob("*.py")]]
    return sorted(path for path in found if path.suffix == ".py" and path.is_file())


def imports(path: Path, *, deferred: bool = True) -> Iterator[str]:
    """Yield the modules that a file imports; with `deferred=False` only when it is loaded."""
    todo: list[ast.AST] = [ast.parse(path.read_text("utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if deferred or not inside:
            todo += ast.iter_child_nodes(node)


def offenders(paths: list[Path], forbidden: set[str], *, deferred: bool = True) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in paths
        for name in imports(path, deferred=deferred)
        if any(name == bad or name.startswith(f"{bad}.") for bad in forbidden)
    ]


def test_the_rule_sees_what_it_should(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("from torch import nn\ndef f():\n    import gradio.themes as g\n", "utf-8")
    assert set(imports(file)) == {"torch", "torch.nn", "gradio.themes"}
    assert set(imports(file, deferred=False)) == {"torch", "torch.nn"}
    assert len(sources(*LAYERS)) > 30


def test_components_know_no_model_library() -> None:
    assert offenders(sources("components"), HEAVY | {"app", "demo_models", "tests"}) == []


def test_pipelines_know_no_page() -> None:
    above = {"gradio", "gradio_client", "components", "app", "demo_models", "tests"}
    assert offenders(sources("pipelines"), above) == []


def test_the_app_knows_no_model_library() -> None:
    assert offenders(sources("app.py"), HEAVY | {"demo_models", "tests"}) == []


def test_tabs_know_no_other_tab() -> None:
    tabs = [path for path in sources("components") if path.stem.endswith("_tab")]
    assert len(tabs) >= 2
    for tab in tabs:
        others = {f"components.{other.stem}" for other in tabs if other != tab}
        assert offenders([tab], others | {"components.api.publish", "components.page"}) == []


@pytest.mark.parametrize("name", TORCH_FREE)
def test_torch_free_modules(name: str) -> None:
    assert (ROOT / name).is_file()
    assert offenders([ROOT / name], HEAVY, deferred=False) == []


@pytest.mark.parametrize("name", ["catalogue", "errors", "results", "settings", "labels"])
def test_plain_values_need_no_library_at_all(name: str) -> None:
    """These are what passes between the layers."""
    found = {module.partition(".")[0] for module in imports(ROOT / "pipelines" / f"{name}.py")}
    assert found <= set(sys.stdlib_module_names) | {"pipelines"}


def test_no_code_from_a_hub_and_no_pickles() -> None:
    for path in sources(*LAYERS):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
                raise AssertionError(f"{path}:{node.lineno} trusts remote code")
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"torch.load", "eval"}:
                given = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert given.get("weights_only") == "True", f"{path}:{node.lineno}"


def test_nothing_swallows_every_error() -> None:
    for path in sources(*LAYERS):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, f"{path}:{node.lineno} has a bare except"
                only = [ast.unparse(statement) for statement in node.body]
                assert only != ["pass"], f"{path}:{node.lineno} swallows an error"


def test_laying_out_the_page_leaves_torch_alone() -> None:
    code = """
import sys
import app
from components.page import build_app
from pipelines.core.settings import Settings
from pipelines.serving.store import PipelineStore
build_app(PipelineStore(Settings(models="bundled")))
loaded = sorted({"torch", "transformers"} & set(sys.modules))
sys.exit(f"loaded: {loaded}" if loaded else 0)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=180
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
