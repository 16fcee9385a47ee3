"""The scripts around the app: make, the check script, the hook; each with stand-ins for tools."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

FLAKY = """
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range({count}))
def test_flaky(number):
    seen = Path(__file__).with_name(f"seen-{{number}}")
    first = not seen.exists()
    seen.touch()
    assert not first

def test_steady():
    assert True
"""


def run(*command: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {
        k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "MAKE", "PYTEST"))
    }
    env = {**inherited, **variables}
    return subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False
    )


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


def test_a_half_made_environment_is_not_left_behind(tmp_path: Path) -> None:
    """Without ensurepip venv leaves a python and no pip, on which the next `make run` broke."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.txt").touch()
    half = script(
        tmp_path / "python-without-pip",
        'test "$2" = venv || exit 0\nmkdir -p "$3/bin"; touch "$3/bin/python"; exit 1\n',
    )
    for _ in range(2):
        done = run("make", "run", f"PYTHON={half}", cwd=tmp_path)
        assert done.returncode != 0
        assert "apt-get install python3-venv" in done.stdout
        assert "pip: not found" not in done.stderr
        assert not (tmp_path / ".venv").exists()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "notes").write_text("a")
    assert run("make", "run", f"PYTHON={half}", cwd=tmp_path).returncode != 0
    assert (tmp_path / ".venv" / "notes").is_file(), "what was there before is not ours to delete"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A clone with the check script, in which `make test` says where it runs, and fails."""
    folder = tmp_path / "clone"
    (folder / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", folder / ".ci")
    (folder / "Makefile").write_text('test:\n\t@echo "in $(CURDIR) [$$GIT_DIR]"; exit 1\n')
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b.c")
    for command in (
        ("git", "init", "-q"),
        ("git", "init", "-q", "--bare", str(tmp_path / "other")),
        ("git", "add", "."),
        (*git, "commit", "-qm", "a"),
        ("git", "worktree", "add", "-q", str(tmp_path / "second")),
    ):
        done = run(*command, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


def test_the_check_script_runs_from_anywhere(repository: Path, tmp_path: Path) -> None:
    for cwd, path in (
        (repository, ".ci/run"),
        (tmp_path, "clone/.ci/run"),
        (ROOT, str(repository / ".ci" / "run")),
        (repository / ".ci", "run"),
    ):
        assert run("bash", path, cwd=cwd).stdout.startswith(f"in {repository} []")


def test_the_hook_of_contributing_checks_before_a_push(repository: Path, tmp_path: Path) -> None:
    """Linked as a hook, the script looked for the Makefile beside the hooks."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    link = "ln -s ../../.ci/run .git/hooks/pre-push"
    assert f"before a push: `{link}`" in text
    assert run(*link.split(), cwd=repository).returncode == 0
    for tree in (repository, tmp_path / "second"):
        done = run("git", "push", str(tmp_path / "other"), "HEAD:refs/heads/new", cwd=tree)
        assert done.returncode != 0, "the checks fail, so nothing is pushed"
        assert f"in {tree} []" in done.stdout + done.stderr


@pytest.mark.parametrize("count", [0, 2, 3])
def test_what_needed_a_second_try_is_named_at_the_end(tmp_path: Path, count: int) -> None:
    """It was hidden by a second run that passed."""
    for name in ("run_all.sh", "tried_twice.py"):
        target = tmp_path / "tests" / name
        target.parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / "tests" / name, target)
    for tool in ("ruff", "mypy"):
        script(tmp_path / ".venv" / "bin" / tool, "exit 0\n")
    script(tmp_path / ".venv" / "bin" / "python", f'exec {sys.executable} "$@"\n')
    (tmp_path / "tests" / "browser").mkdir()
    (tmp_path / "tests" / "browser" / "test_flaky.py").write_text(FLAKY.format(count=count))
    (tmp_path / "tests" / "test_plain.py").write_text("def test_plain():\n    assert True\n")
    done = run("bash", "tests/run_all.sh", cwd=tmp_path)
    *before, last = done.stdout.strip().splitlines()
    flaky = [f"tests/browser/test_flaky.py::test_flaky[{number}]" for number in range(count)]
    if count > 2:
        assert done.returncode != 0
        assert last.startswith("3 failed, 1 passed"), "and no second try"
        return
    assert done.returncode == 0, done.stdout + done.stderr
    assert last.startswith("1 passed")
    assert before[len(before) - count :] == flaky
    assert ("second try" in done.stdout) == bool(count)
