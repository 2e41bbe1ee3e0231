"""The dependency rule of docs/architecture.md, checked by reading import statements."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

# package or file of src -> what of src it may import, besides itself; entry points may import everything
ALLOWED = {
    "errors": set(),
    "schema": {"errors"},
    "files": {"errors"},
    "ops": set(),
    "environment": set(),
    "torchvision_guard": set(),
    "layer_sync": set(),
    "machine": set(),
    "norms": {"errors", "schema"},
    "wandb_logger": set(),
    "viz": {"files", "errors"},
    "models": {"ops", "errors", "schema"},
    "losses": {"errors", "schema"},
    "metrics": {"errors"},
    "optim": {"errors", "schema"},
    "data": {"files", "errors", "schema"},
    "inference": {"ops", "errors", "schema"},
    "exporting": {"errors", "inference"},
    "costs": set(),
    "speed": {"errors", "exporting", "inference"},
    "crf_search": {"errors", "inference", "metrics"},
    "checkpoints": {"errors"},
    "html": {"files", "viz", "errors"},
    "callbacks": {"files", "html", "viz", "metrics", "errors", "schema"},
    "module": {"checkpoints", "data", "errors", "inference", "losses", "metrics", "ops"},
    "protocol": {"files", "data", "environment", "metrics"},
    "compare": {"errors", "metrics", "protocol"},
    "refine_search": {"crf_search", "data", "errors", "inference", "module"},
    "rehearsal": {"data", "errors", "module", "norms"},
    "report": {"files", "callbacks", "data", "environment", "html", "metrics", "viz"},
    "cli": {"errors", "options"},
    "image_files": {"errors"},
    "sweeps": {"files", "errors", "schema"},
    "prediction": {"files", "data", "environment", "errors", "image_files", "viz"},
    "label_folder": {"files", "data", "environment", "errors", "image_files", "viz"},
    "options": {"errors", "schema"},
    "instantiate": {"errors"},
    "build": {
        "callbacks",
        "checkpoints",
        "data",
        "errors",
        "instantiate",
        "layer_sync",
        "losses",
        "module",
        "norms",
        "optim",
    },
    "trial_costs": {"files", "build", "costs", "environment", "module", "speed", "sweeps", "viz"},
    "start": {"build", "checkpoints", "errors", "module", "restore"},
    "restore": {"build", "checkpoints", "data", "errors", "instantiate", "losses", "module"},
}
KNOW_HYDRA = {"build", "cli", "instantiate", "options", "protocol", "report", "restore", "start", "trial_costs"}
ONLY_IN = {
    "wandb": {"wandb_logger"},
    "optuna": {"sweeps"},
    "submitit": {"sweeps"},
    "ray": {"sweeps"},
    "matplotlib": {"callbacks", "sweeps"},
    "albumentations": {"data"},
    "rasterio": {"prediction"},
    "onnx": {"exporting", "export"},
    "onnxruntime": {"exporting"},
}
ENTRY_POINTS = {
    "autolabel",
    "benchmark",
    "convert",
    "dashboard",
    "doctor",
    "evaluate",
    "export",
    "predict",
    "shards",
    "submit",
    "sweep",
    "train",
}


def _imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "src"}
    return names


def _files() -> list[Path]:
    return sorted(path for path in (ROOT / "src").rglob("*.py") if path != ROOT / "src/__init__.py")


def _part(path: Path) -> str:
    return path.relative_to(ROOT / "src").with_suffix("").parts[0]


def test_every_part_of_src_has_a_rule() -> None:
    assert {_part(path) for path in _files()} == set(ALLOWED) | ENTRY_POINTS


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    part = _part(path)
    imported = _imports(path)
    own = {name.split(".")[1] for name in imported if name.startswith("src.")}
    if part not in ENTRY_POINTS:
        assert own <= ALLOWED[part] | {part}
        if part not in KNOW_HYDRA:
            assert not {name.split(".")[0] for name in imported} & {"hydra", "omegaconf"}
    for library, homes in ONLY_IN.items():
        if part not in homes:
            assert not any(name.split(".")[0] == library for name in imported)
    assert not any(name.split(".")[0] in ("tests", "scripts") for name in imported)
