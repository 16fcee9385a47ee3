"""Import rules: a file imports from its own folder and from folders to its left only."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "transformers"}
SOURCES = ("app.py", "components", "pipelines", "demo_models", "benchmarks")

#: Folders from left to right; the two commands of `pipelines/` and `app.py` stand at the right.
PIPELINES = [
    "core",
    "compute",
    "weights",
    "media",
    "models",
    "serving",
    "batch",
    "search",
    "evaluation",
    "doctor",
    "commands",
]
COMPONENTS = ["server", "render", "widgets", "jobs", "tabs", "api", "page"]
ORDER = (
    *(f"pipelines.{folder}" for folder in PIPELINES),
    *(f"components.{folder}" for folder in COMPONENTS),
    "app",
)
COMMANDS = {"pipelines.caption_folder", "pipelines.index_folder"}

#: Folders that may import torch when they are loaded.
TORCH_FOLDERS = {"pipelines.compute", "pipelines.models"}


def sources(*names: str) -> list[Path]:
    found = [path for name in names for path in [ROOT / name, *(ROOT / name).rglob("*.py")]]
    return sorted(path for path in found if path.suffix == ".py" and path.is_file())


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def folder_of(module: str) -> str:
    return "pipelines.commands" if module in COMMANDS else ".".join(module.split(".")[:2])


@cache
def own_modules() -> frozenset[str]:
    return frozenset(map(module_of, sources("app.py", "components", "pipelines")))


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


def own_imports(path: Path) -> set[str]:
    """Return the modules of the app that a file imports, at any time."""
    found = own_modules() & set(imports(path))
    return {one for one in found if not any(other.startswith(f"{one}.") for other in found)}


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
    file.write_text("from pipelines.media import images\nimport pipelines.core.spec\n", "utf-8")
    assert own_imports(file) == {"pipelines.media.images", "pipelines.core.spec"}
    assert len(own_modules()) > 150


def test_every_folder_has_its_place() -> None:
    folders = {folder_of(module) for module in own_modules()} - {"pipelines", "components"}
    assert folders == set(ORDER)


def test_imports_run_to_the_left() -> None:
    against = [
        f"{module_of(path)} imports {name}"
        for path in sources("app.py", "components", "pipelines")
        for name in own_imports(path)
        if ORDER.index(folder_of(name)) > ORDER.index(folder_of(module_of(path)))
    ]
    assert against == []


def test_no_family_of_models_imports_another() -> None:
    families = {path.parent.name for path in (ROOT / "pipelines" / "models").glob("*/__init__.py")}
    assert len(families) >= 5
    for family in families:
        others = {f"pipelines.models.{other}" for other in families - {family}}
        assert offenders(sources(f"pipelines/models/{family}"), others) == []


def test_no_tab_imports_another_and_no_endpoint_a_tab() -> None:
    tabs = sources("components/tabs")
    assert len(tabs) >= 9
    for tab in tabs:
        others = {module_of(other) for other in tabs if other != tab} - {"components.tabs"}
        assert offenders([tab], others | {"components.api"}) == []
    assert offenders(sources("components/api"), {"components.tabs"}) == []


def test_there_is_no_circle() -> None:
    """Peel off modules that import nothing that is left; a circle never peels."""
    left = {module_of(path): own_imports(path) for path in sources("pipelines", "components")}
    for module, names in left.items():
        names.discard(module)
    while free := {module for module, names in left.items() if not names & left.keys()}:
        left = {module: names for module, names in left.items() if module not in free}
    assert left == {}


def test_torch_is_imported_where_models_are() -> None:
    light = [
        path
        for path in sources("app.py", "components", "pipelines")
        if folder_of(module_of(path)) not in TORCH_FOLDERS
    ]
    assert offenders(light, HEAVY, deferred=False) == []
    assert offenders(sources("app.py", "components"), HEAVY) == []


def test_nothing_of_the_app_imports_what_stands_beside_it() -> None:
    beside = {"demo_models", "benchmarks", "tests"}
    assert offenders(sources("app.py", "components", "pipelines"), beside) == []
    assert offenders(sources("pipelines"), {"gradio", "gradio_client"}) == []


def test_core_needs_no_library() -> None:
    found = {name.partition(".")[0] for path in sources("pipelines/core") for name in imports(path)}
    assert found <= set(sys.stdlib_module_names) | {"pipelines"}


def test_no_code_from_a_hub_and_no_pickles() -> None:
    for path in sources(*SOURCES):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
                raise AssertionError(f"{path}:{node.lineno} trusts remote code")
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"torch.load", "eval"}:
                given = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert given.get("weights_only") == "True", f"{path}:{node.lineno}"


def test_nothing_swallows_every_error() -> None:
    for path in sources(*SOURCES):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, f"{path}:{node.lineno} has a bare except"
                only = [ast.unparse(statement) for statement in node.body]
                assert only != ["pass"], f"{path}:{node.lineno} swallows an error"


def test_sizes() -> None:
    """A product file has at most 500 lines, a modeling file 700; few files lie flat."""
    for path in sources("app.py", "components", "pipelines"):
        limit = 700 if path.name.startswith("modeling_") else 500
        assert len(path.read_text("utf-8").splitlines()) <= limit, path
    assert len(list((ROOT / "pipelines").glob("*.py"))) <= 3
    assert len(list((ROOT / "components").glob("*.py"))) <= 2


def test_one_class_name_for_one_thing() -> None:
    """`Controls`, `Results` and `Handlers` of each tab are parallel parts of one pattern."""
    owners: dict[str, list[str]] = {}
    for path in sources("app.py", "components", "pipelines"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                owners.setdefault(node.name, []).append(module_of(path))
    shared = {name: where for name, where in owners.items() if len(where) > 1}
    assert shared.keys() <= {"Controls", "Results", "Handlers"}, shared


def test_building_the_page_leaves_torch_alone() -> None:
    code = """
import sys
import app
from components.server.services import Services
from components.page import build_app
from pipelines.core.settings import Settings
from pipelines.serving.store import PipelineStore
build_app(Services.of(PipelineStore(Settings(models="bundled"))))
loaded = sorted({"torch", "transformers"} & set(sys.modules))
sys.exit(f"loaded: {loaded}" if loaded else 0)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=180
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
