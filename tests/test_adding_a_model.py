"""docs/adding_a_model.md, followed to the letter in a copy of the repository."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGE = ROOT / "docs" / "adding_a_model.md"


def blocks() -> Iterator[tuple[str, str, str]]:
    """Language, path and text of every code block; the path is the last one that begins a line before it."""
    path = ""
    pattern = r"^`(?P<path>[\w/.]+)`|^```(?P<language>\w+)\n(?P<text>.*?)^```$"
    for found in re.finditer(pattern, PAGE.read_text(), flags=re.MULTILINE | re.DOTALL):
        path = found["path"] or path
        if found["language"]:
            yield found["language"], path, found["text"]


def insert(file: Path, diff: str) -> None:
    """Puts the added line of a diff of two lines behind the other one."""
    before, after = diff.splitlines()
    assert (before[0], after[0]) == (" ", "+")
    text = file.read_text()
    assert text.count(f"{before[1:]}\n") == 1
    file.write_text(text.replace(f"{before[1:]}\n", f"{before[1:]}\n{after[1:]}\n"))


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository with everything that the page adds."""
    root = tmp_path_factory.mktemp("repository")
    for folder in ("src", "conf", "tests"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("golden"))
    shutil.copy(ROOT / "pyproject.toml", root)
    for language, path, text in blocks():
        if language == "diff":
            insert(root / path, text)
        elif language != "bash":
            assert not (root / path).exists()
            (root / path).write_text(text)
    return root


def test_the_page_has_a_net_a_config_three_lines_and_two_commands() -> None:
    assert [(language, path) for language, path, _ in blocks()] == [
        ("python", "src/models/skipnet.py"),
        ("yaml", "conf/model/skipnet.yaml"),
        ("diff", "src/models/__init__.py"),
        ("diff", "src/models/__init__.py"),
        ("diff", "tests/models/test_contract.py"),
        ("bash", "tests/models/test_contract.py"),
    ]


@pytest.mark.parametrize("path", re.findall(r"`((?:src|conf|tests|scripts)/[\w/.]+\w)`", PAGE.read_text()))
def test_the_page_names_files_that_exist(path: str) -> None:
    assert (ROOT / path).exists() or "skipnet" in path


@pytest.mark.slow
def test_its_commands_succeed(copy: Path) -> None:
    (commands,) = (text for language, _, text in blocks() if language == "bash")
    drop = ("PYTEST_ADDOPTS", "PYTHONPATH")
    env = {name: value for name, value in os.environ.items() if name not in drop} | {"OMP_NUM_THREADS": "1"}
    outputs = []
    for command in commands.splitlines():
        python, *words = shlex.split(command)
        assert python == "python"
        done = subprocess.run(
            [sys.executable, *words], cwd=copy, env=env, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        outputs.append(done.stdout)
    assert int(re.search(r"(\d+) passed", outputs[0])[1]) >= 16
    assert "failed" not in outputs[0]
    (scores,) = copy.glob("runs/train/*skipnet*/scores_test.json")
    assert scores.stat().st_size > 0
