"""The scripts around the app: make, the check script, the hook; each with stand-ins for tools."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


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


@pytest.fixture
def checked(tmp_path: Path) -> Path:
    """A folder with the Makefile, in which each tool writes down how it was called."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for path in ("requirements.txt", "requirements-ray.txt", "tests/requirements.txt"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    for tool in ("pip", "ruff", "mypy", "python"):
        script(
            tmp_path / ".venv" / "bin" / tool,
            f'echo "{tool} $*" >> calls; test "$FAILS" != "{tool} $1"\n',
        )
    for stamp in (".runtime", ".tests", ".chromium"):
        (tmp_path / ".venv" / stamp).touch()
    return tmp_path


@pytest.mark.parametrize(("target", "only"), [("test", ""), ("check", " -m smoke or not (long")])
def test_all_checks_are_made_the_cheapest_first(checked: Path, target: str, only: str) -> None:
    assert run("make", target, cwd=checked).returncode == 0
    *lint, tests = (checked / "calls").read_text().splitlines()
    assert lint == ["ruff check .", "ruff format --check .", "mypy "]
    assert tests.startswith("python -m pytest -q -n auto")
    assert (" -m smoke or not (long" in tests) == bool(only)
    assert "ignore" not in tests and "last-failed" not in tests


@pytest.mark.parametrize("fails", ["ruff check", "ruff format", "mypy ", "python -m"])
def test_one_that_fails_ends_the_checks(checked: Path, fails: str) -> None:
    done = run("make", "test", cwd=checked, FAILS=fails)
    assert done.returncode != 0
    assert (checked / "calls").read_text().splitlines()[-1].startswith(fails)
