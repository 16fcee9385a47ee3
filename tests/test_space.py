"""A clone of the repository is a Space, and a container: what can be checked without either."""

import ast
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any

import pytest
import yaml
from gradio_client import handle_file

from pipelines.models.catalogue import MODELS
from tests.conftest import connect
from tests.support.app_process import ROOT, RunningApp, serve
from tests.test_architecture import imports, sources

#: Fields that the reference of Spaces documents.
FIELDS = {
    "title", "emoji", "colorFrom", "colorTo", "sdk", "python_version", "sdk_version",
    "suggested_hardware", "suggested_storage", "app_file", "app_build_command", "app_port",
    "base_path", "fullWidth", "header", "short_description", "models", "datasets", "tags",
    "thumbnail", "pinned", "hf_oauth", "hf_oauth_scopes", "hf_oauth_expiration_minutes",
    "disable_embedding", "startup_duration_timeout", "custom_headers", "preload_from_hub",
    "license",
}  # fmt: skip
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
HARDWARE = {
    "cpu-basic", "cpu-upgrade", "t4-small", "t4-medium", "l4x1", "l4x4", "a10g-small",
    "a10g-large", "a10g-largex2", "a10g-largex4", "a100-large",
}  # fmt: skip

#: Installed only where somebody wants what they do; each is asked for with its command.
EXTRAS = {"accelerate", "bitsandbytes", "modelscope", "ray", "spaces"}

#: Come with what is pinned, which cannot do without them.
COMES_ALONG = {"anyio", "pyarrow", "starlette", "tokenizers", "tqdm", "filelock"}


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    head = (ROOT / "README.md").read_text("utf-8").split("---\n")[1]
    return dict(yaml.safe_load(head))


def pins() -> dict[str, str]:
    text = (ROOT / "requirements.txt").read_text("utf-8")
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE))


def test_only_documented_fields_with_documented_values(facts: dict[str, Any]) -> None:
    assert set(facts) <= FIELDS
    assert {facts["colorFrom"], facts["colorTo"]} <= COLOURS
    assert facts["suggested_hardware"] in HARDWARE
    assert facts["sdk"] == "gradio"
    assert re.fullmatch(r"3\.\d+(\.\d+)?", facts["python_version"])
    assert re.fullmatch(r"\d+[mh]", facts["startup_duration_timeout"])
    assert 10 < len(facts["short_description"]) <= 60
    assert len(facts["emoji"]) <= 2
    assert not facts["emoji"].isascii()
    assert facts["license"] == "apache-2.0"
    assert all(re.fullmatch(r"[a-z0-9-]+", tag) for tag in facts["tags"])
    assert len(set(facts["tags"])) == len(facts["tags"])


def test_what_it_names_is_what_there_is(facts: dict[str, Any]) -> None:
    assert (ROOT / facts["app_file"]).is_file()
    assert facts["sdk_version"] == pins()["gradio"]
    assert facts["models"] == list(dict.fromkeys(spec.repo for spec in MODELS if spec.repo))
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    lowest = re.search(r'requires-python = ">=3\.(\d+)"', project)
    assert lowest
    assert int(facts["python_version"].split(".")[1]) >= int(lowest[1])


def test_requirements_alone_install_everything_that_is_imported() -> None:
    owners = packages_distributions()
    ours = {"app", "components", "pipelines"}
    imported = {
        module.partition(".")[0]
        for path in sources("app.py", "components", "pipelines")
        for module in imports(path)
    }
    names = imported - set(sys.stdlib_module_names) - ours - EXTRAS - COMES_ALONG
    pinned = {name.lower().replace("_", "-") for name in pins()}
    for name in names:
        found = {owner.lower().replace("_", "-") for owner in owners[name]}
        assert found & pinned, f"{name} comes from {found}, which is not pinned"


def test_the_queue_has_an_end_and_no_example_runs_at_the_start() -> None:
    from components.page import MAX_WAITING, build_app
    from components.server.services import Services
    from pipelines.core.settings import Settings
    from pipelines.serving.store import PipelineStore

    app = build_app(Services.of(PipelineStore(Settings(models="bundled", offline=True))))
    assert app._queue.max_size == MAX_WAITING
    for path in sources("components"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            called = isinstance(node, ast.Call) and ast.unparse(node.func)
            assert called != "gr.Examples", f"{path}: gradio runs such examples at the start"


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_nothing_is_written_into_the_repository(tmp_path: Path, red_circle: Path) -> None:
    """A Space's clone may be read only."""
    clone = tmp_path / "clone"
    for name in ("components", "pipelines", "assets"):
        copytree(ROOT / name, clone / name, ignore=ignore_patterns("__pycache__"))
    (clone / "app.py").write_bytes((ROOT / "app.py").read_bytes())
    before = listing(clone)
    code = f"import os, sys; os.chdir({str(clone)!r}); import app; app.main(sys.argv[1:])"
    with serve(tmp_path, code=code, PYTHONPATH="", HOME=str(tmp_path / "home")) as app:
        client = connect(app.url)
        for endpoint, words in (("/classify_image", {"labels": "red circle\nblue star"}),
                                ("/caption_image", {})):  # fmt: skip
            client.predict(image=handle_file(red_circle), api_name=endpoint, **words)
    assert listing(clone) == before


def dockerfile() -> Iterator[tuple[str, str]]:
    """Yield (instruction, rest) of each line of the Dockerfile, continued lines joined."""
    text = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            instruction, _, rest = line.partition(" ")
            yield instruction, rest.strip()


def test_the_container_is_what_it_says() -> None:
    lines = list(dockerfile())
    assert lines[0][0] == "FROM"
    known = {"FROM", "ARG", "RUN", "WORKDIR", "COPY", "USER", "ENV", "VOLUME", "EXPOSE",
             "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT"}  # fmt: skip
    assert {instruction for instruction, _ in lines} <= known
    copied = [word for kind, rest in lines if kind == "COPY" for word in rest.split()[:-1]]
    assert all((ROOT / word).exists() for word in copied)
    assert {"app.py", "components", "pipelines", "assets", "requirements.txt"} <= set(copied)
    assert set((ROOT / "packages.txt").read_text("utf-8").split()) == {"libgl1", "libglib2.0-0"}
    ignored = (ROOT / ".dockerignore").read_text("utf-8").split()
    assert not set(copied) & set(ignored)
    order = [kind for kind, _ in lines]
    (user,) = [rest for kind, rest in lines if kind == "USER"]
    assert user not in {"root", "0"}
    assert order.index("USER") < order.index("ENTRYPOINT")
    (entry,) = [rest for kind, rest in lines if kind == "ENTRYPOINT"]
    assert json.loads(entry) == ["python", "app.py"]


def test_the_health_check_of_the_container_tells_well_from_unwell(
    running_app: RunningApp, full_app: RunningApp
) -> None:
    (check,) = [rest for kind, rest in dockerfile() if kind == "HEALTHCHECK"]
    command = json.loads(check.partition("CMD ")[2])

    def code(url: str) -> int:
        asked = command[2].replace("http://127.0.0.1:7860/", url.rstrip("/") + "/")
        return subprocess.run(
            [sys.executable, command[1], asked], capture_output=True, timeout=60
        ).returncode

    assert code(running_app.url) == 0
    assert code(full_app.url) == 1
    with socket.socket() as nobody:  # a port that is taken but not listened to
        nobody.bind(("127.0.0.1", 0))
        assert code(f"http://127.0.0.1:{nobody.getsockname()[1]}") != 0
