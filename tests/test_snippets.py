"""Run every snippet of the manual as it stands.

Only the address is changed, to that of an app started for the tests.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines import index_folder
from pipelines.caption_folder import make_parser
from pipelines.core.settings import read_settings
from tests.components.api.test_contract import ENDPOINTS
from tests.support.app_process import ROOT, RunningApp

ADDRESS = "http://127.0.0.1:7860"
SCRIPTS = "docs/scripts.md"
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))
    if path.name != "CHANGELOG.md"
)

#: Languages of snippets that are run. json is parsed, text is not checked; toml is parsed in
#: tests/core/test_remote.py.
RUN = {"python", "bash", "javascript"}

#: Shell commands that take minutes, a network or another machine: parsed, not run. Variables may
#: stand in front.
PARSED = ("make ", "docker ", "pip install ", "python app.py", "python -m pipelines.")
VARIABLES = re.compile(r"^(?:[A-Z_]+=\S+ )+")

#: Text in the output of the example of every endpoint.
SHOWN = {
    "classify_image": "red circle",
    "rank_similarity": "match",
    "embed_texts": "demo-clip",
    "embed_images": "demo-clip",
    "caption_image": "a red circle",
    "answer_image": "red",
    "chat_image": "red",
    "caption_images": "captions.zip",
    "evaluate_images": "zero_shot",
    "train_probe": "probe-demo-clip.safetensors",
    "match_video": "a red circle moves left",
    "find_moments": "start_s",
    "ask_video": "red",
    "index_files": "red-circle.png",
    "search_files": "red-circle.png",
    "forget_files": "deleted",
    "list_models": "clip-vit-l14",
}


@dataclass(frozen=True)
class Snippet:
    """Fenced block of a document."""

    document: str
    language: str
    text: str

    @property
    def endpoints(self) -> set[str]:
        """Return the endpoints that the snippet calls."""
        found = re.findall(r'api_name="/(\w+)"|^call (\w+)', self.text, re.MULTILINE)
        return {"".join(names) for names in found}

    @property
    def parsed_only(self) -> bool:
        """Return True if the snippet is parsed and not run."""
        return VARIABLES.sub("", self.text).startswith(PARSED)


def snippets(language: str, document: str = "") -> list[Snippet]:
    found = []
    for name in [document] if document else DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        found += [Snippet(name, kind, body) for kind, body in blocks if kind == language]
    return found


def runnable(language: str, document: str) -> list[Snippet]:
    """Return the snippets to run, except those of endpoints without a bundled model."""
    published = {endpoint.removeprefix("/") for endpoint in ENDPOINTS}
    return [
        one
        for one in snippets(language, document)
        if one.endpoints <= published and not one.parsed_only
    ]


def run(command: list[str], **variables: str) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **variables},
        capture_output=True, text=True, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture
def app(agents_app: RunningApp) -> RunningApp:
    return agents_app


def placed(text: str, app: RunningApp) -> str:
    return text.replace(ADDRESS, app.url.rstrip("/"))


def test_every_block_is_in_a_language_that_is_checked() -> None:
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        fences = re.findall(r"^```(\w*)$", text, re.MULTILINE)
        assert set(fences[::2]) <= RUN | {"json", "text", "toml", ""}, name
        assert set(fences[1::2]) <= {""}, name


def test_every_endpoint_has_an_example_in_python_and_in_the_shell() -> None:
    for language in ("python", "bash"):
        shown = set().union(*(one.endpoints for one in snippets(language, SCRIPTS)))
        assert shown >= {endpoint.removeprefix("/") for endpoint in ENDPOINTS}
        assert shown == set(SHOWN)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_python(document: str, app: RunningApp, tmp_path: Path) -> None:
    """Run the snippets of a document one after another, as a reader would paste them."""
    found = runnable("python", document)
    if not found:
        assert "```python" not in (ROOT / document).read_text(encoding="utf-8")
        return
    script = tmp_path / "snippets.py"
    script.write_text(placed("\n".join(one.text for one in found), app), encoding="utf-8")
    output = run([sys.executable, str(script)])
    assert len(output.splitlines()) >= sum(one.text.count("print(") for one in found)
    if document == SCRIPTS:
        for shown in ("red circle", "a red circle on", "Choose one of", "crimson", "True"):
            assert shown in output


@pytest.mark.parametrize("document", DOCUMENTS)
def test_shell(document: str, app: RunningApp, tmp_path: Path) -> None:
    found = runnable("bash", document)
    if not found:
        assert set(snippets("bash", document)) <= set(parsed_snippets())
        return
    script = tmp_path / "snippets.sh"
    script.write_text(placed("\n".join(one.text for one in found), app), encoding="utf-8")
    output = run(["bash", "-eu", str(script)], NO_PROXY="*")
    called = [name for one in found for name in re.findall(r"^call (\w+)", one.text, re.MULTILINE)]
    parts = re.findall(r"event: complete\ndata: (.*)", output)
    assert "event: error" not in output, output[-2000:]
    assert len(parts) == len(called)
    for name, data in zip(called, parts, strict=True):
        json.loads(data)
        assert SHOWN[name] in data, name


def parsed_snippets() -> list[Snippet]:
    return [one for one in snippets("bash") if one.parsed_only]


@pytest.mark.parametrize(
    "snippet", parsed_snippets(), ids=lambda one: f"{one.document}-{one.text[:20]}"
)
def test_commands_name_existing_targets_files_and_flags(snippet: Snippet) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for line in snippet.text.splitlines():
        words = shlex.split(VARIABLES.sub("", line), comments=True)
        if not words:
            continue
        assert VARIABLES.sub("", line).startswith(PARSED), f"{line!r} is neither run nor parsed"
        if words[0] == "make":
            assert words[1] in targets
        elif words[0] == "pip":
            assert (ROOT / words[words.index("-r") + 1]).is_file()
        elif words[2] == "pipelines.caption_folder":
            make_parser().parse_args(words[3:])
        elif words[2] == "pipelines.index_folder":
            index_folder._parser().parse_args(words[3:])
        elif words[0] == "docker":
            files = [words[i + 1] for i, word in enumerate(words) if word in {"-f", "--file"}]
            assert all((ROOT / file).is_file() for file in files)
        elif words[2:3] == ["doctor"]:
            assert set(words[3:]) <= {"--json"}
        else:
            read_settings(words[2:], {})


@pytest.mark.parametrize("document", DOCUMENTS)
def test_json(document: str) -> None:
    for one in snippets("json", document):
        assert isinstance(json.loads(one.text), dict | list)


def test_javascript(app: RunningApp, tmp_path: Path) -> None:
    """Run it with the real client, which is fetched for the test."""
    (snippet,) = snippets("javascript")
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node and npm are not on this machine")
    fetch = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(tmp_path)]
    fetched = subprocess.run(
        [*fetch, "@gradio/client@2"], capture_output=True, text=True, timeout=240, cwd=tmp_path
    )
    if fetched.returncode != 0:
        pytest.skip("npm cannot fetch @gradio/client here")
    script = tmp_path / "snippet.mjs"
    script.write_text(placed(snippet.text, app), encoding="utf-8")
    lines = run(["node", str(script)]).splitlines()
    assert lines[0] == "red circle"
    assert lines[-1].startswith("a red circle")
