"""The notebooks run from top to bottom in a kernel of their own, with small settings."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALL = {"STEPS": 4, "IMAGES": 20}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_are_stored_without_outputs(path: Path) -> None:
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=":")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        source = cell.source.replace("import semseg", "import src as semseg").replace("from semseg.", "from src.")
        cell.source = re.sub(
            r"^(STEPS|IMAGES) = \d+", lambda found: f"{found[1]} = {SMALL[found[1]]}", source, flags=re.M
        )
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
    kinds = {kind for cell in notebook.cells for each in cell.get("outputs", []) for kind in each.get("data", ())}
    assert {"image/png", "text/html"} <= kinds
    assert list(tmp_path.glob("runs/train/*/report.html"))
