"""Checks of the manual: README and docs/.

`python -m tests.test_docs --write` writes the generated tables into the pages;
`--write NAME ...` only those tables.
"""

import re
import sys
from collections.abc import Collection
from pathlib import Path

import pytest

from tests.doc_tables import ROOT, TABLES, goal_of

README = ROOT / "README.md"
INDEX = ROOT / "docs" / "README.md"

#: Pages whose tables are generated.
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]

#: Everything that is read as documentation: its links, paths and modules must exist.
DOCUMENTS = [
    *sorted({*PAGES, *ROOT.glob("*.md")} - {ROOT / "CHANGELOG.md"}),
    ROOT / "assets" / "README.md",
    *sorted((ROOT / "pipelines").rglob("NOTES.md")),
]

FOLDERS = "app\\.py|assets|benchmarks|components|demo_models|docs|pipelines|tests"


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def marks(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name}:begin.*?-->\n).*?(<!-- {name}:end -->)", re.DOTALL)


def rendered(text: str, names: Collection[str] = TABLES) -> str:
    """Return a page with its generated tables replaced."""
    for name in names:
        if marks(name).search(text):
            table = TABLES[name]()
            text = marks(name).sub(lambda m, table=table: f"{m[1]}{table}\n{m[2]}", text)
    return text


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tables_are_not_stale(page: Path) -> None:
    text = page.read_text("utf-8")
    assert rendered(text) == text, "run: python -m tests.test_docs --write"


@pytest.mark.parametrize("name", TABLES)
def test_every_table_is_on_one_page(name: str) -> None:
    (_,) = [page for page in PAGES if marks(name).search(page.read_text("utf-8"))]


def test_a_goal_that_was_missed_is_marked() -> None:
    assert goal_of({"goal": "≤ 1/25.0", "met": False}) == "≤ 1/25.0 (missed)"
    assert goal_of({"goal": "≤ 1/25.0", "met": True}) == "≤ 1/25.0"
    assert goal_of({"goal": "", "met": False}) == "", "a row without a goal misses none"


@pytest.mark.parametrize("page", DOCUMENTS, ids=name_of)
def test_every_image_and_link_exists(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text("utf-8")):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", DOCUMENTS, ids=name_of)
def test_every_path_and_module_exists(page: Path) -> None:
    text = page.read_text("utf-8")
    for path in re.findall(rf"(?<![\w/.-])(?:{FOLDERS})/[\w./*-]*[\w/*]", text):
        assert any(ROOT.glob(path.rstrip("/"))), path
    for path, name in re.findall(rf"((?:{FOLDERS})/[\w./]+\.py):(\w+)", text):
        assert re.search(rf"(?:def|class) {name}\b", (ROOT / path).read_text("utf-8")), (path, name)
    for module in re.findall(r"python -m ((?:pipelines|demo_models|tests)[\w.]*\w)", text):
        file = ROOT / module.replace(".", "/")
        assert file.is_dir() or file.with_suffix(".py").is_file(), module
    for file_name in re.findall(r"`(\w+\.py)`", text):
        assert any(ROOT.glob(file_name)) or any(page.parent.rglob(file_name)), file_name


def test_every_page_is_in_the_index() -> None:
    index = INDEX.read_text("utf-8")
    for page in PAGES:
        assert page in {README, INDEX} or f"]({page.name})" in index, page
    assert "](docs/README.md)" in README.read_text("utf-8")


def test_readme_is_short() -> None:
    assert README.stat().st_size <= 10_000


def test_front_matter_is_what_a_space_needs() -> None:
    head = README.read_text(encoding="utf-8").split("---")[1]
    facts = dict(line.split(": ", 1) for line in head.strip().splitlines() if ": " in line)
    assert facts["sdk"] == "gradio"
    assert facts["app_file"] == "app.py"
    assert len(facts["short_description"]) <= 60
    pins = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert f"gradio=={facts['sdk_version']}\n" in pins


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_snippets_are_python(page: Path) -> None:
    for snippet in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        compile(snippet, page.name, "exec")


if __name__ == "__main__" and "--write" in sys.argv:
    names = sys.argv[sys.argv.index("--write") + 1 :] or list(TABLES)
    for page in PAGES:
        page.write_text(rendered(page.read_text("utf-8"), names), encoding="utf-8")
